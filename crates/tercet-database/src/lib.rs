//! Tier 3: PostgreSQL: its binaries, a private cluster, roles, `pg_hba.conf`, migrations.
//!
//! It says what to run, where and as whom, and talks SQL to what runs. It starts no long-lived process
//! itself, knows no other tier, and reads neither `tercet.toml` nor the environment.

pub mod account;
pub mod cluster;
pub mod installation;
pub mod login;
pub mod migration;
pub mod program;
pub mod roles;
pub mod secret;
pub mod sql_error;

pub use account::Account;
pub use cluster::Cluster;
pub use installation::Installation;
pub use program::Program;
pub use secret::Password;
pub use sql_error::SqlError;
