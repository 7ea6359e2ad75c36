//! The data API against a real PostgreSQL and real sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bodies;
mod bookshop;
mod calling;
mod catalogue;
mod changing;
mod commit;
mod connecting;
mod connection;
mod described;
mod description;
mod embedding;
mod encoding;
mod heads;
mod input;
mod isolation;
mod operating;
mod plain_writes;
mod postgres;
mod reading;
mod recovery;
mod replay;
mod responding;
mod response_settings;
mod safety;
mod schema_cache;
mod service;
mod session;
mod side_effects;
mod silence;
mod sql;
mod surface;
mod uploads;
mod validity;
mod writing;
