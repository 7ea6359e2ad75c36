//! Tier 3 on this machine: a private PostgreSQL, or the one that `database.url` names.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;
use tercet_database::cluster::{self, Cluster, Place};
use tercet_database::installation::{self, Search};
use tercet_database::roles::{self, Passwords};
use tercet_database::{Account, Installation, Password};
use tercet_postgres::{Host, Target};

use super::PrivateFolder;
use super::progress::Progress;
use crate::backups::{Backups, replacement};
use crate::output::Output;
use crate::project::Project;
use crate::supervisor::{Launch, OnParentDeath, Part};

/// Root's folder of clusters, which PostgreSQL's account must be able to access.
const SHARED_DATA: &str = "/var/lib/tercet";
/// Root's folder of downloaded programs, for the same reason.
const SHARED_CACHE: &str = "/var/cache/tercet";

/// The private PostgreSQL.
pub(super) struct Database {
    pub(super) name: String,
    pub(super) cluster: Rc<Cluster>,
    pub(super) installation: Installation,
    /// The project's backups, whose archive the WAL goes to.
    pub(super) backups: Backups,
}

impl Database {
    /// Opens or creates the project's cluster, and finds or downloads PostgreSQL's programs.
    pub(super) async fn prepare(
        project: &Project,
        private: &PrivateFolder,
        port: u16,
        output: &Output,
    ) -> anyhow::Result<Self> {
        let name = project.topology.name();
        let (place, account) = place(name, private.folder())?;
        if let Some(message) = replacement::finish(place.folder())? {
            output.block(&format!("  {message}\n"));
        }
        let cluster = Cluster::open(place, account.clone(), port)?;
        let search = search(&account)?;
        let installation = if let Some(installation) = cluster.installation(&search)? {
            installation
        } else {
            let mut progress = Progress::new(output);
            installation::fetch(&search, cluster.major(), &mut |step| progress.show(step)).await?
        };
        if cluster.major().is_none() {
            let progress = Progress::new(output);
            progress.step("creating the database cluster");
            cluster.initialise(&installation).await?;
        }
        let backups = Backups::of(private.folder());
        Ok(Self { name: name.to_owned(), cluster: Rc::new(cluster), installation, backups })
    }
}

/// The folder of the project's cluster, and the account that PostgreSQL runs as.
pub(crate) fn place(name: &str, private: &Path) -> anyhow::Result<(Place, Account)> {
    let account = Account::for_postgresql()?;
    Ok((Place::of(private, SHARED_DATA.as_ref(), name, &account)?, account))
}

/// Where to search for PostgreSQL's programs.
pub(crate) fn search(account: &Account) -> anyhow::Result<Search> {
    Ok(Search::system(std::env::var_os("PATH").as_ref(), cache(account)?))
}

/// The generated passwords of the project.
pub(super) fn passwords(private: &PrivateFolder) -> anyhow::Result<Passwords> {
    let kept = |name: &str| {
        let path = private.secret(name);
        Password::kept_in(&path).with_context(|| path.display().to_string())
    };
    Ok(Passwords { owner: kept("owner")?, authenticator: kept("authenticator")? })
}

/// The connection URL of `authenticator` over TCP, which every driver supports.
fn url(password: &Password, cluster: &Cluster, name: &str) -> String {
    let server = address(cluster).to_string();
    tercet_postgres::uri(roles::AUTHENTICATOR, Some(password.reveal()), &server, name, &[])
}

/// The data API's connection URL over the Unix socket, which is faster than TCP. Beside programs, whose sessions begin with a request
/// role, it asks for sessions without one: the options of a connection precede the settings of its role.
fn socket_url(password: &Password, cluster: &Cluster, name: &str, beside_programs: bool) -> String {
    let (folder, port) = (cluster.socket_folder().as_os_str().as_bytes(), cluster.port().to_string());
    let mut parameters: Vec<(&str, &[u8])> = vec![("host", folder), ("port", port.as_bytes())];
    if beside_programs {
        parameters.push(("options", b"-c role=none"));
    }
    tercet_postgres::uri(roles::AUTHENTICATOR, Some(password.reveal()), "", name, &parameters)
}

/// The URLs that application servers connect to the database with.
#[derive(Clone)]
pub(super) struct Urls {
    /// That of the data API.
    pub(super) data_api: String,
    /// That of programs, as DATABASE_URL.
    pub(super) programs: String,
}

impl Urls {
    /// Those of the private database.
    pub(super) fn of(password: &Password, cluster: &Cluster, name: &str, has_programs: bool) -> Self {
        Self {
            data_api: socket_url(password, cluster, name, has_programs),
            programs: url(password, cluster, name),
        }
    }

    /// The same URL for all.
    pub(super) fn all(url: &str) -> Self {
        Self { data_api: url.to_owned(), programs: url.to_owned() }
    }
}

/// The connection URL of the owner over TCP, for a migrating program.
pub(crate) fn owner_url(password: &Password, port: u16, name: &str) -> String {
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string();
    tercet_postgres::uri(&roles::owner(name), Some(password.reveal()), &server, name, &[])
}

/// How the owner connects, who migrates.
pub(super) fn owner(password: &Password, cluster: &Cluster, name: &str) -> Target {
    let target = Target::new(Host::tcp(address(cluster)), name, roles::owner(name));
    Target { password: Some(password.reveal().to_owned()), ..target }
}

fn address(cluster: &Cluster) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, cluster.port()).into()
}

/// The folder of downloaded programs; see the XDG base directory specification.
fn cache(account: &Account) -> anyhow::Result<PathBuf> {
    if account.is_another() {
        return Ok(SHARED_CACHE.into());
    }
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = named.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    Ok(cache.context("neither XDG_CACHE_HOME nor HOME is set")?.join("tercet"))
}

impl Part for Database {
    fn name(&self) -> &'static str {
        super::DATABASE
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.cluster.port())
    }

    async fn launch(&mut self) -> anyhow::Result<Launch> {
        self.cluster.recover().await?;
        let program = self.cluster.program(
            &self.installation,
            &self.name,
            &self.backups.archive_command(&self.cluster, &self.installation)?,
        )?;
        let account = &program.account;
        Ok(Launch {
            account: account.is_another().then_some((account.uid, account.gid)),
            low_ports: false,
            program: std::iter::once(OsString::from(program.path)).chain(program.arguments).collect(),
            environment: program.environment,
            inherits: false,
            folder: program.folder,
            // SIGQUIT is an immediate shutdown: it ends PostgreSQL's processes, and the next start recovers.
            on_parent_death: OnParentDeath::Quit,
            logs_json: false,
        })
    }

    async fn ready(&self, pid: u32) {
        self.cluster.ready(pid).await;
    }

    /// The reason is PostgreSQL's FATAL line, and not the last one, "database system is shut down".
    fn last_words(&self, lines: &[String]) -> Option<String> {
        let is_fatal = |line: &&String| line.starts_with("FATAL:") || line.starts_with("PANIC:");
        let at = lines.iter().position(|line| is_fatal(&line));
        let Some(at) = at else { return lines.last().cloned() };
        let more = lines[at + 1..]
            .iter()
            .take_while(|line| line.starts_with("DETAIL:") || line.starts_with("HINT:"));
        Some(std::iter::once(&lines[at]).chain(more).map(String::as_str).collect::<Vec<_>>().join("; "))
    }

    /// Recovery after a crash reads everything written since the last checkpoint.
    fn start_timeout(&self) -> Duration {
        Duration::from_secs(300)
    }

    fn stop(&self) -> Vec<(Signal, Duration)> {
        cluster::STOP.into()
    }
}
