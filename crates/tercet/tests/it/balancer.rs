//! `tercet balancer` as processes: a process that dies is replaced, and changes cost no request.

mod certificates;
mod changes;
mod connections;
mod crashes;
pub(crate) mod load;
mod memory;
mod names;
mod outages;
pub(crate) mod process;
mod server;
pub(crate) mod thread_server;
