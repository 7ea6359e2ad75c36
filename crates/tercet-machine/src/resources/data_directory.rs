//! Directories of data: tercet creates them and never removes them, so the inventory does not record them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::directory::{Directory, Step};
use crate::error::Error;
use crate::resource::{Context, Resource};

/// A directory with data that outlives the project on the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DataDirectory(pub Directory);

impl Resource for Vec<DataDirectory> {
    type Facts = ();
    type Record = ();
    type Step = Step;

    fn paths(&self, (): &()) -> Vec<(PathBuf, bool)> {
        self.iter().map(|it| (it.0.path.clone(), false)).collect()
    }

    fn probe(&self, (): &()) -> Result<(), Error> {
        Ok(())
    }

    fn diff(&self, (): &(), context: &mut Context<'_>) -> Vec<Step> {
        self.iter().filter_map(|it| it.0.step(context)).collect()
    }
}
