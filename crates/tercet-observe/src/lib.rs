//! Log events, access logs, metrics, and the admin endpoint.
//!
//! A leaf crate: the tiers and the command depend on it, and it depends on none of them.

pub mod access;
pub mod admin;
pub mod event;
pub mod format;
pub mod log;
pub mod metrics;
pub mod panic;
pub mod request_id;
pub mod stages;
pub mod trace_context;
pub mod traces;
pub mod unix_socket;

pub use access::AccessRecord;
pub use event::{Event, Level};
pub use format::Format;
pub use log::{Log, LogHandle};
