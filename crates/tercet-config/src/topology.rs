//! What a `tercet.toml` means: machines, the tiers they carry, and the parts that run on them.
//!
//! A [`Topology`] is only made by [`parse`](crate::parse), so each one is valid: there is one balancer, at least
//! one application server, one database or the address of one, and every part is on a machine that carries
//! its tier. It knows nothing of processes, units or firewalls: those are computed from it.

pub(crate) mod edge;
mod meaning;
mod names;
mod network;
mod program;
mod secret;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use self::edge::Edge;
pub use self::program::Program;
pub use self::secret::Secret;

/// Everything a project is made of.
#[derive(Clone, Debug)]
pub struct Topology {
    name: String,
    machines: Vec<Machine>,
    parts: Vec<Part>,
    balancer: Balancer,
    application: Application,
    database: Database,
    state: State,
}

impl Topology {
    /// What the project is called: lower case letters, digits, `_` and `-`, at most 40.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The machines, in the order of the file; this one alone when it names none.
    pub fn machines(&self) -> &[Machine] {
        &self.machines
    }

    /// The one machine with everything on it, when the file names none: what `tercet up` runs.
    pub fn only_this_machine(&self) -> bool {
        self.machines.iter().all(|machine| machine.reach == Reach::ThisMachine)
    }

    /// Everything that runs: the balancer, then the application servers, then the database if it is tercet's.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Tier 1.
    pub fn balancer(&self) -> &Balancer {
        &self.balancer
    }

    /// Tier 2.
    pub fn application(&self) -> &Application {
        &self.application
    }

    /// Tier 3.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Who can read the operator state that the machines keep.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Every connection that is meant to be made, and no other: the edges of the topology.
    pub fn edges(&self) -> Vec<Edge<'_>> {
        edge::between(self)
    }

    /// The addresses a part listens on: where its edges end, and nowhere else.
    pub fn addresses(&self, part: &Part) -> Vec<SocketAddr> {
        let edges = self.edges();
        let ends = edges.iter().filter(|edge| edge.to.name == part.name);
        let mut addresses: Vec<SocketAddr> =
            ends.map(|edge| SocketAddr::new(edge.address, edge.port)).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    /// The machine a part runs on.
    pub fn machine_of(&self, part: &Part) -> &Machine {
        &self.machines[part.machine]
    }
}

/// A machine and what it carries.
#[derive(Clone, Debug)]
pub struct Machine {
    /// What it is called.
    pub name: String,
    /// How a command gets there.
    pub reach: Reach,
    /// The private address its tiers are reached at; loopback for this machine.
    pub address: IpAddr,
    /// The tiers it carries, in the order of the picture.
    pub tiers: Vec<Tier>,
}

impl Machine {
    /// The machine the command runs on.
    pub(crate) fn this() -> Self {
        Self {
            name: "this machine".to_owned(),
            reach: Reach::ThisMachine,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            tiers: vec![Tier::Balancer, Tier::Application, Tier::Database],
        }
    }
}

/// How a command gets to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It is the one the command runs on.
    ThisMachine,
    /// By OpenSSH, to this destination; it never starts with `-`.
    Ssh(String),
}

/// A line of the tercet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Where clients connect.
    Balancer,
    /// What answers requests.
    Application,
    /// PostgreSQL.
    Database,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Balancer => "balancer",
            Self::Application => "application",
            Self::Database => "database",
        })
    }
}

/// One thing that runs: the balancer, an application server, the database.
#[derive(Clone, Debug)]
pub struct Part {
    /// `balancer`, `app-1`, `app-2`, …, `database`.
    pub name: String,
    /// Its tier.
    pub tier: Tier,
    /// The port it is reached at; the balancer's first.
    pub port: Port,
    /// On machines, the port an application server's successor takes while a release is rolled: the two
    /// alternate.
    pub standby: Option<u16>,
    /// Which of [`Topology::machines`] it runs on.
    machine: usize,
}

impl Part {
    /// The ports it may be found at.
    pub fn ports(&self) -> Vec<u16> {
        [self.port.number].into_iter().chain(self.standby).collect()
    }
}

/// The port of a data API server's admin endpoint on a machine, by the server's own port.
pub fn admin_port(port: u16) -> u16 {
    port + ADMIN_PORT_DISTANCE
}

/// How far an admin endpoint's port is from its server's.
pub(crate) const ADMIN_PORT_DISTANCE: u16 = 1000;

/// A TCP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its number.
    pub number: u16,
    /// Whether it must be this one; otherwise the next free one of this machine may be taken.
    pub fixed: bool,
}

/// Tier 1: where clients connect.
#[derive(Clone, Debug)]
pub struct Balancer {
    /// The addresses to speak plain HTTP on, never empty.
    pub listen: Vec<SocketAddr>,
    /// How it speaks TLS, if it does.
    pub tls: Option<Tls>,
    /// The balancer's own options as the file gives them.
    pub options: toml::Table,
}

impl Balancer {
    /// The addresses to listen on: the plain ones, then those with TLS.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.listen.iter().chain(self.tls.iter().flat_map(|tls| &tls.listen)).copied()
    }
}

/// How the balancer speaks TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The addresses to speak it on, never empty.
    pub listen: Vec<SocketAddr>,
    /// Whether the file names them; otherwise the next free port of this machine may be taken.
    pub listen_named: bool,
    /// Never empty.
    pub certificates: Vec<Certificate>,
    /// Whether requests to the plain addresses are redirected to https.
    pub redirect: bool,
    /// How long browsers use only https for the host name, like `365d`.
    pub hsts: Option<String>,
}

/// PEM files, relative to the folder of `tercet.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate and those up to its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Tier 2: what answers the requests.
#[derive(Clone, Debug)]
pub struct Application {
    /// The data API or the person's own program.
    pub server: Server,
}

/// What an application server runs.
#[derive(Clone, Debug)]
pub enum Server {
    /// The built-in data API.
    Api(Api),
    /// The person's own program.
    Own {
        /// The command.
        program: Program,
        /// The command that prepares the shipped folder on each machine, before a release starts.
        build: Option<Program>,
        /// The path that answers when it can take requests; starts with `/`. Without one it can as soon as it accepts
        /// connections.
        health: Option<String>,
    },
}

/// The options of the data API.
#[derive(Clone)]
pub struct Api {
    /// PostgREST's options as the file gives them, except the token secret; `db-anon-role` is always there.
    /// `app.settings` may be secrets.
    pub options: toml::Table,
    /// What tokens are verified with (`jwt-secret`).
    pub jwt_secret: Option<Secret>,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<_> = self.options.iter().filter(|(name, _)| *name != "app").collect();
        f.debug_struct("Api")
            .field("options", &shown)
            .field("jwt_secret", &self.jwt_secret)
            .finish_non_exhaustive()
    }
}

/// Tier 3.
#[derive(Clone, Debug)]
pub struct Database {
    /// The folder of the migrations, relative to the file's.
    pub migrations: PathBuf,
    /// Whether the file names that folder; one that it does not name may be missing.
    pub migrations_named: bool,
    /// The owner's URL of a PostgreSQL that already exists; tercet runs its own when there is none.
    pub url: Option<Secret>,
}

/// Who can read the operator state that the machines keep, and whose word for it counts.
#[derive(Clone, Debug)]
pub struct State {
    /// The public keys it is encrypted to, in age's or ssh's notation.
    pub recipients: Vec<String>,
    /// The SHA-256 of the certificate of the authority that signs it: `sha256:` and 64 hexadecimal digits.
    pub authority: Option<String>,
}
