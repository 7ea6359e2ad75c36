//! Tier 2 on this machine: a data API server, or the user's own program.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use tercet_fleet::configuration::api::READY;

use super::own_command;
use crate::supervisor::{
    LastFailure, Launch, OnParentDeath, Part, SUCCESS, accepts, answers, cause, last_line,
};

/// One application server.
pub(super) struct ApplicationServer {
    pub(super) name: String,
    pub(super) address: SocketAddr,
    pub(super) folder: PathBuf,
    pub(super) server: Server,
    /// Why the last readiness check failed.
    pub(super) last_failure: LastFailure,
}

/// The program of an application server.
pub(super) enum Server {
    /// `tercet api` with this configuration; its admin endpoint reports readiness.
    Api { config: PathBuf, admin: SocketAddr, text: String },
    /// The user's own program. It is ready when the path `health` is answered, or without one when it accepts connections.
    Own {
        words: Vec<String>,
        health: Option<String>,
        environment: Vec<(OsString, OsString)>,
        start_timeout: Option<Duration>,
    },
}

/// A program of the user, which is terminated with all its descendants.
pub(super) fn own_program(
    words: &[String],
    environment: Vec<(OsString, OsString)>,
    folder: PathBuf,
) -> Launch {
    Launch {
        program: words.iter().map(Into::into).collect(),
        environment,
        inherits: true,
        folder,
        account: None,
        low_ports: false,
        on_parent_death: OnParentDeath::KillDescendants,
        logs_json: false,
    }
}

/// What to do about a program, whether a server or its migration, that has failed.
pub(super) fn program_hint(_: &str, lines: &[String]) -> Option<&'static str> {
    let said = |text: &str| lines.iter().any(|line| line.contains(text));
    if said("no pg_hba.conf entry for") {
        return Some(
            "the program has to connect by DATABASE_URL; it has tried another user, database or host",
        );
    }
    let missing = lines.iter().find_map(|line| line.split_once(CANNOT_BE_RUN))?.0;
    let word = missing.rsplit([' ', '"']).next().unwrap_or_default();
    if word.contains('=') || ["cd", "export", "source", "."].contains(&word) {
        return Some(
            "there is no shell: sh -c '…' starts one, env NAME=value COMMAND sets a variable, \
             env -C FOLDER COMMAND changes the folder",
        );
    }
    Some("a path is relative to the folder of tercet.toml: is the program installed there, and executable?")
}

/// What `tercet child` says if it cannot execute a program.
const CANNOT_BE_RUN: &str = " cannot be run: ";

/// What to do about a server that has ended or is not ready.
fn server_hint(ended: &str, lines: &[String]) -> Option<&'static str> {
    if ended == SUCCESS {
        return Some("a server has to stay in the foreground");
    }
    if lines.iter().any(|line| ADDRESS_IN_USE.iter().any(|text| line.contains(text))) {
        return Some(
            "the program has to listen on {host}:{port} in run, or on HOST and PORT of its environment",
        );
    }
    if ended.contains("does not accept connections") || ended.contains(" was not answered: ") {
        return Some(
            "the program has to listen on {host}:{port} in run, or on HOST and PORT of its environment; \
             if it needs longer, give it a longer start-timeout in [application]",
        );
    }
    program_hint(ended, lines)
}

/// What programs say whose port has another listener: EADDRINUSE in C, Python and Go; in Node; in Rust.
const ADDRESS_IN_USE: [&str; 4] =
    ["Address already in use", "address already in use", "EADDRINUSE", "AddrInUse"];

impl ApplicationServer {
    /// The file of the data API's configuration.
    pub(super) fn configuration(self) -> Option<PathBuf> {
        match self.server {
            Server::Api { config, .. } => Some(config),
            Server::Own { .. } => None,
        }
    }

    /// What a restart depends on: the configuration, or the command and the health check.
    pub(super) fn fingerprint(&self) -> String {
        match &self.server {
            Server::Api { text, .. } => text.clone(),
            Server::Own { words, health, environment, start_timeout } => {
                format!("{words:?} {health:?} {environment:?} {start_timeout:?}")
            }
        }
    }
}

impl Part for ApplicationServer {
    fn name(&self) -> &str {
        &self.name
    }

    fn address(&self) -> String {
        self.address.to_string()
    }

    async fn launch(&mut self) -> anyhow::Result<Launch> {
        Ok(match &self.server {
            Server::Api { config, .. } => own_command("api", &self.name, config, &self.folder)?,
            Server::Own { words, environment, .. } => {
                let mut environment = environment.clone();
                environment.push(("HOST".into(), self.address.ip().to_string().into()));
                environment.push(("PORT".into(), self.address.port().to_string().into()));
                own_program(words, environment, self.folder.clone())
            }
        })
    }

    async fn ready(&self, _: u32) {
        match &self.server {
            Server::Api { admin, .. } => {
                answers(*admin, READY, |status| status == 200, &self.last_failure).await;
            }
            // The same rule as the balancer's health checks.
            Server::Own { health: Some(path), .. } => {
                answers(self.address, path, |status| status < 500, &self.last_failure).await;
            }
            Server::Own { health: None, .. } => accepts(self.address, &self.last_failure).await,
        }
    }

    fn last_failure(&self) -> Option<String> {
        self.last_failure.reason()
    }

    fn last_words(&self, lines: &[String]) -> Option<String> {
        match &self.server {
            Server::Api { .. } => last_line(lines),
            Server::Own { .. } => cause(lines),
        }
    }

    fn hint(&self, ended: &str, lines: &[String]) -> Option<&'static str> {
        match &self.server {
            Server::Api { .. } => None,
            Server::Own { .. } => server_hint(ended, lines),
        }
    }

    fn start_timeout(&self) -> Duration {
        match &self.server {
            Server::Own { start_timeout: Some(timeout), .. } => *timeout,
            _ => Duration::from_secs(60),
        }
    }

    fn stop(&self) -> Vec<(Signal, Duration)> {
        match self.server {
            Server::Api { .. } => {
                vec![(Signal::TERM, Duration::from_secs(10)), (Signal::KILL, Duration::from_secs(5))]
            }
            // On SIGQUIT the subreaper kills all of the program's descendants.
            Server::Own { .. } => vec![
                (Signal::TERM, Duration::from_secs(10)),
                (Signal::QUIT, Duration::from_secs(2)),
                (Signal::KILL, Duration::from_secs(5)),
            ],
        }
    }
}
