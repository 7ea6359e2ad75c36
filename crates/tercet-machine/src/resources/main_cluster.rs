//! Debian's PostgreSQL cluster `main` (pg_createcluster(1)): created where the package's installation creates none.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::command::run;
use crate::error::Error;
use crate::resource::{Action, Context, Resource};

/// The cluster of a major version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MainCluster {
    /// The major version.
    pub major: u32,
}

/// A change to the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Creates it.
    Create {
        /// The major version.
        major: u32,
    },
}

impl MainCluster {
    fn configuration(&self) -> PathBuf {
        Path::new("/etc/postgresql").join(self.major.to_string()).join("main/postgresql.conf")
    }
}

impl Resource for Option<MainCluster> {
    /// Whether it exists.
    type Facts = bool;
    type Record = ();
    type Step = Step;

    fn probe(&self, (): &()) -> Result<bool, Error> {
        Ok(self.as_ref().is_some_and(|cluster| cluster.configuration().exists()))
    }

    fn diff(&self, exists: &bool, _context: &mut Context<'_>) -> Vec<Step> {
        let missing = self.iter().filter(|_| !exists);
        missing.map(|cluster| Step::Create { major: cluster.major }).collect()
    }
}

impl Action for Step {
    fn execute(&self, _note: &mut dyn FnMut(&str)) -> Result<(), Error> {
        let Self::Create { major } = self;
        let major = major.to_string();
        // Neither the machine's locale nor its own defaults are the project's: without this one, no file in conf.d is read.
        let defaults = tempfile::NamedTempFile::new_in("/tmp")
            .and_then(|file| fs::write(file.path(), "add_include_dir = 'conf.d'\n").map(|()| file))
            .map_err(Error::change(Path::new("/tmp")))?;
        let defaults = defaults.path().to_string_lossy();
        let ours = ["--createclusterconf", &defaults, "--locale", "C.UTF-8", "--encoding", "UTF8"];
        let cluster = ["--start-conf", "auto", &major, "main", "--", "--data-checksums"];
        run("pg_createcluster", &[ours, cluster].concat())?;
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Create { major } = self;
        write!(f, "create the PostgreSQL cluster {major}/main")
    }
}
