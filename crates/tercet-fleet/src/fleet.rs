//! The machines of a project, connected and surveyed.

mod leaving;

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use tercet_config::{ALERTMANAGER, Machine, PROMETHEUS, Reach, SshFrom, Tier, Topology};
use tercet_machine::Desired;

pub(crate) use self::leaving::Leaving;
use crate::agent::{Agent, Alert, BalancerState, Delivery, Query, Reply};
use crate::at_once::{all_in_one, at_once, outcomes};
use crate::backup::Task;
use crate::backup::record::Record as BackupRecord;
use crate::desired::{Project, monitor};
use crate::identity::{Data, Identity, how_to_get_state};
use crate::paths::{self, PROGRAM_DIGITS};
use crate::progress::{Listener, Progress};
use crate::remembered::{Remembered, Unreached};
use crate::report::Report;
use crate::secrets::{self, Secrets};
use crate::ssh::{Remote, Ssh};
use crate::state::{Record, check_current};
use crate::system::{self, System};

/// The machines of a project, all reached, all fit, tercet's binary on each.
#[derive(Debug)]
pub struct Fleet<'a> {
    pub(crate) topology: &'a Topology,
    /// The project's folder.
    pub(crate) folder: &'a Path,
    pub(crate) machines: Vec<Member<'a>>,
    /// Machines that leave the project and can be reached.
    pub(crate) leaving: Vec<Leaving<'a>>,
    /// Machines that leave the project and cannot be reached.
    pub(crate) unreached: Vec<Unreached>,
    /// Machines that left the project and belong to another, or to none.
    departed: Vec<&'a Remembered>,
    /// The earlier entries of machines whose address in the file has changed.
    pub(crate) moved: Vec<&'a Remembered>,
    remembered: &'a [Remembered],
    forget: &'a [String],
    /// The path of the binary on every machine.
    pub(crate) program: String,
    /// The file of the running binary.
    binary: &'a Path,
    pub(crate) secrets: Option<Secrets>,
    /// The project's own checks of restored copies: the name and text of each SQL file.
    checks: Vec<(String, String)>,
    /// The operator's user and host, for messages to other operators.
    pub(crate) operator: String,
    /// Set by an interrupt.
    pub(crate) interrupted: &'a AtomicBool,
}

/// The name of a machine that cannot be reached or used, and the error.
pub type Unreachable = (String, anyhow::Error);

/// The folder has no operator state, and a machine belongs to a project already.
#[derive(Debug)]
pub struct WithoutState {
    machine: String,
    identity: Identity,
    /// Whether the machines store the state, so that it can be pulled.
    pub is_on_machines: bool,
}

impl std::error::Error for WithoutState {}

impl fmt::Display for WithoutState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machine, identity, is_on_machines } = self;
        write!(
            f,
            "{machine}: it is {identity}, and this folder has no state: the authority, passwords and keys of that project are \
             not in its .tercet\nhint: {}, or `tercet apply --take-over` replaces them all",
            how_to_get_state(*is_on_machines)
        )
    }
}

/// The operator, and the options of opening a fleet.
#[derive(Debug)]
pub struct Operator<'a> {
    /// User and host, for messages to other operators.
    pub name: String,
    /// The file of the running binary, which is copied to the machines.
    pub binary: &'a Path,
    /// Whether machines of another project, or of an operator state that this folder lacks, may be taken over.
    pub take_over: bool,
    /// Set by an interrupt: the present step is completed, then the leases are released.
    pub interrupted: &'a AtomicBool,
    /// All machines that the project was ever applied to.
    pub remembered: &'a [Remembered],
    /// The names of machines to forget (`--forget`).
    pub forget: &'a [String],
    /// Filled with the remembered machines that leave the project.
    pub gone: &'a OnceLock<Vec<Remembered>>,
}

/// One machine of a fleet.
#[derive(Debug)]
pub(crate) struct Member<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) remote: Remote<'a>,
    pub(crate) system: System,
}

