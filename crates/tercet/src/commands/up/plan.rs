//! A topology lowered to one machine: ports, and each tier's own configuration.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use tercet_balancer::config as balancer_config;
use tercet_config::{Api, Part, Policy, Server, Tier, Topology};

use super::application::{self, Application};
use super::balancer::{Balancer, DRAIN};
use super::ports::Ports;
use super::private::Private;
use crate::project::Project;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Where the balancer listens here when the file's address is meant for a machine of its own.
const LISTEN: u16 = 8080;
/// The same with TLS.
const TLS_LISTEN: u16 = 8443;
/// The response header that names the server; only here, where it helps to see the turn.
const SERVED_BY: &str = "x-served-by";

/// What the balancer asks of a data API's admin endpoint.
const API_HEALTH: &str = "/ready";

/// How long a server may take to say that it lives. Everything shares this machine, often with a compiler: who is
/// slow here is not dead, and who is dead refuses connections at once.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// Who listens where.
#[derive(Debug)]
pub(super) struct Plan {
    listen: Vec<SocketAddr>,
    /// Where it speaks TLS.
    tls_listen: Vec<SocketAddr>,
    balancer_admin: SocketAddr,
    servers: Vec<Place>,
    pub(super) database: u16,
    runs_database: bool,
}

/// Where an application server listens.
#[derive(Clone, Debug)]
struct Place {
    name: String,
    address: SocketAddr,
    /// The data API's admin endpoint.
    admin: Option<SocketAddr>,
}

impl Plan {
    /// Takes the parts' ports from `ports`: those the file names, or the next free ones.
    ///
    /// # Errors
    /// A named port is taken.
    pub(super) fn of(topology: &Topology, ports: &mut Ports) -> anyhow::Result<Self> {
        // With machines, the file's ports are theirs.
        let here = topology.only_this_machine();
        let mut port = |part: &Part, number: u16| {
            if part.port.fixed && here {
                ports.take(SocketAddr::new(LOOPBACK, number), &part.name).map(|()| number)
            } else {
                ports.next_free(LOOPBACK, number, &part.name)
            }
        };
        let mut servers = Vec::new();
        let mut database = 0;
        let mut listens_where_it_likes = None;
        for part in topology.parts() {
            match part.tier {
                Tier::Application => {
                    let address = SocketAddr::new(LOOPBACK, port(part, part.port.number)?);
                    servers.push(Place { name: part.name.clone(), address, admin: None });
                }
                Tier::Database => database = port(part, part.port.number)?,
                Tier::Balancer if !here || !part.port.fixed => {
                    let number = if here { part.port.number } else { LISTEN };
                    listens_where_it_likes = Some(SocketAddr::new(LOOPBACK, port(part, number)?));
                }
                Tier::Balancer => {}
            }
        }
        let listen = match listens_where_it_likes {
            Some(address) => vec![address],
            None => named(&topology.balancer().listen, ports)?,
        };
        let tls_listen = match &topology.balancer().tls {
            Some(tls) if here && tls.listen_named => named(&tls.listen, ports)?,
            Some(_) => {
                vec![SocketAddr::new(LOOPBACK, ports.next_free(LOOPBACK, TLS_LISTEN, super::BALANCER)?)]
            }
            None => Vec::new(),
        };
        let mut admin =
            |what: &str| Ok::<_, anyhow::Error>(SocketAddr::new(LOOPBACK, ports.any(LOOPBACK, what)?));
        if matches!(topology.application().server, Server::Api(_)) {
            for place in &mut servers {
                place.admin = Some(admin(&place.name)?);
            }
        }
        Ok(Self {
            listen,
            tls_listen,
            balancer_admin: admin(super::BALANCER)?,
            servers,
            database,
            runs_database: topology.database().url.is_none(),
        })
    }

    /// The application servers, their configurations written; `database_url` is theirs.
    pub(super) fn applications(
        &self,
        project: &Project,
        private: &Private,
        database_url: &str,
        json: bool,
    ) -> anyhow::Result<Vec<Application>> {
        let application = project.topology.application();
        let server = |place: &Place| match (&application.server, place.admin) {
            (Server::Own { program, health, .. }, _) => Ok(application::Server::Own {
                words: program.words(&place.address.ip().to_string(), place.address.port()),
                health: health.clone(),
                database_url: database_url.to_owned(),
            }),
            (Server::Api(api), Some(admin)) => {
                let options = api_options(api, project, place.address, admin, database_url)?;
                let text = toml::to_string(&options).context("the data API's options cannot be written")?;
                let config = private.write(&format!("{}.toml", place.name), &text)?;
                Ok(application::Server::Api { config, admin, json })
            }
            (Server::Api(_), None) => anyhow::bail!("{} has no admin address", place.name),
        };
        let servers = self.servers.iter();
        let application = |place: &Place| {
            Ok(Application {
                name: place.name.clone(),
                address: place.address,
                folder: project.folder.clone(),
                server: server(place)?,
            })
        };
        servers.map(application).collect()
    }

