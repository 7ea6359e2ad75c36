//! The execution plan: the only place that decides which operations are executed, and in which order.
//!
//! Pure: a [`Survey`] and an [`Intent`] in, an [`ExecutionPlan`] out. The plan never waits for a server that it
//! replaces; only servers that the plan starts must become ready.

mod backup;
mod data;
pub(crate) mod destroy;
pub(crate) mod leaving;
mod monitor;
mod moving;
mod restore;
mod retention;
mod rollout;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use tercet_config::{Application, Part, Tier, Topology};
use tercet_machine::{Desired, Inventory, Secret, Step, plan as steps, unit};

use self::retention::Retention;
use crate::deployment::{Deployment, Placed, Serving, seen_by_the_balancer};
use crate::desired::{Project, TemporaryEdge, balancer_configuration, instance, migration, migrator};
use crate::identity::Identity;
use crate::intent::{Consent, Intent};
use crate::operation::{Action, Operation};
use crate::program_migration::OwnerLogin;
use crate::release::{Kind, Release};
use crate::state::check_current;
use crate::survey::{Survey, Surveyed};
use crate::website::Website;

/// A change of a fleet as a value: it can be shown, counted, compared and executed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecutionPlan {
    /// The stages, one after the other; the operations of a stage are concurrent.
    pub stages: Vec<Vec<Operation>>,
    /// The balancer's new configuration, for validation by the balancer.
    pub balancer: Option<String>,
    /// Notes: what stays, and which machines could not be read.
    pub notes: Vec<String>,
}

impl ExecutionPlan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// The operations, in their order.
    pub fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.stages.iter().flatten()
    }

    fn stage(&mut self, operations: impl IntoIterator<Item = Operation>) {
        let operations: Vec<Operation> = operations.into_iter().collect();
        if !operations.is_empty() {
            self.stages.push(operations);
        }
    }
}

/// The numbered operations, each with the steps that the survey predicts.
impl fmt::Display for ExecutionPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, operation) in self.operations().enumerate() {
            writeln!(f, "{:>3}. {operation}", place + 1)?;
            for step in operation.steps() {
                writeln!(f, "       {step}")?;
                for change in step.changes() {
                    writeln!(f, "         {}", change.to_string().replace('\n', "\n         "))?;
                }
            }
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }
}

/// The goal of a plan.
struct Target<'p> {
    project: &'p Project<'p>,
    /// The deployed state.
    now: Deployment,
    /// The release that the servers of each application are to run, in the order of the file.
    releases: Vec<Release>,
    /// The instance of each part that is to get requests.
    serving: BTreeMap<String, Placed>,
    /// What stays open until the application servers are rolled.
    temporary_edges: Vec<TemporaryEdge>,
}

impl<'p> Target<'p> {
    fn of(project: &'p Project<'p>, survey: &Survey, intent: &Intent) -> Result<Self> {
        let leaving: Vec<_> = survey.leaving.iter().map(|it| &it.remembered).collect();
        let machines = survey.machines.iter().chain(survey.leaving.iter().map(|it| &it.surveyed));
        let reports = machines.map(|machine| (machine.name.as_str(), &machine.report));
        let now = Deployment::of(project.topology, &leaving, reports);
        let applications = project.topology.applications();
        let each = |release: &dyn Fn(&Application) -> Result<Release>| -> Result<Vec<Release>> {
            applications.iter().map(release).collect()
        };
        let releases: Vec<Release> = match intent {
            Intent::Apply { releases, .. } => each(&|it| of(it, releases).cloned())?,
            Intent::Rollback { application } => {
                let back = chosen(project.topology, application.as_deref())?;
                each(&|it| if it.name == back.name { previous(&now, it) } else { in_use(&now, it) })?
            }
            Intent::Rotate => each(&|it| in_use(&now, it))?,
            Intent::Destroy { .. } | Intent::Task(_) | Intent::Restore(_) => bail!("no release is deployed"),
        };
        let serving = parts(project)
            .map(|part| {
                let application = project.topology.application_of(part);
                let application = application.with_context(|| format!("{} has no application", part.name))?;
                let release = of(application, &releases)?;
                let machine = &project.topology.machine_of(part).name;
                let present = now.serving.get(&part.name).filter(|it| it.machine == *machine);
                let next = |port| instance(project, part, release, port);
                let same = present.filter(|it| {
                    let next = next(it.instance.port);
                    it.instance == next && part.ports().contains(&next.port)
                });
                let port = || free_port(&now, part, machine);
                let instance = same.map_or_else(|| next(port()), |it| it.instance.clone());
                let address = seen_by_the_balancer(project.topology, &leaving, machine);
                let address = address.with_context(|| format!("{}: no balancer leads to it", part.name))?;
                let address = SocketAddr::new(address, instance.port);
                Ok((part.name.clone(), Placed { machine: machine.clone(), address, instance }))
            })
            .collect::<Result<_>>()?;
        let mut target = Self { project, now, releases, serving, temporary_edges: Vec::new() };
        target.temporary_edges = leaving::temporary_edges(&target, survey);
        Ok(target)
    }