impl<'a> Fleet<'a> {
    /// Connects to all machines concurrently and reads their systems, then copies the binary where it is missing.
    ///
    /// # Errors
    /// A machine cannot be reached or does not meet the requirements: the error names each, and none was changed.
    pub fn open(
        topology: &'a Topology,
        folder: &'a Path,
        ssh: &'a Ssh,
        operator: &Operator<'a>,
        listener: Listener<'_>,
    ) -> Result<Self> {
        let (mut fleet, mut missing) = Self::look(topology, folder, ssh, operator, listener)?;
        for member in &fleet.machines {
            if let Err(error) = fits(topology, member.machine, &member.system) {
                let name = member.machine.name.clone();
                missing.push((name.clone(), error.context(format!("{name} cannot be used"))));
            }
        }
        if missing.is_empty() {
            fleet.upload(listener)?;
            if !operator.take_over {
                fleet.check_state()?;
            }
            fleet.secrets = Some(Secrets::kept_in(folder, topology)?);
            fleet.look_for_gone(ssh, operator, listener)?;
            return Ok(fleet);
        }
        Err(all_in_one(missing.iter().map(|(_, error)| error)))
    }

    /// Opens the machines that can be reached and used, for reading only; also returns the error of each other one.
    ///
    /// # Errors
    /// No machine is named, or the project's secrets cannot be read.
    pub fn open_what_is_there(
        topology: &'a Topology,
        folder: &'a Path,
        ssh: &'a Ssh,
        operator: &Operator<'a>,
        listener: Listener<'_>,
    ) -> Result<(Self, Vec<(String, anyhow::Error)>)> {
        let (fleet, missing) = Self::look(topology, folder, ssh, operator, listener)?;
        fleet.upload(listener)?;
        Ok((fleet, missing))
    }

    fn look(
        topology: &'a Topology,
        folder: &'a Path,
        ssh: &'a Ssh,
        operator: &Operator<'a>,
        listener: Listener<'_>,
    ) -> Result<(Self, Vec<(String, anyhow::Error)>)> {
        let mut remotes = Vec::new();
        for machine in topology.machines() {
            remotes.push((machine, remote(ssh, machine)?));
        }
        let systems = outcomes(&remotes, |(machine, remote)| {
            let system = system::look(remote)?;
            let (name, version) = &system.distribution;
            let said = format!("{name} {version}, {} MiB", system.memory_kib >> 10);
            listener(Progress::Surveyed { machine: machine.name.clone(), system: said });
            Ok(system)
        });
        let (mut machines, mut missing) = (Vec::new(), Vec::new());
        for ((machine, remote), system) in remotes.into_iter().zip(systems) {
            match system {
                Ok(system) => machines.push(Member { machine, remote, system }),
                Err(error) => missing.push((machine.name.clone(), error)),
            }
        }
        each_once(&machines)?;
        Ok((Self::of(topology, folder, operator, machines)?, missing))
    }

    fn of(
        topology: &'a Topology,
        folder: &'a Path,
        operator: &Operator<'a>,
        machines: Vec<Member<'a>>,
    ) -> Result<Self> {
        let bytes = std::fs::read(operator.binary).with_context(|| operator.binary.display().to_string())?;
        Ok(Self {
            topology,
            folder,
            machines,
            leaving: Vec::new(),
            unreached: Vec::new(),
            departed: Vec::new(),
            moved: Vec::new(),
            remembered: operator.remembered,
            forget: operator.forget,
            program: paths::program(&crate::digest(&bytes)[..PROGRAM_DIGITS]),
            binary: operator.binary,
            secrets: None,
            checks: checks(folder)?,
            operator: operator.name.clone(),
            interrupted: operator.interrupted,
        })
    }

