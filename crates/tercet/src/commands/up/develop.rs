//! Applies changes of the project's files while its parts run: new migrations and seeds to the private database, and
//! `tercet.toml` to the parts that its change concerns.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use rustix::process::Signal;
use tercet_config::{Application, Topology};
use tercet_database::Seeds;
use tercet_database::migration::MigrationError;
use tercet_observe::event::SupervisorEvent;
use tercet_postgres::Target;

use super::database::Urls;
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
    /// The database URLs of the application servers.
    pub(super) urls: Urls,
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
                self.migrate(&project, change.seeds).await;
            }
        }
    }

    /// Applies new migrations, then new seeds; `seeds` is whether those have changed.
    async fn migrate(&self, project: &Project, seeds: bool) {
        let Some(owner) = &self.owner else { return };
        let migrate = async {
            let count = migrations(project).map_err(Failure::into_error)?.apply(owner).await?;
            if count > 0 {
                self.log.event(SupervisorEvent::MigrationsApplied { count });
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
            return self.log.event(SupervisorEvent::MigrationsFailed { reason: &reason });
        }
        if self.seeds {
            let plant = async { plant(&Seeds::read(&project.folder.join(SEEDS))?, owner, &self.log).await };
            match plant.await {
                Ok(is_ignored) if is_ignored && seeds => self.log.event(SupervisorEvent::SeedsIgnored),
                Ok(_) => {}
                Err(error) => {
                    self.log.event(SupervisorEvent::SeedsFailed { reason: &format!("{error:#}") });
                }
            }
        }
    }

    /// Applies a changed `tercet.toml`: the servers of each application are replaced one by one, the balancer reloads.
    async fn configure(&mut self, project: &mut Project, new: Project) {
        if project.topology.name() != new.topology.name() {
            let name = project.topology.name();
            let reason = format!(
                "a project keeps its name, which its database and roles have, too; hint: write name = \"{name}\""
            );
            self.log.event(SupervisorEvent::ConfigurationRefused { reason: &reason });
            return;
        }
        let keys = unchangeable(&project.topology, &new.topology);
        if !keys.is_empty() {
            self.log.event(SupervisorEvent::RestartRequired { keys });
            return;
        }
        if let Err(failure) = check(&self.plan.borrow(), &new, self.private, &self.urls) {
            // The files that running parts would be restarted with are the old ones again.
            let _ = check(&self.plan.borrow(), project, self.private, &self.urls);
            return self.refused(&failure);
        }
        let (parts, failed) = self.reconfigure(&new).await;
        if failed.is_empty() || !parts.is_empty() {
            let parts = parts.iter().map(String::as_str).collect();
            self.log.event(SupervisorEvent::ConfigurationApplied { parts });
        }
        for error in failed {
            self.refused(&error.into());
        }
        // Its migrations may be elsewhere: then those that are watched have changed.
        *project = new;
    }

    /// Restarts or reloads the parts whose configuration has changed, and returns their names and what failed. A server that does not
    /// start again stops the change of its application and of the balancer, and of no other application.
    async fn reconfigure(&mut self, project: &Project) -> (Vec<String>, Vec<anyhow::Error>) {
        let (mut changed, mut failed) = (Vec::new(), Vec::new());
        for application in project.topology.applications() {
            failed.extend(self.replace(project, application, &mut changed).await.err());
        }
        if !failed.is_empty() {
            return (changed, failed);
        }
        let balancer = self.plan.borrow().balancer(project, self.private);
        match balancer {
            Ok(balancer) if self.running.get(BALANCER) != Some(&balancer.text) => {
                self.supervisor.signal(BALANCER, Signal::HUP);
                self.running.insert(BALANCER.to_owned(), balancer.text);
                changed.push(BALANCER.to_owned());
            }
            Ok(_) => {}
            Err(failure) => failed.push(failure.into_error()),
        }
        (changed, failed)
    }

    /// Replaces the servers of an application whose configuration has changed, one after the other.
    async fn replace(
        &mut self,
        project: &Project,
        application: &Application,
        changed: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        let servers = self.plan.borrow().servers_of(application);
        for index in servers {
            let server = self.plan.borrow().application(index, project, self.private, &self.urls)?;
            let (name, fingerprint) = (server.name.clone(), server.fingerprint());
            if self.running.get(&name) != Some(&fingerprint) {
                self.running.remove(&name);
                self.supervisor.replace(APPLICATION_TIER, server).await?;
                self.running.insert(name.clone(), fingerprint);
                changed.push(name);
            }
        }
        Ok(())
    }

    fn refused(&self, failure: &Failure) {
        self.log.event(SupervisorEvent::ConfigurationRefused { reason: &failure.one_line() });
    }
}

/// Applies the seeds that are new. Returns whether they are ignored, since the database was not empty when the first came.
pub(super) async fn plant(seeds: &Seeds, owner: &Target, log: &PartLog) -> anyhow::Result<bool> {
    let done = seeds.apply(owner).await?;
    if done.count > 0 {
        log.event(SupervisorEvent::SeedsApplied { count: done.count });
    }
    for file in done.changed {
        log.event(SupervisorEvent::SeedsChanged { file: &file.display().to_string() });
    }
    Ok(done.ignored)
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
    let kinds = |topology: &Topology| -> Vec<_> {
        topology.applications().iter().map(|it| (it.name.clone(), it.data_api().is_some())).collect()
    };
    let migrations = |topology: &Topology| -> Vec<_> {
        let programs = topology.applications().iter().map(|it| it.environment.migrate.as_ref());
        programs.map(|program| program.map(|program| program.words("", 0))).collect()
    };
    [
        (
            "servers or ports",
            old.parts() != new.parts() || old.only_this_machine() != new.only_this_machine(),
        ),
        ("listen", listeners(old) != listeners(new)),
        ("run", kinds(old) != kinds(new)),
        ("grants", old.grants() != new.grants()),
        ("migrate", migrations(old) != migrations(new)),
        ("supabase", old.database().supabase != new.database().supabase),
        ("url in [database]", old.database().url != new.database().url),
    ]
    .into_iter()
    .filter_map(|(key, changed)| changed.then_some(key))
    .collect()
}