    /// The release of this id: one that servers are to run, or one on the machines.
    fn release(&self, id: &str) -> Option<&Release> {
        self.releases.iter().find(|release| release.id == id).or_else(|| self.now.release(id))
    }

    /// The release that a server is to run, or runs. One that no machine has any more is taken for the first of the file.
    fn release_of(&self, placed: &Placed) -> &Release {
        self.release(&placed.instance.release).unwrap_or(&self.releases[0])
    }

    /// Whether a release is one that servers are to run.
    fn is_wanted(&self, id: &str) -> bool {
        self.releases.iter().any(|release| release.id == id)
    }

    /// Whether an application server of the file has this name.
    fn is_part(&self, name: &str) -> bool {
        parts(self.project).any(|part| part.name == name)
    }

    /// The instances that serve, in the order of the file, as far as their releases are known.
    fn with_releases<'t>(&'t self, serving: &BTreeMap<String, Placed>) -> Vec<Serving<'t>> {
        let parts = parts(self.project).filter_map(|part| serving.get_key_value(&part.name));
        let others = serving.iter().filter(|(name, _)| !self.is_part(name));
        parts
            .chain(others)
            .filter_map(|(name, placed)| {
                let id = &placed.instance.release;
                let release = self.release(id)?;
                let is_there = |website: &Website| self.now.websites.contains(website.name());
                let has_website = self.is_wanted(id) || release.website.as_deref().is_some_and(is_there);
                Some(Serving { name: name.clone(), placed: placed.clone(), release, has_website })
            })
            .collect()
    }

    /// What a machine should be before the application servers are rolled: what serves goes on serving.
    fn before(&self, machine: &Surveyed) -> Result<Desired> {
        self.before_with(machine, &self.temporary_edges)
    }

    fn machine(&self, name: &str) -> Result<&'p tercet_config::Machine> {
        let mut machines = self.project.topology.machines().iter();
        machines.find(|machine| machine.name == name).with_context(|| format!("there is no machine {name}"))
    }
}

/// The port of a part that nothing on the machine has which serves, and if there are two, nothing at all.
fn free_port(now: &Deployment, part: &Part, machine: &str) -> u16 {
    let serving =
        |port: &u16| now.serving.values().any(|it| it.machine == machine && it.instance.port == *port);
    part.ports().into_iter().find(|port| !serving(port)).unwrap_or(part.port.number)
}

/// The release of an application among those of a shipment.
fn of<'r>(application: &Application, releases: &'r [Release]) -> Result<&'r Release> {
    let release = releases.iter().find(|release| release.application == application.name);
    release.with_context(|| format!("there is no release of {}", application.section()))
}

/// The application with this name; without a name the only one.
fn chosen<'t>(topology: &'t Topology, name: Option<&str>) -> Result<&'t Application> {
    let all = topology.applications();
    if let (None, [only]) = (name, all) {
        return Ok(only);
    }
    let names = || all.iter().filter_map(|it| it.name.as_deref()).collect::<Vec<_>>().join(", ");
    let Some(name) = name else {
        bail!(
            "there are several applications\nhint: say which one goes back, --application NAME of {}",
            names()
        );
    };
    topology.application(Some(name)).with_context(|| match &names()[..] {
        "" => {
            format!("there is no application {name}\nhint: the only one has no name, leave --application out")
        }
        names => format!("there is no application {name}\nhint: tercet.toml has {names}"),
    })
}

