//! The monitoring on a machine: the exporters, and on the monitor's machine Prometheus and Alertmanager. They are Debian's
//! programs in units of tercet; Debian's own units, which would listen on all addresses, never start.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tercet_config::{
    ALERTMANAGER, Machine, POSTGRES_EXPORTER, PROMETHEUS, Part, Tier, Topology, node_exporter,
};
use tercet_machine::Desired;
use tercet_machine::directory::Directory;
use tercet_machine::file::{Contents, File};
use tercet_machine::package::Package;
use tercet_machine::path::Owner;
use tercet_machine::unit::{Goal, Unit};
use tercet_machine::user::User;

use super::file::{public_file, unit_file};
use super::hardening::{self, Memory};
use super::project::Project;
use super::quoting::argument;
use crate::monitor::{
    ACCOUNT, FOLDER, MONITOR_ACCOUNT, ROLE, alertmanager, connections, prometheus, textfile,
};
use crate::paths::CREDENTIALS;
use crate::system::System;

/// What keeps a unit of Debian's from starting: a condition that is never met.
const NEVER: &str =
    "# Written by tercet, which has a unit of its own for this program.\n[Unit]\nConditionPathExists=!/\n";

/// PostgreSQL's values that its exporter does not read by itself.
const QUERIES: &str = include_str!("monitor/queries.yml");

/// A program of the monitoring.
struct Program {
    /// The part's name, and that of the unit without its prefix.
    name: &'static str,
    /// Debian's package, which also names the unit and the program in it.
    package: &'static str,
    description: &'static str,
    /// In MiB.
    memory: Memory,
}

const NODE: Program = Program {
    name: "node-exporter",
    package: "prometheus-node-exporter",
    description: "metrics of this machine",
    memory: Memory(64),
};
const POSTGRESQL: Program = Program {
    name: POSTGRES_EXPORTER,
    package: "prometheus-postgres-exporter",
    description: "metrics of PostgreSQL",
    memory: Memory(64),
};
const WATCHER: Program = Program {
    name: PROMETHEUS,
    package: "prometheus",
    description: "scrapes the metrics, and evaluates the rules of the alerts",
    memory: Memory(512),
};
const NOTIFIER: Program = Program {
    name: ALERTMANAGER,
    package: "prometheus-alertmanager",
    description: "sends the alerts",
    memory: Memory(128),
};

impl Program {
    /// Those of a machine.
    fn of(topology: &Topology, machine: &Machine) -> Vec<&'static Self> {
        if topology.part(&node_exporter(&machine.name)).is_none() {
            return Vec::new();
        }
        let mut programs = vec![&NODE];
        if machine.tiers.contains(&Tier::Database) {
            programs.push(&POSTGRESQL);
        }
        if machine.tiers.contains(&Tier::Monitor) {
            programs.extend([&NOTIFIER, &WATCHER]);
        }
        programs
    }

    fn unit(&self) -> String {
        format!("tercet-{}.service", self.name)
    }

    fn debians_unit(&self) -> String {
        format!("{}.service", self.package)
    }

    /// The drop-in that keeps Debian's unit from starting, and its folder.
    fn never(&self) -> (Directory, File) {
        let file = unit_file(&format!("{}.d/tercet.conf", self.debians_unit()), NEVER.to_owned());
        let folder = file.path.parent().map(Path::to_owned).unwrap_or_default();
        (Directory { path: folder, owner: Owner::root(), mode: 0o755 }, file)
    }

    /// Its unit: `arguments` are a line each, `more` further lines of the section.
    fn text(&self, arguments: &[String], more: &str) -> String {
        let mut text = format!(
            "[Unit]\nDescription=tercet: {}\nWants=network-online.target\nAfter=network-online.target\n\
             StartLimitIntervalSec=0\n\n[Service]\nExecStart=/usr/bin/{}",
            self.description, self.package
        );
        for word in arguments {
            write!(text, " \\\n  {}", argument(word)).expect("writing to a String cannot fail");
        }
        format!("{text}\n{more}\n[Install]\nWantedBy=multi-user.target\n")
    }
}

/// The units of Debian's packages that tercet stops on a machine, since it runs the programs by units of its own.
pub(crate) fn replaced(topology: &Topology, machine: &Machine) -> Vec<String> {
    Program::of(topology, machine).into_iter().map(Program::debians_unit).collect()
}

/// The files of metrics that no task of a machine writes: what an earlier one wrote would stay as it is.
pub(crate) fn outdated(topology: &Topology, machine: &Machine) -> Vec<PathBuf> {
    let is_watched = topology.part(&node_exporter(&machine.name)).is_some();
    let has_database = machine.tiers.contains(&Tier::Database) && topology.backup().is_some();
    let makes_backups = topology.backup_machine().is_some_and(|it| it.name == machine.name);
    [
        (textfile::ARCHIVE, has_database),
        (textfile::BACKUPS, makes_backups),
        // Wherever there is the folder.
        (textfile::CERTIFICATES, is_watched || has_database || makes_backups),
        (textfile::PROVE, is_watched),
    ]
    .into_iter()
    .filter(|(_, is_written)| !is_written)
    .map(|(name, _)| Path::new(textfile::FOLDER).join(name))
    .collect()
}

