//! Tier 3: PostgreSQL: its binaries, a private cluster, roles, `pg_hba.conf`, migrations.
//!
//! It describes the programs to run, and runs SQL on the server. It starts no long-lived process, knows no other
//! tier, and reads neither `tercet.toml` nor the environment.

pub mod account;
pub mod cluster;
pub mod installation;
pub mod login;
pub mod migration;
pub mod program;
pub mod recovery;
pub mod roles;
pub mod secret;

pub use account::Account;
pub use cluster::Cluster;
pub use installation::Installation;
pub use program::Program;
pub use recovery::RecoveryTarget;
pub use secret::Password;
