//! From what the file says to what it means, reporting everything in it that contradicts itself.

mod addresses;
mod machines;
mod parts;
mod state;
mod tls;

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::Serialize;

use self::machines::Placement;
use super::{Api, Application, Balancer, Database, Policy, Program, Secret, Server, Topology, names};
use crate::diagnostic::Mistakes;
use crate::file::{self, File, Located};

/// The role of requests without a token, unless the file names another.
const ANONYMOUS: &str = "anon";

impl Topology {
    /// What the file means. It is only to be used when there are no mistakes.
    pub(crate) fn from_file(file: File, folder: &str, mistakes: &mut Mistakes) -> Self {
        let placement = Placement::read(&file, mistakes);
        let balancer = balancer(&file.balancer, &placement, mistakes);
        let parts = parts::place(&file, &balancer, &placement, mistakes);
        Self {
            name: name(file.name.as_ref(), folder, mistakes),
            application: application(&file.application, file.api, mistakes),
            database: database(&file.database, mistakes),
            state: state::read(&file.state, mistakes),
            machines: placement.machines,
            parts,
            balancer,
        }
    }
}

fn name(name: Option<&Located<String>>, folder: &str, mistakes: &mut Mistakes) -> String {
    let Some(name) = name else { return names::from_folder(folder) };
    if !names::is_name(name) {
        let message = format!("{:?} can't be the name of a project", **name);
        mistakes.add(name.span(), message, "not a name").hint(names::RULE);
    }
    name.to_string()
}

fn balancer(section: &file::Balancer, placement: &Placement, mistakes: &mut Mistakes) -> Balancer {
    let default: &[&str] = if placement.named { &["0.0.0.0:80", "[::]:80"] } else { &["127.0.0.1:8080"] };
    let listen = addresses::read(section.listen.as_ref(), default, &[], mistakes);
    let tls = tls::read(section, placement, &listen, mistakes);
    Balancer {
        listen,
        tls,
        policy: policy(section, mistakes),
        trusted_proxies: section
            .trusted_proxies
            .iter()
            .flatten()
            .filter_map(|it| network(it, mistakes))
            .collect(),
        options: [
            ("health", table(&section.health)),
            ("retries", table(&section.retries)),
            ("limits", table(&section.limits)),
            ("timeouts", table(&section.timeouts)),
        ]
        .map(|(name, table)| (name.to_owned(), table.into()))
        .into_iter()
        .collect(),
    }
}

/// What a section says, by the keys' names.
fn table(section: &impl Serialize) -> toml::Table {
    toml::Table::try_from(section).expect("a section serialises to plain keys")
}

fn policy(section: &file::Balancer, mistakes: &mut Mistakes) -> Policy {
    if let Some(hash_on) = &section.hash_on {
        if *section.policy != file::Policy::Hash {
            mistakes
                .add(hash_on.span(), "hash-on means nothing with this policy", "for policy = \"hash\"")
                .hint("set policy = \"hash\", or leave it out");
        }
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if hash_on.is_empty() || !hash_on.chars().all(is_token) {
            mistakes
                .add(hash_on.span(), format!("{:?} is no header's name", **hash_on), "not a name")
                .hint("write \"client\", or a header like \"authorization\"");
        }
    }
    match *section.policy {
        file::Policy::RoundRobin => Policy::RoundRobin,
        file::Policy::LeastConnections => Policy::LeastConnections,
        file::Policy::RandomTwo => Policy::RandomTwo,
        file::Policy::Hash => {
            Policy::Hash { on: section.hash_on.as_ref().map_or("client", |on| on.as_str()).to_owned() }
        }
    }
}

fn network(text: &Located<String>, mistakes: &mut Mistakes) -> Option<IpNet> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    if network.is_err() {
        mistakes
            .add(text.span(), format!("{:?} is no network", **text), "not a network")
            .hint("write it like 10.0.0.0/8");
    }
    network.ok()
}

fn application(
    section: &file::Application,
    api: Option<Located<file::Api>>,
    mistakes: &mut Mistakes,
) -> Application {
    if let Some(health) = &section.health {
        if !health.starts_with('/') || health.contains(|c: char| c.is_whitespace() || c.is_control()) {
            let message = format!("{:?} is no path", **health);
            mistakes.add(health.span(), message, "not a path").hint("write it like /health");
        }
        if section.run.is_none() {
            mistakes
                .add(health.span(), "health is for your own program, and there is none", "for run")
                .hint("the data API has a health path of its own: leave this out, or add run");
        }
    }
    if let (Some(build), None) = (&section.build, &section.run) {
        mistakes
            .add(build.span(), "build is for your own program, and there is none", "for run")
            .hint("add run, or leave this out");
    }
    let Some(run) = &section.run else {
        return Application { server: Server::Api(options(api.as_ref(), mistakes)) };
    };
    if let Some(api) = api {
        mistakes
            .add(api.span(), "[api] is for the data API, and run replaces it", "the data API's options")
            .and(run.span(), "your own program")
            .hint("keep one of the two");
    }
    let mut command = |key: &str, text: &Located<String>| {
        Program::parse(text).unwrap_or_else(|reason| {
            mistakes.add(text.span(), format!("{key} can't be started: {reason}"), "this command");
            Program::default()
        })
    };
    let program = command("run", run);
    let build = section.build.as_ref().map(|build| command("build", build));
    let health = section.health.as_ref().map(|health| health.as_str().to_owned());
    Application { server: Server::Own { program, build, health } }
}

/// The API's options as PostgREST spells them, without the secret.
fn options(api: Option<&Located<file::Api>>, mistakes: &mut Mistakes) -> Api {
    let absent = file::Api::default();
    let section = api.map_or(&absent, |api| &**api);
    let mut options = table(section);
    options.entry("db-anon-role").or_insert_with(|| toml::Value::from(ANONYMOUS));
    let jwt_secret = section.jwt_secret.as_ref().map(|secret| {
        if secret.strip_prefix('@').unwrap_or(secret).trim().is_empty() {
            mistakes
                .add(secret.span(), "jwt-secret is empty", "empty")
                .hint("leave it out for no tokens at all");
        }
        Secret::parse(secret)
    });
    Api { options, jwt_secret }
}

fn database(section: &file::Database, mistakes: &mut Mistakes) -> Database {
    if let Some(url) = &section.url {
        if let (Some(port), false) = (&section.port, url.is_empty()) {
            mistakes
                .add(port.span(), "port is for tercet's own PostgreSQL, and url names another", "its port")
                .and(url.span(), "the other one")
                .hint("write the port into the url");
        }
        let plain = url.starts_with("postgres://") || url.starts_with("postgresql://");
        if !plain && url.strip_prefix('@').is_none_or(str::is_empty) {
            mistakes
                .add(url.span(), "this is no connection URL", "not a URL")
                .hint("write postgres://USER@HOST/DATABASE, or \"@path\" of a file that holds it");
        }
    }
    let migrations = section.migrations.as_ref();
    if let Some(folder) = migrations.filter(|folder| folder.is_empty()) {
        mistakes.add(folder.span(), "migrations names no folder", "empty");
    }
    Database {
        migrations: PathBuf::from(migrations.map_or("migrations", |folder| folder.as_str())),
        migrations_named: migrations.is_some(),
        url: section.url.as_ref().map(|url| Secret::parse(url)),
    }
}
