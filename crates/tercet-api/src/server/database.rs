//! The database monitor: connects, loads the configuration and the schema cache, listens for notifications, detects
//! an outage and its end. Requests never wait for a reload: they use the old schema cache until the new one is ready.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tercet_observe::LogHandle;
use tercet_observe::event::{ApiEvent, ProcessEvent};
use tercet_postgres::{Connection, DatabaseError, Notification, SessionAttributes, Target};
use tokio::sync::{mpsc, oneshot};

use super::probe::Probe;
use super::state::{Outage, Report, Settings, Shared};
use super::thread::Work;
use super::{Instruction, ServerError, roles};
use crate::config::database::{options, role_settings};
use crate::config::{Config, ConfigSource};
use crate::schema::{LoadError, SchemaCache};

/// The wait after the first failed connection; it doubles with each further failure.
const INITIAL_BACKOFF: Duration = Duration::from_millis(250);
/// The timeout such wait.
const MAX_BACKOFF: Duration = Duration::from_secs(32);
/// Reload requests within this time are handled by one reload.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// The interval at which the monitoring connection is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// After this time without an answer the database is probed; after as long again the connection counts as dead.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// The timeout of a catalogue query.
const QUERY_TIMEOUT: Duration = Duration::from_secs(60);
/// The wait before LISTEN is tried again on a standby; it doubles up to [`MAX_LISTEN_BACKOFF`].
const INITIAL_LISTEN_BACKOFF: Duration = Duration::from_secs(1);
/// The timeout such wait.
const MAX_LISTEN_BACKOFF: Duration = Duration::from_secs(5);

/// The minimum time between reloads caused by an outdated schema cache; it doubles with each such reload that follows
/// at once, up to [`MAX_RELOAD_BACKOFF`].
const RELOAD_BACKOFF: Duration = Duration::from_secs(2);
/// The timeout such time.
const MAX_RELOAD_BACKOFF: Duration = Duration::from_secs(300);

/// Keeps the schema cache and the configuration up to date with the database.
pub(super) struct DatabaseMonitor<'a> {
    pub(super) shared: &'a Shared,
    pub(super) source: &'a ConfigSource,
    pub(super) log: &'a LogHandle,
    /// Sends a message to every worker thread.
    pub(super) broadcast: &'a dyn Fn(fn() -> Work),
    /// Probes the database on the monitoring connection.
    pub(super) probe: Probe,
    /// Whether [`ApiEvent::NotListening`] was logged.
    pub(super) logged_not_listening: Cell<bool>,
    /// The last logged reason why requests cannot assume the anonymous role.
    pub(super) logged_role: RefCell<Option<String>>,
}

/// The messages to the monitor.
pub(super) struct Inbox {
    pub(super) instructions: mpsc::UnboundedReceiver<Instruction>,
    /// Reports from the worker threads.
    pub(super) reports: mpsc::UnboundedReceiver<Report>,
    /// Limits how often an outdated schema cache causes a reload.
    pub(super) backoff: ReloadBackoff,
    /// Requests that wait for a reload.
    pub(super) waiting: Vec<oneshot::Sender<()>>,
}

/// Rate limit: requests that do not match the schema cache must not cause reload after reload.
#[derive(Default)]
pub(super) struct ReloadBackoff {
    /// The end of the current backoff and its length.
    until: Option<(Instant, Duration)>,
}

impl ReloadBackoff {
    /// Whether a reload is allowed now; if so, starts the next backoff.
    fn allows(&mut self, now: Instant) -> bool {
        let pause = match self.until {
            Some((until, _)) if now < until => return false,
            // Shortly after the last backoff: double it.
            Some((until, pause)) if now < until + pause => (pause * 2).min(MAX_RELOAD_BACKOFF),
            _ => RELOAD_BACKOFF,
        };
        self.until = Some((now + pause, pause));
        true
    }
}

