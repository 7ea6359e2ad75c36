//! Keeps a server in step with its database: connects, loads configuration and schema, listens for changes,
//! notices an outage and its end. On no request's way: the old schema serves until the new one is there.

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
use super::state::{Finding, Outage, Settings, Shared};
use super::thread::Work;
use super::{Instruction, ServerError, roles};
use crate::config::database::{options, role_settings};
use crate::config::{Config, ConfigSource};
use crate::schema::{LoadError, SchemaCache};

/// The first wait after a failed connection; each one after it is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(32);
/// Changes that come this close after each other are one.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// How often the connection that hears of changes is looked after.
const TICK: Duration = Duration::from_secs(1);
/// How long that connection may say nothing before it is asked something, and then before it is taken for dead.
const SILENCE: Duration = Duration::from_secs(5);
/// How long a catalogue query may take.
const LONGEST_QUERY: Duration = Duration::from_secs(60);
/// The first wait before LISTEN is tried again where the server is a standby; each one after it is twice as long, up to
/// [`LONGEST_LISTEN`].
const FIRST_LISTEN: Duration = Duration::from_secs(1);
/// The longest such wait.
const LONGEST_LISTEN: Duration = Duration::from_secs(5);

/// The least time between reloads because the schema has turned out to have changed: each that comes right after another
/// doubles it, up to [`LONGEST_CALM`].
const CALM: Duration = Duration::from_secs(2);
/// The most time between such reloads.
const LONGEST_CALM: Duration = Duration::from_secs(300);

/// Whoever keeps the server in step.
pub(super) struct SchemaTask<'a> {
    pub(super) shared: &'a Shared,
    pub(super) source: &'a ConfigSource,
    pub(super) log: &'a LogHandle,
    /// Tells every thread something.
    pub(super) tell_all: &'a dyn Fn(fn() -> Work),
    /// Asks the database on the connection that hears of changes.
    pub(super) probe: Probe,
    /// Whether it was said that changes are not heard of.
    pub(super) was_deaf: Cell<bool>,
    /// Which role requests cannot run as, as far as that was said.
    pub(super) refused_role: RefCell<Option<String>>,
}

/// What whoever keeps the server in step is told.
pub(super) struct Inbox {
    pub(super) instructions: mpsc::UnboundedReceiver<Instruction>,
    /// What threads find out about the database.
    pub(super) found: mpsc::UnboundedReceiver<Finding>,
    /// When the schema may be loaded again because it has turned out to have changed.
    pub(super) calm: Calm,
    /// Requests that wait for the schema to be loaded.
    pub(super) waiting: Vec<oneshot::Sender<()>>,
}

/// Keeps requests that do not fit the schema from having it loaded over and over.
#[derive(Default)]
pub(super) struct Calm {
    /// Until when nothing is loaded, and how long that was made.
    until: Option<(Instant, Duration)>,
}

impl Calm {
    /// Whether the schema may be loaded now; then it may not for a while.
    fn allows(&mut self, now: Instant) -> bool {
        let pause = match self.until {
            Some((until, _)) if now < until => return false,
            // Again as soon as it was allowed, or nearly.
            Some((until, pause)) if now < until + pause => (pause * 2).min(LONGEST_CALM),
            _ => CALM,
        };
        self.until = Some((now + pause, pause));
        true
    }
}

