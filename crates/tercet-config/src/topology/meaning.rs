//! Converts the keys of the file to a topology and reports all contradictions.

mod addresses;
mod alerts;
mod applications;
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
use tercet_options::Mistakes;
use tercet_options::balancer::Config;
use tercet_options::document::{Section, Spans};
use tercet_options::schema::OptionsOf;

use self::machines::Placement;
use super::{Balancer, Database, Egress, Secret, Topology, names};
use crate::file::{self, File, Located};

impl Topology {
    /// Converts the file to a topology, which is only valid if there are no mistakes.
    pub(crate) fn from_file(file: &File, folder: &str, mistakes: &mut Mistakes, spans: &Spans) -> Self {
        let placement = Placement::read(file, mistakes);
        let (mut balancer, options) = balancer(file, &placement, mistakes, spans);
        let own_prometheus = monitoring::read(file, &placement, mistakes);
        let parts = parts::place(file, &mut balancer, &placement, own_prometheus.is_some(), mistakes);
        let backup = backup::read(file, &placement, mistakes);
        backup::apart(file, mistakes);
        let alerts = alerts::read(file, &placement, mistakes);
        let mut applications = applications::read(file, mistakes, spans);
        let otlp = monitoring::otlp(file, mistakes);
        if let Some(otlp) = &otlp {
            monitoring::lower(otlp, &mut balancer, &mut applications);
        }
        let topology = Self {
            name: name(file.name.as_ref(), folder, mistakes),
            applications,
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
            applications::check_routes(options, file, mistakes, spans);
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
    } else if names::is_taken(name) {
        let message = format!("{:?} can't be the name of a project", **name);
        mistakes
            .add(name.span(), message, "a database of PostgreSQL's own")
            .hint("name it after what it does, like shop");
    }
    name.to_string()
}

fn balancer(
    file: &File,
    placement: &Placement,
    mistakes: &mut Mistakes,
    spans: &Spans,
) -> (Balancer, Option<Config>) {
    let section = &file.balancer;
    let default: &[&str] = if placement.named { &["0.0.0.0:80", "[::]:80"] } else { &["127.0.0.1:8080"] };
    let listen = addresses::read(section.listen.as_ref(), default, &[], mistakes);
    let mut at = Section { mistakes, spans, path: "balancer" };
    let typed = typed(&section.options, &mut at);
    if let Some(options) = &typed {
        options.check(&mut at);
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
        routes: options.route,
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
