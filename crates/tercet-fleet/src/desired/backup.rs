//! Backups on a machine: pgBackRest with its configuration and its server, and the tasks that timers start.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use tercet_config::{Backup, Machine, Repository, S3, Tier, Topology};
use tercet_machine::Desired;
use tercet_machine::data_directory::DataDirectory;
use tercet_machine::directory::Directory;
use tercet_machine::file::{Contents, File};
use tercet_machine::package::Package;
use tercet_machine::path::Owner;
use tercet_machine::unit::{Goal, Unit};

use super::file::{public_file, unit_file};
use super::hardening;
use super::project::Project;
use crate::backup::copy::FOLDER;
use crate::backup::settings::{self, ACCOUNT, CHECKS, Settings, data, in_folder};
use crate::backup::units;
use crate::monitor::textfile::FOLDER as METRICS;
use crate::system::System;

/// The unit of pgBackRest's server.
pub(crate) const SERVER: &str = "tercet-pgbackrest.service";
/// Certificates of the backup protocol.
pub(crate) const KEYS: &str = "/etc/tercet/backup";
/// pgBackRest's configuration, where it looks for it.
pub(crate) const CONFIGURATION: &str = "/etc/pgbackrest";
/// The least size of the queue of the write-ahead log, in bytes: 1 GiB.
const LEAST_QUEUE: u64 = 1 << 30;

/// The share of a busy machine that a long task gets (systemd.resource-control(5)).
const MODEST: &str = "CPUWeight=20\nIOWeight=20\n";

const INFALLIBLE: &str = "writing to a String cannot fail";

/// Adds what a machine has to do with the backups; nothing on a machine that has no part in them.
pub(super) fn add(desired: &mut Desired, project: &Project<'_>, machine: &Machine, system: &System) {
    let topology = project.topology;
    let Some(backup) = topology.backup() else { return };
    let makes_them = topology.backup_machine().is_some_and(|it| it.name == machine.name);
    let has_database = machine.tiers.contains(&Tier::Database);
    if !makes_them && !has_database {
        return;
    }
    let here = Here { project, backup, machine, system, makes_them };
    let owner = Owner::of(ACCOUNT);
    let folder = |path: PathBuf, owner: Owner, mode| Directory { path, owner, mode };
    desired.packages.push(Package("pgbackrest".to_owned()));
    if !has_database {
        // To restore and verify.
        desired.packages.push(programs(system));
        let without = without_cluster();
        desired.directories.extend(without.directories);
        desired.files.extend(without.files);
    }
    desired.directories.extend([
        folder(CONFIGURATION.into(), Owner::root(), 0o755),
        folder(METRICS.into(), owner.clone(), 0o755),
    ]);
    desired.data_directories.push(DataDirectory(folder(settings::FOLDER.into(), owner.clone(), 0o750)));
    let own = |path: PathBuf, contents, mode| File { path, contents, owner: owner.clone(), mode };
    let configuration =
        own(Path::new(CONFIGURATION).join("pgbackrest.conf"), Contents::Text(here.configuration()), 0o640);
    let mut reads = vec![configuration.path.clone()];
    desired.files.push(configuration);
    desired.files.push(public_file(settings::FILE, here.settings()));
    if let Some(identity) = project.secrets.backup.get(&machine.name) {
        desired.directories.push(folder(KEYS.into(), owner.clone(), 0o750));
        let keys = Path::new(KEYS);
        let files = [
            own(keys.join("machine.crt"), Contents::Text(identity.certificate.clone()), 0o640),
            own(keys.join("machine.key"), Contents::Secret(identity.key.clone()), 0o600),
            own(keys.join("authority.crt"), Contents::Text(project.secrets.authority.clone()), 0o640),
        ];
        reads.extend(files.iter().map(|file| file.path.clone()));
        desired.files.extend(files);
        let server = unit_file(SERVER, server());
        desired.units.push(Unit {
            name: SERVER.to_owned(),
            enabled: Some(true),
            goal: Goal::Running,
            restart_when: vec![server.path.clone()],
            reload_when: reads,
        });
        desired.files.push(server);
    }
    if let (Repository::S3(_), Some(store)) = (&backup.repository, &project.secrets.store) {
        let include = Path::new(CONFIGURATION).join("conf.d");
        desired.directories.push(folder(include.clone(), Owner::root(), 0o755));
        let text = format!(
            "[global]\nrepo1-s3-key={}\nrepo1-s3-key-secret={}\nrepo1-cipher-pass={}\n",
            store.key.reveal(),
            store.secret.reveal(),
            store.cipher.reveal()
        );
        let secrets = Contents::Secret(tercet_machine::Secret::new(text));
        desired.files.push(own(include.join("tercet-secrets.conf"), secrets, 0o600));
    }
    if has_database {
        let service = here.task(desired, units::HEARTBEAT, "heartbeat", "LogLevelMax=notice\n");
        timer(
            desired,
            &units::HEARTBEAT.replace(".service", ".timer"),
            &service,
            "OnBootSec=10s\nOnUnitActiveSec=30s\nAccuracySec=1s",
        );
    }
    desired.directories.push(folder(CHECKS.into(), Owner::root(), 0o755));
    for (name, text) in project.checks {
        desired.files.push(public_file(Path::new(CHECKS).join(name), text.clone()));
    }
    if makes_them {
        let at = |calendar: &str| format!("OnCalendar={calendar}\nRandomizedDelaySec=10m\nPersistent=yes");
        for (unit, task, calendar) in [
            (units::FULL, "back-up --full", &backup.full),
            (units::INCREMENTAL, "back-up", &backup.incremental),
        ] {
            let service = here.task(desired, unit, task, MODEST);
            timer(desired, &unit.replace(".service", ".timer"), &service, &at(calendar));
        }
        here.task(desired, units::CHECK, "check-backup %i", MODEST);
        here.copy(desired);
        if let Some(calendar) = &backup.check {
            timer(desired, "tercet-backup-check.timer", "tercet-backup-check@latest.service", &at(calendar));
        }
    }
}

