//! The server: binds, starts a thread per core, deals connections out to them in turn, keeps in step with
//! the database, and stops without losing a request.
//!
//! It never prints, reads the environment or handles signals: the command does, and gives instructions.

mod admin;
mod body;
mod database;
mod head;
mod inspect;
mod linger;
mod listener;
mod methods;
mod metrics;
mod probe;
mod respond;
mod roles;
mod state;
mod thread;
mod vetted;
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
use tercet_postgres::DatabaseError;
use tokio::sync::{Notify, mpsc};

use self::database::{Calm, Inbox, SchemaTask};
pub use self::inspect::{configuration, schema_cache};
use self::listener::Listener;
use self::metrics::Metrics;
use self::probe::Probe;
use self::state::{Settings, Shared};
use self::thread::{Handle, Work};
use crate::config::{Config, ConfigError, ConfigSource};
use crate::pool::Options;
use crate::schema::LoadError;

/// What a running server is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Load the schema anew.
    ReloadSchema,
    /// Read the configuration, and load the schema, anew.
    ReloadConfig,
    /// Finish what is in flight and end; why is for the log.
    Stop(&'static str),
}

/// Why a server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Which.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The database does not let us in.
    #[error("the database refuses us: {0}\nhint: check db-uri")]
    Refused(DatabaseError),
    /// The catalogue cannot be understood.
    #[error("the schema cannot be loaded: {0}")]
    Schema(LoadError),
    /// The database is gone and `db-pool-automatic-recovery` is off.
    #[error("the database is lost and db-pool-automatic-recovery is off: {0}")]
    Lost(String),
}

/// A server that is bound and does not serve yet.
#[derive(Debug)]
pub struct Server {
    source: ConfigSource,
    config: Arc<Config>,
    listener: Listener,
    admin: Option<Admin>,
}

/// The bound admin endpoint.
#[derive(Debug)]
struct Admin {
    server: observe::Server,
    address: String,
    socket: Option<SocketFile>,
}

/// A Unix socket's place in the file system, removed at the end.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody else may have taken it away already.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Server {
    /// Reads the configuration whole, then binds what it says.
    ///
    /// # Errors
    /// The configuration cannot be used, or an address is taken.
    pub async fn bind(source: ConfigSource) -> Result<Self, ServerError> {
        let config = Arc::new(source.read()?);
        let listener = Listener::bind(&config)?;
        let admin = bind_admin(&config).await?;
        Ok(Self { source, config, listener, admin })
    }

    /// The configuration it was bound by.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The TCP address it listens on, unless it is a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.tcp_address()
    }

    /// The TCP address of the admin endpoint, when there is one.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|admin| admin.server.local_addr())
    }

    /// Serves until it is told to stop, and then until what is in flight is finished. Must be called on a
    /// [`tokio::task::LocalSet`].
    ///
    /// # Errors
    /// The database refuses us for good.
    pub async fn run(
        self,
        log: &Log,
        instructions: mpsc::UnboundedReceiver<Instruction>,
    ) -> Result<(), ServerError> {
        let Self { source, config, listener, admin } = self;
        let say = log.handle();
        let threads = threads(&config);
        let (findings, found) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            settings: ArcSwap::from_pointee(Settings::new(Arc::clone(&config), None)),
            outage: ArcSwapOption::empty(),
            replaced: Notify::new(),
            metrics: Metrics::new(config.db_pool),
            pools: Arc::default(),
            findings,
            bodies: Arc::default(),
        });
        let workers: Vec<Handle> = (0..threads)
            .map(|number| {
                let options = pool_options(&config, share(config.db_pool, threads, number));
                Handle::start(number, Arc::clone(&shared), options, log).map_err(ServerError::Thread)
            })
            .collect::<Result<_, _>>()?;
        announce(&say, &listener, admin.as_ref());
        for warning in &config.warnings {
            say.event(ProcessEvent::ConfigurationWarning { warning });
        }
        let probe = Probe::default();
        let _socket = admin.and_then(|Admin { server, socket, .. }| {
            let shared = Arc::clone(&shared);
            tokio::task::spawn_local(server.serve(Rc::new(admin::Api { shared, probe: probe.clone() })));
            socket
        });
        let tell_all = |work: fn() -> Work| workers.iter().for_each(|worker| worker.tell(work()));
        let keeper = SchemaTask {
            shared: &shared,
            source: &source,
            log: &say,
            tell_all: &tell_all,
            probe,
            was_deaf: Cell::default(),
            refused_role: RefCell::default(),
        };
        let inbox = Inbox { instructions, found, calm: Calm::default(), waiting: Vec::new() };
        let kept = tokio::select! {
            kept = keeper.keep(inbox) => kept,
            () = deal(&listener, &workers) => Ok("nothing to listen on"),
        };
        // Nobody new gets in; whoever is in is served.
        drop(listener);
        if let Ok(reason) = &kept {
            say.event(ProcessEvent::Stopping { reason });
        }
        for worker in &workers {
            worker.tell(Work::Stop(config.server_stop_timeout));
        }
        for worker in workers {
            worker.ended().await;
        }
        say.event(ProcessEvent::Stopped);
        kept.map(drop)
    }
}

