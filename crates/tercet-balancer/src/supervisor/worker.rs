//! The process that serves: it gets its sockets and its configuration from the supervisor, and ends with it.

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

/// Serves as the supervisor says, which is at the other end of `channel`: the standard input this process was
/// started with. `name` is what the access log calls it.
///
/// # Errors
/// The supervisor is gone, or what it hands over cannot be used.
pub fn run(channel: OwnedFd, events: &Log, name: &str) -> io::Result<()> {
    // The channel's end says the same, but only to a process that still listens.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    allow_descriptors()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { serve(Channel::new(channel)?, events, name).await })
}

async fn serve(mut channel: Channel, events: &Log, name: &str) -> io::Result<()> {
    // These are for the supervisor; systemd sends them to all processes of a unit.
    let _for_the_supervisor =
        [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::user_defined1()]
            .map(signal);
    let (config, listening) = first_configuration(&mut channel).await?;
    let access_log = open_access_log(&config, name)?;
    let (reload_wanted, mut reloads) = mpsc::channel(1);
    let balancer = Balancer::start(config, listening, events, &access_log, reload_wanted)?;
    events
        .handle()
        .event(ProcessEvent::Started { version: env!("CARGO_PKG_VERSION"), pid: std::process::id() });
    channel.tell(&FromWorker::Ready, &[]).await?;

    let mut waiting: HashMap<u64, ReloadReply> = HashMap::new();
    let mut wishes = 0..;
    let mut bound = Vec::new();
    loop {
        tokio::select! {
            () = balancer.broken() => return Err(io::Error::other("a thread of the balancer ended")),
            Some(reply) = reloads.recv() => {
                let wish = wishes.next().unwrap_or_default();
                waiting.insert(wish, reply);
                channel.tell(&FromWorker::ReloadWanted { wish }, &[]).await?;
            }
            said = channel.hear() => match said? {
                (ToWorker::Listen { address }, sockets) => super::add_all(&mut bound, address, sockets),
                (ToWorker::Configure { toml }, _) => {
                    let bound = std::mem::take(&mut bound);
                    let applied = read(&toml).and_then(|config| balancer.reload(config, bound).map_err(io::Error::other));
                    let problem = applied.err().map(|error| error.to_string());
                    channel.tell(&FromWorker::Applied { problem }, &[]).await?;
                }
                (ToWorker::Reloaded { wishes, outcome }, _) => {
                    for reply in wishes.iter().filter_map(|wish| waiting.remove(wish)) {
                        // Whoever asked may have gone.
                        let _ = reply.send(outcome.clone());
                    }
                }
                (ToWorker::ReopenLogs, _) => access_log.reopen(),
                (ToWorker::Stop, _) => break,
            }
        }
    }
    // Joining threads must not hold up the signal handlers' runtime: nothing else runs on it any more.
    balancer.stop()
}

/// Takes as many descriptors as the system lets this process have: every connection is one, or two.
fn allow_descriptors() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(())
}

async fn first_configuration(channel: &mut Channel) -> io::Result<(Config, Vec<Listening>)> {
    let mut listening = Vec::new();
    loop {
        match channel.hear().await? {
            (ToWorker::Listen { address }, sockets) => super::add_all(&mut listening, address, sockets),
            (ToWorker::Configure { toml }, _) => return Ok((read(&toml)?, listening)),
            (ToWorker::Stop, _) => return Err(io::Error::other("stopped before it was started")),
            (ToWorker::Reloaded { .. } | ToWorker::ReopenLogs, _) => {}
        }
    }
}

/// Reads what the supervisor has read, checked and written.
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
