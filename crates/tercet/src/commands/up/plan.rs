//! A topology lowered to one machine: ports, and each tier's own configuration.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use tercet_config::{Api, Application, Part, Server, Tier, Topology, admin_port};
use tercet_fleet::configuration::api::{READY, plain_text};
use tercet_fleet::configuration::balancer::{self as configuration, AcmeFiles, Admin};
use tercet_options::balancer::{AccessLogFormat, Certificate, ServerAddress};

use super::application::{self, ApplicationServer};
use super::balancer::{Balancer, DRAIN};
use super::database::Urls;
use super::ports::Ports;
use super::private::PrivateFolder;
use crate::failure::Failure;
use crate::project::Project;
use crate::running::RunState;
use crate::supervisor::LastFailure;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// The balancer's port if the file's address is meant for machines.
const LISTEN: u16 = 8080;
/// The balancer's TLS port.
const TLS_LISTEN: u16 = 8443;
/// The response header that names the server; under `tercet up` only, to show the round-robin order.
const SERVED_BY: &str = "x-served-by";

/// The addresses of all parts.
#[derive(Debug)]
pub(super) struct Plan {
    listen: Vec<SocketAddr>,
    /// Whether the file names the balancer's addresses.
    listen_named: bool,
    /// The balancer's TLS addresses.
    tls_listen: Vec<SocketAddr>,
    balancer_admin: SocketAddr,
    servers: Vec<ServerAddresses>,
    pub(super) database: u16,
    /// Whether the file names the database's port.
    database_named: bool,
    runs_database: bool,
}

/// The addresses of an application server.
#[derive(Clone, Debug)]
struct ServerAddresses {
    name: String,
    /// The name of its application, if that has one.
    application: Option<String>,
    address: SocketAddr,
    /// Whether the file names its port.
    named: bool,
    /// The data API's admin endpoint.
    admin: Option<SocketAddr>,
}

impl Plan {
    /// Reserves the parts' ports: those that the file names, or the next free ones.
    ///
    /// # Errors
    /// A named port is in use.
    pub(super) fn of(topology: &Topology, ports: &mut Ports) -> anyhow::Result<Self> {
        // If the file has machines, its ports are for them.
        let here = topology.only_this_machine();
        let is_named = |part: &&Part| part.port.fixed && here && part.tier != Tier::Balancer;
        // First, so that no other part gets one of them.
        for part in topology.parts().iter().filter(is_named) {
            ports.take(SocketAddr::new(LOOPBACK, part.port.number), &part.name)?;
        }
        let mut port = |part: &Part, number: u16| {
            if is_named(&part) { Ok(number) } else { ports.next_free(LOOPBACK, number, &part.name) }
        };
        let mut servers = Vec::new();
        let (mut database, mut database_named) = (0, false);
        let mut default_listen = None;
        for part in topology.parts() {
            match part.tier {
                Tier::Application => {
                    let address = SocketAddr::new(LOOPBACK, port(part, part.port.number)?);
                    let named = part.port.fixed && here;
                    let application = topology.application_of(part).and_then(|it| it.name.clone());
                    let name = part.name.clone();
                    servers.push(ServerAddresses { name, application, address, named, admin: None });
                }
                Tier::Database => {
                    database = port(part, part.port.number)?;
                    database_named = part.port.fixed && here;
                }
                Tier::Balancer if !here || !part.port.fixed => {
                    let number = if here { part.port.number } else { LISTEN };
                    default_listen = Some(SocketAddr::new(LOOPBACK, port(part, number)?));
                }
                Tier::Balancer | Tier::Backup | Tier::Monitor => {}
            }
        }
        let listen_named = default_listen.is_none();
        let listen = match default_listen {
            Some(address) => vec![address],
            None => named(&topology.balancer().listen, ports)?,
        };
        let tls_listen = match &topology.balancer().tls {
            Some(tls) if here && tls.listen_named => named(&tls.listen, ports)?,
            // Here no certificates are obtained for domains of machines.
            Some(tls) if !here && tls.certificates.is_empty() => Vec::new(),
            Some(_) => {
                vec![SocketAddr::new(LOOPBACK, ports.next_free(LOOPBACK, TLS_LISTEN, super::BALANCER)?)]
            }
            None => Vec::new(),
        };
        // The same at every start, so that a Prometheus finds them.
        let mut admin = |what: &str, from: u16| {
            Ok::<_, anyhow::Error>(SocketAddr::new(LOOPBACK, ports.next_free(LOOPBACK, from, what)?))
        };
        let balancer_admin = admin(super::BALANCER, topology.balancer().metrics_port)?;
        for server in &mut servers {
            let application = topology.application(server.application.as_deref());
            if application.and_then(Application::data_api).is_some() {
                server.admin = Some(admin(&server.name, admin_port(server.address.port()))?);
            }
        }
        Ok(Self {
            listen,
            listen_named,
            tls_listen,
            balancer_admin,
            servers,
            database,
            database_named,
            runs_database: topology.database().url.is_none(),
        })
    }

