//! The dashboard: one page on a loopback port, which shows the picture of the project with its requests, servers, database,
//! machines and log. This is that of a running `tercet up`; `machines` is that of a project on machines.
//!
//! It reads only: counters of the balancer, statistics of PostgreSQL, the last log lines. Text of logs is redacted here, and the
//! page inserts it as text. Without a viewer, it samples the balancer's counters and nothing else.

mod database;
mod gate;
mod machine;
mod machines;
mod page;
mod redaction;
mod samples;
mod server;
mod view;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use tercet_config::Topology;
use tercet_postgres::Target;
use tokio::time::{Instant, sleep};

use self::machine::Machine;
pub(crate) use self::machines::{Machines, News, read};
pub(crate) use self::redaction::Redaction;
use self::samples::Samples;
use self::server::{Site, Source};
use crate::backups::Backups;
use crate::output::Output;
use crate::running::servers::servers;

/// The interval of samples while the page is open in a browser.
const WATCHED: Duration = Duration::from_millis(500);
/// The interval otherwise.
const UNWATCHED: Duration = Duration::from_secs(2);
/// The page asks more often than this.
const VIEWER_GONE: Duration = Duration::from_secs(10);
/// The interval at which PostgreSQL and the machine are read while the page is open.
const SLOW: Duration = Duration::from_secs(2);
/// The interval at which backups and certificates are read while the page is open.
const RARE: Duration = Duration::from_secs(30);

/// What the dashboard shows, and where it gets it.
pub(crate) struct Dashboard {
    output: Output,
    site: Site,
    redaction: Redaction,
    /// The project's folder, for the free space.
    folder: PathBuf,
    backups_folder: PathBuf,
    certificates: Vec<PathBuf>,
    /// The applications, as the page gets them.
    applications: Value,
    seen: Cell<Option<Instant>>,
    samples: RefCell<Samples>,
    machine: RefCell<Machine>,
    /// The state of PostgreSQL, or why it is not known.
    database: RefCell<Result<Value, String>>,
    backups: RefCell<Vec<BackupLine>>,
    certificate_ends: RefCell<Vec<CertificateLine>>,
}

/// A backup.
#[derive(Clone, Debug, Serialize)]
struct BackupLine {
    id: String,
    ended: Option<Timestamp>,
    bytes: u64,
    /// Whether its last check passed; `None` if it was not checked.
    passed: Option<bool>,
}

/// A certificate of the balancer.
#[derive(Clone, Debug, Serialize)]
struct CertificateLine {
    file: String,
    ends: Option<Timestamp>,
}

/// Where things of a project are.
pub(crate) struct Place {
    /// The project's folder.
    pub(crate) folder: PathBuf,
    /// Its private folder.
    pub(crate) private: PathBuf,
}

impl Dashboard {
    /// A dashboard on a free port of this machine.
    ///
    /// # Errors
    /// There is no free port, or the system has no random numbers.
    pub(crate) async fn bind(
        topology: &Topology,
        place: Place,
        output: Output,
        redaction: Redaction,
    ) -> anyhow::Result<Self> {
        let site = Site::bind().await?;
        let certificates = topology.balancer().tls.iter().flat_map(|tls| &tls.certificates);
        Ok(Self {
            output,
            site,
            redaction,
            certificates: certificates.map(|pair| place.folder.join(&pair.certificate)).collect(),
            folder: place.folder,
            backups_folder: place.private,
            applications: applications(topology),
            seen: Cell::new(None),
            samples: RefCell::new(Samples::new()),
            machine: RefCell::default(),
            database: RefCell::new(Err("not read yet".to_owned())),
            backups: RefCell::default(),
            certificate_ends: RefCell::default(),
        })
    }

    /// The address to open in a browser, with the key of this run.
    pub(crate) fn url(&self) -> String {
        self.site.url()
    }

    /// Serves the page, and samples what it shows, until it is dropped. `target` is the database.
    pub(crate) async fn run(self: Rc<Self>, target: Option<Target>) {
        let source = Rc::clone(&self) as Rc<dyn Source>;
        tokio::join!(self.site.serve(source), self.sample(), self.read_database(target), self.read_files());
    }

    /// Whether the page is open in a browser.
    fn is_watched(&self) -> bool {
        self.seen.get().is_some_and(|seen| seen.elapsed() < VIEWER_GONE)
    }

    async fn sample(&self) {
        loop {
            let metrics = self.output.board().state().metrics;
            let found = match metrics {
                // A balancer that is restarted has no servers for a moment.
                Some(metrics) => servers(metrics).await.unwrap_or_default(),
                None => Vec::new(),
            };
            let (requests, failed) = self.output.recent().counts();
            self.samples.borrow_mut().add(requests, failed, found);
            // A viewer who comes must not wait.
            let began = Instant::now();
            let watched = self.is_watched();
            while began.elapsed() < if watched || self.is_watched() { WATCHED } else { UNWATCHED } {
                sleep(WATCHED.min(UNWATCHED)).await;
            }
        }
    }

    async fn read_database(&self, target: Option<Target>) {
        let mut database = target.map(database::Reader::new);
        let mut machine = machine::Reader::default();
        loop {
            if self.is_watched() {
                let read = machine.read(&self.folder);
                self.machine.replace(read);
                let read = match &mut database {
                    Some(database) => database.read().await,
                    None => Err("url in [database] is not PostgreSQL's".to_owned()),
                };
                *self.database.borrow_mut() = read;
                sleep(SLOW).await;
            } else {
                sleep(WATCHED).await;
            }
        }
    }

    async fn read_files(&self) {
        loop {
            if self.is_watched() {
                let (folder, certificates) = (self.backups_folder.clone(), self.certificates.clone());
                // The size of a backup is that of all its files.
                let read = tokio::task::spawn_blocking(move || (backups(&folder), ends(&certificates))).await;
                if let Ok((backups, ends)) = read {
                    self.backups.replace(backups);
                    self.certificate_ends.replace(ends);
                }
                sleep(RARE).await;
            } else {
                sleep(WATCHED).await;
            }
        }
    }
}

/// The applications with their servers, for the page.
fn applications(topology: &Topology) -> Value {
    let shown = topology.applications().iter().map(|application| {
        let servers: Vec<&str> = topology.servers_of(application).map(|part| part.name.as_str()).collect();
        json!({ "name": application.name, "data_api": application.data_api().is_some(), "servers": servers })
    });
    shown.collect()
}

/// The backups, the newest first.
fn backups(private: &std::path::Path) -> Vec<BackupLine> {
    let entries = Backups::of(private).all().unwrap_or_default();
    let line = |entry: crate::backups::Entry| BackupLine {
        ended: entry.backup.as_ref().ok().map(|backup| backup.ended),
        passed: entry.checked.map(|check| check.passed()),
        id: entry.id,
        bytes: entry.bytes,
    };
    entries.into_iter().rev().take(5).map(line).collect()
}

/// When the certificates end.
fn ends(certificates: &[PathBuf]) -> Vec<CertificateLine> {
    let line = |path: &PathBuf| CertificateLine {
        file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        ends: std::fs::read_to_string(path).ok().and_then(|pem| tercet_fleet::validity::end_of(&pem)),
    };
    certificates.iter().map(line).collect()
}
