//! Keeps a server in step with its database: connects, loads configuration and schema, listens for changes,
//! notices an outage and its end. On no request's way: the old schema serves until the new one is there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tercet_observe::LogHandle;
use tercet_observe::event::{ApiEvent, ProcessEvent};
use tokio::sync::mpsc;

use super::state::{Outage, Settings, Shared};
use super::{Instruction, ServerError};
use crate::config::database::{options, role_settings};
use crate::config::{Config, ConfigSource};
use crate::postgres::{Connection, DatabaseError, Notification, SessionAttributes, Target};
use crate::schema::{LoadError, SchemaCache};

/// The first wait after a failed connection; each one after it is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(32);
/// Changes that come this close after each other are one.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// Whoever keeps the server in step.
pub(super) struct Keeper<'a> {
    pub(super) shared: &'a Shared,
    pub(super) source: &'a ConfigSource,
    pub(super) log: &'a LogHandle,
    /// Told when there is a new schema.
    pub(super) changed: &'a dyn Fn(),
    pub(super) instructions: mpsc::UnboundedReceiver<Instruction>,
    /// How threads lost the database.
    pub(super) losses: mpsc::UnboundedReceiver<String>,
}

/// What happened while nothing was to be done.
enum Happening {
    Reload { config: bool },
    Lost(String),
    Stop(&'static str),
    Nothing,
}

/// A connection to hear of changes on.
struct Watch {
    /// Kept open for its notifications.
    _connection: Connection,
    notifications: mpsc::UnboundedReceiver<Notification>,
}

impl Keeper<'_> {
    /// Keeps the server in step until it is told to stop; says why it was.
    ///
    /// # Errors
    /// The database refuses us for good, or recovery is switched off.
    pub(super) async fn keep(mut self) -> Result<&'static str, ServerError> {
        let mut wait = FIRST_WAIT;
        let mut reload_config = true;
        loop {
            let outcome = match self.synchronise(reload_config).await {
                Ok(watch) => {
                    wait = FIRST_WAIT;
                    self.shared.outage.store(None);
                    // What was lost before is found again.
                    while self.losses.try_recv().is_ok() {}
                    self.idle(watch).await
                }
                Err(error) => {
                    self.give_up_if_hopeless(&error)?;
                    self.outage(&error, wait);
                    let stopped = self.pause(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                    stopped
                }
            };
            match outcome {
                Happening::Stop(reason) => return Ok(reason),
                Happening::Reload { config } => reload_config = config,
                Happening::Lost(reason) => {
                    if !self.shared.settings.load().config.db_pool_automatic_recovery {
                        return Err(ServerError::Lost(reason));
                    }
                    reload_config = true;
                }
                Happening::Nothing => {}
            }
        }
    }

    /// Loads what the database says, and listens for it saying something else.
    async fn synchronise(&self, reload_config: bool) -> Result<Option<Watch>, DatabaseError> {
        let before = self.shared.settings.load_full();
        let connection = Connection::connect(&writable(&before.config.db_uri), true).await?;
        let (address, version) = (connection.address(), connection.version().to_owned());
        if before.cache.is_none() || self.shared.outage.load().is_some() {
            self.log.event(ApiEvent::DatabaseConnected { address: &address, version: &version });
        }
        let config = if reload_config { self.config(&connection, &before.config).await? } else { None };
        let config = config.unwrap_or_else(|| Arc::clone(&before.config));
        // Before the schema is read, so that no change after that goes unheard.
        let notifications = if config.db_channel_enabled {
            match connection.listen(&config.db_channel).await {
                Ok(notifications) => Some(notifications),
                // A standby cannot listen.
                Err(DatabaseError::Server(error)) => {
                    self.log.event(ApiEvent::SchemaCacheFailed { reason: &error.to_string() });
                    None
                }
                Err(error) => return Err(error),
            }
        } else {
            None
        };
        let started = Instant::now();
        let cache = match SchemaCache::load(&connection, &config.db_schemas).await {
            Ok(cache) => {
                let took = started.elapsed().as_secs_f64();
                let (relations, _, functions) = cache.counts();
                let milliseconds = took * 1e3;
                self.log.event(ApiEvent::SchemaCacheLoaded { relations, functions, milliseconds });
                self.shared.metrics.loaded(Some(took));
                Some(Arc::new(cache))
            }
            Err(error) => {
                self.log.event(ApiEvent::SchemaCacheFailed { reason: &error.to_string() });
                self.shared.metrics.loaded(None);
                if before.cache.is_none() || connection.is_closed() {
                    return Err(match error {
                        LoadError::Database(error) => error,
                        form @ LoadError::Form { .. } => DatabaseError::Protocol(form.to_string()),
                    });
                }
                // What was loaded before is better than nothing.
                before.cache.clone()
            }
        };
        self.shared.settings.store(Arc::new(Settings::new(config, cache)));
        (self.changed)();
        Ok(notifications.map(|notifications| Watch { _connection: connection, notifications }))
    }

