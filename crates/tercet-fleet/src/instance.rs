//! An instance of an application server: a part of the file that runs one release with one configuration.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::begins_digest;
use crate::release::ID_DIGITS;

/// The account of application servers.
pub(crate) const ACCOUNT: &str = "tercet-application";

/// The number of digits of a revision's digest in its name.
pub(crate) const REVISION_DIGITS: usize = 8;

/// An application server of one part, release and revision; its unit is named after it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Instance {
    /// The part: `app-1`.
    pub part: String,
    /// The release it runs.
    pub release: String,
    /// The digest of all else its unit reads: a change of a secret or a setting is another instance.
    pub revision: String,
    /// The port it listens on.
    pub port: u16,
}

impl Instance {
    /// Its unit: `tercet-app-1@3f9c2ab1d0e4-1c9e04d7.service`.
    pub(crate) fn unit(&self) -> String {
        format!("tercet-{}@{}-{}.service", self.part, self.release, self.revision)
    }

    /// Whether its fields can be part of a path: they come from a machine.
    pub(crate) fn is_well_formed(&self) -> bool {
        begins_digest(&self.release, ID_DIGITS) && begins_digest(&self.revision, REVISION_DIGITS)
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of release {} on port {}", self.part, self.release, self.port)
    }
}
