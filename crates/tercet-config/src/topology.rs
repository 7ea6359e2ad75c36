//! The topology that a `tercet.toml` declares: machines, their tiers, and the parts that run on them.
//!
//! Only [`parse`](crate::parse) makes a [`Topology`], so each one is valid: there is one balancer, at least one application
//! with at least one server, one database or the URL of one, and every part is on a machine that carries its tier. The
//! module knows nothing of processes, units or firewalls, which are computed from a topology.

pub(crate) mod alerts;
mod application;
pub(crate) mod backup;
pub(crate) mod edge;
mod egress;
mod meaning;
pub(crate) mod monitor;
mod names;
mod network;
mod program;
mod rollout;
mod secret;
mod ssh_from;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use tercet_options::balancer::{APPLICATION, Acme, Route};
use tercet_options::otlp::Otlp;

use self::alerts::Alerts;
pub use self::application::{Api, Application, Environment, Server};
use self::backup::{Backup, Repository};
use self::edge::{Edge, Protocol};
pub use self::egress::{Destination, Egress};
pub use self::names::from_folder as name_of;
pub use self::program::Program;
pub use self::rollout::Rollout;
pub use self::secret::Secret;
pub use self::ssh_from::{Network, SshFrom};

/// The machines and parts of a project.
#[derive(Clone, Debug)]
pub struct Topology {
    name: String,
    machines: Vec<Machine>,
    parts: Vec<Part>,
    balancer: Balancer,
    applications: Vec<Application>,
    database: Database,
    state: State,
    backup: Option<Backup>,
    alerts: Alerts,
    own_prometheus: Option<IpAddr>,
    otlp: Option<Otlp>,
    ssh_from: SshFrom,
    system: System,
}

impl Topology {
    /// The project's name: lower case letters, digits, `_` and `-`, at most 40.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The machines, in the order of the file; only this machine if the file names none.
    pub fn machines(&self) -> &[Machine] {
        &self.machines
    }

    /// Whether this machine carries all tiers, because the file names no machine. `tercet up` runs such a topology.
    pub fn only_this_machine(&self) -> bool {
        self.machines.iter().all(|machine| machine.reach == Reach::ThisMachine)
    }

    /// The parts: the balancer, then the application servers, then the database if tercet runs it, then its backups, then
    /// the monitoring.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Tier 1.
    pub fn balancer(&self) -> &Balancer {
        &self.balancer
    }

    /// Tier 2: the applications, in the order of the file; at least one.
    pub fn applications(&self) -> &[Application] {
        &self.applications
    }

    /// The application with this name; that of `[application]` has none.
    pub fn application(&self, name: Option<&str>) -> Option<&Application> {
        self.applications.iter().find(|application| application.name.as_deref() == name)
    }

    /// The application that a server belongs to; `None` for a part of another tier.
    pub fn application_of(&self, part: &Part) -> Option<&Application> {
        self.applications.get(part.application?)
    }

