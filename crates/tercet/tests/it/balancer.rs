//! `tercet balancer` as the processes it is: what dies is replaced, what changes is noticed by nobody.

mod changes;
mod crashes;
mod crowds;
mod load;
mod memory;
mod outages;
mod process;
mod server;
mod stand_in;
