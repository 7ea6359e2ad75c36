//! Brings one Linux machine to a desired state.
//!
//! [`probe()`] reads [`Facts`], [`plan()`] compares them with a [`Desired`] (pure; only it decides), [`Step::execute`]
//! makes one change. A [`Desired`] is a serialisable value: the same code converges this machine and, sent over ssh to
//! the binary there, any other. Each kind of resource is a file in `resources` and a line of the list in `resources.rs`.
//! The crate must not depend on tiers, the topology or the network.

pub mod change;
pub mod command;
mod due;
pub mod error;
pub mod inventory;
pub mod path;
pub mod record;
mod registry;
pub mod resource;
pub mod resources;
pub mod secret;
mod set_aside;

pub use change::Change;
pub use error::Error;
pub use resources::*;
pub use secret::Secret;
