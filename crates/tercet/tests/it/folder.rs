//! A folder to bring up.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::system::remove_data;
use crate::tercet;

/// A temporary folder that others may read: run by root, the parts are a system user's.
pub(crate) fn temporary() -> tempfile::TempDir {
    let readable = std::fs::Permissions::from_mode(0o755);
    tempfile::Builder::new().prefix("shop").permissions(readable).tempdir().unwrap()
}

/// A folder to bring up; removed with its database when dropped.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let folder = Self(temporary());
        for (name, text) in files {
            folder.write(name, text);
        }
        folder
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Where the database really is.
    pub(crate) fn cluster(&self) -> PathBuf {
        self.path().join(".tercet/postgresql").canonicalize().unwrap()
    }

    /// `tercet up` in it, run to its end.
    pub(crate) fn up_to_the_end(&self) -> String {
        tercet::run(self.path(), ["up"])
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        remove_data(self.path());
    }
}