/// The package with PostgreSQL's programs.
pub(crate) fn programs(system: &System) -> Package {
    Package(format!("postgresql-{}", system.postgresql))
}

/// What has PostgreSQL's package create no cluster when it is installed (pg_createcluster(1)): it must be there before.
pub(crate) fn without_cluster() -> Desired {
    let folder = PathBuf::from("/etc/postgresql-common");
    let text = "# Written by tercet: this machine keeps backups, and has no database of its own.\ncreate_main_cluster = false\n";
    Desired {
        files: vec![public_file(folder.join("createcluster.conf"), text.to_owned())],
        directories: vec![Directory { path: folder, owner: Owner::root(), mode: 0o755 }],
        ..Desired::default()
    }
}

/// PostgreSQL's `archive_command`: it stores one segment of the write-ahead log.
pub(super) fn archive_command(topology: &Topology) -> String {
    match topology.backup() {
        Some(_) => format!("/usr/bin/pgbackrest --stanza={} archive-push %p", topology.name()),
        // archive_mode cannot be switched on without a restart, so it always is.
        None => "/bin/true".to_owned(),
    }
}

/// The backups as one machine has them.
struct Here<'h> {
    project: &'h Project<'h>,
    backup: &'h Backup,
    machine: &'h Machine,
    system: &'h System,
    makes_them: bool,
}

