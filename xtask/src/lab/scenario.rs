//! The whole-system test: the real binary, driven by the operator, from bare machines to a proven system, through
//! releases, faults and reboots. Each stage prints a line with its time; the first that fails ends it.

mod backups;
mod certificates;
mod colocation;
pub(super) mod cost;
mod dashboard;
mod drift;
mod example;
mod faults;
mod holes;
mod identity;
mod interrupted;
mod mixed;
mod monitoring;
mod outage;
mod people;
mod releases;
mod removal;
mod rotation;
mod sandbox;
pub(super) mod scale;
mod state;
mod tls;
mod watching;
mod website;

use std::fmt::Write as _;
use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::machines::{MACHINES, Machine, outside, plain};
use super::traffic::{Kind, Outcome, Traffic};
use super::{Folders, Life, Running, until};
use crate::command::attached;
use crate::workspace::Workspace;

/// The database on the balancer's machine.
pub(super) const SHARED: &str = "lb=balancer+database app1=application app2=application";
/// Everything on one machine.
pub(super) const ONE_MACHINE: &str = "lb=balancer+application+database";

/// The user's program: run and build commands.
pub(super) fn own(run: &str, build: &str) -> String {
    format!("[application]\nrun = {run:?}\nbuild = {build:?}\nhealth = \"/health\"\n")
}

/// One migration: a table that every client can read and add to.
const MIGRATION: &str =
    "create table event (number bigint primary key, at timestamptz not null default now());
grant select, insert on event to anon;
insert into event (number) values (0);
";

/// The lab, a project, and the binary that works on it.
pub(super) struct Scenario<'a> {
    lab: Running<'a>,
    project: tempfile::TempDir,
    tercet: PathBuf,
    ssh_config: PathBuf,
}

/// The stages to run.
pub(super) struct Choice<'a> {
    /// Those whose names contain this, or one of the texts between its bars.
    pub(super) only: &'a str,
    /// Without those in [`LONG`].
    pub(super) short: bool,
    /// After one that failed, the next is run.
    pub(super) keep_going: bool,
}

impl Choice<'_> {
    fn takes(&self, name: &str) -> bool {
        self.only.split('|').any(|text| name.contains(text)) && !(self.short && LONG.contains(&name))
    }
}

/// Runs the chosen stages, each project on a lab of its own.
pub(super) fn run(workspace: &Workspace, folders: &Folders, choice: &Choice<'_>) -> Result<()> {
    attached(workspace.command("cargo").args(["build", "--workspace", "--bin", "tercet"]))?;
    // A copy: a build in the meantime does not change the tested binary.
    let copy = tempfile::tempdir()?;
    let tercet = copy.path().join("tercet");
    std::fs::copy(workspace.target.join("debug/tercet"), &tercet)?;
    let begin = Instant::now();
    let mut ran = 0;
    let mut failed = 0;
    for (tiers, stages) in PROJECTS {
        let wanted = stages.iter().filter(|(name, _)| choice.takes(name)).count();
        if wanted > 0 {
            folders.down()?;
            let result = run_project(folders, &tercet, tiers, stages, choice);
            folders.down()?;
            failed += result?;
        }
        ran += wanted;
    }
    ensure!(ran > 0, "no stage of the lab has {:?} in its name", choice.only);
    ensure!(failed == 0, "{failed} stages failed");
    println!("the lab is through in {:.0} s", begin.elapsed().as_secs_f64());
    Ok(())
}

