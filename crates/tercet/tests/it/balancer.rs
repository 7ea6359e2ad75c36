//! `tercet balancer` as processes: a process that dies is replaced, and changes cost no request.

mod certificates;
mod changes;
mod connections;
mod crashes;
mod load;
mod memory;
mod names;
mod outages;
pub(crate) mod process;
mod server;
mod thread_server;
