//! What a person wants of a fleet: what the project's files say, the release before, or other secrets.

use anyhow::Result;
use tercet_config::Tier;

use crate::fleet::Fleet;
use crate::migrate::Migrate;
use crate::release::{self, Release};

/// What a plan never does unless the person says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consent {
    /// Machines that are another project's, or another operator's, become this one's.
    pub take_over: bool,
    /// A project that has had data starts with an empty database.
    pub new_database: bool,
}

/// What a plan is to bring about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
pub enum Intent {
    /// What the project's files say.
    Apply {
        /// The release of the application tier.
        release: Release,
        /// The migrations, when the database is the project's own.
        migrate: Option<Migrate>,
        /// What the person explicitly allows.
        consent: Consent,
    },
    /// The release that was used before the present one. The database stays as it is.
    Rollback,
    /// The release that serves, with other secrets.
    Rotate,
    /// Nothing: all that was made on the machines is taken away.
    Destroy {
        /// Whether the project's database is dropped.
        with_data: bool,
    },
}

impl Intent {
    /// What the person explicitly allows.
    pub(crate) fn consent(&self) -> Consent {
        match self {
            Self::Apply { consent, .. } => *consent,
            Self::Rollback | Self::Rotate | Self::Destroy { .. } => Consent::default(),
        }
    }

    /// The migrations to apply.
    pub(crate) fn migrate(&self) -> Option<&Migrate> {
        match self {
            Self::Apply { migrate, .. } => migrate.as_ref(),
            Self::Rollback | Self::Rotate | Self::Destroy { .. } => None,
        }
    }
}

/// An intent and the files it needs.
#[derive(Debug)]
pub struct Wanted {
    pub(crate) intent: Intent,
    /// The archive of the intent's release.
    pub(crate) archive: Vec<u8>,
}

impl Wanted {
    /// What the project's files say now: read once, so that what is executed is what was planned.
    ///
    /// # Errors
    /// The project's files cannot be read.
    pub fn apply(fleet: &Fleet<'_>, consent: Consent) -> Result<Self> {
        let shipment = release::prepare(
            fleet.topology,
            fleet.folder,
            &fleet.program,
            &fleet.project()?.secrets.release_key,
        )?;
        let database = fleet.topology.parts().iter().find(|part| part.tier == Tier::Database);
        let folder = fleet.folder.join(&fleet.topology.database().migrations);
        let migrate = database
            .map(|part| Migrate::read(&folder, fleet.topology.name(), part.port.number))
            .transpose()?;
        let intent = Intent::Apply { release: shipment.release, migrate, consent };
        Ok(Self { intent, archive: shipment.archive })
    }

    /// The release that was used before the present one.
    pub fn rollback() -> Self {
        Self { intent: Intent::Rollback, archive: Vec::new() }
    }

    /// The release that serves, with the secrets as they are now.
    pub fn rotate() -> Self {
        Self { intent: Intent::Rotate, archive: Vec::new() }
    }

    /// Nothing on any machine.
    pub fn destroy(with_data: bool) -> Self {
        Self { intent: Intent::Destroy { with_data }, archive: Vec::new() }
    }
}