fn run_project(
    folders: &Folders,
    tercet: &Path,
    tiers: &str,
    stages: &[Named],
    choice: &Choice<'_>,
) -> Result<usize> {
    let mut failed = 0;
    let scenario = Scenario::begin(folders, tercet, tiers)?;
    for (number, (name, stage)) in stages.iter().enumerate() {
        // The first brings the machines to what the others start from.
        if number > 0 && !choice.takes(name) {
            continue;
        }
        let begin = Instant::now();
        match stage(&scenario).with_context(|| format!("lab: {name}")) {
            Ok(()) => println!("{name:.<70} ok {:>6.1} s", begin.elapsed().as_secs_f64()),
            Err(error) if choice.keep_going && number > 0 => {
                println!("error: {error:#}");
                failed += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(failed)
}

type Stage = fn(&Scenario<'_>) -> Result<()>;
/// A stage and what it shows.
type Named = (&'static str, Stage);

/// The projects with their machines' tiers and stages; the first stage of each is its first apply.
const PROJECTS: &[(&str, &[Named])] = &[
    (FOUR_MACHINES, STAGES),
    (SHARED, colocation::STAGES),
    (ONE_MACHINE, colocation::ALONE),
    (SHARED, example::STAGES),
    (SHARED, example::BOOKSHOP),
    (FOUR_MACHINES, people::STAGES),
    (mixed::MIXED, mixed::STAGES),
    (FOUR_MACHINES, removal::STAGES),
    (FOUR_MACHINES, backups::STAGES),
    (ONE_MACHINE, backups::object_store::STAGES),
    (FOUR_MACHINES, monitoring::STAGES),
];

/// Stages that take minutes each, or repeat a short stage at greater length.
const LONG: &[&str] = &[
    "an apply killed at every operation of a release, under load",
    "power cut during a build: it is built again",
    "an operator suspended during a build loses the lease and the build",
    "a build in its sandbox, and secrets for the program alone",
    "examples/fastapi as it stands",
    "examples/bookshop: a release and a rollback of one of two applications",
    "everything on one machine, the first apply killed at any step",
    "secrets and authority rotated on one machine, under load",
    "https with a certificate, and one that is renewed",
    "a removed machine that is off is listed, and cleaned up when it is back",
    "destroy, killed at every operation: nothing is left, the data stays and is taken up",
    "destroy with the data leaves other databases alone",
    mixed::FIRST,
    mixed::SYSTEM,
    backups::KILLED,
    backups::RARE,
    backups::POWER_CUT,
    backups::MOVED,
    monitoring::AT_ONCE,
    monitoring::OUTAGES,
];

const FOUR_MACHINES: &str = "lb=balancer app1=application app2=application db=database";

const STAGES: &[Named] = &[
    ("bare machines to answered requests in one apply", first_apply),
    ("a second apply plans nothing", nothing_to_do),
    ("another project, no state, other data: refused, nothing touched", identity::refusals),
    ("requests go round strictly, and can be traced", round_and_traced),
    ("the dashboard over ssh: load, a stopped server, one request; nothing stays", dashboard::over_ssh),
    ("units are locked down", hardened),
    ("forbidden connections are found, shown as drift, and closed", holes::found_and_mended),
    ("drop-ins, settings, roles, modes and redirects by hand: shown and undone", drift::found_and_undone),
    ("a container's published port is closed, and its way outside open", drift::published_ports),
    ("two operators: one waits; a lease that expired is taken over", releases::leases),
    ("a release and a rollback under load lose nothing", releases::under_load),
    ("a migration alone is applied, once", releases::migration),
    ("a change of secrets and certificates under load loses nothing", releases::secrets_changed),
    ("every secret and certificate rotated under load: nothing is lost", rotation::all_kinds),
    ("two operators with prompts open: what was confirmed is what runs", releases::confirmed),
    ("a second operator pulls the state and applies; a stale one is refused", state::shared),
    ("a release that does not start is taken back, nothing is lost", releases::taken_back),
    ("an apply killed at every operation of a release, under load", interrupted::release),
    ("an apply killed halfway through a release, under load", interrupted::release_halfway),
    ("an apply ended by Ctrl-C gives its leases back", interrupted::by_ctrl_c),
    ("a machine that is off is named before anything changes", faults::unreachable),
    ("each machine rebooted in turn under load", faults::reboots),
    ("logs -f and status --watch go on over a power cut", watching::over_a_power_cut),
    ("an application machine cut off from the database, under load", faults::database_unreachable),
    ("power cut of an application machine under load", faults::application_cut),
    ("power cut of the database: nothing acknowledged is lost", faults::database_cut),
    ("all machines rebooted at once: back by itself, still proven", faults::all_at_once),
    ("a password, error pages and maintenance for the internet client", website::guarded),
    ("domains: https seconds after the apply, renewals under load", certificates::obtained),
];

impl<'a> Scenario<'a> {
    fn begin(folders: &'a Folders, tercet: &Path, tiers: &str) -> Result<Self> {
        let lab = folders.up(Life::OfItsStarter)?;
        let project = tempfile::tempdir()?;
        std::fs::create_dir(project.path().join("migrations"))?;
        std::fs::write(project.path().join("migrations/0001_event.sql"), MIGRATION)?;
        let scenario = Self { lab, project, tercet: tercet.to_owned(), ssh_config: folders.ssh_config() };
        scenario.write(tiers, "")?;
        Ok(scenario)
    }

    /// Writes tercet.toml: `machine=tier+tier …`, and more.
    fn write(&self, tiers: &str, more: &str) -> Result<()> {
        self.write_named("shop", tiers, more)
    }

    fn write_named(&self, name: &str, tiers: &str, more: &str) -> Result<()> {
        let mut text = format!("name = {name:?}\n{more}\n");
        for entry in tiers.split(' ') {
            let (name, tiers) = entry.split_once('=').context("machine=tiers")?;
            let machine = Machine::named(name)?;
            let tiers: Vec<String> = tiers.split('+').map(|tier| format!("{tier:?}")).collect();
            write!(
                text,
                "\n[[machine]]\nname = {name:?}\nssh = \"{}@{name}\"\naddress = {:?}\ntiers = [{}]\n",
                machine.login,
                machine.address(),
                tiers.join(", ")
            )?;
        }
        Ok(std::fs::write(self.project.path().join("tercet.toml"), text)?)
    }

    /// The tercet command where the operator is.
    fn tercet(&self, verb: &str, arguments: &[&str]) -> Result<Command> {
        let mut command = self.lab.at("operator")?;
        command.arg(&self.tercet).arg(verb).args(arguments).args(["--ssh-config"]).arg(&self.ssh_config);
        command.env("NO_COLOR", "1");
        Ok(command)
    }

    /// Runs a verb on the project; returns its output, also if it fails.
    fn outcome(&self, verb: &str, arguments: &[&str]) -> Result<Output> {
        let mut command = self.tercet(verb, arguments)?;
        if verb != "trace" {
            command.arg(self.project.path());
        }
        Ok(command.stdin(std::process::Stdio::null()).output()?)
    }

    /// Runs a verb that must succeed; what it printed.
    fn succeed(&self, verb: &str, arguments: &[&str]) -> Result<String> {
        let output = self.outcome(verb, arguments)?;
        ensure!(
            output.status.success(),
            "tercet {verb}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a verb that must fail on the way, exit code 1; all it printed.
    fn fail(&self, verb: &str, arguments: &[&str]) -> Result<String> {
        self.end_with(1, verb, arguments)
    }

    /// Runs a verb that must end with that exit code; all it printed.
    fn end_with(&self, code: i32, verb: &str, arguments: &[&str]) -> Result<String> {
        let output = self.outcome(verb, arguments)?;
        let printed =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(
            output.status.code() == Some(code),
            "tercet {verb} should have ended with {code}: {}\n{printed}",
            output.status
        );
        // miette wraps long lines, so join them.
        Ok(printed.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" "))
    }

    /// A shell command on a machine, as its root.
    fn on(&self, machine: &str, command: &str) -> Result<String> {
        crate::command::output(self.lab.ssh(Machine::named(machine)?).arg(command))
    }

    /// One request of the internet client: status line, headers and body.
    fn get(&self, path: &str) -> Result<String> {
        let url = format!("http://{}{path}", public_address());
        crate::command::output(self.lab.at("internet")?.args(["curl", "-s", "-i", "-m", "5", &url]))
    }

    fn traffic(&self, kind: Kind) -> Result<Traffic> {
        self.traffic_from(kind, 1)
    }

    /// Clients; a writer's first number is `first`.
    fn traffic_from(&self, kind: Kind, first: u64) -> Result<Traffic> {
        let address = format!("{}:80", public_address()).parse()?;
        let path = match kind {
            Kind::Read => "/event?number=eq.0",
            Kind::Write => "/event",
        };
        Traffic::start(self.lab.at("internet")?, kind, address, path, first)
    }

    /// Waits until the internet client is answered.
    fn answered(&self, limit: Duration) -> Result<()> {
        until("an answer", limit, || {
            Ok(self.get("/event?number=eq.0").is_ok_and(|it| it.starts_with("HTTP/1.1 200")))
        })
    }
}

/// The balancer's address on the internet.
fn public_address() -> String {
    plain(&outside(MACHINES[0].host)[0]).to_owned()
}

/// Checks that no request failed, and that there were some.
fn lossless(outcome: &Outcome) -> Result<()> {
    ensure!(outcome.answered > 0, "no request was answered");
    if outcome.failed > 0 {
        bail!(
            "{} of {} requests failed: {:?}",
            outcome.failed,
            outcome.answered + outcome.failed,
            outcome.examples
        );
    }
    Ok(())
}

/// Holds apt's lock until it is released.
const LOCK: &str = "import fcntl, os, time
lock = open('/var/lib/dpkg/lock-frontend', 'w')
fcntl.lockf(lock, fcntl.LOCK_EX)
open('/run/locked', 'w').close()
while os.path.exists('/run/locked'): time.sleep(.1)
";

/// The first apply; apt's lock is held on the database's machine as it comes there.
fn first_apply(scenario: &Scenario<'_>) -> Result<()> {
    scenario.on(
        "db",
        &format!("systemd-run --quiet python3 -c \"{LOCK}\"; while ! test -e /run/locked; do sleep .1; done"),
    )?;
    let mut apply = interrupted::begun(scenario)?;
    apply.stdout(std::process::Stdio::piped());
    let mut child = apply.spawn()?;
    let mut waited = false;
    let mut printed = String::new();
    for line in std::io::BufReader::new(child.stderr.take().context("standard error is piped")?).lines() {
        let line = line?;
        if !waited && line.starts_with("db: waiting for apt's lock, held by python3") {
            scenario.on("db", "rm /run/locked")?;
            waited = true;
        }
        printed += &format!("{line}\n");
    }
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{printed}");
    ensure!(waited, "apt's lock was not waited for:\n{printed}");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(printed.contains("proven:"), "apply does not end with proof:\n{printed}");
    for address in outside(MACHINES[0].host) {
        let host = plain(&address);
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let url = format!("http://{host}/event");
        let answer =
            crate::command::output(scenario.lab.at("internet")?.args(["curl", "-s", "-m", "5", &url]))?;
        let rows: Value = serde_json::from_str(&answer)?;
        ensure!(rows[0]["number"] == 0, "{url}: {answer}");
    }
    Ok(())
}

/// How much a unit is exposed, by systemd-analyze(1): 0 to 10.
fn exposure(scenario: &Scenario<'_>, machine: &str, unit: &str) -> Result<f64> {
    let verdict = scenario.on(machine, &format!("systemd-analyze security --no-pager '{unit}' | tail -1"))?;
    let exposure = verdict.split_whitespace().find_map(|word| word.parse().ok());
    exposure.with_context(|| format!("systemd-analyze printed {verdict}"))
}

fn nothing_to_do(scenario: &Scenario<'_>) -> Result<()> {
    let printed = scenario.succeed("plan", &[])?;
    ensure!(printed.contains("nothing to do"), "there is still:\n{printed}");
    Ok(())
}

fn round_and_traced(scenario: &Scenario<'_>) -> Result<()> {
    let traffic = scenario.traffic(Kind::Read)?;
    std::thread::sleep(Duration::from_secs(2));
    lossless(&traffic.stop()?)?;
    let status: Value = serde_json::from_str(&scenario.succeed("status", &["--json"])?)?;
    let servers = status["balancer"]["servers"].as_array().context("the balancer's servers")?;
    let requests: Vec<u64> = servers.iter().filter_map(|server| server["requests"].as_u64()).collect();
    ensure!(requests.len() == 2 && requests[0].abs_diff(requests[1]) <= 1, "requests: {requests:?}");

    let answer = scenario.get("/event?number=eq.0")?;
    let id = answer
        .lines()
        .find_map(|line| line.strip_prefix("x-request-id: "))
        .context("an x-request-id header")?;
    let mut trace = String::new();
    until("the request's two log lines", Duration::from_secs(10), || {
        let mut command = scenario.tercet("trace", &[id.trim()])?;
        trace = String::from_utf8_lossy(&command.arg(scenario.project.path()).output()?.stdout).into_owned();
        Ok(trace.contains("balancer") && trace.contains(" app-"))
    })
    .with_context(|| format!("tercet trace {id}:\n{trace}"))?;
    let logs = scenario.succeed("logs", &["--tier", "balancer", "--json"])?;
    ensure!(logs.contains(id.trim()), "the balancer's log has no line about {id}");
    scenario.on("db", "runuser -u postgres -- psql -qc 'select no_such_column' 2>/dev/null || true")?;
    until("PostgreSQL's own line", Duration::from_secs(10), || {
        let logs = scenario.succeed("logs", &["--tier", "database", "--level", "error"])?;
        Ok(logs.contains("column \"no_such_column\" does not exist"))
    })?;
    let printed = scenario.succeed_on("application", &["hostname"])?;
    ensure!(printed.contains("app1: app1") && printed.contains("app2: app2"), "tercet exec: {printed}");
    Ok(())
}

impl Scenario<'_> {
    /// `tercet exec` on a tier.
    fn succeed_on(&self, on: &str, command: &[&str]) -> Result<String> {
        let mut exec = self.tercet("exec", &[on])?;
        exec.arg(self.project.path()).arg("--").args(command);
        crate::command::output(&mut exec)
    }
}

/// systemd judges the units: 2.0 and less is what it calls OK.
fn hardened(scenario: &Scenario<'_>) -> Result<()> {
    for (machine, pattern, limit) in [
        ("lb", "tercet-balancer.service", 2.0),
        ("app1", "tercet-app-1@*", 2.0),
        ("db", "postgresql@15-main.service", 4.0),
    ] {
        let unit = scenario.on(machine, &format!("systemctl list-units --plain --no-legend '{pattern}'"))?;
        let unit = unit.split(' ').next().context("the unit runs")?;
        let exposure = exposure(scenario, machine, unit)?;
        ensure!(exposure <= limit, "{unit}: exposure {exposure}");
        let secrets = scenario.on(machine, "find /etc/tercet/credentials -type f ! -perm 600; cat /proc/*/cmdline | tr '\\0' ' ' | grep -c '[p]ostgres[^ ]*://[^ ]*:[^ ]*@' || true")?;
        ensure!(secrets.trim() == "0", "{machine}: a secret can be seen: {secrets}");
    }
    // What the restrictions could break: compiled queries, programs of the server, a reload.
    let compiled = scenario.on(
        "db",
        "runuser -u postgres -- psql -Atq -c \"set jit_above_cost = 0; select count(*) from generate_series(1, 100000) it where it % 3 = 0\" \
         -c \"copy (select 1) to program 'cat >/dev/null'\" && systemctl reload postgresql@15-main && echo fine",
    )?;
    ensure!(compiled.contains("33333") && compiled.contains("fine"), "db: {compiled}");
    Ok(())
}
