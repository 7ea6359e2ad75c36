//! The data API against a real PostgreSQL and real sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod connection;
mod postgres;