/// What the monitor has to do next.
enum Event {
    Reload { config: bool },
    Unreachable(String),
    Stop(&'static str),
    Nothing,
}

/// The monitoring connection: receives notifications and serves the probe.
struct MonitorConnection {
    connection: Rc<Connection>,
    listening: Listening,
    /// Where the connection listens: its notifications.
    notifications: Option<mpsc::UnboundedReceiver<Notification>>,
}

/// The state of LISTEN.
enum Listening {
    /// Listening, or `db-channel-enabled` is off.
    Settled,
    /// A standby cannot listen; LISTEN is tried again at `at`, since the standby may be promoted. `wait` is the next
    /// backoff.
    Retry { at: Instant, wait: Duration },
}

impl DatabaseMonitor<'_> {
    /// Runs until an instruction to stop; returns its reason.
    ///
    /// # Errors
    /// PostgreSQL rejects the connection, or it is lost and recovery is off.
    pub(super) async fn run(self, mut inbox: Inbox) -> Result<&'static str, ServerError> {
        let mut wait = INITIAL_BACKOFF;
        let mut reload_config = true;
        // Kept until the next one is ready: it serves the probe and receives notifications.
        let mut watch = None;
        let mut reconnected = false;
        loop {
            let missed = Cell::new(None);
            inbox.drain_reports();
            // Requests that start waiting during this reload wait for the next one.
            let waiting = std::mem::take(&mut inbox.waiting);
            let loaded = tokio::select! {
                loaded = self.connect_and_load(reload_config) => loaded,
                reason = stopped(&mut inbox.instructions, &missed) => return Ok(reason),
            };
            reload_config |= missed.get() == Some(true);
            let outcome = match loaded {
                Ok(new) => {
                    (wait, reconnected) = (INITIAL_BACKOFF, false);
                    self.shared.outage.store(None);
                    for request in waiting {
                        _ = request.send(());
                    }
                    // Reports from before the reload are settled by it.
                    inbox.drain_reports();
                    let watch = watch.insert(new);
                    match missed.take() {
                        Some(config) => Event::Reload { config },
                        None if !inbox.waiting.is_empty() => Event::Reload { config: false },
                        None => self.idle(&mut inbox, watch).await,
                    }
                }
                // Closed by the server (an administrator, a timeout): reconnect once before it counts as an outage.
                Err(error) if error.is_lost() && self.is_serving() && !reconnected && self.recovers() => {
                    reconnected = true;
                    continue;
                }
                // All connection slots are taken: worker threads go on with theirs.
                Err(DatabaseError::Connect(error)) if error.is_full() && self.is_serving() => {
                    let reason = error.to_string();
                    let retry_seconds = wait.as_secs_f64();
                    self.log.event(ApiEvent::DatabaseLost { reason: &reason, retry_seconds });
                    pause(&mut inbox, &mut wait).await
                }
                Err(error) if !self.recovers() => {
                    return Err(match self.shared.settings.load().cache {
                        Some(_) => ServerError::ConnectionLost(error.to_string()),
                        None => ServerError::Refused(error),
                    });
                }
                Err(error) => {
                    self.fail_if_permanent(&error)?;
                    watch = None;
                    self.outage(&error, wait);
                    pause(&mut inbox, &mut wait).await
                }
            };
            match outcome {
                Event::Stop(reason) => return Ok(reason),
                Event::Reload { config } => reload_config = config,
                Event::Unreachable(reason) => {
                    if !self.recovers() {
                        return Err(ServerError::ConnectionLost(reason));
                    }
                    reload_config = true;
                }
                Event::Nothing => {}
            }
        }
    }

    /// Whether a schema cache is loaded and there is no outage.
    fn is_serving(&self) -> bool {
        self.shared.settings.load().cache.is_some() && self.shared.outage.load().is_none()
    }

    /// Whether the server waits for a lost database; otherwise it ends, and its supervisor restarts it.
    fn recovers(&self) -> bool {
        self.shared.settings.load().config.db_pool_automatic_recovery
    }

    /// Connects, loads the configuration and the schema cache, and listens for changes.
    async fn connect_and_load(&self, reload_config: bool) -> Result<MonitorConnection, DatabaseError> {
        let before = self.shared.settings.load_full();
        let (connection, writable) = connect(&before.config.db_uri).await?;
        let connection = Rc::new(connection);
        let loaded = self.load(&before, &connection, writable, reload_config);
        let watch = tokio::select! {
            loaded = loaded => loaded?,
            () = stalled(&connection, QUERY_TIMEOUT) => {
                self.shared.metrics.loaded(None);
                return Err(DatabaseError::Stalled(QUERY_TIMEOUT));
            }
        };
        self.probe.use_connection(&connection);
        Ok(watch)
    }

    async fn load(
        &self,
        before: &Settings,
        connection: &Rc<Connection>,
        writable: bool,
        reload_config: bool,
    ) -> Result<MonitorConnection, DatabaseError> {
        let (address, version) = (connection.address(), connection.version().to_owned());
        if before.cache.is_none() || self.shared.outage.load().is_some() {
            self.log.event(ApiEvent::DatabaseConnected { address: &address, version: &version });
        }
        let config = if reload_config { self.config(connection, &before.config).await? } else { None };
        let config = config.unwrap_or_else(|| Arc::clone(&before.config));
        // LISTEN comes before the schema is read, so that no later change is missed.
        let (notifications, listening) = if !config.db_channel_enabled {
            (None, Listening::Settled)
        } else if writable {
            listen(connection, &config).await?
        } else {
            (None, retry_listen(INITIAL_LISTEN_BACKOFF))
        };
        if let Listening::Retry { .. } = listening
            && !self.logged_not_listening.replace(true)
        {
            self.log.event(ApiEvent::NotListening { address: &address });
        }
        let started = Instant::now();
        let cache = match SchemaCache::load(connection, &config.db_schemas).await {
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
                // Go on with the previous schema cache.
                before.cache.clone()
            }
        };
        self.shared.settings.store(Arc::new(Settings::new(config, cache)));
        self.shared.replaced.notify_waiters();
        (self.broadcast)(|| Work::SchemaChanged);
        Ok(MonitorConnection { connection: Rc::clone(connection), listening, notifications })
    }

    /// Reads the configuration from file, environment and database; `None` if it is invalid.
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
        config.session_statement_timeout =
            session_statement_timeout(connection).await?.unwrap_or(*config.db_statement_timeout);
        self.check_roles(connection, &config).await?;
        // Listeners, pools and threads keep the settings of the start.
        config.db_uri = Arc::clone(&before.db_uri);
        Ok(Some(Arc::new(config)))
    }

    fn refused(&self, source: &str, reason: &str) {
        self.log.event(ProcessEvent::ConfigurationRefused { source, reason });
    }

    /// Logs, once per reason, that requests cannot assume the anonymous role.
    async fn check_roles(&self, connection: &Connection, config: &Config) -> Result<(), DatabaseError> {
        let Some(role) = &config.db_anon_role else { return Ok(()) };
        let refused = roles::refused(connection, role).await?;
        if let Some(reason) = &refused
            && self.logged_role.borrow().as_ref() != Some(reason)
        {
            self.log.event(ApiEvent::RoleRefused { reason });
        }
        *self.logged_role.borrow_mut() = refused;
        Ok(())
    }

    /// Waits for the next event.
    async fn idle(&self, inbox: &mut Inbox, watch: &mut MonitorConnection) -> Event {
        let mut ticks =
            tokio::time::interval_at(tokio::time::Instant::now() + CHECK_INTERVAL, CHECK_INTERVAL);
        loop {
            let event = tokio::select! {
                instruction = inbox.instructions.recv() => of_instruction(instruction),
                Some(report) = inbox.reports.recv() => inbox.event_of(report),
                notification = next(watch) => match notification {
                    Some(notification) => of_notification(&notification),
                    None => self.closed(),
                },
                _ = ticks.tick() => self.check_connection(watch).await,
            };
            match event {
                Event::Nothing => {}
                Event::Reload { config } => return debounce(inbox, watch, config).await,
                other => return other,
            }
        }
    }

    /// The monitoring connection was closed. The database may still be up, so reconnect without declaring an outage.
    fn closed(&self) -> Event {
        if self.recovers() {
            Event::Reload { config: true }
        } else {
            Event::Unreachable("the connection that listens for changes is closed".to_owned())
        }
    }

    /// Probes an idle connection, detects a dead one, and tries LISTEN again on a standby.
    async fn check_connection(&self, watch: &mut MonitorConnection) -> Event {
        if watch.connection.is_closed() {
            return self.closed();
        }
        if self.probe.waiting() >= KEEPALIVE {
            let silence = self.probe.silence().as_secs_f64();
            return Event::Unreachable(format!("the database has not answered for {silence:.0} s"));
        }
        if self.probe.silence() >= KEEPALIVE {
            self.probe.send();
        }
        if let Listening::Retry { at, wait } = watch.listening
            && at <= Instant::now()
            && self.probe.waiting().is_zero()
        {
            watch.listening = retry_listen((wait * 2).min(MAX_LISTEN_BACKOFF));
            if self.can_listen(watch).await {
                self.logged_not_listening.set(false);
                return Event::Reload { config: true };
            }
        }
        Event::Nothing
    }

    /// Whether a server that accepts LISTEN is available now. A reload makes up for missed notifications.
    async fn can_listen(&self, watch: &MonitorConnection) -> bool {
        let target = Arc::clone(&self.shared.settings.load().config.db_uri);
        if target.hosts.len() < 2 {
            let recovers = "select pg_is_in_recovery()".into();
            let answered = tokio::time::timeout(KEEPALIVE, watch.connection.query(&recovers)).await;
            return answered.is_ok_and(|rows| {
                rows.is_ok_and(|rows| rows.first().and_then(|row| row.text(0)) == Some("f"))
            });
        }
        Connection::connect(&writable(&target), false).await.is_ok()
    }

    fn outage(&self, error: &DatabaseError, wait: Duration) {
        let reason = error.to_string();
        self.log.event(ApiEvent::DatabaseLost { reason: &reason, retry_seconds: wait.as_secs_f64() });
        let outage = Outage { reason, retry: Instant::now() + wait };
        self.shared.outage.store(Some(Arc::new(outage)));
        self.shared.replaced.notify_waiters();
        (self.broadcast)(|| Work::Outage);
    }

    /// Ends the server if PostgreSQL rejects the very first connection: waiting would not help.
    fn fail_if_permanent(&self, error: &DatabaseError) -> Result<(), ServerError> {
        let never_loaded = self.shared.settings.load().cache.is_none();
        let permanent = matches!(error, DatabaseError::Connect(error) if error.is_refusal());
        if never_loaded && permanent { Err(ServerError::Refused(error.copy())) } else { Ok(()) }
    }
}

