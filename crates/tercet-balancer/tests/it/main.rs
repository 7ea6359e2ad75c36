//! The balancer's tests from outside: its rules as tables, and the real engine on real sockets in front of real
//! (small) servers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admin;
mod backend;
mod blocking;
mod changes;
mod client;
mod event_loop;
mod faults;
mod forwarding;
mod grammar;
mod hostile;
mod http2;
mod listeners;
mod pipelining;
mod properties;
mod real_clients;
mod round_robin;
mod rules;
mod running;
mod slow;
mod streaming;
mod tls;