/// What happened while nothing was to be done.
enum Event {
    Reload { config: bool },
    Lost(String),
    Stop(&'static str),
    Nothing,
}

/// A connection to hear of changes on, and to ask whether the database is there.
struct Watch {
    connection: Rc<Connection>,
    listening: Listening,
    /// What it hears, where it listens.
    notifications: Option<mpsc::UnboundedReceiver<Notification>>,
}

/// Whether changes are heard of.
enum Listening {
    /// They are, or nobody wants to.
    Settled,
    /// A standby cannot listen. It is asked again, because it may be promoted: when, and the wait after that.
    Again { at: Instant, wait: Duration },
}

impl SchemaTask<'_> {
    /// Keeps the server in step until it is told to stop; says why it was.
    ///
    /// # Errors
    /// The database refuses us for good, or recovery is switched off.
    pub(super) async fn keep(self, mut inbox: Inbox) -> Result<&'static str, ServerError> {
        let mut wait = FIRST_WAIT;
        let mut reload_config = true;
        // Serves the probe, and hears what happens, until there is a new one.
        let mut watch = None;
        let mut tried_again = false;
        loop {
            let missed = Cell::new(None);
            inbox.gather();
            // Who comes later may have seen a change that this does not.
            let waiting = std::mem::take(&mut inbox.waiting);
            let synchronised = tokio::select! {
                synchronised = self.synchronise(reload_config) => synchronised,
                reason = stopped(&mut inbox.instructions, &missed) => return Ok(reason),
            };
            reload_config |= missed.get() == Some(true);
            let outcome = match synchronised {
                Ok(fresh) => {
                    (wait, tried_again) = (FIRST_WAIT, false);
                    self.shared.outage.store(None);
                    for request in waiting {
                        _ = request.send(());
                    }
                    // What was lost before is found again, and what was out of date is not any more.
                    inbox.gather();
                    let watch = watch.insert(fresh);
                    match missed.take() {
                        Some(config) => Event::Reload { config },
                        None if !inbox.waiting.is_empty() => Event::Reload { config: false },
                        None => self.idle(&mut inbox, watch).await,
                    }
                }
                // It was closed from the other side, by an administrator or a timeout: that is no outage yet.
                Err(error) if error.is_lost() && self.serves() && !tried_again && self.recovers() => {
                    tried_again = true;
                    continue;
                }
                // Whoever has a connection goes on.
                Err(DatabaseError::Connect(error)) if error.is_full() && self.serves() => {
                    let reason = error.to_string();
                    let retry_seconds = wait.as_secs_f64();
                    self.log.event(ApiEvent::DatabaseLost { reason: &reason, retry_seconds });
                    pause(&mut inbox, &mut wait).await
                }
                Err(error) if !self.recovers() => {
                    return Err(match self.shared.settings.load().cache {
                        Some(_) => ServerError::Lost(error.to_string()),
                        None => ServerError::Refused(error),
                    });
                }
                Err(error) => {
                    self.give_up_if_hopeless(&error)?;
                    watch = None;
                    self.outage(&error, wait);
                    pause(&mut inbox, &mut wait).await
                }
            };
            match outcome {
                Event::Stop(reason) => return Ok(reason),
                Event::Reload { config } => reload_config = config,
                Event::Lost(reason) => {
                    if !self.recovers() {
                        return Err(ServerError::Lost(reason));
                    }
                    reload_config = true;
                }
                Event::Nothing => {}
            }
        }
    }

    /// Whether there is a schema to serve by, and no outage.
    fn serves(&self) -> bool {
        self.shared.settings.load().cache.is_some() && self.shared.outage.load().is_none()
    }

    /// Whether a database that is lost is waited for; else the server ends, for somebody else to start it again.
    fn recovers(&self) -> bool {
        self.shared.settings.load().config.db_pool_automatic_recovery
    }

    /// Loads what the database says, and listens for it saying something else.
    async fn synchronise(&self, reload_config: bool) -> Result<Watch, DatabaseError> {
        let before = self.shared.settings.load_full();
        let (connection, writable) = connect(&before.config.db_uri).await?;
        let connection = Rc::new(connection);
        let loaded = self.load(&before, &connection, writable, reload_config);
        let watch = tokio::select! {
            loaded = loaded => loaded?,
            () = stalled(&connection, LONGEST_QUERY) => {
                self.shared.metrics.loaded(None);
                return Err(DatabaseError::Stalled(LONGEST_QUERY));
            }
        };
        self.probe.ask_on(&connection);
        Ok(watch)
    }

    async fn load(
        &self,
        before: &Settings,
        connection: &Rc<Connection>,
        writable: bool,
        reload_config: bool,
    ) -> Result<Watch, DatabaseError> {
        let (address, version) = (connection.address(), connection.version().to_owned());
        if before.cache.is_none() || self.shared.outage.load().is_some() {
            self.log.event(ApiEvent::DatabaseConnected { address: &address, version: &version });
        }
        let config = if reload_config { self.config(connection, &before.config).await? } else { None };
        let config = config.unwrap_or_else(|| Arc::clone(&before.config));
        // Before the schema is read, so that no change after that goes unheard.
        let (notifications, listening) = if !config.db_channel_enabled {
            (None, Listening::Settled)
        } else if writable {
            listen(connection, &config).await?
        } else {
            (None, again(FIRST_LISTEN))
        };
        if let Listening::Again { .. } = listening
            && !self.was_deaf.replace(true)
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
                // What was loaded before is better than nothing.
                before.cache.clone()
            }
        };
        self.shared.settings.store(Arc::new(Settings::new(config, cache)));
        self.shared.replaced.notify_waiters();
        (self.tell_all)(|| Work::SchemaChanged);
        Ok(Watch { connection: Rc::clone(connection), listening, notifications })
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
        config.session_statement_timeout =
            session_statement_timeout(connection).await?.unwrap_or(config.db_statement_timeout);
        self.check_roles(connection, &config).await?;
        // Sockets, pools and threads are as they were at the start.
        config.db_uri = Arc::clone(&before.db_uri);
        Ok(Some(Arc::new(config)))
    }

    fn refused(&self, source: &str, reason: &str) {
        self.log.event(ProcessEvent::ConfigurationRefused { source, reason });
    }

    /// Says, once, which role requests cannot run as.
    async fn check_roles(&self, connection: &Connection, config: &Config) -> Result<(), DatabaseError> {
        let Some(role) = &config.db_anon_role else { return Ok(()) };
        let refused = roles::refused(connection, role).await?;
        if let Some(reason) = &refused
            && self.refused_role.borrow().as_ref() != Some(reason)
        {
            self.log.event(ApiEvent::RoleRefused { reason });
        }
        *self.refused_role.borrow_mut() = refused;
        Ok(())
    }

    /// Waits for something to do.
    async fn idle(&self, inbox: &mut Inbox, watch: &mut Watch) -> Event {
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + TICK, TICK);
        loop {
            let happening = tokio::select! {
                instruction = inbox.instructions.recv() => of_instruction(instruction),
                Some(finding) = inbox.found.recv() => inbox.of_finding(finding),
                notification = next(watch) => match notification {
                    Some(notification) => of_notification(&notification),
                    None => self.closed(),
                },
                _ = ticks.tick() => self.look_after(watch).await,
            };
            match happening {
                Event::Nothing => {}
                Event::Reload { config } => return debounce(inbox, watch, config).await,
                other => return other,
            }
        }
    }

    /// The connection that hears of changes is closed. The database may be well; then it is made anew without an outage.
    fn closed(&self) -> Event {
        if self.recovers() {
            Event::Reload { config: true }
        } else {
            Event::Lost("the connection that listens for changes is closed".to_owned())
        }
    }

    /// Sees to it that a connection that is dead does not go unnoticed, and that a standby that was promoted is listened
    /// to.
    async fn look_after(&self, watch: &mut Watch) -> Event {
        if watch.connection.is_closed() {
            return self.closed();
        }
        if self.probe.waiting() >= SILENCE {
            let silence = self.probe.silence().as_secs_f64();
            return Event::Lost(format!("the database has not answered for {silence:.0} s"));
        }
        if self.probe.silence() >= SILENCE {
            self.probe.ask();
        }
        if let Listening::Again { at, wait } = watch.listening
            && at <= Instant::now()
            && self.probe.waiting().is_zero()
        {
            watch.listening = again((wait * 2).min(LONGEST_LISTEN));
            if self.may_listen(watch).await {
                self.was_deaf.set(false);
                return Event::Reload { config: true };
            }
        }
        Event::Nothing
    }

    /// Whether there is a server now that can be listened to. What is missed before it is, a reload makes up for.
    async fn may_listen(&self, watch: &Watch) -> bool {
        let target = Arc::clone(&self.shared.settings.load().config.db_uri);
        if target.hosts.len() < 2 {
            let recovers = "select pg_is_in_recovery()".into();
            let answered = tokio::time::timeout(SILENCE, watch.connection.query(&recovers)).await;
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
        (self.tell_all)(|| Work::Outage);
    }

    /// A database that has never let us in and says why never will by itself.
    fn give_up_if_hopeless(&self, error: &DatabaseError) -> Result<(), ServerError> {
        let never_loaded = self.shared.settings.load().cache.is_none();
        let hopeless = matches!(error, DatabaseError::Connect(error) if error.is_refusal());
        if never_loaded && hopeless { Err(ServerError::Refused(error.copy())) } else { Ok(()) }
    }
}