    /// Moves the database to the next free port if a process has taken its port. Returns the address it had.
    pub(super) fn move_database(&mut self, ports: &mut Ports) -> anyhow::Result<Option<SocketAddr>> {
        let address = SocketAddr::new(LOOPBACK, self.database);
        if self.database_named || !Ports::is_taken(address) {
            return Ok(None);
        }
        self.database = ports.next_free(LOOPBACK, self.database, super::DATABASE)?;
        Ok(Some(address))
    }

    /// Moves an application server likewise, each of its two ports.
    pub(super) fn move_server(
        &mut self,
        index: usize,
        ports: &mut Ports,
    ) -> anyhow::Result<Option<SocketAddr>> {
        let server = &mut self.servers[index];
        let mut taken = None;
        if !server.named && Ports::is_taken(server.address) {
            taken = Some(server.address);
            server.address.set_port(ports.next_free(LOOPBACK, server.address.port(), &server.name)?);
        }
        if let Some(admin) = server.admin.as_mut().filter(|admin| Ports::is_taken(**admin)) {
            taken = Some(*admin);
            admin.set_port(ports.next_free(LOOPBACK, admin.port(), &server.name)?);
        }
        Ok(taken)
    }

    /// Moves the balancer likewise.
    pub(super) fn move_balancer(&mut self, ports: &mut Ports) -> anyhow::Result<Option<SocketAddr>> {
        let mut taken = None;
        if Ports::is_taken(self.balancer_admin) {
            taken = Some(self.balancer_admin);
            let from = self.balancer_admin.port();
            self.balancer_admin.set_port(ports.next_free(LOOPBACK, from, super::BALANCER)?);
        }
        if let (false, [listen]) = (self.listen_named, &mut self.listen[..])
            && Ports::is_taken(*listen)
        {
            taken = Some(*listen);
            listen.set_port(ports.next_free(listen.ip(), listen.port(), super::BALANCER)?);
        }
        Ok(taken)
    }

    /// The number of application servers.
    pub(super) fn count(&self) -> usize {
        self.servers.len()
    }

    /// The indices of the servers of an application.
    pub(super) fn servers_of(&self, application: &Application) -> Vec<usize> {
        let servers = self.servers.iter().enumerate();
        servers.filter(|(_, server)| server.application == application.name).map(|(index, _)| index).collect()
    }

    /// The application server with this index; writes its configuration. It connects to the database with one of `urls`.
    pub(super) fn application(
        &self,
        index: usize,
        project: &Project,
        private: &PrivateFolder,
        urls: &Urls,
    ) -> anyhow::Result<ApplicationServer> {
        let at = &self.servers[index];
        let application = project.topology.application(at.application.as_deref());
        let application = application.with_context(|| format!("{} has no application", at.name))?;
        let server = match (&application.server, at.admin) {
            (Server::Own { program, health, .. }, _) => application::Server::Own {
                words: program.words(&at.address.ip().to_string(), at.address.port()),
                health: health.clone(),
                environment: super::environment::variables(project, application, &urls.programs)?,
                start_timeout: application.environment.start_timeout,
            },
            (Server::Api(api), Some(admin)) => {
                let mut options = api_options(api, project, at.address, admin, &urls.data_api)?;
                if let Some(socket) = private.socket(&at.name) {
                    let path = plain_text(&socket.display().to_string());
                    options.insert("server-local-socket".to_owned(), path.into());
                    options.insert("server-unix-socket-mode".to_owned(), "600".into());
                }
                options.entry("server-threads").or_insert_with(|| self.threads_of_server().into());
                let keys = private.folder().join(format!("{}-provider-keys.json", at.name));
                options.insert("jwks-cache-file".to_owned(), plain_text(&keys.display().to_string()).into());
                let text = toml::to_string(&options).context("the data API's options cannot be written")?;
                let config = private.write(&format!("{}.toml", at.name), &text)?;
                application::Server::Api { config, admin, text }
            }
            (Server::Api(_), None) => anyhow::bail!("{} has no admin address", at.name),
        };
        Ok(ApplicationServer {
            name: at.name.clone(),
            address: at.address,
            folder: project.folder.clone(),
            server,
            last_failure: LastFailure::default(),
        })
    }

