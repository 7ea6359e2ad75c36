//! Integration tests of the balancer: tables of protocol rules, and a running balancer on real sockets in front of small
//! test servers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod admin;
mod backend;
mod blocking;
mod buffering;
mod changes;
mod client;
mod compression;
mod event_loop;
mod faults;
mod files;
mod forwarding;
mod grammar;
mod hostile;
mod http2;
mod listeners;
mod pages;
mod pipelining;
mod pools;
mod properties;
mod real_clients;
mod round_robin;
mod routes;
mod rules;
mod running;
mod slow;
mod streaming;
mod tls;
mod traces;
mod unix_servers;
mod upstreams;