impl Inbox {
    fn of_finding(&mut self, finding: Finding) -> Event {
        match finding {
            Finding::Lost(reason) => Event::Lost(reason),
            Finding::Outdated if self.calm.allows(Instant::now()) => Event::Reload { config: false },
            Finding::Outdated => Event::Nothing,
            Finding::Retyped(request) => {
                self.waiting.push(request);
                Event::Reload { config: false }
            }
        }
    }

    /// Forgets what a load of the schema settles, and keeps who waits for one.
    fn gather(&mut self) {
        while let Ok(finding) = self.found.try_recv() {
            if let Finding::Retyped(request) = finding {
                self.waiting.push(request);
            }
        }
    }
}

/// Takes what comes right after a change for the same change.
async fn debounce(inbox: &mut Inbox, watch: &mut Watch, mut config: bool) -> Event {
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

/// Waits before the next try, and makes the wait after that longer.
async fn pause(inbox: &mut Inbox, wait: &mut Duration) -> Event {
    let pause = std::mem::replace(wait, (*wait * 2).min(LONGEST_WAIT));
    let missed = Cell::new(None);
    tokio::select! {
        () = tokio::time::sleep(pause) => {
            missed.take().map_or(Event::Nothing, |config| Event::Reload { config })
        }
        reason = stopped(&mut inbox.instructions, &missed) => Event::Stop(reason),
    }
}

/// Why the server is to stop, once it is told. A reload it is told of in the meantime may come too late for the one that
/// is under way: it is `missed`, with or without the configuration.
async fn stopped(
    instructions: &mut mpsc::UnboundedReceiver<Instruction>,
    missed: &Cell<Option<bool>>,
) -> &'static str {
    loop {
        match of_instruction(instructions.recv().await) {
            Event::Stop(reason) => return reason,
            Event::Reload { config } => missed.set(Some(config || missed.get() == Some(true))),
            Event::Lost(_) | Event::Nothing => {}
        }
    }
}