impl Inbox {
    fn event_of(&mut self, report: Report) -> Event {
        match report {
            Report::Unreachable(reason) => Event::Unreachable(reason),
            Report::SchemaOutdated if self.backoff.allows(Instant::now()) => Event::Reload { config: false },
            Report::SchemaOutdated => Event::Nothing,
            Report::TypesChanged(request) => {
                self.waiting.push(request);
                Event::Reload { config: false }
            }
        }
    }

    /// Drains reports that a reload settles; keeps the requests that wait for one.
    fn drain_reports(&mut self) {
        while let Ok(report) = self.reports.try_recv() {
            if let Report::TypesChanged(request) = report {
                self.waiting.push(request);
            }
        }
    }
}

/// Merges reload requests that follow closely into one.
async fn debounce(inbox: &mut Inbox, watch: &mut MonitorConnection, mut config: bool) -> Event {
    let until = tokio::time::Instant::now() + DEBOUNCE;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(until) => return Event::Reload { config },
            instruction = inbox.instructions.recv() => match of_instruction(instruction) {
                Event::Reload { config: more } => config |= more,
                Event::Nothing => {}
                other => return other,
            },
            notification = next(watch) => match notification {
                Some(notification) => {
                    if let Event::Reload { config: more } = of_notification(&notification) {
                        config |= more;
                    }
                }
                None => return Event::Reload { config: true },
            },
        }
    }
}

