//! One Linux machine, brought to a desired state.
//!
//! [`probe()`] reads what is there, [`plan()`] decides what to do about it (pure, the only place that decides),
//! [`execute()`] does one [`Step`]. A [`Desired`] is a plain serialisable value, so the same code converges
//! this machine and, sent to the binary over there, any other. This crate knows packages, files, units and
//! firewalls; it knows no tier, no topology and no network.

pub mod cluster;
pub mod command;
pub mod desired;
pub mod directory;
pub mod execute;
pub mod facts;
pub mod file;
pub mod firewall;
pub mod inventory;
pub mod package;
pub mod plan;
pub mod secret;
pub mod step;
pub mod sysctl;
pub mod unit;
pub mod user;

pub use desired::Desired;
pub use execute::execute;
pub use facts::{Facts, probe};
pub use inventory::Inventory;
pub use plan::plan;
pub use secret::Secret;
pub use step::{Change, Step};