impl Here<'_> {
    fn port(&self) -> u16 {
        let mut parts = self.project.topology.parts().iter();
        parts.find(|part| part.tier == Tier::Database).map_or(5432, |part| part.port.number)
    }

    fn queue_limit(&self) -> u64 {
        ((self.system.data_kib << 10) / 4).max(LEAST_QUEUE)
    }

    /// pgBackRest's configuration (<https://pgbackrest.org/configuration.html>).
    fn configuration(&self) -> String {
        let topology = self.project.topology;
        let mut text = format!(
            "# Written by tercet; changes are undone by the next apply.\n[global]\nlog-level-file=off\n\
             lock-path={}\nstart-fast=y\nprocess-max=2\ncompress-type=zst\nexpire-auto=n\n",
            in_folder("lock").display()
        );
        let line = |text: &mut String, key: &str, value: &dyn std::fmt::Display| {
            writeln!(text, "{key}={value}").expect(INFALLIBLE);
        };
        let keys = |text: &mut String, prefix: &str| {
            for (key, file) in [("ca", "authority.crt"), ("cert", "machine.crt"), ("key", "machine.key")] {
                writeln!(text, "{prefix}-{key}-file={KEYS}/{file}").expect(INFALLIBLE);
            }
        };
        let other = |tier: Tier| topology.machines().iter().find(|it| it.tiers.contains(&tier));
        let has_database = self.machine.tiers.contains(&Tier::Database);
        let mut cluster =
            format!("pg1-path={}\npg1-port={}\n", data(self.system.postgresql).display(), self.port());
        match &self.backup.repository {
            Repository::Machine => {
                let (mine, theirs) = if has_database {
                    (Tier::Database, Tier::Backup)
                } else {
                    (Tier::Backup, Tier::Database)
                };
                let port = topology
                    .parts()
                    .iter()
                    .find(|part| part.tier == Tier::Backup)
                    .map_or(8432, |part| part.port.number);
                line(&mut text, "tls-server-address", &self.machine.address);
                line(&mut text, "tls-server-port", &port);
                keys(&mut text, "tls-server");
                if let Some(theirs) = other(theirs) {
                    line(&mut text, "tls-server-auth", &format!("{}={}", theirs.name, topology.name()));
                    let (section, prefix) =
                        if mine == Tier::Database { (&mut text, "repo1") } else { (&mut cluster, "pg1") };
                    line(section, &format!("{prefix}-host"), &theirs.address);
                    line(section, &format!("{prefix}-host-type"), &"tls");
                    line(section, &format!("{prefix}-host-port"), &port);
                    keys(section, &format!("{prefix}-host"));
                }
                if mine == Tier::Backup {
                    line(&mut text, "repo1-path", &in_folder("repository").display());
                    line(&mut text, "repo1-bundle", &"y");
                }
            }
            Repository::S3(store) => text += &object_store(store),
        }
        if has_database {
            line(&mut text, "archive-push-queue-max", &self.queue_limit());
        }
        format!("{text}\n[{}]\n{cluster}", topology.name())
    }

    fn settings(&self) -> String {
        let settings = Settings {
            database: self.project.topology.name().to_owned(),
            major: self.system.postgresql,
            port: self.port(),
            makes_backups: self.makes_them,
            keep_days: self.backup.keep_days,
            queue_limit: self.queue_limit(),
        };
        serde_json::to_string_pretty(&settings).expect("strings and numbers are JSON") + "\n"
    }

    /// Adds the service of a copy beside the database, which is removed when it stops.
    fn copy(&self, desired: &mut Desired) {
        let text = format!(
            "[Unit]\nDescription=tercet: a copy of the database as it was\nWants=network-online.target\nAfter=network-online.target\n\n\
             [Service]\nType=notify\nExecStart={} machine copy\nExecStopPost=/bin/rm -rf {}\nUser={ACCOUNT}\nTimeoutStartSec=infinity\n\
             RuntimeMaxSec=1d\n{}ReadWritePaths={}\n{MODEST}",
            self.project.program,
            in_folder(FOLDER).display(),
            hardening::task(),
            settings::FOLDER,
        );
        desired.files.push(unit_file(units::COPY, text));
    }

    /// Adds the service of a task and returns its name; `more` are further lines of its section.
    fn task(&self, desired: &mut Desired, name: &str, task: &str, more: &str) -> String {
        let text = format!(
            "[Unit]\nDescription=tercet: {task}\nWants=network-online.target\nAfter=network-online.target\n\n\
             [Service]\nType=oneshot\nExecStart={} machine {task}\nUser={ACCOUNT}\nTimeoutStartSec=infinity\n{}\
             ReadWritePaths={} {METRICS}\n{more}",
            self.project.program,
            hardening::task(),
            settings::FOLDER,
        );
        desired.files.push(unit_file(name, text));
        name.to_owned()
    }
}

/// The unit of pgBackRest's server.
fn server() -> String {
    format!(
        "[Unit]\nDescription=tercet: pgBackRest's server, which the other end of the backups connects to\n\
         Wants=network-online.target\nAfter=network-online.target\nStartLimitIntervalSec=0\n\n\
         [Service]\nExecStart=/usr/bin/pgbackrest server\nExecReload=/bin/kill -HUP $MAINPID\nRestart=always\nRestartSec=1\n\
         User={ACCOUNT}\n{}ReadWritePaths={}\n\n[Install]\nWantedBy=multi-user.target\n",
        hardening::task(),
        settings::FOLDER,
    )
}

/// Adds a timer that starts a service.
fn timer(desired: &mut Desired, name: &str, service: &str, when: &str) {
    let text = format!(
        "[Unit]\nDescription=tercet: when {service} starts\n\n[Timer]\n{when}\nUnit={service}\n\n[Install]\nWantedBy=timers.target\n"
    );
    let file = unit_file(name, text);
    desired.units.push(Unit {
        name: name.to_owned(),
        enabled: Some(true),
        goal: Goal::Running,
        restart_when: vec![file.path.clone()],
        reload_when: vec![],
    });
    desired.files.push(file);
}

/// An object store as pgBackRest's repository; always encrypted.
fn object_store(store: &S3) -> String {
    let S3 { bucket, folder, endpoint, port, region, .. } = store;
    format!(
        "repo1-type=s3\nrepo1-path={folder}\nrepo1-s3-bucket={bucket}\nrepo1-s3-endpoint={endpoint}\nrepo1-storage-port={port}\n\
         repo1-s3-region={region}\nrepo1-s3-uri-style=path\nrepo1-cipher-type=aes-256-cbc\nrepo1-bundle=y\n"
    )
}