    /// All reached machines: those of the file, in its order, then those that leave the project.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member<'a>> {
        self.machines.iter().chain(self.leaving.iter().map(|it| &it.member))
    }

    /// Copies the binary to every machine that lacks it. This needs no lease, since its name is its digest and it replaces
    /// nothing.
    pub(crate) fn upload(&self, listener: Listener<'_>) -> Result<()> {
        let program = &self.program;
        at_once(&self.members().collect::<Vec<_>>(), |member| {
            if member.remote.run(&format!("test -x {program} && echo there || true"), b"")?.trim() != "there"
            {
                listener(Progress::Uploading { machine: member.machine.name.clone() });
                member.remote.upload(self.binary, program, 0o755)?;
            }
            Ok(())
        })
        .map(drop)
    }

    /// Refuses to generate secrets for a fleet that has some, and to use an operator state older than the machines'.
    fn check_state(&self) -> Result<()> {
        let reports = self.reports()?;
        if secrets::are_kept(self.folder) {
            let record = Record::of(self.folder)?;
            // An interrupted apply may have generated an authority and no id.
            let Some(project) = secrets::project_id(self.folder)? else { return Ok(()) };
            return self.names().zip(&reports).try_for_each(|(machine, report)| {
                check_current(record.as_ref(), &project, machine, report.state.as_ref())
            });
        }
        let is_on_machines = reports.iter().any(Report::keeps_state);
        for (member, report) in self.machines.iter().zip(reports) {
            if let Some(identity) = report.identity {
                bail!(WithoutState { machine: member.machine.name.clone(), identity, is_on_machines });
            }
        }
        Ok(())
    }

    /// The id of the project in the operator state.
    pub(crate) fn project_id(&self) -> Result<String> {
        match &self.secrets {
            Some(secrets) => Ok(secrets.project.clone()),
            None => secrets::project_id(self.folder)?.context("this folder has no operator state"),
        }
    }

    pub(crate) fn project(&self) -> Result<Project<'_>> {
        let secrets = self.secrets.as_ref().context("these machines were opened for reading only")?;
        Ok(Project { topology: self.topology, secrets, program: &self.program, checks: &self.checks })
    }

    /// Reads the identity of the project's data from the PostgreSQL on `machine`.
    pub(crate) fn data(&self, machine: &str, database: &str) -> Result<Data> {
        let member = self.member(machine)?;
        let desired = self.project()?.desired(member.machine, &member.system, &[], &[], &[])?;
        let desired = Desired { cluster: desired.cluster, ..Desired::default() };
        let Reply::Facts(facts) = self.agent(member).ask(Query::Probe { desired })? else {
            bail!(unexpected(machine))
        };
        let cluster =
            facts.cluster.with_context(|| format!("{machine}: PostgreSQL does not answer"))?.identifier;
        let known = self.project()?.secrets.data.as_ref();
        let known =
            known.filter(|it| it.cluster == cluster && it.database == database && it.machine == machine);
        let now = crate::now();
        Ok(Data {
            since: known.map_or(now, |it| it.since.clone()),
            cluster,
            database: database.to_owned(),
            machine: machine.to_owned(),
        })
    }

    pub(crate) fn agent<'b>(&self, member: &'b Member<'a>) -> Agent<'b>
    where
        'a: 'b,
    {
        Agent::new(&member.remote, self.program.clone())
    }

    /// Reads a machine's report.
    pub(crate) fn report(&self, member: &Member<'_>) -> Result<Report> {
        match Agent::new(&member.remote, self.program.clone()).ask(Query::Report)? {
            Reply::Report(report) => Ok(*report),
            _ => Err(unexpected(&member.machine.name)),
        }
    }

    /// Reads every machine's report, in the order of the file.
    ///
    /// # Errors
    /// A machine cannot be reached.
    pub fn reports(&self) -> Result<Vec<Report>> {
        at_once(&self.machines, |member| self.report(member))
    }

    /// Reads the reports of the machines that can be reached; also returns the error of each other one.
    pub fn reports_of_those_there(&self) -> (Vec<(String, Report)>, Vec<Unreachable>) {
        let outcomes = outcomes(&self.machines, |member| self.report(member));
        let (mut reports, mut errors) = (Vec::new(), Vec::new());
        for (name, outcome) in self.names().map(str::to_owned).zip(outcomes) {
            match outcome {
                Ok(report) => reports.push((name, report)),
                Err(error) => errors.push((name, error)),
            }
        }
        (reports, errors)
    }

    /// Reads the balancer's state; `None` before it is deployed.
    ///
    /// # Errors
    /// Its machine cannot be reached.
    pub fn balancer(&self) -> Result<Option<BalancerState>> {
        Ok(self.ask_balancer("/servers")?.map(|body| serde_json::from_str(&body)).transpose()?)
    }

    /// Reads the answer of the balancer's admin socket at this path; `None` before it is deployed.
    ///
    /// # Errors
    /// Its machine cannot be reached.
    pub fn ask_balancer(&self, target: &str) -> Result<Option<String>> {
        let Some(member) = self.machines.iter().find(|member| member.machine.tiers.contains(&Tier::Balancer))
        else {
            return Ok(None);
        };
        match self.agent(member).ask(Query::Balancer { target: target.to_owned() })? {
            Reply::Balancer { status: 200, body } => Ok(Some(body)),
            Reply::Balancer { .. } => Ok(None),
            _ => Err(unexpected(&member.machine.name)),
        }
    }

    /// Reads the alerts that fire, the oldest first.
    ///
    /// # Errors
    /// There is no monitor, it cannot be reached, or Alertmanager does not answer.
    pub fn alerts(&self) -> Result<Vec<Alert>> {
        let (member, port) = self.alertmanager()?;
        match self.agent(member).ask(Query::Alerts { port })? {
            Reply::Alerts(alerts) => Ok(alerts),
            _ => Err(unexpected(&member.machine.name)),
        }
    }

    /// Sends a test alert to each receiver; returns what became of each, in the order of the file.
    ///
    /// # Errors
    /// As [`alerts`](Self::alerts).
    pub fn test_alerts(&self) -> Result<Vec<Delivery>> {
        let (member, port) = self.alertmanager()?;
        let receivers = self.topology.alerts().to.len();
        match self.agent(member).ask(Query::TestAlerts { port, receivers })? {
            Reply::TestedAlerts(deliveries) => Ok(deliveries),
            _ => Err(unexpected(&member.machine.name)),
        }
    }

    /// The monitor's machine and Alertmanager's port there.
    fn alertmanager(&self) -> Result<(&Member<'a>, u16)> {
        let part = self.topology.part(ALERTMANAGER).context("the project has no monitor")?;
        Ok((self.member(&self.topology.machine_of(part).name)?, part.port.number))
    }

    /// The record of the backups and what the repository has now; `None` where none are set up.
    ///
    /// # Errors
    /// The machine that makes them cannot be reached, or the repository cannot be read.
    pub fn backups(&self) -> Result<Option<BackupRecord>> {
        let Some(machine) = self.topology.backup_machine() else { return Ok(None) };
        match self.agent(self.member(&machine.name)?).ask(Query::Backups)? {
            Reply::Backups(record) => Ok(Some(*record)),
            _ => Err(unexpected(&machine.name)),
        }
    }

    /// Waits until a task has ended, and calls `each` with each of its lines.
    ///
    /// # Errors
    /// The task failed: with its last line. Or the machine cannot be reached, or `each` fails.
    pub fn await_task(
        &self,
        machine: &str,
        task: &Task,
        each: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        let member = self.member(machine)?;
        let mut seen = 0;
        loop {
            let Reply::Task(state) = self.agent(member).ask(Query::Task(task.clone()))? else {
                bail!(unexpected(machine));
            };
            // The last line of a failed task is its error.
            let told = state.lines.len() - usize::from(state.failed && !state.lines.is_empty());
            for line in state.lines.iter().take(told).skip(seen) {
                each(line)?;
            }
            seen = seen.max(told);
            if state.failed {
                bail!("{machine}: {}", state.lines.last().map_or("it failed without a word", String::as_str));
            }
            if !state.runs {
                return Ok(());
            }
            std::thread::sleep(TASK_INTERVAL);
            if self.interrupted.load(Ordering::Relaxed) {
                bail!("{machine}: {task} goes on there\nhint: `tercet backup list` shows what becomes of it");
            }
        }
    }

    /// The machines that carry a tier.
    pub(crate) fn carrying(&self, tier: Tier) -> impl Iterator<Item = &Member<'a>> {
        self.machines.iter().filter(move |member| member.machine.tiers.contains(&tier))
    }

    /// The machine of this name.
    pub(crate) fn member(&self, name: &str) -> Result<&Member<'a>> {
        let member = self.members().find(|member| member.machine.name == name);
        member.with_context(|| format!("there is no machine {name}"))
    }

    /// The machines' names, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.machines.iter().map(|member| member.machine.name.as_str())
    }
}