/// Waits before the next attempt and doubles the wait.
async fn pause(inbox: &mut Inbox, wait: &mut Duration) -> Event {
    let pause = std::mem::replace(wait, (*wait * 2).min(MAX_BACKOFF));
    let missed = Cell::new(None);
    tokio::select! {
        () = tokio::time::sleep(pause) => {
            missed.take().map_or(Event::Nothing, |config| Event::Reload { config })
        }
        reason = stopped(&mut inbox.instructions, &missed) => Event::Stop(reason),
    }
}

/// Waits for an instruction to stop; returns its reason. A reload instruction in the meantime may be too late for the
/// load in progress: it is recorded in `missed`, with whether it includes the configuration.
async fn stopped(
    instructions: &mut mpsc::UnboundedReceiver<Instruction>,
    missed: &Cell<Option<bool>>,
) -> &'static str {
    loop {
        match of_instruction(instructions.recv().await) {
            Event::Stop(reason) => return reason,
            Event::Reload { config } => missed.set(Some(config || missed.get() == Some(true))),
            Event::Unreachable(_) | Event::Nothing => {}
        }
    }
}

/// Connects, preferably to a server that accepts LISTEN; the second value is whether it is one.
async fn connect(target: &Arc<Target>) -> Result<(Connection, bool), DatabaseError> {
    let wanted = writable(target);
    match Connection::connect(&wanted, true).await {
        Ok(connection) => Ok((connection, true)),
        Err(error) if wanted == *target => Err(error.into()),
        // Until then a server that requests may use is enough.
        Err(_) => Ok((Connection::connect(target, true).await?, false)),
    }
}

