//! Applies changes of the project's files while its parts run: new migrations and seeds to the private database, and
//! `tercet.toml` to the parts that its change concerns.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use rustix::process::Signal;
use tercet_config::Topology;
use tercet_database::Seeds;
use tercet_database::migration::MigrationError;
use tercet_observe::event::SupervisorEvent;
use tercet_postgres::Target;

use super::plan::Plan;
use super::private::PrivateFolder;
use super::watch::Watched;
use super::{APPLICATION_TIER, BALANCER, SEEDS, check, migrations};
use crate::failure::Failure;
use crate::output::PartLog;
use crate::project::Project;
use crate::supervisor::Supervisor;

/// A project whose parts run.
pub(super) struct Development<'a> {
    pub(super) private: &'a PrivateFolder,
    pub(super) supervisor: &'a Supervisor,
    pub(super) plan: &'a RefCell<Plan>,
    /// How the owner of the private database connects; `None` with another PostgreSQL, to which nothing is applied.
    pub(super) owner: Option<Target>,
    /// The database URL of the application servers.
    pub(super) server: String,
    /// The configuration that each part runs with.
    pub(super) running: BTreeMap<String, String>,
    pub(super) seeds: bool,
    pub(super) log: PartLog,
}

impl Development<'_> {
    /// Watches the project's files from their state `watched` on, and applies their changes. Never returns.
    pub(super) async fn watch(&mut self, mut project: Project, mut watched: Watched) {
        loop {
            let change = watched.changed(|| state(&project)).await;
            if change.configuration {
                match Project::to_bring_up(&project.folder) {
                    Ok(new) => self.configure(&mut project, new).await,
                    Err(failure) => self.refused(&failure),
                }
            }
            if change.migrations || change.seeds {
                self.migrate(&project).await;
            }
        }
    }

    /// Applies new migrations, then new seeds.
    async fn migrate(&self, project: &Project) {
        let Some(owner) = &self.owner else { return };
        let migrate = async {
            let count = migrations(project).map_err(Failure::into_error)?.apply(owner).await?;
            if count > 0 {
                self.log.event(SupervisorEvent::MigrationsApplied { count });
            }
            if self.seeds {
                plant(&Seeds::read(&project.folder.join(SEEDS))?, owner, &self.log).await?;
            }
            anyhow::Ok(())
        };
        if let Err(error) = migrate.await {
            let mut reason = format!("{error:#}");
            if matches!(
                error.downcast_ref(),
                Some(MigrationError::Changed(_) | MigrationError::Missing { .. })
            ) {
                reason.push_str(". To start over with an empty database: tercet migrate reset");
            }
            self.log.event(SupervisorEvent::MigrationsFailed { reason: &reason });
        }
    }

    /// Applies a changed `tercet.toml`: application servers are replaced one by one, the balancer reloads.
    async fn configure(&mut self, project: &mut Project, new: Project) {
        let keys = unchangeable(&project.topology, &new.topology);
        if !keys.is_empty() {
            self.log.event(SupervisorEvent::RestartRequired { keys });
            return;
        }
        if let Err(failure) = check(&self.plan.borrow(), &new, self.private, &self.server) {
            // The files that running parts would be restarted with are the old ones again.
            let _ = check(&self.plan.borrow(), project, self.private, &self.server);
            return self.refused(&failure);
        }
        match self.reconfigure(&new).await {
            Ok(parts) => {
                let parts = parts.iter().map(String::as_str).collect();
                self.log.event(SupervisorEvent::ConfigurationApplied { parts });
            }
            Err(error) => self.refused(&error.into()),
        }
        // Its migrations may be elsewhere: then those that are watched have changed.
        *project = new;
    }

    /// Restarts or reloads the parts whose configuration has changed, and returns their names.
    async fn reconfigure(&mut self, project: &Project) -> anyhow::Result<Vec<String>> {
        let mut changed = Vec::new();
        let count = self.plan.borrow().count();
        for index in 0..count {
            let application = self.plan.borrow().application(index, project, self.private, &self.server)?;
            let (name, fingerprint) = (application.name.clone(), application.fingerprint());
            if self.running.get(&name) != Some(&fingerprint) {
                self.running.remove(&name);
                self.supervisor.replace(APPLICATION_TIER, application).await?;
                self.running.insert(name.clone(), fingerprint);
                changed.push(name);
            }
        }
        let balancer = self.plan.borrow().balancer(project, self.private).map_err(Failure::into_error)?;
        if self.running.get(BALANCER) != Some(&balancer.text) {
            self.supervisor.signal(BALANCER, Signal::HUP);
            self.running.insert(BALANCER.to_owned(), balancer.text);
            changed.push(BALANCER.to_owned());
        }
        Ok(changed)
    }

    fn refused(&self, failure: &Failure) {
        self.log.event(SupervisorEvent::ConfigurationRefused { reason: &failure.one_line() });
    }
}

/// Applies the seeds that are new.
pub(super) async fn plant(seeds: &Seeds, owner: &Target, log: &PartLog) -> anyhow::Result<()> {
    let done = seeds.apply(owner).await?;
    if done.count > 0 {
        log.event(SupervisorEvent::SeedsApplied { count: done.count });
    }
    for file in done.changed {
        log.event(SupervisorEvent::SeedsChanged { file: &file.display().to_string() });
    }
    Ok(())
}

/// The watched files of a project.
pub(super) fn state(project: &Project) -> Watched {
    let file = |name: PathBuf| project.folder.join(name);
    Watched::now(
        &file(tercet_config::FILE.into()),
        &file(project.topology.database().migrations.clone()),
        &file(SEEDS.into()),
    )
}

/// The keys whose change needs a restart: those that the addresses and the database depend on.
fn unchangeable(old: &Topology, new: &Topology) -> Vec<&'static str> {
    let listeners = |topology: &Topology| {
        let tls = topology.balancer().tls.as_ref().map(|tls| (tls.listen.clone(), tls.listen_named));
        (topology.balancer().listen.clone(), tls)
    };
    let kind = |topology: &Topology| std::mem::discriminant(&topology.application().server);
    let environment = |topology: &Topology| topology.application().environment.clone();
    let migrate = |topology: &Topology| environment(topology).migrate.map(|program| program.words("", 0));
    [
        ("name", old.name() != new.name()),
        (
            "servers or ports",
            old.parts() != new.parts() || old.only_this_machine() != new.only_this_machine(),
        ),
        ("listen", listeners(old) != listeners(new)),
        ("run", kind(old) != kind(new)),
        ("grants", environment(old).grants != environment(new).grants),
        ("migrate", migrate(old) != migrate(new)),
        ("supabase", old.database().supabase != new.database().supabase),
        ("url in [database]", old.database().url != new.database().url),
    ]
    .into_iter()
    .filter_map(|(key, changed)| changed.then_some(key))
    .collect()
}