/// What must be there before the packages of a machine are installed, so that no program of theirs starts; nothing where they are.
pub(crate) fn before_packages(
    topology: &Topology,
    machine: &Machine,
    is_installed: impl Fn(&str) -> bool,
) -> Desired {
    let mut desired = Desired::default();
    for program in Program::of(topology, machine).into_iter().filter(|it| !is_installed(it.package)) {
        let (folder, file) = program.never();
        desired.directories.push(folder);
        desired.files.push(file);
    }
    desired
}

/// Adds what a machine has to do with the monitoring; nothing without a monitor.
pub(super) fn add(desired: &mut Desired, project: &Project<'_>, machine: &Machine, system: &System) {
    let topology = project.topology;
    let programs = Program::of(topology, machine);
    if programs.is_empty() {
        return;
    }
    let folder = |path: &str| Directory { path: path.into(), owner: Owner::root(), mode: 0o755 };
    if !desired.directories.iter().any(|it| it.path == Path::new(textfile::FOLDER)) {
        desired.directories.push(folder(textfile::FOLDER));
    }
    desired.directories.push(folder(FOLDER));
    desired.users.push(User(ACCOUNT.to_owned()));
    // The node exporter asks systemd by D-Bus.
    desired.packages.push(Package("dbus".to_owned()));
    for program in programs {
        let (folder, file) = program.never();
        desired.packages.push(Package(program.package.to_owned()));
        desired.directories.push(folder);
        desired.files.push(file);
        desired.units.push(Unit {
            name: program.debians_unit(),
            enabled: Some(false),
            goal: Goal::Stopped,
            restart_when: vec![],
            reload_when: vec![],
        });
        match program.name {
            PROMETHEUS => scraper(desired, project, system),
            ALERTMANAGER => notifier(desired, project),
            POSTGRES_EXPORTER => postgresql(desired, topology),
            _ => node(desired, topology, machine),
        }
    }
    nightly(desired, project, machine);
}

/// The address that a part of the machine listens on: the end of its edge, or loopback.
fn address(topology: &Topology, name: &str) -> SocketAddr {
    let addresses = topology.part(name).map(|part| (part, topology.addresses(part)));
    addresses.map_or(SocketAddr::from(([127, 0, 0, 1], 0)), |(part, addresses)| {
        addresses.first().copied().unwrap_or(SocketAddr::from(([127, 0, 0, 1], part.port.number)))
    })
}

/// Adds a unit of tercet that runs.
fn run(desired: &mut Desired, program: &Program, text: String, reads: Vec<PathBuf>, reloads: Vec<PathBuf>) {
    let file = unit_file(&program.unit(), text);
    desired.units.push(Unit {
        name: program.unit(),
        enabled: Some(true),
        goal: Goal::Running,
        restart_when: [vec![file.path.clone()], reads].concat(),
        reload_when: reloads,
    });
    desired.files.push(file);
}

fn node(desired: &mut Desired, topology: &Topology, machine: &Machine) {
    let mut arguments = vec![
        format!("--web.listen-address={}", address(topology, &node_exporter(&machine.name))),
        "--web.disable-exporter-metrics".to_owned(),
        "--collector.disable-defaults".to_owned(),
    ];
    for collector in [
        "cpu",
        "diskstats",
        "filesystem",
        "loadavg",
        "meminfo",
        "netdev",
        "pressure",
        "stat",
        "systemd",
        "textfile",
        "time",
        "uname",
        "vmstat",
    ] {
        arguments.push(format!("--collector.{collector}"));
    }
    arguments.extend([
        "--collector.filesystem.fs-types-exclude=^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|efivarfs|fuse.*|\
         fusectl|hugetlbfs|iso9660|mqueue|nsfs|proc|procfs|pstore|ramfs|rpc_pipefs|securityfs|selinuxfs|squashfs|sysfs|tracefs)$"
            .to_owned(),
        "--collector.filesystem.mount-points-exclude=^/(dev|proc|run|snap|sys|var/lib/(docker|containers|kubelet)/.+)($|/)".to_owned(),
        "--collector.netdev.device-exclude=^(lo|veth.*|br-.*|docker.*)$".to_owned(),
        "--collector.systemd.unit-include=^(tercet-.+|postgresql@.+)[.](service|timer)$".to_owned(),
        "--collector.systemd.enable-restarts-metrics".to_owned(),
        format!("--collector.textfile.directory={}", textfile::FOLDER),
    ]);
    let text = NODE.text(&arguments, &hardening::node_exporter(ACCOUNT, NODE.memory));
    run(desired, &NODE, text, vec![], vec![]);
}