    /// The servers of an application.
    pub fn servers_of<'t>(&'t self, application: &Application) -> impl Iterator<Item = &'t Part> + use<'t> {
        let index = self.applications.iter().position(|it| it.name == application.name);
        self.parts.iter().filter(move |part| part.application.is_some() && part.application == index)
    }

    /// The data API, if one of the applications is.
    pub fn data_api(&self) -> Option<&Api> {
        self.applications.iter().find_map(Application::data_api)
    }

    /// Whether one of the applications is a program of the user's.
    pub fn has_programs(&self) -> bool {
        self.applications.iter().any(|application| application.data_api().is_none())
    }

    /// Whether `authenticated` may use the tables that the owner of the database creates; `None` leaves the privileges as they
    /// are. The applications do not differ in it.
    pub fn grants(&self) -> Option<bool> {
        self.applications.iter().find_map(|application| application.environment.grants)
    }

    /// Tier 3.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The encryption and signature of the operator state that the machines store.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Where the machines accept the operator's ssh from.
    pub fn ssh_from(&self) -> &SshFrom {
        &self.ssh_from
    }

    /// The operating system of the machines.
    pub fn system(&self) -> &System {
        &self.system
    }

    /// When and where the database is backed up; `None` without backups.
    pub fn backup(&self) -> Option<&Backup> {
        self.backup.as_ref()
    }

    /// Where alerts are sent.
    pub fn alerts(&self) -> &Alerts {
        &self.alerts
    }

    /// The address that a Prometheus of the user's own scrapes the machines from.
    pub fn own_prometheus(&self) -> Option<IpAddr> {
        self.own_prometheus
    }

    /// The traces of requests for a collector, if there is one.
    pub fn otlp(&self) -> Option<&Otlp> {
        self.otlp.as_ref()
    }

    /// The machine that makes the backups: the one with the tier, or with an object store the database's.
    pub fn backup_machine(&self) -> Option<&Machine> {
        let tier = match self.backup.as_ref()?.repository {
            Repository::Machine => Tier::Backup,
            Repository::S3(_) => Tier::Database,
        };
        self.carrying(tier)
    }

    /// The part with this name.
    pub fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name)
    }

    /// The machine that carries a tier; the first of several.
    pub fn carrying(&self, tier: Tier) -> Option<&Machine> {
        self.machines.iter().find(|machine| machine.tiers.contains(&tier))
    }

    /// `tercet.toml`, and the files with secrets that it names, relative to its folder.
    pub fn secret_files(&self) -> Vec<&Path> {
        let keys = self.balancer.tls.iter().flat_map(|tls| &tls.certificates).map(|pair| pair.key.as_path());
        let secrets = [
            self.database.url.as_ref().and_then(Secret::file),
            self.data_api().and_then(|api| api.jwt_secret.as_ref()?.file()),
            self.balancer.acme.eab.as_ref().map(|eab| eab.hmac_key_file.as_path()),
        ];
        let store = match self.backup.as_ref().map(|backup| &backup.repository) {
            Some(Repository::S3(s3)) => [s3.key.file(), s3.secret.file()],
            _ => [None, None],
        };
        let users = self.balancer.users.iter().map(PathBuf::as_path);
        let variables = self.applications.iter().filter_map(|it| it.environment.file.as_deref());
        let secrets = secrets.into_iter().chain(store).flatten().chain(variables);
        let secrets = secrets.chain(self.alerts.secret_files()).chain(users);
        [Path::new(crate::FILE)].into_iter().chain(keys).chain(secrets).collect()
    }

    /// The files and folders that no client may read, relative to the folder of `tercet.toml`.
    pub fn private(&self) -> Vec<&Path> {
        let folders = [Path::new(".tercet"), Path::new("seeds"), &self.database.migrations];
        self.secret_files().into_iter().chain(folders).collect()
    }

    /// The edges of the topology: all allowed connections.
    pub fn edges(&self) -> Vec<Edge<'_>> {
        edge::between(self)
    }

    /// The connections that the processes of a tier may open besides the edges.
    pub fn egress(&self, tier: Tier) -> Egress {
        egress::of(self, tier)
    }

    /// The addresses that a part listens on: the ends of its edges.
    pub fn addresses(&self, part: &Part) -> Vec<SocketAddr> {
        let edges = self.edges();
        let own = |edge: &&Edge<'_>| edge.protocol != Protocol::Backup || part.tier == Tier::Backup;
        let ends = edges.iter().filter(|edge| edge.to.name == part.name).filter(own);
        let mut addresses: Vec<SocketAddr> =
            ends.map(|edge| SocketAddr::new(edge.address, edge.port)).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    /// The machine that a part runs on.
    pub fn machine_of(&self, part: &Part) -> &Machine {
        &self.machines[part.machine]
    }
}

/// A machine and its tiers.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The machine's name.
    pub name: String,
    /// How commands run on it.
    pub reach: Reach,
    /// The private address of its tiers; loopback for this machine.
    pub address: IpAddr,
    /// The tiers that it carries, from the balancer to the database.
    pub tiers: Vec<Tier>,
}

impl Machine {
    /// The machine that the command runs on.
    pub(crate) fn this() -> Self {
        Self {
            name: "this machine".to_owned(),
            reach: Reach::ThisMachine,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            tiers: vec![Tier::Balancer, Tier::Application, Tier::Database],
        }
    }
}

/// How commands run on a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Locally: it is the machine that the command runs on.
    ThisMachine,
    /// By OpenSSH to this destination, which never starts with `-`.
    Ssh(String),
}

/// A tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// The load balancer, which clients connect to.
    Balancer,
    /// The application servers.
    Application,
    /// PostgreSQL.
    Database,
    /// The backups of the database.
    Backup,
    /// Prometheus and Alertmanager, and the exporters that Prometheus scrapes on every machine.
    Monitor,
}

impl Tier {
    /// All tiers, from the balancer to the monitor.
    pub const ALL: [Self; 5] =
        [Self::Balancer, Self::Application, Self::Database, Self::Backup, Self::Monitor];
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Balancer => "balancer",
            Self::Application => "application",
            Self::Database => "database",
            Self::Backup => "backup",
            Self::Monitor => "monitor",
        })
    }
}

/// A part: the balancer, an application server, the database, its backups, or a program of the monitoring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// `balancer`, `app-1`, `app-2`, … (`app-NAME-1`, … of a named application), `database`, `backup`, `prometheus`,
    /// `alertmanager`, `node-exporter-MACHINE`, …
    pub name: String,
    /// Its tier.
    pub tier: Tier,
    /// The port that it listens on; the first of the balancer's.
    pub port: Port,
    /// On named machines, the port of an application server's successor during a rolling release. The two ports
    /// alternate.
    pub standby: Option<u16>,
    /// The index of its machine in [`Topology::machines`].
    machine: usize,
    /// The index of a server's application in [`Topology::applications`].
    application: Option<usize>,
}