    /// The balancer, its configuration written.
    pub(super) fn balancer(
        &self,
        project: &Project,
        private: &Private,
        json: bool,
    ) -> anyhow::Result<Balancer> {
        let server = |place: &Place| balancer_config::Server {
            health_address: place.admin,
            ..balancer_config::Server::new(place.name.clone(), place.address)
        };
        let balancer = project.topology.balancer();
        let (policy, hash_on) = match &balancer.policy {
            Policy::RoundRobin => (balancer_config::Policy::RoundRobin, None),
            Policy::LeastConnections => (balancer_config::Policy::LeastConnections, None),
            Policy::RandomTwo => (balancer_config::Policy::RandomTwo, None),
            Policy::Hash { on } => (balancer_config::Policy::Hash, Some(on.clone())),
        };
        let config = balancer_config::Config {
            listen: self.listens(project),
            servers: self.servers.iter().map(server).collect(),
            policy,
            trusted_proxies: balancer.trusted_proxies.clone(),
            served_by: Some(SERVED_BY.to_owned()),
            drain: DRAIN,
            health: balancer_config::Health {
                path: match &project.topology.application().server {
                    Server::Own { health, .. } => health.clone(),
                    Server::Api(_) => API_HEALTH.to_owned(),
                },
                timeout: HEALTH_TIMEOUT,
                ..Default::default()
            },
            access_log: balancer_config::AccessLog {
                to: balancer_config::AccessLogTo::Stdout,
                format: if json {
                    balancer_config::AccessLogFormat::Json
                } else {
                    balancer_config::AccessLogFormat::Combined
                },
            },
            admin: balancer_config::Admin { socket: None, metrics: Some(self.balancer_admin) },
            ..Default::default()
        };
        let mut config =
            toml::Table::try_from(config).context("the balancer's configuration cannot be written")?;
        if let Some(hash_on) = hash_on {
            config.insert("hash-on".to_owned(), hash_on.into());
        }
        if let Some(hsts) = balancer.tls.as_ref().and_then(|tls| tls.hsts.as_deref()) {
            let listens = config.get_mut("listen").and_then(toml::Value::as_array_mut).into_iter().flatten();
            for listen in listens.skip(self.listen.len()).filter_map(toml::Value::as_table_mut) {
                listen.insert("hsts".to_owned(), hsts.into());
            }
        }
        merge(&mut config, &balancer.options);
        let path = private.write("balancer.toml", &config.to_string())?;
        balancer_config::Config::load(&path)?;
        Ok(Balancer {
            listen: self.listen.iter().chain(&self.tls_listen).copied().collect(),
            admin: self.balancer_admin,
            config: path,
            folder: project.folder.clone(),
            json,
        })
    }

    /// The addresses in the clear, then those with TLS.
    fn listens(&self, project: &Project) -> Vec<balancer_config::Listen> {
        let tls = project.topology.balancer().tls.as_ref();
        let certificate = |pair: &tercet_config::Certificate| balancer_config::Certificate {
            certificate: project.folder.join(&pair.certificate),
            key: project.folder.join(&pair.key),
        };
        let certificates: Vec<_> = tls.iter().flat_map(|tls| &tls.certificates).map(certificate).collect();
        let plain = self.listen.iter().map(|address| balancer_config::Listen {
            redirect_to_https: tls.is_some_and(|tls| tls.redirect),
            ..balancer_config::Listen::on(*address)
        });
        let secure = self.tls_listen.iter().map(|address| balancer_config::Listen {
            certificates: certificates.clone(),
            ..balancer_config::Listen::on(*address)
        });
        plain.chain(secure).collect()
    }

    /// Where a browser on this machine finds the system.
    pub(super) fn url(&self) -> String {
        let (scheme, mut address) = match self.tls_listen.first() {
            Some(address) => ("https", *address),
            None => ("http", self.listen[0]),
        };
        if address.ip().is_unspecified() {
            address.set_ip(LOOPBACK);
        }
        format!("{scheme}://{address}")
    }

    /// Each part and where it listens, in the order of the picture.
    pub(super) fn addresses(&self) -> Vec<(String, String)> {
        let listen: Vec<_> = self.listen.iter().chain(&self.tls_listen).map(ToString::to_string).collect();
        let mut addresses = vec![(super::BALANCER.to_owned(), listen.join(", "))];
        addresses.extend(self.servers.iter().map(|place| (place.name.clone(), place.address.to_string())));
        if self.runs_database {
            addresses.push((super::DATABASE.to_owned(), format!("{LOOPBACK}:{}", self.database)));
        }
        addresses
    }
}

/// The balancer's addresses as the file names them; port 0 is any free one.
fn named(addresses: &[SocketAddr], ports: &mut Ports) -> anyhow::Result<Vec<SocketAddr>> {
    let take = |address: &SocketAddr| {
        let mut address = *address;
        if address.port() == 0 {
            address.set_port(ports.any(address.ip(), super::BALANCER)?);
        } else {
            ports.take(address, super::BALANCER)?;
        }
        Ok(address)
    };
    addresses.iter().map(take).collect()
}

/// Puts what a person wrote over what holds otherwise, option by option.
fn merge(config: &mut toml::Table, written: &toml::Table) {
    for (name, value) in written {
        match (config.get_mut(name), value) {
            (Some(toml::Value::Table(config)), toml::Value::Table(written)) => merge(config, written),
            _ => drop(config.insert(name.clone(), value.clone())),
        }
    }
}

/// The options of one data API server, by PostgREST's names.
fn api_options(
    api: &Api,
    project: &Project,
    address: SocketAddr,
    admin: SocketAddr,
    database_url: &str,
) -> anyhow::Result<toml::Table> {
    let mut options = api.options.clone();
    for (name, value) in
        [("db-anon-role", tercet_database::roles::ANONYMOUS), ("server-trace-header", "x-request-id")]
    {
        options.entry(name).or_insert_with(|| value.into());
    }
    for (name, value) in [
        ("db-uri", toml::Value::from(database_url)),
        ("jwt-secret", project.jwt_secret(api)?.into()),
        ("server-host", address.ip().to_string().into()),
        ("server-port", i64::from(address.port()).into()),
        ("admin-server-host", admin.ip().to_string().into()),
        ("admin-server-port", i64::from(admin.port()).into()),
    ] {
        options.insert(name.to_owned(), value);
    }
    Ok(options)
}