/// The release of an application that was used before the present one.
fn previous(now: &Deployment, application: &Application) -> Result<Release> {
    let serves = |id: &str| now.serving.values().any(|it| it.instance.release == id);
    let mut own = now.releases.iter().filter(|release| release.application == application.name);
    own.find(|release| !serves(&release.id)).cloned().with_context(|| {
        let of = of_name(application);
        format!("there is no earlier release{of} on the machines\nhint: tercet apply makes releases")
    })
}

/// The release of an application that serves.
fn in_use(now: &Deployment, application: &Application) -> Result<Release> {
    let is_other = |id: &str| now.release(id).is_some_and(|release| release.application != application.name);
    let ids: BTreeSet<&str> = now
        .serving
        .values()
        .map(|placed| placed.instance.release.as_str())
        .filter(|id| !is_other(id))
        .collect();
    let Some(id) = ids.first() else {
        bail!("no application server{} serves yet\nhint: tercet apply first", of_name(application));
    };
    if ids.len() > 1 {
        let ids = ids.into_iter().collect::<Vec<_>>().join(", ");
        bail!(
            "application servers{} serve different releases: {ids}\nhint: tercet apply first",
            of_name(application)
        );
    }
    now.release(id).cloned().with_context(|| format!("release {id} serves and is on no machine"))
}

/// ` of NAME`, if it has one.
fn of_name(application: &Application) -> String {
    application.name.as_ref().map(|name| format!(" of {name}")).unwrap_or_default()
}

/// The application servers, in the order of the file.
fn parts<'p>(project: &Project<'p>) -> impl Iterator<Item = &'p Part> + use<'p> {
    project.topology.parts().iter().filter(|part| part.tier == Tier::Application)
}

/// The desired state of each machine before the rollout, and the resources to remove: the survey reads the facts for these.
pub(crate) fn desired_of(project: &Project<'_>, survey: &Survey, intent: &Intent) -> Result<Vec<Desired>> {
    let target = Target::of(project, survey, intent)?;
    let desired = survey.machines.iter().map(|machine| {
        Ok(Desired { retired: leaving::leftover(&target, machine)?, ..target.before(machine)? })
    });
    desired.collect()
}

/// Computes the plan from the surveyed state to the intended one.
///
/// # Errors
/// The intent cannot be reached; the error names the obstacle.
pub fn plan(project: &Project<'_>, survey: &Survey, intent: &Intent) -> Result<ExecutionPlan> {
    match intent {
        Intent::Destroy { with_data } => return Ok(destroy::plan(project, survey, *with_data)),
        Intent::Task(task) => return backup::task(project, survey, task),
        Intent::Restore(wanted) => return restore::plan(project, survey, wanted),
        Intent::Apply { .. } | Intent::Rollback { .. } | Intent::Rotate => {}
    }
    let target = Target::of(project, survey, intent)?;
    let consent = intent.consent();
    let mut plan = ExecutionPlan::default();
    identify(&mut plan, &target, survey, consent)?;
    if consent.move_database {
        moving::check(&target, survey)?;
    } else {
        moving::check_complete(&target, survey)?;
        if !consent.new_database {
            data::check(&target, survey)?;
        }
    }
    data::check_unowned(&target, survey, consent)?;
    backup::check(&target, survey)?;
    leaving::check(&target, survey, consent)?;
    rollout::drop_unknown(&mut plan, &target, survey);
    let serving = target.with_releases(&target.serving);
    if project.topology.machines().iter().any(|machine| machine.tiers.contains(&Tier::Balancer)) {
        plan.balancer = Some(balancer_configuration(project, &serving));
    }
    if consent.move_database {
        moving::packages(&mut plan, &target, survey)?;
        moving::stop(&mut plan, &target, survey);
        moving::complete(&mut plan, &target, survey);
    }
    backup::before_packages(&mut plan, &target, survey);
    monitor::before_packages(&mut plan, &target, survey);
    ship_website(&mut plan, &target, survey, intent)?;
    converge(&mut plan, &target, survey, consent)?;
    if consent.move_database {
        moving::bring(&mut plan, &target, survey);
    }
    backup::initialise(&mut plan, &target, survey);
    for release in &target.releases {
        ship(&mut plan, &target, survey, intent, release)?;
    }
    migrate(&mut plan, &target, survey, intent);
    for release in &target.releases {
        migrate_by_program(&mut plan, &target, intent, release)?;
    }
    rollout::add(&mut plan, &target, survey)?;
    data::record(&mut plan, &target, survey);
    let retention = Retention::of(&target);
    for release in &target.releases {
        let is_last_used = |it: &&Surveyed| {
            it.report.releases.iter().find(|other| other.application == release.application) == Some(release)
        };
        plan.stage(
            applications(&target, survey)
                .filter(|it| it.report.releases.contains(release) && !is_last_used(it))
                .map(|it| Operation::on(&it.name, Action::MarkUsed { release: release.clone() })),
        );
    }
    plan.stage(survey.machines.iter().filter_map(|machine| retention.clean_up(&target, machine)));
    backup::first(&mut plan, &target, survey);
    leaving::add(&mut plan, &target, survey)?;
    leaving::note_unreached(&mut plan, survey, "apply");
    monitor::note_silence(&mut plan, &target);
    Ok(plan)
}

