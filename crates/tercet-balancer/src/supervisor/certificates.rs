//! The certificates process: its side of the channel to the supervisor. It exits with the supervisor.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Signal, set_parent_process_death_signal};
use tercet_observe::Log;
use tercet_observe::event::ProcessEvent;
use tokio::runtime::LocalOptions;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;

use super::channel::{Channel, FromCertificates, ToCertificates};
use crate::certificates::{self, Notice};

/// Keeps certificates current under the control of the supervisor at the other end of `channel`, which is this process's
/// standard input.
///
/// # Errors
/// The supervisor has exited, or the folder of the certificates cannot be used.
pub fn run(channel: OwnedFd, events: &Log) -> io::Result<()> {
    // A closed channel would not end a process that has stopped reading from it.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let served = runtime.block_on(async { serve(Channel::new(channel)?, events).await });
    // The lookup of a domain cannot be cancelled, and is not waited for.
    runtime.shutdown_background();
    served
}

async fn serve(mut channel: Channel, events: &Log) -> io::Result<()> {
    // systemd sends these signals to all processes of a unit; only the supervisor acts on them.
    let _ignored =
        [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::user_defined1()]
            .map(signal);
    events
        .handle()
        .event(ProcessEvent::Started { version: env!("CARGO_PKG_VERSION"), pid: std::process::id() });
    let (notify, mut notices) = mpsc::channel(16);
    let mut waiting: HashMap<u64, oneshot::Sender<()>> = HashMap::new();
    let mut next_id = 0..;
    let mut work = None;
    loop {
        tokio::select! {
            outcome = ended(&mut work) => return outcome,
            Some(notice) = notices.recv() => match notice {
                Notice::Challenges(challenges, reply) => {
                    let id = next_id.next().unwrap_or_default();
                    waiting.retain(|_, reply| !reply.is_closed());
                    waiting.insert(id, reply);
                    channel.send(&FromCertificates::Challenges { id, challenges }, &[]).await?;
                }
                Notice::Changed => channel.send(&FromCertificates::CertificateChanged, &[]).await?,
            },
            received = channel.receive() => match received? {
                (ToCertificates::Configure { toml }, _) => {
                    let config = toml::from_str(&toml).map_err(io::Error::other)?;
                    // Its folder is unlocked before another is opened.
                    if let Some(before) = work.take() {
                        let before: tokio::task::JoinHandle<_> = before;
                        before.abort();
                        // Ends as it was aborted.
                        let _ = before.await;
                    }
                    work = Some(spawn_local(certificates::run(config, notify.clone(), events.handle())));
                }
                (ToCertificates::ChallengesSet { id }, _) => {
                    if let Some(reply) = waiting.remove(&id) {
                        // Fails if the order has ended meanwhile.
                        let _ = reply.send(());
                    }
                }
                (ToCertificates::Stop, _) => return Ok(()),
            }
        }
    }
}

/// The outcome of the work; pending while there is none.
async fn ended(work: &mut Option<tokio::task::JoinHandle<io::Result<()>>>) -> io::Result<()> {
    match work {
        Some(work) => work.await.map_err(io::Error::other)?,
        None => std::future::pending().await,
    }
}
