//! Converts the keys of the file to a topology and reports all contradictions.

mod addresses;
mod alerts;
mod backup;
mod firewall;
mod machines;
mod monitoring;
mod parts;
mod state;
mod system;
mod tls;
mod website;

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use tercet_options::balancer::{APPLICATION, Config};
use tercet_options::document::{Section, Spans};
use tercet_options::schema::OptionsOf;
use tercet_options::{Mistakes, api};

use self::machines::Placement;
use super::{
    Api, Application, Balancer, Database, Egress, Environment, Program, Rollout, Secret, Server, Topology,
    names,
};
use crate::environment;
use crate::file::{self, File, Located};

/// The role of requests without a token, unless the file names another.
const ANONYMOUS: &str = "anon";

impl Topology {
    /// Converts the file to a topology, which is only valid if there are no mistakes.
    pub(crate) fn from_file(file: &File, folder: &str, mistakes: &mut Mistakes, spans: &Spans) -> Self {
        let placement = Placement::read(file, mistakes);
        let (mut balancer, options) = balancer(&file.balancer, &placement, mistakes, spans);
        let own_prometheus = monitoring::read(file, &placement, mistakes);
        let parts = parts::place(file, &mut balancer, &placement, own_prometheus.is_some(), mistakes);
        let backup = backup::read(file, &placement, mistakes);
        backup::apart(file, mistakes);
        let alerts = alerts::read(file, &placement, mistakes);
        let mut application = application(&file.application, file.api.as_ref(), mistakes, spans);
        let otlp = monitoring::otlp(file, mistakes);
        if let Some(otlp) = &otlp {
            monitoring::lower(otlp, &mut balancer, &mut application);
        }
        let topology = Self {
            name: name(file.name.as_ref(), folder, mistakes),
            application,
            database: database(&file.database, placement.named, mistakes),
            state: state::read(&file.state, mistakes),
            backup,
            alerts,
            own_prometheus,
            otlp,
            ssh_from: firewall::read(&file.firewall, mistakes),
            system: system::read(&file.system, mistakes),
            machines: placement.machines,
            parts,
            balancer,
        };
        if let Some(options) = &options {
            website::check(options, &topology, mistakes, spans);
        }
        topology
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

fn balancer(
    section: &file::Balancer,
    placement: &Placement,
    mistakes: &mut Mistakes,
    spans: &Spans,
) -> (Balancer, Option<Config>) {
    let default: &[&str] = if placement.named { &["0.0.0.0:80", "[::]:80"] } else { &["127.0.0.1:8080"] };
    let listen = addresses::read(section.listen.as_ref(), default, &[], mistakes);
    let mut at = Section { mistakes, spans, path: "balancer" };
    let typed = typed(&section.options, &mut at);
    if let Some(options) = &typed {
        options.check(&mut at);
        options.check_destinations(&[APPLICATION], &mut at);
    }
    let options = typed.clone().unwrap_or_default();
    if !options.domains.is_empty() && !placement.named && section.listen.is_none() {
        at.mistake(
            "domains",
            "needs addresses that the certificate authority can reach, and the balancer listens on 127.0.0.1",
            "for a public address",
        )
        .hint("add listen = [\"0.0.0.0:80\"] and tls-listen = [\"0.0.0.0:443\"], or [[machine]]s");
    }
    let tls = tls::read(section, &options.domains, placement, &listen, mistakes);
    let files = website::folders(&options);
    let balancer = Balancer {
        listen,
        tls,
        files,
        users: website::users(&options),
        domains: options.domains,
        acme: options.acme,
        options: section.options.written.clone(),
        metrics_port: parts::METRICS_PORT,
    };
    (balancer, typed)
}

/// The options of a section as the tier's type, to find contradictions; each value has been checked.
fn typed<T: DeserializeOwned>(options: &OptionsOf<T>, section: &mut Section<'_>) -> Option<T> {
    options
        .written
        .clone()
        .try_into()
        .map_err(|error: toml::de::Error| {
            section.mistakes.add_without_position(error.message());
        })
        .ok()
}

fn application(
    section: &file::Application,
    api: Option<&Located<OptionsOf<api::Options>>>,
    mistakes: &mut Mistakes,
    spans: &Spans,
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
    let environment = environment(section, mistakes);
    let rollout = section.rollout.as_ref().map_or(Rollout::default(), |text| {
        text.parse().unwrap_or_else(|_| {
            mistakes
                .add(text.span(), format!("{:?} is no number of servers", **text), "how many?")
                .hint("write \"2\", or a share of them such as \"25%\"");
            Rollout::default()
        })
    });
    let Some(run) = &section.run else {
        if let Some(egress) = &section.egress {
            mistakes
                .add(egress.span(), "egress is for your own program, and there is none", "for run")
                .hint("leave it out: the data API connects to the database, and to what its options name");
        }
        let server = Server::Api(options(api.map(|api| &**api), mistakes, spans));
        return Application { server, environment, rollout, egress: Egress::default() };
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
    let egress = firewall::egress(section.egress.as_ref(), Egress::Anywhere, mistakes);
    Application { server: Server::Own { program, build, health }, environment, rollout, egress }
}

/// What surrounds the user's program: for `run`.
fn environment(section: &file::Application, mistakes: &mut Mistakes) -> Environment {
    let keys = [
        ("migrate", section.migrate.as_ref().map(Located::span)),
        ("grants", section.grants.as_ref().map(Located::span)),
        ("env", section.env.as_ref().map(Located::span)),
        ("env-file", section.env_file.as_ref().map(Located::span)),
        ("start-timeout", section.start_timeout.as_ref().map(Located::span)),
    ];
    for (key, span) in keys {
        let Some(span) = span else { continue };
        if section.run.is_none() {
            mistakes
                .add(span, format!("{key} is for your own program, and there is none"), "for run")
                .hint("add run, or leave this out");
        }
    }
    if let Some(variables) = &section.env
        && let Some(name) = variables.keys().find(|name| !is_variable(name))
    {
        let message = format!("{name:?} can't be the name of an environment variable");
        let hint = if environment::is_name(name) {
            "tercet sets it for each server: leave it out"
        } else {
            "write it in letters, digits and _"
        };
        mistakes.add(variables.span(), message, "in here").hint(hint);
    }
    let migrate = section.migrate.as_ref().map(|text| {
        Program::parse(text).unwrap_or_else(|reason| {
            mistakes.add(text.span(), format!("migrate can't be started: {reason}"), "this command");
            Program::default()
        })
    });
    let grants = section.grants.as_ref().map(|grants| **grants == file::Grants::Authenticated);
    Environment {
        grants: grants.or_else(|| migrate.is_some().then_some(true)),
        migrate,
        variables: section.env.as_deref().cloned().unwrap_or_default(),
        file: section.env_file.as_ref().map(|file| file.strip_prefix('@').unwrap_or(file).into()),
        start_timeout: section.start_timeout.as_deref().map(|timeout| **timeout),
    }
}

/// A name of POSIX, without those that tercet sets.
fn is_variable(name: &str) -> bool {
    environment::is_name(name) && !matches!(name, "HOST" | "PORT" | "DATABASE_URL")
}

/// The data API's options by PostgREST's names, without the secret.
fn options(section: Option<&OptionsOf<api::Options>>, mistakes: &mut Mistakes, spans: &Spans) -> Api {
    let absent = OptionsOf::default();
    let section = section.unwrap_or(&absent);
    let mut at = Section { mistakes, spans, path: "api" };
    let typed = typed(section, &mut at).unwrap_or_default();
    typed.check(&mut at);
    let jwt_secret = typed.jwt_secret.as_ref().map(|secret| {
        let secret = secret.expose();
        if secret.strip_prefix('@').unwrap_or(secret).trim().is_empty() {
            at.mistake("jwt-secret", "is empty", "empty").hint("leave it out for no tokens at all");
        }
        Secret::parse(secret)
    });
    let mut options = section.written.clone();
    options.remove("jwt-secret");
    options.entry("db-anon-role").or_insert_with(|| toml::Value::from(ANONYMOUS));
    for (_, value) in &mut options {
        // PostgREST's notation of a list.
        if let toml::Value::Array(names) = value {
            let names: Vec<&str> = names.iter().filter_map(toml::Value::as_str).collect();
            *value = names.join(",").into();
        }
    }
    Api { options, jwt_secret }
}

fn database(section: &file::Database, machines: bool, mistakes: &mut Mistakes) -> Database {
    if let Some(supabase) = section.supabase.as_ref().filter(|supabase| ***supabase) {
        if machines {
            mistakes
                .add(supabase.span(), "supabase is for tercet up so far, not for machines", "for one machine")
                .hint("create the schema auth in a migration");
        } else if let Some(url) = &section.url {
            mistakes
                .add(
                    supabase.span(),
                    "supabase is for tercet's own PostgreSQL, and url names another",
                    "for its own",
                )
                .and(url.span(), "the other one")
                .hint("keep one of the two");
        }
    }
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
        supabase: section.supabase.as_deref().copied().unwrap_or_default(),
        url: section.url.as_ref().map(|url| Secret::parse(url)),
        privileged_roles: section.privileged_roles.clone().unwrap_or_default(),
        egress: firewall::egress(section.egress.as_ref(), Egress::default(), mistakes),
    }
}
