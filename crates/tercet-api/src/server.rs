//! The HTTP server: binds the listener, starts one worker thread per core, distributes connections round-robin, runs
//! the database monitor, and stops gracefully.
//!
//! It never prints, reads the environment or handles signals; the command does that and sends an [`Instruction`].

mod admin;
mod body;
mod database;
mod head;
mod head_filter;
mod inspect;
mod linger;
mod listener;
mod methods;
mod metrics;
mod probe;
mod provided_keys;
mod respond;
mod roles;
mod state;
mod thread;
mod traces;
mod worker;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tercet_observe::event::ProcessEvent;
use tercet_observe::{Log, LogHandle, admin as observe};
use tercet_options::Mistakes;
use tercet_postgres::DatabaseError;
use tokio::sync::{Notify, mpsc};

use self::database::{DatabaseMonitor, Inbox, ReloadBackoff};
pub use self::inspect::{configuration, schema, schema_cache};
use self::listener::Listener;
use self::metrics::Metrics;
use self::probe::Probe;
use self::state::{Settings, Shared};
use self::thread::{Handle, Work};
use crate::config::{Config, ConfigSource};
use crate::pool::Options;
use crate::schema::LoadError;

/// An instruction to a running server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Reload the schema cache.
    ReloadSchema,
    /// Reload the configuration and the schema cache.
    ReloadConfig,
    /// Finish the requests in flight and stop; the reason is logged.
    Stop(&'static str),
}

/// Why a server cannot start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The configuration is invalid.
    #[error("{}", .0.lines())]
    Config(#[from] Mistakes),
    /// A listener cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// Traces cannot be sent.
    #[error("traces cannot be sent to otlp-endpoint: {0}")]
    Traces(io::Error),
    /// PostgreSQL rejected the connection.
    #[error("PostgreSQL rejected the connection: {0}\nhint: check db-uri")]
    Refused(DatabaseError),
    /// The system catalogue has an unexpected form.
    #[error("the schema cache cannot be loaded: {0}")]
    Schema(LoadError),
    /// The connection to the database is lost and `db-pool-automatic-recovery` is off.
    #[error("the connection to the database is lost and db-pool-automatic-recovery is off: {0}")]
    ConnectionLost(String),
}

/// A server that is bound but not serving yet.
#[derive(Debug)]
pub struct Server {
    source: ConfigSource,
    config: Arc<Config>,
    listeners: Vec<Listener>,
    admin: Option<Admin>,
}

/// The bound admin endpoint.
#[derive(Debug)]
struct Admin {
    server: observe::Server,
    address: String,
    socket: Option<SocketFile>,
}

/// The path of a bound Unix socket; the file is removed on drop.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // The file may be gone already.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Server {
    /// Reads and validates the configuration, then binds the listeners.
    ///
    /// # Errors
    /// The configuration is invalid, or an address cannot be bound.
    pub async fn bind(source: ConfigSource) -> Result<Self, ServerError> {
        let config = Arc::new(source.read()?);
        let listeners = Listener::bind(&config)?;
        let admin = bind_admin(&config).await?;
        Ok(Self { source, config, listeners, admin })
    }

    /// The configuration read by [`Server::bind`].
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The listener's TCP address; `None` for a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listeners.iter().find_map(Listener::tcp_address)
    }

    /// The admin endpoint's TCP address; `None` if there is none or it is a Unix socket.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|admin| admin.server.local_addr())
    }

    /// Serves until an instruction to stop, then until the requests in flight are finished. Must run on a
    /// [`tokio::task::LocalSet`].
    ///
    /// # Errors
    /// PostgreSQL rejects the connection, or it is lost and recovery is off.
    pub async fn run(
        self,
        log: &Log,
        instructions: mpsc::UnboundedReceiver<Instruction>,
    ) -> Result<(), ServerError> {
        let Self { source, config, listeners, admin } = self;
        let log_handle = log.handle();
        let threads = threads(&config);
        let (reports, received) = mpsc::unbounded_channel();
        let (wanted_keys, wanted) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            settings: ArcSwap::from_pointee(Settings::new(Arc::clone(&config), None)),
            outage: ArcSwapOption::empty(),
            replaced: Notify::new(),
            metrics: Metrics::new(config.db_pool),
            tracer: traces::tracer(&config, log.handle()).map_err(ServerError::Traces)?,
            pools: Arc::default(),
            reports,
            bodies: Arc::default(),
            provided: ArcSwapOption::empty(),
            wanted_keys,
        });
        let workers: Vec<Handle> = (0..threads)
            .map(|number| {
                let options = pool_options(&config, pool_size(config.db_pool, threads, number));
                Handle::start(number, Arc::clone(&shared), options, log).map_err(ServerError::Thread)
            })
            .collect::<Result<_, _>>()?;
        log_addresses(&log_handle, &listeners, admin.as_ref());
        for warning in &config.warnings {
            log_handle.event(ProcessEvent::ConfigurationWarning { warning });
        }
        tokio::task::spawn_local(provided_keys::keep_fresh(Arc::clone(&shared), log.handle(), wanted));
        let probe = Probe::default();
        let _socket = admin.and_then(|Admin { server, socket, .. }| {
            let (shared, probe, log) = (Arc::clone(&shared), probe.clone(), log.handle());
            tokio::task::spawn_local(server.serve(Rc::new(admin::Api { shared, probe, log })));
            socket
        });
        let broadcast = |work: fn() -> Work| workers.iter().for_each(|worker| worker.send(work()));
        let monitor = DatabaseMonitor {
            shared: &shared,
            source: &source,
            log: &log_handle,
            broadcast: &broadcast,
            probe,
            logged_not_listening: Cell::default(),
            logged_role: RefCell::default(),
        };
        let inbox =
            Inbox { instructions, reports: received, backoff: ReloadBackoff::default(), waiting: Vec::new() };
        let outcome = tokio::select! {
            outcome = monitor.run(inbox) => outcome,
            () = distribute(&listeners, &workers) => Ok("the listener is closed"),
        };
        // No new connections; those that are open are served to their end.
        drop(listeners);
        if let Ok(reason) = &outcome {
            log_handle.event(ProcessEvent::Stopping { reason });
        }
        for worker in &workers {
            worker.send(Work::Stop(*config.server_stop_timeout));
        }
        for worker in workers {
            worker.join().await;
        }
        if let Some(tracer) = &shared.tracer {
            tracer.flush();
        }
        log_handle.event(ProcessEvent::Stopped);
        outcome.map(drop)
    }
}

