//! Names of the operator's files in the project's folder.

/// The secrets of a fleet.
pub(crate) const FOLDER: &str = ".tercet/fleet";
/// In [`FOLDER`]: the files that replace those beside it at the end of a rotation.
pub(crate) const NEXT: &str = "next";
/// The key that signs tokens.
pub(crate) const SIGNING_KEY: &str = ".tercet/jwt-secret";
/// In [`FOLDER`]: the previous signing key, while its tokens are still accepted.
pub(crate) const RETIRING_KEY: &str = "retiring-jwt-secret";
