//! The real binary as a whole.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod command_line;
mod init;
mod options;
mod tercet;
mod token;