/// Accepts connections and deals them out in turn, so that every thread has as many as the others.
async fn deal(listener: &Listener, workers: &[Handle]) {
    for worker in workers.iter().cycle() {
        let incoming = loop {
            match listener.accept().await {
                Ok(incoming) => break incoming,
                // Out of descriptors, most likely: let some be closed before accepting again.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        worker.tell(Work::Serve(incoming));
    }
}

fn announce(log: &LogHandle, listener: &Listener, admin: Option<&Admin>) {
    log.event(ProcessEvent::Listening { address: &listener.to_string(), purpose: "HTTP" });
    if let Some(Admin { address, .. }) = admin {
        log.event(ProcessEvent::Listening { address, purpose: "admin" });
    }
}

async fn bind_admin(config: &Config) -> Result<Option<Admin>, ServerError> {
    let host = &config.admin_server_host;
    let (address, socket) = if let Some(path) = &config.admin_server_unix_socket {
        (observe::Address::Unix(path.clone(), config.admin_server_unix_socket_mode), Some(path))
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
    let shown = match &address {
        observe::Address::Tcp(address) => address.to_string(),
        observe::Address::Unix(path, _) => path.display().to_string(),
    };
    match observe::Server::bind(&address).await {
        Ok(server) => {
            let address = server.local_addr().map_or(shown, |address| address.to_string());
            Ok(Some(Admin { server, address, socket: socket.map(|path| SocketFile(path.clone())) }))
        }
        Err(source) => Err(ServerError::Bind { address: shown, source }),
    }
}

/// One thread per core, and no thread without a connection to PostgreSQL.
fn threads(config: &Config) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    config.server_threads.unwrap_or_else(cores).clamp(1, config.db_pool)
}

/// How many of `all` the thread of that number gets.
fn share(all: usize, threads: usize, number: usize) -> usize {
    all / threads + usize::from(number < all % threads)
}

fn pool_options(config: &Config, size: usize) -> Options {
    Options {
        target: Arc::clone(&config.db_uri),
        size,
        acquisition_timeout: config.db_pool_acquisition_timeout,
        max_idletime: config.db_pool_max_idletime,
        max_lifetime: config.db_pool_max_lifetime,
        prepare: config.db_prepared_statements,
        session: statement_timeout(config.db_statement_timeout),
    }
}

/// Gives a session a `statement_timeout` where nobody has set one: not the server, not the login role.
fn statement_timeout(timeout: Duration) -> String {
    if timeout.is_zero() {
        return String::new();
    }
    format!(
        "select set_config('statement_timeout', '{}', false) where current_setting('statement_timeout') = '0'",
        timeout.as_millis()
    )
}