/// The interval of questions about a task.
const TASK_INTERVAL: Duration = Duration::from_millis(500);

/// The folder of the project's own checks of restored copies.
const CHECKS: &str = "checks";

/// The name and text of each SQL file in the project's folder of checks, in their order.
fn checks(project: &Path) -> Result<Vec<(String, String)>> {
    let folder = project.join(CHECKS);
    let entries = match std::fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| folder.display().to_string())?,
    };
    let mut checks = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
        if path.extension().is_some_and(|it| it == "sql") && !name.starts_with('.') {
            let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            checks.push((name.to_owned(), text));
        }
    }
    checks.sort();
    Ok(checks)
}

/// A machine by the operator's ssh.
fn remote<'a>(ssh: &'a Ssh, machine: &'a Machine) -> Result<Remote<'a>> {
    let Reach::Ssh(destination) = &machine.reach else {
        bail!(
            "tercet.toml names no machines\nhint: add a [[machine]] for each; `tercet up` runs everything on this one"
        );
    };
    Ok(ssh.to(&machine.name, destination))
}

/// Refuses a machine that does not have the file's address, or on which others use the ports of its parts.
fn fits(topology: &Topology, machine: &Machine, system: &System) -> Result<()> {
    let mut wrong = Vec::new();
    if !system.addresses.contains(&machine.address) {
        let there: Vec<String> = system.addresses.iter().map(ToString::to_string).collect();
        wrong.push(format!(
            "it does not have the address {}, but {}\nhint: write the private one that the other machines reach it at",
            machine.address,
            if there.is_empty() { "none".to_owned() } else { there.join(", ") }
        ));
    }
    let edges = topology.edges();
    let ends = edges.iter().filter(|edge| edge.machine.name == machine.name);
    let ends = ends.map(|edge| (edge.address, edge.port, edge.to));
    // No edge leads to it: it is for the operator, by ssh.
    let prometheus = topology.part(PROMETHEUS).filter(|part| topology.machine_of(part).name == machine.name);
    let prometheus = prometheus.map(|part| (Ipv4Addr::LOCALHOST.into(), part.port.number, part));
    let mut seen = BTreeSet::new();
    for (address, port, part) in ends.chain(prometheus) {
        if let Some(occupant) = system.occupant(address, port).filter(|_| seen.insert(port)) {
            let other = if part.tier == Tier::Monitor { "" } else { ", or name another port in tercet.toml" };
            wrong.push(format!(
                "port {port} is in use by {}, and {} needs it\nhint: stop that{other}",
                occupant.processes[0], part.name
            ));
        }
    }
    let replaced = monitor::replaced(topology, machine);
    for unit in system.replaced.iter().filter(|unit| replaced.contains(unit)) {
        wrong.push(format!(
            "{unit} runs there with a configuration that is not tercet's, and tercet would stop it to run its own\nhint: stop it \
             (`systemctl disable --now {unit}`), or keep it: [monitoring] prometheus names the address of a Prometheus of yours"
        ));
    }
    if let Some(file) = system.without_conf_d.as_ref().filter(|_| machine.tiers.contains(&Tier::Database)) {
        wrong.push(format!(
            "{file} does not include conf.d, so PostgreSQL would not read its settings there\n\
             hint: add the line include_dir = 'conf.d'"
        ));
    }
    if let SshFrom::Networks(networks) = topology.ssh_from() {
        let (operator, _) = system.operator;
        if !networks.iter().any(|network| network.contains(operator)) {
            wrong.push(format!(
                "ssh-from in [firewall] does not have the address that you connect from, {operator}: you would be locked out\n\
                 hint: add it, or a network that contains it"
            ));
        }
    }
    let keys_only = topology.system().ssh_keys_only;
    if *topology.ssh_from() == SshFrom::Anywhere && system.accepts_passwords && !keys_only {
        wrong.push(
            "its sshd accepts passwords, and ssh-from in [firewall] is \"anywhere\"\nhint: set ssh-keys-only = true in [system]"
                .to_owned(),
        );
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

/// Refuses a fleet in which one machine has two names.
fn each_once(machines: &[Member<'_>]) -> Result<()> {
    for (place, member) in machines.iter().enumerate() {
        let id = &member.system.id;
        let other = machines[..place].iter().find(|other| !id.is_empty() && other.system.id == *id);
        if let Some(other) = other {
            bail!(
                "{} and {} are the same machine (machine-id {id})\nhint: give it one [[machine]] with the tiers of both",
                other.machine.name,
                member.machine.name
            );
        }
    }
    Ok(())
}

pub(crate) fn unexpected(machine: &str) -> anyhow::Error {
    anyhow!("{machine}: unexpected reply")
}

#[cfg(test)]
mod tests {
    use tercet_config::Origin;

    use super::*;
    use crate::desired::tests::{MONITORED, system};

    #[test]
    fn a_prometheus_that_somebody_runs_already_is_not_stopped() {
        let topology =
            tercet_config::parse(MONITORED, Origin { file: "tercet.toml", folder: "shop" }).expect("valid");
        let fit = |machine: &str, running: &str| {
            let machine = topology.machines().iter().find(|it| it.name == machine).expect("a machine");
            let system = System { replaced: vec![running.to_owned()], ..system(machine.address) };
            fits(&topology, machine, &system).map_err(|error| format!("{error:#}"))
        };
        let error = fit("mon", "prometheus.service").expect_err("it is refused");
        assert!(
            error.starts_with("prometheus.service runs there") && error.contains("hint: stop it"),
            "{error}"
        );
        assert!(fit("mon", "prometheus-alertmanager.service").is_err());
        assert!(fit("db", "prometheus-postgres-exporter.service").is_err());
        // Where tercet has no program of that kind, it stops none.
        assert_eq!(fit("db", "prometheus.service"), Ok(()));
    }
}