/// Accepts connections and distributes them round-robin over the worker threads.
async fn distribute(listeners: &[Listener], workers: &[Handle]) {
    for worker in workers.iter().cycle() {
        let incoming = loop {
            match listener::accept(listeners).await {
                Ok(incoming) => break incoming,
                // Most likely out of file descriptors: wait until some are closed.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        worker.send(Work::Serve(incoming));
    }
}

fn log_addresses(log: &LogHandle, listeners: &[Listener], admin: Option<&Admin>) {
    for listener in listeners {
        log.event(ProcessEvent::Listening { address: &listener.to_string(), purpose: "HTTP" });
    }
    if let Some(Admin { address, .. }) = admin {
        log.event(ProcessEvent::Listening { address, purpose: "admin" });
    }
}

async fn bind_admin(config: &Config) -> Result<Option<Admin>, ServerError> {
    let host = &config.admin_server_host;
    let (address, socket) = if let Some(path) = &config.admin_server_unix_socket {
        (observe::Address::Unix(path.clone(), config.admin_server_unix_socket_mode.0), Some(path))
    } else if let Some(port) = config.admin_server_port {
        let address = listener::addresses(host, port)
            .and_then(|addresses| {
                addresses.first().copied().ok_or_else(|| io::Error::other("the host has no address"))
            })
            .map_err(|source| ServerError::Bind { address: format!("{host}:{port}"), source })?;
        (observe::Address::Tcp(address), None)
    } else {
        return Ok(None);
    };
    let displayed = match &address {
        observe::Address::Tcp(address) => address.to_string(),
        observe::Address::Unix(path, _) => path.display().to_string(),
    };
    match observe::Server::bind(&address).await {
        Ok(server) => {
            let address = server.local_addr().map_or(displayed, |address| address.to_string());
            Ok(Some(Admin { server, address, socket: socket.map(|path| SocketFile(path.clone())) }))
        }
        Err(source) => Err(ServerError::Bind { address: displayed, source }),
    }
}

/// One thread per core, but no more threads than connections to PostgreSQL.
fn threads(config: &Config) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    config.server_threads.unwrap_or_else(cores).clamp(1, config.db_pool)
}

/// The size of the connection pool of thread `number`, so that all pools together have `all` connections.
fn pool_size(all: usize, threads: usize, number: usize) -> usize {
    all / threads + usize::from(number < all % threads)
}

fn pool_options(config: &Config, size: usize) -> Options {
    Options {
        target: Arc::clone(&config.db_uri),
        size,
        acquisition_timeout: *config.db_pool_acquisition_timeout,
        max_idletime: *config.db_pool_max_idletime,
        max_lifetime: *config.db_pool_max_lifetime,
        prepare: config.db_prepared_statements,
        session: statement_timeout(*config.db_statement_timeout),
    }
}

/// SQL that sets `statement_timeout` for a session unless the server or the login role has set one.
fn statement_timeout(timeout: Duration) -> String {
    if timeout.is_zero() {
        return String::new();
    }
    format!(
        "select set_config('statement_timeout', '{}', false) where current_setting('statement_timeout') = '0'",
        timeout.as_millis()
    )
}