/// Machines that carry application servers.
fn applications<'s>(target: &Target<'_>, survey: &'s Survey) -> impl Iterator<Item = &'s Surveyed> {
    let names: Vec<String> =
        parts(target.project).map(|part| target.project.topology.machine_of(part).name.clone()).collect();
    survey.machines.iter().filter(move |machine| names.contains(&machine.name))
}

/// Every machine is the project's before anything else is done to it.
fn identify(plan: &mut ExecutionPlan, target: &Target<'_>, survey: &Survey, consent: Consent) -> Result<()> {
    let secrets = target.project.secrets;
    let mut operations = Vec::new();
    for machine in &survey.machines {
        let identity = Identity {
            project: secrets.project.clone(),
            name: target.project.topology.name().to_owned(),
            machine: machine.name.clone(),
            tiers: target.machine(&machine.name)?.tiers.iter().map(ToString::to_string).collect(),
            authority: secrets.authorities.first().cloned().unwrap_or_default(),
            generation: secrets.generation,
            since: String::new(),
            data: None,
        };
        let there = machine.report.identity.as_ref();
        let mut take_over = false;
        if let Some(there) = there {
            let state = machine.report.state.as_ref();
            if !consent.take_over {
                check_current(secrets.state.as_ref(), &identity.project, &machine.name, state)?;
            }
            match secrets.check(there, machine.report.keeps_state()) {
                Err(_) if consent.take_over => take_over = true,
                checked => checked.with_context(|| machine.name.clone())?,
            }
        }
        let same =
            there.is_some_and(|it| Identity { since: String::new(), data: None, ..it.clone() } == identity);
        if !same {
            operations.push(Operation::on(&machine.name, Action::Identify { identity, take_over }));
        }
    }
    plan.stage(operations);
    Ok(())
}

/// The database first, since the others need it; then the others at the same time, but for those whose application
/// servers are restarted: these one after the other.
fn converge(plan: &mut ExecutionPlan, target: &Target<'_>, survey: &Survey, consent: Consent) -> Result<()> {
    let data = data::recorded(target, survey).filter(|_| !consent.new_database && !consent.move_database);
    let (mut database, mut others, mut restarting) = (Vec::new(), Vec::new(), Vec::new());
    for machine in &survey.machines {
        let desired = target.before(machine)?;
        let steps = steps(&desired, &machine.facts);
        let is_recorded = Inventory::of(&desired).without(&machine.report.inventory).is_empty();
        if steps.is_empty() && is_recorded {
            continue;
        }
        let restarts = steps.iter().any(restarts_an_application_server);
        let data = data.cloned();
        let operation =
            Operation::on(&machine.name, Action::Converge { desired: Box::new(desired), data, steps });
        if target.machine(&machine.name)?.tiers.contains(&Tier::Database) {
            database.push(operation);
        } else if restarts {
            restarting.push(operation);
        } else {
            others.push(operation);
        }
    }
    plan.stage(database);
    plan.stage(others);
    for operation in restarting {
        plan.stage([operation]);
    }
    Ok(())
}

fn restarts_an_application_server(step: &Step) -> bool {
    matches!(step, Step::Unit(unit::Step::Restart { name, .. }) if name.starts_with("tercet-app-"))
}

