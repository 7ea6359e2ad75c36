//! The real binary as a whole.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod balancer;
mod command_line;
mod examples;
mod http;
mod init;
mod options;
mod system;
mod tercet;
mod token;