    /// How many threads a data API server has: all of them together one per core. More would find less to do at a time,
    /// and take turns on the cores.
    fn threads_of_server(&self) -> i64 {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let servers = self.servers.iter().filter(|server| server.admin.is_some()).count();
        i64::try_from(cores / servers.max(1)).map_or(1, |threads| threads.clamp(1, 1024))
    }

    /// The balancer; writes its configuration.
    pub(super) fn balancer(&self, project: &Project, private: &PrivateFolder) -> Result<Balancer, Failure> {
        // The data API is reached by its Unix socket, a user's own program by the address it was given.
        let address = |at: &ServerAddresses| match at.admin.and_then(|_| private.socket(&at.name)) {
            Some(socket) => ServerAddress::Unix(socket),
            None => at.address.into(),
        };
        let server = |at: &ServerAddresses| configuration::Server {
            name: at.name.clone(),
            address: address(at),
            health_address: at.admin,
        };
        let mut pools = Vec::new();
        for application in project.topology.applications() {
            let servers = self.servers.iter().filter(|it| it.application == application.name);
            pools.push(configuration::Pool {
                name: application.name.as_deref(),
                servers: servers.map(server).collect(),
                health_path: match &application.server {
                    Server::Own { health, .. } => health.as_deref(),
                    Server::Api(_) => Some(READY),
                },
            });
        }
        let certificate = |pair: &tercet_config::Certificate| Certificate {
            certificate: project.folder.join(&pair.certificate),
            key: project.folder.join(&pair.key),
        };
        let balancer = project.topology.balancer();
        let place = configuration::Place {
            listen: &self.listen,
            tls_listen: &self.tls_listen,
            certificates: balancer.tls.iter().flat_map(|tls| &tls.certificates).map(certificate).collect(),
            website: balancer.files.iter().map(|it| (it.clone(), project.folder.join(it))).collect(),
            maintenance: Some(private.maintenance()),
            users: balancer.users.iter().map(|it| (it.clone(), project.folder.join(it))).collect(),
            // A file with machines names the domains of those.
            acme: project.topology.only_this_machine().then(|| AcmeFiles {
                folder: private.certificates(),
                root: balancer.acme.root.as_ref().map(|root| project.folder.join(root)),
                hmac_key: balancer.acme.eab.as_ref().map(|eab| project.folder.join(&eab.hmac_key_file)),
            }),
            pools,
            served_by: Some(SERVED_BY),
            drain: Some(DRAIN),
            log_format: AccessLogFormat::Json,
            admin: Admin { metrics: Some(self.balancer_admin), ..Admin::default() },
        };
        let text = place.configuration(balancer).context("the balancer's configuration cannot be written")?;
        let path = private.write("balancer.toml", &text)?;
        tercet_balancer::config::load(&path).map_err(Failure::input)?;
        Ok(Balancer {
            listen: self.listen.iter().chain(&self.tls_listen).copied().collect(),
            admin: self.balancer_admin,
            config: path,
            text,
            folder: project.folder.clone(),
            last_failure: LastFailure::default(),
        })
    }

    /// The URL for a browser on this machine.
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

    /// The URL of the data API's documentation, if a client can reach it: by a route that removes its path, or has none.
    pub(super) fn docs(&self, topology: &Topology) -> Option<String> {
        let application = topology.applications().iter().find(|it| it.data_api().is_some())?;
        let path = topology.balancer().path_to(application)?;
        Some(format!("{}{}/docs", self.url(), path.trim_end_matches('/')))
    }

    /// The URL of the balancer's metrics, and the ports of the servers': the first and the last of many.
    pub(super) fn metrics(&self) -> String {
        let ports: Vec<u16> = self.servers.iter().filter_map(|server| Some(server.admin?.port())).collect();
        let balancer = format!("http://{}/metrics", self.balancer_admin);
        match &ports[..] {
            [] => balancer,
            [port] => format!("{balancer}, :{port}"),
            [first, second] => format!("{balancer}, :{first}, :{second}"),
            [first, .., last] => format!("{balancer}, :{first} … :{last}"),
        }
    }

    /// Adds the addresses to the run state.
    pub(super) fn complete(&self, state: &mut RunState) {
        state.url = Some(self.url());
        state.metrics = Some(self.balancer_admin);
        for part in &mut state.parts {
            part.admin = match self.servers.iter().find(|server| server.name == part.name) {
                Some(server) => server.admin,
                None => (part.name == super::BALANCER).then_some(self.balancer_admin),
            };
        }
    }

