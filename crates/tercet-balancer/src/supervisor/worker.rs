//! The worker process: receives its sockets and its configuration from the supervisor, and exits with it.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};
use tercet_observe::event::ProcessEvent;
use tercet_observe::log::Destination;
use tercet_observe::{Format, Log};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::channel::{Channel, FromWorker, ToWorker};
use crate::balancer::Balancer;
use crate::config::{AccessLogFormat, AccessLogTo, Config};
use crate::listening::Listening;
use crate::shared::ReloadReply;

/// Serves requests under the control of the supervisor at the other end of `channel`, which is this process's standard
/// input. `name` is the part's name in the access log.
///
/// # Errors
/// The supervisor has exited, the sockets or the configuration it sent cannot be used, or a thread has exited.
pub fn run(channel: OwnedFd, events: &Log, name: &str) -> io::Result<()> {
    // A closed channel would not end a worker that has stopped reading from it.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    raise_descriptor_limit()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { serve(Channel::new(channel)?, events, name).await })
}

async fn serve(mut channel: Channel, events: &Log, name: &str) -> io::Result<()> {
    // systemd sends these signals to all processes of a unit; only the supervisor acts on them.
    let _ignored =
        [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::user_defined1()]
            .map(signal);
    let (config, listening) = first_configuration(&mut channel).await?;
    let access_log = open_access_log(&config, name)?;
    let (reload_requests, mut reloads) = mpsc::channel(1);
    let balancer = Balancer::start(config, listening, events, &access_log, reload_requests)?;
    events
        .handle()
        .event(ProcessEvent::Started { version: env!("CARGO_PKG_VERSION"), pid: std::process::id() });
    channel.send(&FromWorker::Ready, &[]).await?;

    let mut waiting: HashMap<u64, ReloadReply> = HashMap::new();
    let mut next_id = 0..;
    let mut bound = Vec::new();
    loop {
        tokio::select! {
            () = balancer.thread_exited() => return Err(io::Error::other("a thread of the balancer exited")),
            Some(reply) = reloads.recv() => {
                let id = next_id.next().unwrap_or_default();
                waiting.insert(id, reply);
                channel.send(&FromWorker::ReloadRequested { id }, &[]).await?;
            }
            received = channel.receive() => match received? {
                (ToWorker::Listen { address }, sockets) => super::add_all(&mut bound, address, sockets),
                (ToWorker::Configure { toml }, _) => {
                    let bound = std::mem::take(&mut bound);
                    let applied = read(&toml).and_then(|config| balancer.reload(config, bound));
                    let problem = applied.err().map(|error| error.to_string());
                    channel.send(&FromWorker::Applied { problem }, &[]).await?;
                }
                (ToWorker::Reloaded { ids, outcome }, _) => {
                    for reply in ids.iter().filter_map(|id| waiting.remove(id)) {
                        // Fails if the admin client has disconnected.
                        let _ = reply.send(outcome.clone());
                    }
                }
                (ToWorker::ReopenLogs, _) => access_log.reopen(),
                (ToWorker::Challenges { id, challenges }, _) => {
                    balancer.set_challenges(challenges);
                    channel.send(&FromWorker::ChallengesSet { id }, &[]).await?;
                }
                (ToWorker::CertificateChanged, _) => balancer.refresh_certificates(),
                (ToWorker::Stop, _) => break,
            }
        }
    }
    // Joins threads, which blocks this runtime; no other task runs on it.
    balancer.stop()
}

/// Raises the limit of open files to the hard limit: each request uses up to two sockets.
fn raise_descriptor_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(())
}

async fn first_configuration(channel: &mut Channel) -> io::Result<(Config, Vec<Listening>)> {
    let mut listening = Vec::new();
    loop {
        match channel.receive().await? {
            (ToWorker::Listen { address }, sockets) => super::add_all(&mut listening, address, sockets),
            (ToWorker::Configure { toml }, _) => return Ok((read(&toml)?, listening)),
            (ToWorker::Stop, _) => return Err(io::Error::other("stopped before the configuration arrived")),
            (
                ToWorker::Reloaded { .. }
                | ToWorker::ReopenLogs
                | ToWorker::Challenges { .. }
                | ToWorker::CertificateChanged,
                _,
            ) => {}
        }
    }
}

/// Parses the configuration that the supervisor has validated and serialised.
fn read(toml: &str) -> io::Result<Config> {
    toml::from_str(toml).map_err(io::Error::other)
}

fn open_access_log(config: &Config, name: &str) -> io::Result<Log> {
    let to = match &config.access_log.to {
        AccessLogTo::Stdout => Destination::Stdout,
        AccessLogTo::Off => Destination::Discard,
        AccessLogTo::File(path) => Destination::File(path.clone()),
    };
    let format = match config.access_log.format {
        AccessLogFormat::Combined => Format::Text,
        AccessLogFormat::Json => Format::Json,
    };
    let named = |error: io::Error| match &config.access_log.to {
        AccessLogTo::File(path) => io::Error::new(error.kind(), format!("{}: {error}", path.display())),
        AccessLogTo::Stdout | AccessLogTo::Off => error,
    };
    Log::open(name, to, format).map_err(named)
}
