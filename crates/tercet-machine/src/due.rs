//! A unit's restart or reload that is due because a file which it has read is gone: no time of modification says so. The mark
//! is a file in `/run`, older than the unit once it has been restarted or reloaded.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;

const FOLDER: &str = "/run/tercet/due";

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// A reload.
    Reload,
    /// A restart.
    Restart,
}

impl Due {
    /// The mark of a unit.
    pub(crate) fn mark(self, unit: &str) -> PathBuf {
        let folder = match self {
            Self::Reload => "reload",
            Self::Restart => "restart",
        };
        Path::new(FOLDER).join(folder).join(unit)
    }

    /// Sets the mark of a unit.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn set(self, unit: &str) -> Result<(), Error> {
        let mark = self.mark(unit);
        let folder = mark.parent().unwrap_or(Path::new(FOLDER));
        fs::create_dir_all(folder).map_err(Error::change(folder))?;
        fs::write(&mark, "").map_err(Error::change(&mark))
    }
}
