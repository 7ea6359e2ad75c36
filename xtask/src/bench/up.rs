//! A whole system under `tercet up`, of which the bench knows where its parts listen and which processes they are.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::bench::process::Usage;
use crate::command::output;

/// A temporary folder for projects. Others may read it: run by root, `tercet up` becomes another user.
pub(crate) fn folder() -> Result<tempfile::TempDir> {
    let readable = fs::Permissions::from_mode(0o755);
    tempfile::Builder::new().permissions(readable).tempdir().context("no temporary folder")
}

/// A running system; it is stopped, and its database removed, when dropped.
pub(crate) struct System {
    folder: PathBuf,
    up: Child,
    parts: BTreeMap<String, Part>,
}

#[derive(Default)]
struct Part {
    process: u32,
    address: String,
}

/// The fields of the log of `tercet up` that are read here.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    PartStarted { name: String, pid: u32 },
    PartReady { name: String, address: String },
    Up {},
}

impl System {
    /// Writes a project into `folder`, starts it with the program `tercet` and waits until it is up.
    pub(crate) fn start(tercet: &Path, folder: &Path, config: &str, migration: &str) -> Result<Self> {
        fs::create_dir_all(folder.join("migrations"))?;
        fs::write(folder.join("tercet.toml"), config)?;
        fs::write(folder.join("migrations/0001_shop.sql"), migration)?;
        let errors = File::create(folder.join("errors"))?;
        // In a session of its own: Linux shares processor time between sessions first (sched(7), "autogroup"), and the
        // load belongs to another session.
        let mut up = Command::new("setsid")
            .arg(tercet)
            .arg("up")
            .arg(folder)
            .arg("--json")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .with_context(|| format!("{}: cannot be started", tercet.display()))?;
        let mut lines = BufReader::new(up.stdout.take().context("standard output is piped")?);
        // From here on a failure stops what was started.
        let mut system = Self { folder: folder.to_owned(), up, parts: BTreeMap::new() };
        let mut line = String::new();
        loop {
            line.clear();
            if lines.read_line(&mut line)? == 0 {
                bail!("tercet up ended: {}", fs::read_to_string(folder.join("errors"))?);
            }
            match serde_json::from_str(&line) {
                Ok(Event::PartStarted { name, pid }) => system.part(name).process = pid,
                Ok(Event::PartReady { name, address }) => system.part(name).address = address,
                Ok(Event::Up {}) => break,
                // Whatever else the parts say.
                Err(_) => {}
            }
        }
        // Drain the pipe, so that no part blocks.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Ok(system)
    }

    fn part(&mut self, name: String) -> &mut Part {
        self.parts.entry(name).or_default()
    }

    /// Where the part `name` listens.
    pub(crate) fn address(&self, name: &str) -> Result<&str> {
        Ok(&self.find(name)?.address)
    }

    /// Processor time that the parts whose names begin with `prefix` have used, with their children.
    pub(crate) fn processor(&self, prefix: &str) -> Result<Duration> {
        let parts = self.parts.iter().filter(|(name, _)| name.starts_with(prefix));
        parts.map(|(_, part)| Ok(Usage::of(part.process)?.processor)).sum()
    }

    /// A URL of the database for the application servers' login role.
    pub(crate) fn database_url(&self) -> Result<String> {
        let password = fs::read_to_string(self.folder.join(".tercet/secrets/authenticator"))?;
        let name = self.folder.file_name().context("a project's folder has a name")?.to_string_lossy();
        Ok(format!("postgres://authenticator:{}@{}/{name}", password.trim(), self.address("database")?))
    }

    /// What the part `name` and its children have used.
    pub(crate) fn usage(&self, name: &str) -> Result<Usage> {
        Usage::of(self.find(name)?.process)
    }

    /// What `tercet up`, all parts and their children have used.
    pub(crate) fn whole(&self) -> Result<Usage> {
        Usage::of(self.up.id())
    }

    fn find(&self, name: &str) -> Result<&Part> {
        self.parts.get(name).with_context(|| format!("tercet up did not start {name}"))
    }
}

impl Drop for System {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = output(Command::new("kill").arg(self.up.id().to_string()));
        let _ = self.up.wait();
        // Run by root, the database is not in the folder but where PostgreSQL's account can reach it.
        if let Ok(database) = fs::read_link(self.folder.join(".tercet/postgresql")) {
            let _ = fs::remove_dir_all(database);
        }
    }
}
