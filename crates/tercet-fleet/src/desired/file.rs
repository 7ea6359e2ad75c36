//! Publicly readable files owned by root.

use std::path::{Path, PathBuf};

use tercet_machine::file::{Contents, File};
use tercet_machine::path::Owner;

/// A unit's file.
pub(super) fn unit_file(name: &str, text: String) -> File {
    public_file(Path::new("/etc/systemd/system").join(name), text)
}

/// A publicly readable file owned by root.
pub(super) fn public_file(path: impl Into<PathBuf>, text: String) -> File {
    File { path: path.into(), contents: Contents::Text(text), owner: Owner::root(), mode: 0o644 }
}
