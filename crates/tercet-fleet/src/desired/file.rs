//! Files of root's: those that anybody may read, and secrets.

use std::path::{Path, PathBuf};

use tercet_machine::Secret;
use tercet_machine::file::{Contents, File, Owner};

/// A unit's file.
pub(super) fn unit_file(name: &str, text: String) -> File {
    public_file(Path::new("/etc/systemd/system").join(name), text)
}

/// A file only root may read.
pub(super) fn secret_file(path: impl Into<PathBuf>, secret: Secret) -> File {
    File { path: path.into(), contents: Contents::Secret(secret), owner: Owner::root(), mode: 0o600 }
}

/// A file of root's that anybody may read.
pub(super) fn public_file(path: impl Into<PathBuf>, text: String) -> File {
    File { path: path.into(), contents: Contents::Text(text), owner: Owner::root(), mode: 0o644 }
}
