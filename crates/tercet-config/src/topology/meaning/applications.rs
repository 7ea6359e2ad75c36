//! The applications: `[application]` alone, or one for each `[application.NAME]`, and the routes that send requests to them.

use tercet_options::balancer::{APPLICATION, Config};
use tercet_options::document::{Section, Spans};
use tercet_options::schema::OptionsOf;
use tercet_options::{Mistakes, api};

use super::{firewall, typed};
use crate::environment;
use crate::file::{self, File, Located};
use crate::topology::{Api, Application, Egress, Environment, Program, Rollout, Secret, Server};

/// The role of requests without a token, unless the file names another.
const ANONYMOUS: &str = "anon";

/// The applications, in the order of the file.
pub(super) fn read(file: &File, mistakes: &mut Mistakes, spans: &Spans) -> Vec<Application> {
    check_names(&file.application, mistakes, spans);
    check_data_api(file, mistakes);
    check_grants(&file.application, mistakes);
    let mut api = file.api.as_ref();
    let sections = file.application.sections().into_iter();
    sections
        .map(|(name, section)| {
            // Its mistakes are reported once.
            let api = if section.run.is_none() { api.take() } else { None };
            application(name, section, api, mistakes, spans)
        })
        .collect()
}

/// Reports a name that means all of them, and keys beside names. The schema has the format of names.
fn check_names(applications: &file::Applications, mistakes: &mut Mistakes, spans: &Spans) {
    if let Some((_, section)) = applications.named().iter().find(|(name, _)| name == APPLICATION) {
        mistakes
            .add(section.span(), "an application can't be named application", "the word for all of them")
            .hint("name it after what it does, like shop");
    }
    if let (Some(key), [(name, section), ..]) = (applications.written(), applications.named()) {
        let label = format!("here is [application.{name}]");
        Section { mistakes, spans, path: APPLICATION }
            .mistake(
                key,
                "is a key of the only application, and there are applications with names",
                "in [application]",
            )
            .and(section.span(), label)
            .hint("move the keys of [application] to an [application.NAME], or keep [application] alone");
    }
}

/// Reports a second data API, and options of none.
fn check_data_api(file: &File, mistakes: &mut Mistakes) {
    let named = file.application.named();
    let mut data_apis = named.iter().filter(|(_, section)| section.run.is_none());
    if let (Some((first, at_first)), Some((second, at_second))) = (data_apis.next(), data_apis.next()) {
        mistakes
            .add(
                at_second.span(),
                format!("[application.{second}] and [application.{first}] have no run, and only one application can be the data API"),
                "a second data API",
            )
            .and(at_first.span(), "the first")
            .hint("add run to one of the two; the data API of one application serves all requests that routes send to it");
    }
    let Some(api) = &file.api else { return };
    match (&file.application.sections()[..], named) {
        ([(None, section)], _) => {
            let Some(run) = &section.run else { return };
            mistakes
                .add(api.span(), "[api] is for the data API, and run replaces it", "the data API's options")
                .and(run.span(), "your own program")
                .hint("keep one of the two");
        }
        (sections, _) if sections.iter().all(|(_, section)| section.run.is_some()) => {
            mistakes
                .add(
                    api.span(),
                    "[api] is for the data API, and every application has run",
                    "the data API's options",
                )
                .hint("add an [application.NAME] without run, or leave [api] out");
        }
        _ => {}
    }
}

/// Reports applications that differ in `grants`: the privileges are those of tables of the one owner that all `migrate` as.
fn check_grants(applications: &file::Applications, mistakes: &mut Mistakes) {
    let written =
        || applications.named().iter().filter_map(|(name, section)| Some((name, section, grants(section)?)));
    let Some((first, at_first, granted)) = written().next() else { return };
    let Some((second, at_second, _)) = written().find(|(.., other)| *other != granted) else { return };
    let span = |section: &Located<file::Application>| {
        section.grants.as_ref().map_or_else(|| section.span(), Located::span)
    };
    mistakes
        .add(
            span(at_second),
            format!("[application.{second}] and [application.{first}] differ in grants"),
            "this one",
        )
        .and(span(at_first), "the other one")
        .hint("write the same grants in both: their tables have one owner, whose privileges they are");
}

/// Whether the role `authenticated` may use the tables of `migrate`.
fn grants(section: &file::Application) -> Option<bool> {
    let written = section.grants.as_ref().map(|grants| **grants == file::Grants::Authenticated);
    written.or_else(|| section.migrate.is_some().then_some(true))
}

/// Reports routes to no application, and applications without a route.
pub(super) fn check_routes(options: &Config, file: &File, mistakes: &mut Mistakes, spans: &Spans) {
    let applications = file.application.named();
    let names: Vec<&str> = match applications {
        [] => vec![APPLICATION],
        named => named.iter().map(|(name, _)| name.as_str()).collect(),
    };
    options.check_destinations(&names, &mut Section { mistakes, spans, path: "balancer" });
    // The only one gets all requests if there is no route at all.
    if options.route.is_empty() && applications.len() == 1 {
        return;
    }
    for (name, section) in applications.iter().filter(|(name, _)| !options.has_route_to(name)) {
        mistakes
            .add(section.span(), format!("nothing sends requests to [application.{name}]"), "without a route")
            .hint(format!("add a [[balancer.route]] with path = \"/{name}\" and to = \"{name}\""));
    }
}

fn application(
    name: Option<&str>,
    section: &file::Application,
    api: Option<&Located<OptionsOf<api::Options>>>,
    mistakes: &mut Mistakes,
    spans: &Spans,
) -> Application {
    let name = name.map(str::to_owned);
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
        return Application { name, server, environment, rollout, egress: Egress::default() };
    };
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
    Application { name, server: Server::Own { program, build, health }, environment, rollout, egress }
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
    Environment {
        grants: grants(section),
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
