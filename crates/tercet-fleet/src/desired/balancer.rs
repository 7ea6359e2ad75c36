//! Tier 1 on a machine: the balancer's socket, which stays while the balancer is replaced, its unit and its
//! configuration.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tercet_config::{Machine, Protocol, Tier, Topology};
use tercet_machine::Desired;
use tercet_machine::file::{Contents, File};
use tercet_machine::path::Owner;
use tercet_machine::unit::{Goal, Unit};
use tercet_options::balancer::{AccessLogFormat, Certificate};

use super::file::{public_file, unit_file};
use super::hardening;
use super::project::Project;
use crate::configuration::balancer::{AcmeFiles, Admin, Place, Pool, Server};
use crate::deployment::Serving;
use crate::paths::{ADMIN_SOCKET, CERTIFICATES, CONFIGURATION, CREDENTIALS, MAINTENANCE};
use crate::website;

const SOCKET: &str = "tercet-balancer.socket";
/// The name of the file with the root certificate that the address of their authority is verified with.
const ROOT: &str = "balancer-acme-root.crt";
/// The name of the file with the HMAC key of the external account there.
const HMAC_KEY: &str = "balancer-acme-hmac.key";
/// The name of its configuration file.
const FILE: &str = "balancer.toml";
const SERVICE: &str = "tercet-balancer.service";

/// Adds the balancer to what `machine` should be; it hands requests to the servers of `serving`.
pub(super) fn add(desired: &mut Desired, project: &Project<'_>, machine: &Machine, serving: &[Serving<'_>]) {
    let rotation = rotation(project, serving);
    let socket = unit_file(SOCKET, socket(project));
    let credentials = credentials(project);
    let service = unit_file(SERVICE, service(project, machine, &credentials));
    // A reload hands a unit no new credentials: a new certificate starts the balancer anew. Its socket stays, so
    // clients wait a moment and none is refused.
    let restart_when: Vec<PathBuf> =
        [&service, &socket].into_iter().chain(&credentials).map(|file| file.path.clone()).collect();
    desired.units.push(Unit {
        name: SOCKET.to_owned(),
        enabled: Some(true),
        goal: Goal::Running,
        restart_when: vec![socket.path.clone()],
        reload_when: vec![],
    });
    desired
        .units
        .extend(rotation.units.into_iter().map(|unit| Unit { restart_when: restart_when.clone(), ..unit }));
    desired.files.extend(credentials);
    desired.files.extend(rotation.files);
    desired.files.extend([socket, service]);
}

/// The balancer handing requests to the servers of `serving`, and nothing else of it.
pub(crate) fn rotation(project: &Project<'_>, serving: &[Serving<'_>]) -> Desired {
    let file = public_file(Path::new(CONFIGURATION).join(FILE), configuration(project, serving));
    let unit = Unit {
        name: SERVICE.to_owned(),
        enabled: Some(true),
        goal: Goal::Running,
        restart_when: vec![],
        reload_when: vec![file.path.clone()],
    };
    Desired { files: vec![file], units: vec![unit], ..Desired::default() }
}

/// The certificates and keys, root's alone; systemd hands them to the unit.
fn credentials(project: &Project<'_>) -> Vec<File> {
    let file = |name: String, contents| File {
        path: PathBuf::from(CREDENTIALS).join(name),
        contents,
        owner: Owner::root(),
        mode: 0o600,
    };
    let files = project.secrets.certificates.iter().enumerate().flat_map(|(index, identity)| {
        [
            file(certificate_name(index), Contents::Text(identity.certificate.clone())),
            file(key_name(index), Contents::Secret(identity.key.clone())),
        ]
    });
    let root =
        project.secrets.acme_root.iter().map(|root| file(ROOT.to_owned(), Contents::Text(root.clone())));
    let hmac_key = project.secrets.acme_hmac_key.iter();
    let hmac_key = hmac_key.map(|key| file(HMAC_KEY.to_owned(), Contents::Secret(key.clone())));
    let users = project.secrets.users.iter().enumerate();
    let users = users.map(|(index, users)| file(users_name(index), Contents::Secret(users.clone())));
    files.chain(root).chain(hmac_key).chain(users).collect()
}

fn users_name(index: usize) -> String {
    format!("balancer-users-{}", index + 1)
}

fn certificate_name(index: usize) -> String {
    format!("balancer-{}.crt", index + 1)
}

fn key_name(index: usize) -> String {
    format!("balancer-{}.key", index + 1)
}

