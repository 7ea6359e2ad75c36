//! The goal of a change: the project's files, the previous release, other secrets, or nothing.

use anyhow::Result;
use tercet_config::Tier;
use tercet_database::RecoveryTarget;

use crate::backup::Task;
use crate::fleet::Fleet;
use crate::migrate::Migrate;
use crate::release::{self, Release};

/// Consent to what a plan otherwise refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consent {
    /// Machines that are another project's, or another operator's, become this one's.
    pub take_over: bool,
    /// A project that has had data starts with an empty database.
    pub new_database: bool,
    /// The database moves to the machine that the file names.
    pub move_database: bool,
}

/// The goal of an execution plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intent {
    /// The state that the project's files describe.
    Apply {
        /// The release of each application.
        releases: Vec<Release>,
        /// The migrations, when the database is the project's own.
        migrate: Option<Migrate>,
        /// What the operator consents to.
        consent: Consent,
    },
    /// The previous release of an application, and the present ones of the others. The database is unchanged.
    Rollback {
        /// Its name; without one, the only application is meant.
        application: Option<String>,
    },
    /// The present releases, with other secrets.
    Rotate,
    /// A task on the machine that makes the backups.
    Task(Task),
    /// The database as it was.
    Restore(Restore),
    /// Nothing: all recorded resources are removed from the machines.
    Destroy {
        /// Whether the project's database is dropped.
        with_data: bool,
    },
}

/// What becomes of the database as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restore {
    /// It is restored beside the database, to be looked at.
    Beside(RecoveryTarget),
    /// It replaces the database.
    Replace(RecoveryTarget),
    /// The data before the last replacement replaces the database.
    Undo,
    /// Copies, and data that replacements left, are removed.
    Drop,
}

impl Intent {
    /// What the operator consents to.
    pub(crate) fn consent(&self) -> Consent {
        match self {
            Self::Apply { consent, .. } => *consent,
            Self::Rollback { .. }
            | Self::Rotate
            | Self::Task(_)
            | Self::Restore(_)
            | Self::Destroy { .. } => Consent::default(),
        }
    }

    /// The migrations to apply.
    pub(crate) fn migrate(&self) -> Option<&Migrate> {
        match self {
            Self::Apply { migrate, .. } => migrate.as_ref(),
            Self::Rollback { .. }
            | Self::Rotate
            | Self::Task(_)
            | Self::Restore(_)
            | Self::Destroy { .. } => None,
        }
    }
}

/// An intent and the files it needs.
#[derive(Debug)]
pub struct Wanted {
    pub(crate) intent: Intent,
    /// The archive of the intent's releases.
    pub(crate) archive: Vec<u8>,
    /// The archive of its static files.
    pub(crate) website: Vec<u8>,
}

impl Wanted {
    /// Reads the project's files once, so that the executed state is the planned one.
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
            .map(|part| {
                Migrate::read(&folder, fleet.topology.name(), part.port.number, fleet.topology.grants())
            })
            .transpose()?;
        let intent = Intent::Apply { releases: shipment.releases, migrate, consent };
        Ok(Self { intent, archive: shipment.archive, website: shipment.website })
    }

    /// A goal for which no files are shipped.
    fn without_files(intent: Intent) -> Self {
        Self { intent, archive: Vec::new(), website: Vec::new() }
    }

    /// The previous release of the application with this name; without one, of the only application.
    pub fn rollback(application: Option<String>) -> Self {
        Self::without_files(Intent::Rollback { application })
    }

    /// The present releases, with the present secrets.
    pub fn rotate() -> Self {
        Self::without_files(Intent::Rotate)
    }

    /// A task on the machine that makes the backups.
    pub fn task(task: Task) -> Self {
        Self::without_files(Intent::Task(task))
    }

    /// The database as it was.
    pub fn restore(restore: Restore) -> Self {
        Self::without_files(Intent::Restore(restore))
    }

    /// Nothing on any machine.
    pub fn destroy(with_data: bool) -> Self {
        Self::without_files(Intent::Destroy { with_data })
    }
}
