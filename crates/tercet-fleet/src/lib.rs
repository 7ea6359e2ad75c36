//! Many machines: what each should be, computed from a topology, and how they get there.
//!
//! [`survey`] is the state of all machines, [`plan`](mod@plan) computes an execution plan from it (pure, the only place that
//! decides the order), [`execute`](mod@execute) executes it under leases. [`desired`] lowers a topology to one value a machine; [`agent`]
//! carries requests over the operator's ssh to the same binary there; [`prove`] tests every allowed and forbidden connection.
//! The crate prints nothing: the caller receives [`Progress`] events.

pub mod agent;
mod archive;
mod at_once;
mod authority;
pub mod backup;
mod build;
pub mod configuration;
mod deployment;
pub mod desired;
pub mod execute;
mod fenced;
pub mod fleet;
pub mod identity;
pub mod inside;
mod instance;
pub mod intent;
mod journal;
mod lease;
mod libpq;
pub mod logs;
mod migrate;
pub mod monitor;
pub mod nftables;
pub mod operation;
mod operator_folder;
mod paths;
mod phase;
pub mod plan;
mod program_migration;
pub mod progress;
pub mod prove;
mod reachability;
mod release;
pub mod remembered;
pub mod replicas;
pub mod report;
pub mod rotation;
mod sandbox;
pub mod secrets;
pub mod ssh;
pub mod state;
pub mod survey;
mod system;
mod systemctl;
pub mod token_keys;
pub mod validity;
pub mod website;

pub use at_once::all_in_one;
pub use fleet::Fleet;
pub use paths::MAINTENANCE;
pub use progress::Progress;
pub use tercet_machine::Secret;

/// Hexadecimal SHA-256. By ring, which is fast in a debug build, too: every verb digests tercet's own file.
pub(crate) fn digest(bytes: &[u8]) -> String {
    ring::digest::digest(&ring::digest::SHA256, bytes)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The current time in RFC 3339, in seconds.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Whether `text` is the beginning of a digest: hexadecimal digits only, so that it is safe in a path.
pub(crate) fn begins_digest(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
