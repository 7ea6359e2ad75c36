//! What happens, told once: events become log lines and metrics, and an admin endpoint serves them.
//!
//! A leaf: both tiers and the command use it, it uses none of them. It knows what can be *said* about a
//! balancer or an API, never how either works.

pub mod access;
pub mod admin;
pub mod event;
pub mod format;
pub mod log;
pub mod metrics;
pub mod panic;
pub mod request_id;
pub mod trace_context;
pub mod unix_socket;

pub use access::AccessRecord;
pub use event::{Event, Level};
pub use format::Format;
pub use log::{Log, LogHandle};
