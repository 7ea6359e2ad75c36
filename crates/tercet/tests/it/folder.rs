//! A folder to bring up.

use std::path::{Path, PathBuf};

use crate::system::remove_data;
use crate::tercet;

/// A folder to bring up; removed with its database when dropped.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::Builder::new().prefix("shop").tempdir().unwrap());
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
