//! A real cluster, from `initdb` to the last crash.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops where it is")]

mod cluster;
mod fetch;
mod migration;
mod restored;
mod roles;
mod server;