    /// The configuration as files, environment and database have it now; `None` when it is not usable.
    async fn config(
        &self,
        connection: &Connection,
        before: &Arc<Config>,
    ) -> Result<Option<Arc<Config>>, DatabaseError> {
        let from_database = if before.db_config {
            match options(connection, before.db_pre_config.as_ref()).await {
                Ok(options) => options,
                Err(DatabaseError::Server(error)) if !connection.is_closed() => {
                    self.refused("the database", &error.to_string());
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        } else {
            BTreeMap::default()
        };
        let mut config = match self.source.read_with(&from_database) {
            Ok(config) => config,
            Err(error) => {
                self.refused("after a reload", &error.to_string());
                return Ok(None);
            }
        };
        config.role_settings = role_settings(connection).await?;
        // Sockets, pools and threads are as they were at the start.
        config.db_uri = Arc::clone(&before.db_uri);
        Ok(Some(Arc::new(config)))
    }

    fn refused(&self, source: &str, reason: &str) {
        self.log.event(ProcessEvent::ConfigurationRefused { source, reason });
    }

    /// Waits for something to do.
    async fn idle(&mut self, mut watch: Option<Watch>) -> Happening {
        loop {
            let happening = tokio::select! {
                instruction = self.instructions.recv() => of_instruction(instruction),
                Some(reason) = self.losses.recv() => Happening::Lost(reason),
                notification = next(&mut watch) => match notification {
                    Some(notification) => of_notification(&notification),
                    // The database may be well; then this connection is made anew without an outage.
                    None => Happening::Reload { config: true },
                },
            };
            match happening {
                Happening::Nothing => {}
                Happening::Reload { config } => return self.debounce(&mut watch, config).await,
                other => return other,
            }
        }
    }

    /// Takes what comes right after a change for the same change.
    async fn debounce(&mut self, watch: &mut Option<Watch>, mut config: bool) -> Happening {
        let until = tokio::time::Instant::now() + DEBOUNCE;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return Happening::Reload { config },
                instruction = self.instructions.recv() => match of_instruction(instruction) {
                    Happening::Reload { config: more } => config |= more,
                    Happening::Nothing => {}
                    other => return other,
                },
                notification = next(watch) => match notification {
                    Some(notification) => {
                        if let Happening::Reload { config: more } = of_notification(&notification) {
                            config |= more;
                        }
                    }
                    None => return Happening::Reload { config: true },
                },
            }
        }
    }

    /// Waits before the next try.
    async fn pause(&mut self, wait: Duration) -> Happening {
        let until = tokio::time::Instant::now() + wait;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return Happening::Nothing,
                instruction = self.instructions.recv() => {
                    if let stop @ Happening::Stop(_) = of_instruction(instruction) {
                        return stop;
                    }
                }
            }
        }
    }

    fn outage(&self, error: &DatabaseError, wait: Duration) {
        let reason = error.to_string();
        self.log.event(ApiEvent::DatabaseLost { reason: &reason, retry_seconds: wait.as_secs_f64() });
        let outage = Outage { reason, retry: Instant::now() + wait };
        self.shared.outage.store(Some(Arc::new(outage)));
    }

    /// A database that has never let us in and says why never will by itself.
    fn give_up_if_hopeless(&self, error: &DatabaseError) -> Result<(), ServerError> {
        let never_loaded = self.shared.settings.load().cache.is_none();
        let hopeless = matches!(error.code(), Some("28P01" | "28000" | "3D000")) || {
            // Recovery that is switched off is switched off from the start.
            !self.shared.settings.load().config.db_pool_automatic_recovery
        };
        if never_loaded && hopeless { Err(ServerError::Refused(error.copy())) } else { Ok(()) }
    }
}

/// The next notification; never one where nobody listens.
async fn next(watch: &mut Option<Watch>) -> Option<Notification> {
    match watch {
        Some(watch) => watch.notifications.recv().await,
        None => std::future::pending().await,
    }
}

fn of_instruction(instruction: Option<Instruction>) -> Happening {
    match instruction {
        Some(Instruction::ReloadSchema) => Happening::Reload { config: false },
        Some(Instruction::ReloadConfig) => Happening::Reload { config: true },
        Some(Instruction::Stop(reason)) => Happening::Stop(reason),
        None => Happening::Stop("nobody is there to give instructions"),
    }
}

fn of_notification(notification: &Notification) -> Happening {
    match notification.payload.as_str() {
        "reload schema" | "" => Happening::Reload { config: false },
        "reload config" => Happening::Reload { config: true },
        _ => Happening::Nothing,
    }
}

/// Of several servers the one that can be listened to.
fn writable(target: &Arc<Target>) -> Arc<Target> {
    if target.hosts.len() < 2 {
        return Arc::clone(target);
    }
    Arc::new(Target { session_attributes: SessionAttributes::ReadWrite, ..(**target).clone() })
}