    /// The name and addresses of each part, from the balancer to the database.
    pub(super) fn addresses(&self) -> Vec<(String, String)> {
        let listen: Vec<_> = self.listen.iter().chain(&self.tls_listen).map(ToString::to_string).collect();
        let mut addresses = vec![(super::BALANCER.to_owned(), listen.join(", "))];
        addresses.extend(self.servers.iter().map(|server| (server.name.clone(), server.address.to_string())));
        if self.runs_database {
            addresses.push((super::DATABASE.to_owned(), format!("{LOOPBACK}:{}", self.database)));
        }
        addresses
    }
}

/// Reserves the addresses that the file names for the balancer; port 0 is any free port.
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

/// The options of one data API server, by PostgREST's names.
fn api_options(
    api: &Api,
    project: &Project,
    address: SocketAddr,
    admin: SocketAddr,
    database_url: &str,
) -> anyhow::Result<toml::Table> {
    let mut options = tercet_fleet::configuration::api::options(api, project.topology.name());
    for (name, value) in [
        ("db-uri", toml::Value::from(plain_text(database_url))),
        ("jwt-secret", plain_text(&project.accepted_jwt_secret(api)?).into()),
        ("server-host", address.ip().to_string().into()),
        ("server-port", i64::from(address.port()).into()),
        ("admin-server-host", admin.ip().to_string().into()),
        ("admin-server-port", i64::from(admin.port()).into()),
    ] {
        options.insert(name.to_owned(), value);
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use tercet_config::Origin;

    use super::*;

    /// The balancer's file for a `tercet.toml` with two servers and TLS.
    #[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
    fn check(text: &str, expected: Expect) {
        let folder = tempfile::tempdir().unwrap();
        let topology = tercet_config::parse(text, Origin { file: "tercet.toml", folder: "shop" }).unwrap();
        let project = Project { folder: folder.path().to_owned(), topology };
        let private = PrivateFolder::lock(folder.path()).unwrap();
        let loopback = |port| SocketAddr::new(LOOPBACK, port);
        let server = |name: &str, port| ServerAddresses {
            name: name.to_owned(),
            application: None,
            address: loopback(port),
            named: false,
            admin: Some(loopback(port + 1000)),
        };
        let plan = Plan {
            listen: vec![loopback(8080)],
            listen_named: false,
            tls_listen: vec![loopback(8443)],
            balancer_admin: loopback(9000),
            servers: vec![server("app-1", 8081), server("app-2", 8082)],
            database: 5432,
            database_named: false,
            runs_database: true,
        };
        let balancer = plan.balancer(&project, &private).unwrap();
        let text = std::fs::read_to_string(&balancer.config).unwrap();
        expected.assert_eq(&text.replace(&folder.path().display().to_string(), "/shop"));
    }

    #[test]
    fn the_balancers_configuration_has_the_files_options_and_those_of_up() {
        check(
            r#"
                [balancer]
                policy = "hash"
                hash-on = "authorization"
                trusted-proxies = ["10.0.0.0/8"]
                certificates = [{ certificate = "shop.crt", key = "shop.key" }]
                redirect-to-https = true
                hsts = "365d"
                health = { interval = "1s" }
                limits = { body = "1MiB" }
            "#,
            expect![[r#"
                served-by = "x-served-by"
                drain = "10000ms"
                hash-on = "authorization"
                policy = "hash"
                trusted-proxies = ["10.0.0.0/8"]

                [[listen]]
                address = "127.0.0.1:8080"
                redirect-to-https = true

                [[listen]]
                address = "127.0.0.1:8443"
                hsts = "365d"

                [[listen.certificates]]
                certificate = "/shop/shop.crt"
                key = "/shop/shop.key"

                [health]
                interval = "1s"
                path = "/ready"

                [limits]
                body = "1MiB"

                [maintenance]
                file = "/shop/.tercet/maintenance"

                [access-log]
                format = "json"
                to = "stdout"

                [admin]
                metrics = "127.0.0.1:9000"

                [[servers]]
                name = "app-1"
                address = "unix:/shop/.tercet/run/app-1.sock"
                health-address = "127.0.0.1:9081"

                [[servers]]
                name = "app-2"
                address = "unix:/shop/.tercet/run/app-2.sock"
                health-address = "127.0.0.1:9082"
            "#]],
        );
    }
}