impl Part {
    /// A part that no application has, without a second port.
    pub(crate) fn of(name: &str, tier: Tier, port: Port, machine: usize) -> Self {
        Self { name: name.to_owned(), tier, port, standby: None, machine, application: None }
    }

    /// The ports that it may listen on.
    pub fn ports(&self) -> Vec<u16> {
        [self.port.number].into_iter().chain(self.standby).collect()
    }
}

/// The port of a data API server's admin endpoint, from the server's port; without named machines, tercet may use another free
/// port.
pub fn admin_port(port: u16) -> u16 {
    port.saturating_add(ADMIN_PORT_DISTANCE)
}

/// The difference between the ports of an admin endpoint and of its server.
pub(crate) const ADMIN_PORT_DISTANCE: u16 = 1000;

/// A TCP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its number.
    pub number: u16,
    /// Whether only this number is allowed; otherwise tercet may use the next free port of this machine.
    pub fixed: bool,
}

/// Tier 1: the balancer.
#[derive(Clone, Debug)]
pub struct Balancer {
    /// The addresses of the listeners without TLS, never empty.
    pub listen: Vec<SocketAddr>,
    /// The listeners with TLS, if it has certificates or domains.
    pub tls: Option<Tls>,
    /// The folders of the static files and error pages that it serves, relative to that of `tercet.toml` and inside of it.
    pub files: Vec<PathBuf>,
    /// The files with the users of routes with basic authentication, relative to the folder of `tercet.toml`.
    pub users: Vec<PathBuf>,
    /// The domains that certificates are obtained for.
    pub domains: Vec<String>,
    /// How they are obtained; paths are relative to the folder of `tercet.toml`.
    pub acme: Acme,
    /// The routes.
    pub routes: Vec<Route>,
    /// The balancer's options as written in the file, and those of traces.
    pub options: toml::Table,
    /// The port of its metrics; without named machines, tercet may use another free port.
    pub metrics_port: u16,
}

impl Balancer {
    /// The addresses to listen on: those without TLS, then those with TLS.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.listen.iter().chain(self.tls.iter().flat_map(|tls| &tls.listen)).copied()
    }

    /// The path of URLs, for every host, below which an application gets requests with the rest of the path; `None` if no path is that.
    pub fn path_to(&self, application: &Application) -> Option<&str> {
        let mut routes = self.routes.iter().filter(|route| route.host.is_none());
        let gets_the_rest = !routes.clone().any(|route| route.path == "/");
        if gets_the_rest && (application.name.is_none() || self.routes.is_empty()) {
            return Some("/");
        }
        let leads_there = |route: &&Route| {
            let to = route.to.as_deref().unwrap_or(APPLICATION);
            route.files.is_none() && to == application.pool() && (route.strip || route.path == "/")
        };
        routes.find(leads_there).map(|route| route.path.as_str())
    }
}

/// The balancer's TLS listeners and certificates.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The addresses of the TLS listeners, never empty.
    pub listen: Vec<SocketAddr>,
    /// Whether the file names them; otherwise tercet may use the next free port of this machine.
    pub listen_named: bool,
    /// The certificates in files; empty only if there are domains.
    pub certificates: Vec<Certificate>,
    /// Whether requests to the listeners without TLS are redirected to https.
    pub redirect: bool,
    /// The `max-age` of `strict-transport-security`, like `365d`.
    pub hsts: Option<String>,
}

/// PEM files, relative to the folder of `tercet.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Tier 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// The folder of the migrations, relative to that of the file.
    pub migrations: PathBuf,
    /// Whether the file names that folder; otherwise it may be missing.
    pub migrations_named: bool,
    /// Whether it has the schema `auth` and the privileges that Supabase's schemas expect.
    pub supabase: bool,
    /// The URL of an existing database, with its owner as the user; without one, tercet runs PostgreSQL.
    pub url: Option<Secret>,
    /// The user's own roles that keep privileged attributes.
    pub privileged_roles: Vec<String>,
    /// What PostgreSQL may connect to.
    pub egress: Egress,
}

/// The operating system of the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct System {
    /// How many days logs are kept.
    pub keep_logs_days: u32,
    /// Whether sshd accepts keys only.
    pub ssh_keys_only: bool,
    /// Whether security updates are installed each day.
    pub security_updates: bool,
}

/// The encryption and signature of the operator state that the machines store.
#[derive(Clone, Debug)]
pub struct State {
    /// The public keys that it is encrypted to, in the format of age or ssh.
    pub recipients: Vec<String>,
    /// The fingerprint of the certificate authority that signs it: `sha256:` and 64 hexadecimal digits.
    pub authority: Option<String>,
}