/// Connects, to a server that can be listened to if there is one; whether it is one.
async fn connect(target: &Arc<Target>) -> Result<(Connection, bool), DatabaseError> {
    let wanted = writable(target);
    match Connection::connect(&wanted, true).await {
        Ok(connection) => Ok((connection, true)),
        Err(error) if wanted == *target => Err(error.into()),
        // One that requests may go to will do meanwhile.
        Err(_) => Ok((Connection::connect(target, true).await?, false)),
    }
}

/// Listens, if the server can.
async fn listen(
    connection: &Connection,
    config: &Config,
) -> Result<(Option<mpsc::UnboundedReceiver<Notification>>, Listening), DatabaseError> {
    match connection.listen(&config.db_channel).await {
        Ok(notifications) => Ok((Some(notifications), Listening::Settled)),
        Err(error @ DatabaseError::Server(_)) if !error.is_fatal() => Ok((None, again(FIRST_LISTEN))),
        Err(error) => Err(error),
    }
}

fn again(wait: Duration) -> Listening {
    Listening::Again { at: Instant::now() + wait, wait }
}

/// Ends when something is under way on a connection and nothing has been heard on it for so long.
async fn stalled(connection: &Connection, limit: Duration) {
    let mut heard = (connection.heard(), Instant::now());
    loop {
        tokio::time::sleep(TICK).await;
        if connection.in_flight() == 0 || connection.heard() != heard.0 {
            heard = (connection.heard(), Instant::now());
        } else if heard.1.elapsed() >= limit {
            return;
        }
    }
}

/// The `statement_timeout` of the login role's sessions; `None` where nobody has set one.
async fn session_statement_timeout(connection: &Connection) -> Result<Option<Duration>, DatabaseError> {
    let sql = "select setting from pg_catalog.pg_settings where name = 'statement_timeout'";
    let rows = connection.query(&sql.into()).await?;
    let milliseconds = rows.first().and_then(|row| row.text(0)).and_then(|text| text.parse().ok());
    Ok(milliseconds.filter(|milliseconds| *milliseconds > 0).map(Duration::from_millis))
}

/// The next notification; pends for ever without a connection that listens.
async fn next(watch: &mut Watch) -> Option<Notification> {
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
        None => Event::Stop("nobody is there to give instructions"),
    }
}

fn of_notification(notification: &Notification) -> Event {
    match notification.payload.as_str() {
        "reload schema" | "" => Event::Reload { config: false },
        "reload config" => Event::Reload { config: true },
        _ => Event::Nothing,
    }
}

/// Of several servers the one that can be listened to.
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
    fn reloads_for_requests_that_do_not_fit_get_rarer() {
        let mut calm = Calm::default();
        let start = Instant::now();
        let times = (0..3600).filter(|second| calm.allows(start + Duration::from_secs(*second)));
        assert_eq!(times.take(9).collect::<Vec<_>>(), [0, 2, 6, 14, 30, 62, 126, 254, 510]);
        assert!(calm.allows(start + Duration::from_secs(100_000)));
        assert!(calm.allows(start + Duration::from_secs(100_002)), "after a long time it is as at the start");
    }
}
