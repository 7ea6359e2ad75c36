//! The balancer's configuration file: the options of `tercet.toml`, and those that depend on the topology.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::{Serialize, Serializer};
use tercet_config::Balancer;
use tercet_options::balancer::{APPLICATION, AccessLogFormat, Certificate, ServerAddress};

/// The options that depend on the machine the balancer runs on.
#[derive(Debug)]
pub struct Place<'a> {
    /// The plain HTTP bind addresses.
    pub listen: &'a [SocketAddr],
    /// The TLS bind addresses.
    pub tls_listen: &'a [SocketAddr],
    /// Its certificates.
    pub certificates: Vec<Certificate>,
    /// The folders of static files and error pages: as in `tercet.toml`, and where they are on the machine.
    pub website: Vec<(PathBuf, PathBuf)>,
    /// The files with users of routes: as in `tercet.toml`, and where they are on the machine.
    pub users: Vec<(PathBuf, PathBuf)>,
    /// The file that turns maintenance on.
    pub maintenance: Option<PathBuf>,
    /// Where the files of the certificates of domains are; `None`: none are obtained.
    pub acme: Option<AcmeFiles>,
    /// The servers of each application.
    pub pools: Vec<Pool<'a>>,
    /// The response header that names the server, if there is one.
    pub served_by: Option<&'a str>,
    /// How long requests in flight may take when it stops; `None`: the balancer's default.
    pub drain: Option<Duration>,
    /// The format of its access log, which goes to standard output.
    pub log_format: AccessLogFormat,
    /// Its admin socket and metrics endpoint.
    pub admin: Admin,
}

/// The files of the certificates of domains.
#[derive(Debug)]
pub struct AcmeFiles {
    /// The folder for them.
    pub folder: PathBuf,
    /// The root certificate of the authority's address, if `tercet.toml` names one.
    pub root: Option<PathBuf>,
    /// The HMAC key of the external account, if `tercet.toml` names one.
    pub hmac_key: Option<PathBuf>,
}

/// The backend pool of an application.
#[derive(Debug)]
pub struct Pool<'a> {
    /// The name of the application; without one, its servers get all requests that no route sends elsewhere.
    pub name: Option<&'a str>,
    /// The servers.
    pub servers: Vec<Server>,
    /// The path of the health check; without one, a server that accepts connections is healthy.
    pub health_path: Option<&'a str>,
}

/// A server that requests are sent to.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Server {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: ServerAddress,
    /// The address of its health check, if it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_address: Option<SocketAddr>,
}

/// The admin endpoints of the balancer.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Admin {
    /// The admin socket, which also takes commands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// The metrics endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Configuration<'a> {
    listen: Vec<Listen<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    served_by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "duration")]
    drain: Option<Duration>,
    #[serde(flatten)]
    options: toml::Table,
    access_log: AccessLog,
    admin: &'a Admin,
    #[serde(skip_serializing_if = "Option::is_none")]
    servers: Option<&'a [Server]>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pool: BTreeMap<&'a str, NamedPool<'a>>,
}

#[derive(Serialize)]
struct NamedPool<'a> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    health: BTreeMap<&'static str, &'a str>,
    servers: &'a [Server],
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case", untagged)]
enum Listen<'a> {
    Plain(SocketAddr),
    #[serde(rename_all = "kebab-case")]
    Redirecting {
        address: SocketAddr,
        redirect_to_https: bool,
    },
    Tls {
        address: SocketAddr,
        #[serde(skip_serializing_if = "Option::is_none")]
        hsts: Option<&'a str>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        tls: bool,
        #[serde(skip_serializing_if = "<[Certificate]>::is_empty")]
        certificates: &'a [Certificate],
    },
}

#[derive(Serialize)]
struct AccessLog {
    format: AccessLogFormat,
    to: &'static str,
}

impl Place<'_> {
    /// The text of the configuration file.
    ///
    /// # Errors
    /// A path is not UTF-8.
    pub fn configuration(&self, balancer: &Balancer) -> Result<String, toml::ser::Error> {
        toml::to_string(&Configuration {
            listen: listens(balancer, self),
            served_by: self.served_by,
            drain: self.drain,
            options: options(balancer, self)?,
            access_log: AccessLog { format: self.log_format, to: "stdout" },
            admin: &self.admin,
            servers: self.unnamed().map(|pool| &pool.servers[..]),
            pool: self.pools.iter().filter_map(|pool| Some((pool.name?, NamedPool::of(pool)))).collect(),
        })
    }

    /// The pool of the only application, if that has no name.
    fn unnamed(&self) -> Option<&Pool<'_>> {
        self.pools.iter().find(|pool| pool.name.is_none())
    }
}

impl<'a> NamedPool<'a> {
    fn of(pool: &'a Pool<'_>) -> Self {
        let health = pool.health_path.map(|path| ("path", path)).into_iter().collect();
        Self { health, servers: &pool.servers }
    }
}

/// The plain listeners, then those with TLS.
fn listens<'a>(balancer: &'a Balancer, place: &'a Place<'_>) -> Vec<Listen<'a>> {
    let tls = balancer.tls.as_ref();
    let redirects = tls.is_some_and(|tls| tls.redirect) && !place.tls_listen.is_empty();
    let plain = place.listen.iter().map(|address| {
        if redirects {
            Listen::Redirecting { address: *address, redirect_to_https: true }
        } else {
            Listen::Plain(*address)
        }
    });
    let secure = place.tls_listen.iter().map(|address| Listen::Tls {
        address: *address,
        hsts: tls.and_then(|tls| tls.hsts.as_deref()),
        tls: !balancer.domains.is_empty() && place.acme.is_some(),
        certificates: &place.certificates,
    });
    plain.chain(secure).collect()
}