/// The release goes where it is not complete yet.
fn ship(
    plan: &mut ExecutionPlan,
    target: &Target<'_>,
    survey: &Survey,
    intent: &Intent,
    release: &Release,
) -> Result<()> {
    let missing: Vec<&Surveyed> =
        applications(target, survey).filter(|machine| !machine.report.releases.contains(release)).collect();
    let is_shipped = !matches!(intent, Intent::Apply { .. });
    if let (Some(machine), true, Kind::Own { .. }) = (missing.first(), is_shipped, &release.kind) {
        bail!(
            "{}: release {} is not complete there, and only its own files could make it so\n\
             hint: put the project's files back to what they were and apply",
            machine.name,
            release.id
        );
    }
    let on = |action: fn(Release) -> Action| {
        missing.iter().map(move |machine| Operation::on(&machine.name, action(release.clone())))
    };
    plan.stage(on(|release| Action::Ship { release }));
    if release.build().is_some() {
        plan.stage(on(|release| Action::Build { release }));
    }
    Ok(())
}

/// The release's static files go to the balancer's machine, before its configuration names them.
fn ship_website(
    plan: &mut ExecutionPlan,
    target: &Target<'_>,
    survey: &Survey,
    intent: &Intent,
) -> Result<()> {
    let with_website = target.releases.iter().find_map(|it| Some((it, it.website.as_ref()?)));
    let Some((release, website)) = with_website else { return Ok(()) };
    let name = website.name().to_owned();
    let missing: Vec<&str> = survey
        .machines
        .iter()
        .filter(|machine| rollout::balancers(target).any(|name| name == machine.name))
        .filter(|machine| !machine.report.websites.contains(&name))
        .map(|machine| machine.name.as_str())
        .collect();
    if let (Some(machine), false) = (missing.first(), matches!(intent, Intent::Apply { .. })) {
        bail!(
            "{machine}: the static files of release {} are not there, and only the project's files could be shipped\n\
             hint: put the project's files back to what they were and apply",
            release.id
        );
    }
    let action = Action::ShipWebsite { release: release.id.clone(), website: name };
    plan.stage(missing.iter().map(|machine| Operation::on(machine, action.clone())));
    Ok(())
}

fn migrate(plan: &mut ExecutionPlan, target: &Target<'_>, survey: &Survey, intent: &Intent) {
    let machines = target.project.topology.machines();
    let machine = machines.iter().find(|machine| machine.tiers.contains(&Tier::Database));
    let (Some(migrate), Some(state), Some(machine)) = (intent.migrate(), &survey.database, machine) else {
        return;
    };
    if !state.prepared || !state.pending.is_empty() {
        // The first of the file stands for all.
        let release = target.releases[0].id.clone();
        let action = Action::Migrate { migrate: migrate.clone(), release, new: state.pending.clone() };
        plan.stage([Operation::on(&machine.name, action)]);
    }
}

/// A new release migrates the database by its program, before any of its servers starts.
fn migrate_by_program(
    plan: &mut ExecutionPlan,
    target: &Target<'_>,
    intent: &Intent,
    release: &Release,
) -> Result<()> {
    let is_own = |id: &str| target.release(id).is_none_or(|it| it.application == release.application);
    let mut own = target.now.serving.values().filter(|it| is_own(&it.instance.release)).peekable();
    let serves = own.peek().is_some() && own.all(|it| it.instance.release == release.id);
    if !matches!(intent, Intent::Apply { .. }) || release.migrate().is_none() || serves {
        return Ok(());
    }
    let topology = target.project.topology;
    let Some(machine) = migrator(topology) else { return Ok(()) };
    let password = target.project.secrets.owner_password(&release.id);
    let migration = Box::new(migration(target.project, machine, release, &password)?);
    let migrate = Operation::on(&machine.name, Action::MigrateByProgram { migration });
    let Some(database) = topology.parts().iter().find(|part| part.tier == Tier::Database) else {
        plan.stage([migrate]);
        return Ok(());
    };
    let set = |password: Option<Secret>| {
        let login = OwnerLogin { database: topology.name().to_owned(), port: database.port.number, password };
        let action = Action::SetOwnerLogin { login, from: machine.name.clone() };
        Operation::on(&topology.machine_of(database).name, action)
    };
    plan.stage([set(Some(password))]);
    plan.stage([migrate]);
    plan.stage([set(None)]);
    Ok(())
}

#[cfg(test)]
mod tests;