/// The text of the balancer's configuration file.
pub(crate) fn configuration(project: &Project<'_>, serving: &[Serving<'_>]) -> String {
    let topology = project.topology;
    let balancer = topology.balancer();
    let tls = balancer.tls.as_ref();
    let credential = |name: String| PathBuf::from(format!("/run/credentials/{SERVICE}/{name}"));
    let certificate = |index: usize| Certificate {
        certificate: credential(certificate_name(index)),
        key: credential(key_name(index)),
    };
    let place = Place {
        listen: &balancer.listen,
        tls_listen: tls.map_or(&[], |tls| &tls.listen),
        certificates: (0..tls.map_or(0, |tls| tls.certificates.len())).map(certificate).collect(),
        website: website(topology, serving),
        users: (0..)
            .zip(&balancer.users)
            .map(|(index, file)| (file.clone(), credential(users_name(index))))
            .collect(),
        maintenance: Some(MAINTENANCE.into()),
        acme: Some(AcmeFiles {
            folder: CERTIFICATES.into(),
            root: balancer.acme.root.as_ref().map(|_| credential(ROOT.to_owned())),
            hmac_key: balancer.acme.eab.as_ref().map(|_| credential(HMAC_KEY.to_owned())),
        }),
        pools: pools(topology, serving),
        served_by: None,
        drain: None,
        log_format: AccessLogFormat::Json,
        admin: Admin { socket: Some(ADMIN_SOCKET.into()), metrics: metrics(topology) },
    };
    place.configuration(balancer).expect("the paths on machines are UTF-8")
}

/// The backend pools: that of each application, and one for the servers of applications that are not in the file any more. It gets the
/// requests until those of the file serve.
fn pools<'a>(topology: &'a Topology, serving: &'a [Serving<'_>]) -> Vec<Pool<'a>> {
    let name_of = |it: &Serving<'_>| {
        topology.application(it.release.application.as_deref()).and_then(|it| it.name.as_deref())
    };
    let server = |it: &Serving<'_>| Server {
        name: it.name.clone(),
        address: it.placed.address.into(),
        health_address: (it.release.health_port(it.placed.address.port()))
            .map(|port| SocketAddr::new(it.placed.address.ip(), port)),
    };
    let mut pools: Vec<Pool<'a>> = Vec::new();
    for it in serving {
        let (name, health_path) = (name_of(it), it.release.health_path());
        match pools.iter_mut().find(|pool| pool.name == name) {
            Some(pool) => {
                pool.servers.push(server(it));
                pool.health_path = health_path;
            }
            None => pools.push(Pool { name, servers: vec![server(it)], health_path }),
        }
    }
    pools
}

/// The folders of static files: those of the release that is replaced last, so that a new page never comes before the servers that
/// it needs. They are part of the releases of the last application.
fn website(topology: &Topology, serving: &[Serving<'_>]) -> Vec<(PathBuf, PathBuf)> {
    let application = topology.applications().last().and_then(|it| it.name.as_ref());
    let mut own = serving.iter().rev();
    let own = own.find(|it| it.release.application.as_ref() == application).or(serving.last());
    let last = own.filter(|last| last.has_website);
    let Some(website) = last.and_then(|last| last.release.website.as_ref()) else { return Vec::new() };
    let here = website::folder().join(website.name());
    website.folders.iter().map(|folder| (folder.clone(), here.join(folder))).collect()
}

/// The address of its metrics; `None` if no edge leads there.
fn metrics(topology: &Topology) -> Option<SocketAddr> {
    let edges = topology.edges();
    let scraped = edges.iter().find(|it| it.to.tier == Tier::Balancer && it.protocol == Protocol::Metrics);
    scraped.map(|edge| SocketAddr::new(edge.address, edge.port))
}

fn socket(project: &Project<'_>) -> String {
    let listen: String =
        project.topology.balancer().addresses().map(|address| format!("ListenStream={address}\n")).collect();
    format!(
        "[Unit]\nDescription=tercet: the balancer's public door\n\n[Socket]\n{listen}BindIPv6Only=ipv6-only\n\
         Backlog=4096\nNoDelay=yes\n\n[Install]\nWantedBy=sockets.target\n"
    )
}

fn service(project: &Project<'_>, machine: &Machine, credentials: &[File]) -> String {
    let credentials: String = credentials
        .iter()
        .filter_map(|file| Some((file.path.file_name()?.to_str()?, file.path.display())))
        .map(|(name, path)| format!("LoadCredential={name}:{path}\n"))
        .collect();
    let state = if project.topology.balancer().domains.is_empty() {
        ""
    } else {
        "StateDirectory=tercet-balancer\nStateDirectoryMode=0700\n"
    };
    format!(
        "[Unit]\nDescription=tercet: balancer\nRequires={SOCKET}\nAfter={SOCKET} network-online.target\n\
         Wants=network-online.target\nStartLimitIntervalSec=0\n\n\
         [Service]\nExecStart={} balancer --config {CONFIGURATION}/balancer.toml --json\nExecReload=/bin/kill -HUP $MAINPID\n\
         KillMode=mixed\nTimeoutStopSec=40\nRuntimeDirectory=tercet-balancer\n{state}{credentials}{}{}\n[Install]\nWantedBy=multi-user.target\n",
        project.program,
        hardening::NO_NEW_CODE,
        hardening::server(machine, Tier::Balancer),
    )
}
