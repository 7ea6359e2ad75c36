//! The supervisor's side of the certificates process: starts it while the configuration has domains, and restarts it.

use std::io;
use std::time::Duration;

use tercet_observe::LogHandle;
use tercet_observe::event::BalancerEvent;
use tokio::process::Child;
use tokio::time::Instant;

use super::channel::{Channel, FromCertificates, ToCertificates};
use super::{EXIT_TIMEOUT, Programs, Role};
use crate::challenges::Challenge;
use crate::config::{Acme, Config};

/// The first restart backoff; each exit doubles it.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// The longest restart backoff.
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// The uptime from which on the process is restarted with the first backoff again.
const MIN_UPTIME: Duration = Duration::from_secs(60);

/// The certificates process, or the time at which it is started.
pub(super) struct Issuer {
    process: Option<Process>,
    /// What it was configured with: domains, and how their certificates are obtained.
    wanted: (Vec<String>, Acme),
    toml: String,
    next_start: Instant,
    backoff: Duration,
    /// The challenges that the worker process answers; the next one has to answer them, too.
    pub(super) challenges: Option<(u64, Vec<Challenge>)>,
}

struct Process {
    child: Child,
    channel: Channel,
    started: Instant,
    /// When it is killed: it has closed its channel, or was told to stop, and has not exited.
    killed_at: Option<Instant>,
}

impl Process {
    /// Waits until it has exited, and kills it if that takes too long. Cancelled, this is repeated.
    async fn exited(&mut self) -> String {
        let killed_at = *self.killed_at.get_or_insert_with(|| Instant::now() + EXIT_TIMEOUT);
        match tokio::time::timeout_at(killed_at, self.child.wait()).await {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => {
                // Fails if it has exited meanwhile.
                let _ = self.child.kill().await;
                "killed: it closed its control channel and did not exit".to_owned()
            }
        }
    }

    async fn stop(mut self) {
        // Fails if it has died already.
        let _ = tokio::time::timeout(EXIT_TIMEOUT, self.channel.send(&ToCertificates::Stop, &[])).await;
        self.exited().await;
    }
}

impl Issuer {
    /// For this configuration.
    ///
    /// # Errors
    /// The configuration cannot be written.
    pub(super) fn new(config: &Config) -> io::Result<Self> {
        Ok(Self {
            process: None,
            wanted: (config.domains.clone(), config.acme.clone()),
            toml: toml::to_string(config).map_err(io::Error::other)?,
            next_start: Instant::now(),
            backoff: FIRST_BACKOFF,
            challenges: None,
        })
    }

    /// Applies another configuration.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) async fn configure(&mut self, config: &Config) -> io::Result<()> {
        let wanted = (config.domains.clone(), config.acme.clone());
        if wanted == self.wanted {
            return Ok(());
        }
        let process = self.process.take();
        *self = Self { process, ..Self::new(config)? };
        if self.wanted.0.is_empty() {
            self.stop().await;
        } else if let Some(process) = &mut self.process {
            let message = ToCertificates::Configure { toml: self.toml.clone() };
            // If it has died, the next receive reports it.
            let _ = process.channel.send(&message, &[]).await;
        }
        Ok(())
    }

    /// Starts the process when it is due; returns its next message. Pending while there are no domains.
    pub(super) async fn receive(&mut self, programs: &Programs, events: &LogHandle) -> FromCertificates {
        loop {
            if self.wanted.0.is_empty() {
                return std::future::pending().await;
            }
            let Some(process) = &mut self.process else {
                tokio::time::sleep_until(self.next_start).await;
                if let Err(error) = self.start(programs).await {
                    self.died(&error.to_string(), events);
                }
                continue;
            };
            if let Ok((message, _)) = process.channel.receive().await {
                if let FromCertificates::Challenges { id, challenges } = &message {
                    self.challenges = Some((*id, challenges.clone()));
                }
                return message;
            }
            let how = process.exited().await;
            if process.started.elapsed() >= MIN_UPTIME {
                self.backoff = FIRST_BACKOFF;
            }
            self.process = None;
            self.died(&how, events);
            // No order waits for the reply: the challenges are forgotten.
            self.challenges = None;
            return FromCertificates::Challenges { id: u64::MAX, challenges: Vec::new() };
        }
    }

    async fn start(&mut self, programs: &Programs) -> io::Result<()> {
        let (mut channel, other) = Channel::pair()?;
        let child = programs.spawn(Role::Certificates, other)?;
        let message = ToCertificates::Configure { toml: self.toml.clone() };
        // If it dies meanwhile, the next receive reports it.
        let _ = channel.send(&message, &[]).await;
        self.process = Some(Process { child, channel, started: Instant::now(), killed_at: None });
        Ok(())
    }

    fn died(&mut self, how: &str, events: &LogHandle) {
        self.next_start = Instant::now() + self.backoff;
        events.event(BalancerEvent::CertificatesDied { how, seconds: self.backoff.as_secs_f64() });
        self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
    }

    /// Stops the process, and kills it if it does not exit in time.
    pub(super) async fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.stop().await;
        }
    }

    /// Tells the process that its challenges are answered.
    pub(super) async fn challenges_set(&mut self, id: u64) {
        if let Some(process) = &mut self.process {
            // If it has died, the next receive reports it.
            let _ = process.channel.send(&ToCertificates::ChallengesSet { id }, &[]).await;
        }
    }
}
