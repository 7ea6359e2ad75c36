//! Many machines: what each should be, computed from a topology, and how they get there.
//!
//! [`desired`] lowers a topology to one value a machine; [`agent`] carries it over the person's own ssh to the
//! same binary there; [`apply`] keeps the order of things; [`prove`] tries what the picture claims. It prints
//! nothing: whoever calls hears what happens as [`Progress`].

pub mod agent;
pub mod apply;
mod at_once;
mod attempt;
mod authority;
pub mod configuration;
mod converge;
pub mod desired;
pub mod fleet;
mod held;
mod lease;
pub mod logs;
mod migrate;
mod paths;
pub mod progress;
pub mod prove;
mod release;
pub mod report;
mod rollout;
mod secrets;
pub mod ssh;
mod survey;
pub mod world;

pub use at_once::all_in_one;
pub use fleet::Fleet;
pub use progress::Progress;

/// Hexadecimal SHA-256.
pub(crate) fn digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether `text` is how a digest begins: so many digits, and nothing that means something in a path.
pub(crate) fn begins_digest(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