fn postgresql(desired: &mut Desired, topology: &Topology) {
    let port =
        topology.parts().iter().find(|part| part.tier == Tier::Database).map_or(5432, |it| it.port.number);
    let queries = public_file(Path::new(FOLDER).join("queries.yml"), QUERIES.to_owned());
    let arguments = [
        format!("--web.listen-address={}", address(topology, POSTGRES_EXPORTER)),
        "--disable-settings-metrics".to_owned(),
        format!("--extend.query-path={}", queries.path.display()),
    ];
    let source = format!("user={ROLE} host=/run/postgresql port={port} dbname=postgres sslmode=disable");
    let more = format!(
        "Environment=\"DATA_SOURCE_NAME={source}\"\n{}",
        hardening::monitoring(ACCOUNT, POSTGRESQL.memory)
    );
    run(desired, &POSTGRESQL, POSTGRESQL.text(&arguments, &more), vec![queries.path.clone()], vec![]);
    desired.files.push(queries);
}

fn scraper(desired: &mut Desired, project: &Project<'_>, system: &System) {
    let topology = project.topology;
    let folder = Path::new(FOLDER);
    let configuration = public_file(folder.join("prometheus.yml"), prometheus::configuration(topology));
    let rules = public_file(folder.join(prometheus::RULES), prometheus::rules(topology));
    let port = topology.part(PROMETHEUS).map_or(9090, |part: &Part| part.port.number);
    let arguments = [
        format!("--config.file={}", configuration.path.display()),
        "--storage.tsdb.path=/var/lib/tercet-prometheus".to_owned(),
        "--storage.tsdb.retention.time=15d".to_owned(),
        format!("--storage.tsdb.retention.size={}MB", prometheus::megabytes(topology, system.data_kib)),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ];
    let more = format!(
        "ExecReload=/bin/kill -HUP $MAINPID\nStateDirectory=tercet-prometheus\nTimeoutStopSec=30\n{}",
        hardening::monitoring(MONITOR_ACCOUNT, WATCHER.memory)
    );
    let reloads = vec![configuration.path.clone(), rules.path.clone()];
    run(desired, &WATCHER, WATCHER.text(&arguments, &more), vec![], reloads);
    desired.files.extend([configuration, rules]);
}

fn notifier(desired: &mut Desired, project: &Project<'_>) {
    // The addresses of receivers are secrets: only systemd reads the file, and hands it to the unit.
    let configuration = File {
        path: Path::new(CREDENTIALS).join(alertmanager::FILE),
        contents: Contents::Secret(alertmanager::configuration(&project.secrets.receivers)),
        owner: Owner::root(),
        mode: 0o600,
    };
    let arguments = [
        format!("--config.file=/run/credentials/{}/{}", NOTIFIER.unit(), alertmanager::FILE),
        "--storage.path=/var/lib/tercet-alertmanager".to_owned(),
        format!("--web.listen-address={}", address(project.topology, ALERTMANAGER)),
        "--cluster.listen-address=".to_owned(),
        // Each notification that was sent is a line: `tercet alerts test` reads them.
        "--log.level=debug".to_owned(),
    ];
    let more = format!(
        "LoadCredential={}:{}\nStateDirectory=tercet-alertmanager\n{}",
        alertmanager::FILE,
        configuration.path.display(),
        hardening::monitoring(MONITOR_ACCOUNT, NOTIFIER.memory)
    );
    let reads = vec![configuration.path.clone()];
    run(desired, &NOTIFIER, NOTIFIER.text(&arguments, &more), reads, vec![]);
    desired.files.push(configuration);
}

/// The nightly test of this machine's connections to all others.
fn nightly(desired: &mut Desired, project: &Project<'_>, machine: &Machine) {
    let connections = connections::from(project.topology, machine);
    let text = serde_json::to_string_pretty(&connections).expect("it is plain data") + "\n";
    desired.files.push(public_file(connections::FILE, text));
    let service = unit_file(
        "tercet-prove.service",
        format!(
            "[Unit]\nDescription=tercet: test the connections to the other machines\nWants=network-online.target\n\
             After=network-online.target\n\n[Service]\nType=oneshot\nExecStart={} machine prove\nReadWritePaths={}\n{}",
            project.program,
            textfile::FOLDER,
            hardening::measurement(),
        ),
    );
    let timer = unit_file(
        "tercet-prove.timer",
        "[Unit]\nDescription=tercet: each night\n\n[Timer]\nOnCalendar=*-*-* 02:00\nRandomizedDelaySec=1h\nPersistent=yes\n\n\
         [Install]\nWantedBy=timers.target\n"
            .to_owned(),
    );
    desired.units.push(Unit {
        name: "tercet-prove.timer".to_owned(),
        enabled: Some(true),
        goal: Goal::Running,
        restart_when: vec![timer.path.clone()],
        reload_when: vec![],
    });
    desired.files.extend([service, timer]);
}