/// Sends LISTEN; a server that rejects it is tried again later.
async fn listen(
    connection: &Connection,
    config: &Config,
) -> Result<(Option<mpsc::UnboundedReceiver<Notification>>, Listening), DatabaseError> {
    match connection.listen(&config.db_channel).await {
        Ok(notifications) => Ok((Some(notifications), Listening::Settled)),
        Err(error @ DatabaseError::Server(_)) if !error.is_fatal() => {
            Ok((None, retry_listen(INITIAL_LISTEN_BACKOFF)))
        }
        Err(error) => Err(error),
    }
}

fn retry_listen(wait: Duration) -> Listening {
    Listening::Retry { at: Instant::now() + wait, wait }
}

/// Completes when a query has been in flight for `limit` without an answer.
async fn stalled(connection: &Connection, limit: Duration) {
    let mut heard = (connection.heard(), Instant::now());
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        if connection.in_flight() == 0 || connection.heard() != heard.0 {
            heard = (connection.heard(), Instant::now());
        } else if heard.1.elapsed() >= limit {
            return;
        }
    }
}

/// The `statement_timeout` of the login role's sessions; `None` if there is none.
async fn session_statement_timeout(connection: &Connection) -> Result<Option<Duration>, DatabaseError> {
    let sql = "select setting from pg_catalog.pg_settings where name = 'statement_timeout'";
    let rows = connection.query(&sql.into()).await?;
    let milliseconds = rows.first().and_then(|row| row.text(0)).and_then(|text| text.parse().ok());
    Ok(milliseconds.filter(|milliseconds| *milliseconds > 0).map(Duration::from_millis))
}

/// The next notification; pending for ever if the connection does not listen.
async fn next(watch: &mut MonitorConnection) -> Option<Notification> {
    match &mut watch.notifications {
        Some(notifications) => notifications.recv().await,
        None => std::future::pending().await,
    }
}

fn of_instruction(instruction: Option<Instruction>) -> Event {
    match instruction {
        Some(Instruction::ReloadSchema) => Event::Reload { config: false },
        Some(Instruction::ReloadConfig) => Event::Reload { config: true },
        Some(Instruction::Stop(reason)) => Event::Stop(reason),
        None => Event::Stop("the instruction channel is closed"),
    }
}

fn of_notification(notification: &Notification) -> Event {
    match notification.payload.as_str() {
        "reload schema" | "" => Event::Reload { config: false },
        "reload config" => Event::Reload { config: true },
        _ => Event::Nothing,
    }
}

/// The target restricted to servers that accept LISTEN, if there are several.
fn writable(target: &Arc<Target>) -> Arc<Target> {
    if target.hosts.len() < 2 {
        return Arc::clone(target);
    }
    Arc::new(Target { session_attributes: SessionAttributes::ReadWrite, ..(**target).clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reloads_for_an_outdated_schema_cache_back_off() {
        let mut backoff = ReloadBackoff::default();
        let start = Instant::now();
        let times = (0..3600).filter(|second| backoff.allows(start + Duration::from_secs(*second)));
        assert_eq!(times.take(9).collect::<Vec<_>>(), [0, 2, 6, 14, 30, 62, 126, 254, 510]);
        assert!(backoff.allows(start + Duration::from_secs(100_000)));
        assert!(
            backoff.allows(start + Duration::from_secs(100_002)),
            "the backoff is reset after a long time"
        );
    }
}
