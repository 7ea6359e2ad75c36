//! What a fetch says while it runs.

/// How far a fetch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done, as a person would say it.
    pub doing: &'static str,
    /// Bytes that have arrived.
    pub bytes: u64,
    /// Bytes there will be, when that is known.
    pub total: Option<u64>,
}
