//! Progress reports of a fetch.

/// The progress of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The current step, as a phrase for users.
    pub doing: &'static str,
    /// Bytes received.
    pub bytes: u64,
    /// Bytes in all, if known.
    pub total: Option<u64>,
}