/// The options of `tercet.toml`, with the path of the health check and the files of domains.
fn options(balancer: &Balancer, place: &Place<'_>) -> Result<toml::Table, toml::ser::Error> {
    let mut options = balancer.options.clone();
    let has_routes = options.get("route").and_then(toml::Value::as_array).is_some_and(|it| !it.is_empty());
    if let ([Pool { name: Some(name), .. }], false) = (&place.pools[..], has_routes) {
        // The only application gets all requests.
        let route = toml::Table::from_iter([("to".to_owned(), toml::Value::from(*name))]);
        options.insert("route".to_owned(), vec![toml::Value::from(route)].into());
    }
    if let Some(routes) = options.get_mut("route").and_then(toml::Value::as_array_mut) {
        locate_files(routes, &place.website)?;
        locate_servers(routes, place);
        locate_users(routes, &place.users)?;
    }
    locate_pages(&mut options, &place.website)?;
    if let Some(file) = &place.maintenance {
        let maintenance = options.entry("maintenance").or_insert_with(|| toml::Table::new().into());
        if let Some(maintenance) = maintenance.as_table_mut() {
            maintenance.insert("file".to_owned(), toml::Value::try_from(file)?);
        }
    }
    if let Some(path) = place.unnamed().and_then(|pool| pool.health_path) {
        let health = options.entry("health").or_insert_with(|| toml::Table::new().into());
        if let Some(health) = health.as_table_mut() {
            health.insert("path".to_owned(), path.into());
        }
    }
    match &place.acme {
        Some(files) if !balancer.domains.is_empty() => {
            let acme = options.entry("acme").or_insert_with(|| toml::Table::new().into());
            if let Some(acme) = acme.as_table_mut() {
                place_acme(acme, files);
            }
        }
        _ => {
            options.remove("domains");
            options.remove("acme");
        }
    }
    Ok(options)
}

/// Makes the folder of error pages absolute. If it is not there, there are no pages.
fn locate_pages(options: &mut toml::Table, website: &[(PathBuf, PathBuf)]) -> Result<(), toml::ser::Error> {
    let Some(folder) = options.get_mut("error-pages").and_then(|pages| pages.get_mut("folder")) else {
        return Ok(());
    };
    match folder.as_str().and_then(|folder| find(website, folder)) {
        Some(there) => *folder = toml::Value::try_from(there)?,
        None => {
            options.remove("error-pages");
        }
    }
    Ok(())
}

/// Where a folder of `tercet.toml` is.
fn find<'a>(website: &'a [(PathBuf, PathBuf)], folder: &str) -> Option<&'a PathBuf> {
    let folder: PathBuf = Path::new(folder).components().filter(|it| *it != Component::CurDir).collect();
    website.iter().find(|(name, _)| folder == *name).map(|(_, there)| there)
}

/// Makes the folders of static files absolute. Routes whose folder is not there are left out.
fn locate_files(
    routes: &mut Vec<toml::Value>,
    website: &[(PathBuf, PathBuf)],
) -> Result<(), toml::ser::Error> {
    let mut located = Vec::with_capacity(routes.len());
    for mut route in std::mem::take(routes) {
        if let Some(files) = route.get_mut("files") {
            let Some(there) = files.as_str().and_then(|folder| find(website, folder)) else { continue };
            *files = toml::Value::try_from(there)?;
        }
        located.push(route);
    }
    *routes = located;
    Ok(())
}

/// Leads the routes to applications that have no server yet to the servers of earlier ones, and leaves them out if there are none.
fn locate_servers(routes: &mut Vec<toml::Value>, place: &Place<'_>) {
    let serves = |name: &str| place.pools.iter().any(|pool| pool.name == Some(name));
    routes.retain_mut(|route| {
        let to = route.get("to").and_then(toml::Value::as_str);
        let waits = to.is_some_and(|to| to != APPLICATION && !serves(to));
        if waits && let (Some(route), true) = (route.as_table_mut(), place.unnamed().is_some()) {
            route.insert("to".to_owned(), APPLICATION.into());
            return true;
        }
        !waits
    });
}

/// Makes the files with users absolute.
fn locate_users(routes: &mut [toml::Value], users: &[(PathBuf, PathBuf)]) -> Result<(), toml::ser::Error> {
    for route in routes {
        let Some(file) = route.get_mut("basic-auth").and_then(|login| login.get_mut("users")) else {
            continue;
        };
        let name = file.as_str().map(|text| Path::new(text.strip_prefix('@').unwrap_or(text)));
        if let Some((_, there)) = users.iter().find(|(known, _)| name == Some(known)) {
            *file = toml::Value::try_from(there)?;
        }
    }
    Ok(())
}

fn place_acme(acme: &mut toml::Table, files: &AcmeFiles) {
    let text = |path: &Path| toml::Value::from(path.to_string_lossy().into_owned());
    acme.insert("folder".to_owned(), text(&files.folder));
    if let Some(root) = &files.root {
        acme.insert("root".to_owned(), text(root));
    }
    if let (Some(key), Some(toml::Value::Table(eab))) = (&files.hmac_key, acme.get_mut("eab")) {
        eab.insert("hmac-key-file".to_owned(), text(key));
    }
}

fn milliseconds(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

#[expect(clippy::ref_option, reason = "serde gives a reference")]
fn duration<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(milliseconds).serialize(serializer)
}
