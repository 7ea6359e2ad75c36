//! Tier 3: PostgreSQL: its binaries, a private cluster, roles, `pg_hba.conf`, migrations.
//!
//! It describes the programs to run, and runs SQL on the server. The only server that it starts itself is that of a
//! [restored cluster](restored). It knows no other tier, and reads neither `tercet.toml` nor the environment.

pub mod account;
pub mod catalogue;
pub mod cluster;
pub mod control_data;
pub mod heartbeat;
pub mod installation;
pub mod login;
pub mod migration;
pub mod program;
pub mod recovery;
pub mod restored;
pub mod roles;
pub mod scratch;
pub mod secret;
pub mod seeds;
pub mod wal;

pub use account::Account;
pub use catalogue::Catalogue;
pub use cluster::Cluster;
pub use control_data::ControlData;
pub use installation::Installation;
pub use program::Program;
pub use recovery::RecoveryTarget;
pub use restored::{Recovery, RestoredCluster};
pub use scratch::ScratchDatabase;
pub use secret::Password;
pub use seeds::Seeds;
