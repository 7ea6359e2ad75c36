//! The real binary as a whole.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod answers;
mod applications;
mod backup;
mod balancer;
mod command_line;
mod contract;
mod dashboard;
mod develop;
mod examples;
mod folder;
mod guide;
mod http;
mod https_server;
mod identity_provider;
mod init;
mod metrics;
mod options;
mod own_program;
mod privileges;
mod processes;
mod programs;
mod running;
mod secrets;
mod state;
mod supabase;
mod system;
mod tercet;
mod token;
mod traces;
mod up;
mod website;
