//! The balancer's tests from outside: its rules as tables, and the real engine on real sockets.

mod grammar;
mod properties;
mod rules;
