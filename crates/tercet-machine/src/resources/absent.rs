//! Paths that do not exist: files, symbolic links and directories are removed.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::path;
use crate::resource::{Action, Context, Resource};

/// A change to a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Removes it, a directory with its contents.
    Remove {
        /// The path.
        path: PathBuf,
    },
}

impl Resource for Vec<PathBuf> {
    type Facts = ();
    type Record = ();
    type Step = Step;

    fn paths(&self, (): &()) -> Vec<(PathBuf, bool)> {
        self.iter().map(|path| (path.clone(), false)).collect()
    }

    fn probe(&self, (): &()) -> Result<(), Error> {
        Ok(())
    }

    fn diff(&self, (): &(), context: &mut Context<'_>) -> Vec<Step> {
        let present: Vec<&PathBuf> = self.iter().filter(|path| context.paths.contains_key(*path)).collect();
        context.removed.extend(present.iter().copied().cloned());
        present.into_iter().map(|path| Step::Remove { path: path.clone() }).collect()
    }

    fn removed(&self) -> Vec<PathBuf> {
        self.clone()
    }
}

impl Action for Step {
    fn execute(&self, _note: &mut dyn FnMut(&str)) -> Result<(), Error> {
        let Self::Remove { path } = self;
        path::remove(path)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Remove { path } = self;
        write!(f, "remove {}", path.display())
    }
}
