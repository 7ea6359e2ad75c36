//! Tier 2 on a machine: a unit for each instance of an application server; old and new are side by side while one
//! replaces the other.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use anyhow::Result;
use tercet_config::{End, Machine, Part, Protocol, Tier, Topology};
use tercet_database::roles::{AUTHENTICATOR, owner};
use tercet_machine::Desired;
use tercet_machine::Secret;
use tercet_machine::directory::Directory;
use tercet_machine::file::{Contents, File};
use tercet_machine::path::Owner;
use tercet_machine::unit::{Goal, Unit};

use super::file::unit_file;
use super::hardening;
use super::project::Project;
use super::quoting::{argument, quoted};
use crate::instance::{Instance, REVISION_DIGITS};
use crate::libpq;
use crate::paths::{CREDENTIALS, CREDENTIALS_PREFIX};
use crate::program_migration::ProgramMigration;
use crate::release::{API_CONF, ID_DIGITS, Kind, Release};
use crate::report::SECTION;

/// The secrets of a unit of an application, as systemd credentials.
fn credentials(
    project: &Project<'_>,
    machine: &Machine,
    application: Option<&str>,
) -> Vec<(&'static str, Contents)> {
    let secrets = project.secrets;
    let secret = |text: String| Contents::Secret(Secret::new(text));
    let url = |password| database(project, machine, AUTHENTICATOR, password);
    vec![
        ("authority.crt", Contents::Text(secrets.authority.clone())),
        ("client.crt", Contents::Text(secrets.client.certificate.clone())),
        ("client.key", Contents::Secret(secrets.client.key.clone())),
        ("database-password", secret(format!("{}\n", secrets.authenticator.reveal()))),
        ("database-url", secret(url(Some(secrets.authenticator.reveal())) + "\n")),
        // libpq's password file (PostgreSQL manual, section 34.16): for programs that read PGPASSFILE.
        ("pgpass", secret(format!("*:*:*:{AUTHENTICATOR}:{}\n", secrets.authenticator.reveal()))),
        ("jwt-secret", Contents::Secret(secrets.jwt.clone())),
        // The secret variables of a user's own program. systemd reads the file as root; unlike `Environment=`,
        // it never shows the values (systemd.exec(5)).
        (ENVIRONMENT, secret(variables(project, application, &url(None)))),
    ]
}

/// The machine on which the user's own programs migrate the database: the first application machine.
pub(crate) fn migrator(topology: &Topology) -> Option<&Machine> {
    let part = topology.parts().iter().find(|part| part.tier == Tier::Application)?;
    let migrates = topology.applications().iter().any(|it| it.environment.migrate.is_some());
    migrates.then(|| topology.machine_of(part))
}

/// What a release migrates the database with on `machine`, as its owner with a password. An existing database has its own URL.
///
/// # Errors
/// That URL cannot be parsed.
pub(crate) fn migration(
    project: &Project<'_>,
    machine: &Machine,
    release: &Release,
    password: &Secret,
) -> Result<ProgramMigration> {
    let secrets = project.secrets;
    let url = database(project, machine, &owner(project.topology.name()), Some(password.reveal()));
    let credentials = [
        ("authority.crt", Secret::new(secrets.authority.clone())),
        ("client.crt", Secret::new(secrets.client.certificate.clone())),
        ("client.key", secrets.client.key.clone()),
    ];
    let application = release.application.as_deref();
    let of_the_url = project.existing_database(application)?.and_then(|target| target.password);
    Ok(ProgramMigration {
        release: release.clone(),
        credentials: credentials.map(|(name, secret)| (name.to_owned(), secret)).to_vec(),
        environment: Secret::new(variables(project, application, &url)),
        password: of_the_url.map_or_else(|| password.clone(), Secret::new),
    })
}

/// The folder of the credentials of an application's servers on a machine, named by what is in it: what is new is beside what
/// the servers that still run were started with, and a secret of one application is no change of another.
pub(crate) fn credentials_folder(
    project: &Project<'_>,
    machine: &Machine,
    application: Option<&str>,
) -> PathBuf {
    let mut all = String::new();
    for (name, contents) in credentials(project, machine, application) {
        let text = match &contents {
            Contents::Text(text) => text,
            Contents::Secret(secret) => secret.reveal(),
        };
        write!(all, "{name} {}\n{text}", text.len()).expect(INFALLIBLE);
    }
    PathBuf::from(CREDENTIALS)
        .join(format!("{CREDENTIALS_PREFIX}{}", &crate::digest(all.as_bytes())[..ID_DIGITS]))
}

/// The instance of a part that runs `release` with the present secrets and settings, on `port`.
pub(crate) fn instance(project: &Project<'_>, part: &Part, release: &Release, port: u16) -> Instance {
    let instance = Instance {
        part: part.name.clone(),
        release: release.id.clone(),
        revision: String::new(),
        port: part.port.number,
    };
    let text = unit(project, project.topology.machine_of(part), &instance, release);
    let revision = crate::digest(text.as_bytes())[..REVISION_DIGITS].to_owned();
    Instance { revision, port, ..instance }
}

/// An application server, running, with all that its unit reads.
pub(crate) fn running(
    project: &Project<'_>,
    machine: &Machine,
    instance: &Instance,
    release: &Release,
) -> Desired {
    let application = release.application.as_deref();
    let folder = credentials_folder(project, machine, application);
    let mut files: Vec<File> = credentials(project, machine, application)
        .into_iter()
        .map(|(name, contents)| File { path: folder.join(name), contents, owner: Owner::root(), mode: 0o600 })
        .collect();
    files.push(unit_file(&instance.unit(), unit(project, machine, instance, release)));
    Desired {
        directories: vec![Directory { path: folder, owner: Owner::root(), mode: 0o700 }],
        units: vec![Unit {
            name: instance.unit(),
            enabled: Some(true),
            goal: Goal::Running,
            restart_when: files.iter().map(|file| file.path.clone()).collect(),
            reload_when: vec![],
        }],
        files,
        ..Desired::default()
    }
}

fn unit(project: &Project<'_>, machine: &Machine, instance: &Instance, release: &Release) -> String {
    let Instance { part, release: id, revision, port } = instance;
    let folder = release.folder();
    let mut text = format!(
        "[Unit]\nDescription=tercet: {part}, release {id}\nWants=network-online.target\nAfter=network-online.target\n\
         StartLimitIntervalSec=0\n\n[Service]\n"
    );
    let host = listen_host(project, machine);
    let unit = instance.unit();
    let own = unit.trim_end_matches(".service");
    let credential = |name: &str| libpq::credential(&unit, name);
    let application = release.application.as_deref();
    let secrets = credentials_folder(project, machine, application);
    let mut environment: Vec<_> = libpq::variables(&unit).collect();
    let start = match &release.kind {
        Kind::Api { .. } => {
            environment.extend([
                ("PGRST_SERVER_HOST", host),
                ("PGRST_SERVER_PORT", port.to_string()),
                ("PGRST_ADMIN_SERVER_PORT", tercet_config::admin_port(*port).to_string()),
                ("PGRST_DB_URI", format!("@{}", credential("database-url"))),
                ("PGRST_JWT_SECRET", format!("@{}", credential("jwt-secret"))),
                ("PGRST_JWKS_CACHE_FILE", format!("/run/{own}/provider-keys.json")),
            ]);
            // Sessions of programs begin with a request role. The options of a connection precede that setting of the login role, which an
            // existing database does not have.
            if project.topology.has_programs() && project.secrets.database_url.is_none() {
                environment.push(("PGOPTIONS", "-c role=none".to_owned()));
            }
            text += hardening::NO_NEW_CODE;
            // Kept over a restart, removed with the instance.
            writeln!(
                text,
                "RuntimeDirectory={own}\nRuntimeDirectoryMode=0700\nRuntimeDirectoryPreserve=restart"
            )
            .expect(INFALLIBLE);
            writeln!(text, "LoadCredential={API_CONF}:{}/{API_CONF}", folder.display()).expect(INFALLIBLE);
            format!("{} api --config {} --name {part} --json", release.program, credential(API_CONF))
        }
        Kind::Own { run, variables, .. } => {
            let own = variables.iter().map(|(name, value)| (name.as_str(), value.clone()));
            environment = own.chain(environment).collect();
            environment.extend([
                ("HOST", host.clone()),
                ("PORT", port.to_string()),
                ("PGPASSFILE", credential("pgpass")),
            ]);
            let folder = folder.join("program");
            writeln!(
                text,
                "WorkingDirectory={}\nEnvironmentFile={}",
                folder.display(),
                secrets.join(ENVIRONMENT).display()
            )
            .expect(INFALLIBLE);
            let words = absolute(run.words(&host, *port), &folder);
            words.iter().map(|word| argument(word)).collect::<Vec<_>>().join(" ")
        }
    };
    writeln!(text, "ExecStart={start}").expect(INFALLIBLE);
    for (key, value) in environment {
        writeln!(text, "Environment={}", quoted(&format!("{key}={value}"))).expect(INFALLIBLE);
    }
    let names = credentials(project, machine, application).into_iter().map(|(name, _)| name);
    for name in names.filter(|name| *name != ENVIRONMENT) {
        writeln!(text, "LoadCredential={name}:{}/{name}", secrets.display()).expect(INFALLIBLE);
    }
    text += &hardening::server(machine, Tier::Application);
    text += "TimeoutStopSec=40\n\n[Install]\nWantedBy=multi-user.target\n\n";
    writeln!(text, "{SECTION}\nPart={part}\nRelease={id}\nRevision={revision}\nPort={port}")
        .expect(INFALLIBLE);
    text
}

/// A command whose program systemd finds: one that is given by a path in the release's folder by its whole path
/// (systemd.service(5): a path has to be absolute, a name alone is looked for in fixed folders).
fn absolute(mut words: Vec<String>, folder: &Path) -> Vec<String> {
    if let Some(program) = words.first_mut().filter(|it| it.contains('/') && !it.starts_with('/')) {
        let within: PathBuf = Path::new(program).components().filter(|it| *it != Component::CurDir).collect();
        *program = folder.join(within).to_string_lossy().into_owned();
    }
    words
}

/// The file of the variables that are secret.
const ENVIRONMENT: &str = "environment";

const INFALLIBLE: &str = "writing to a String cannot fail";

/// The address an application server listens on: loopback when the balancer is on the same machine and no peer
/// is elsewhere.
fn listen_host(project: &Project<'_>, machine: &Machine) -> String {
    let edges = project.topology.edges();
    let outside = edges.iter().any(|edge| {
        edge.to.tier == Tier::Application && edge.machine.name == machine.name && !edge.is_local()
    });
    let inside = edges.iter().any(|edge| {
        edge.to.tier == Tier::Application && edge.machine.name == machine.name && edge.is_local()
    });
    match (outside, inside) {
        (true, false) => machine.address.to_string(),
        (true, true) => if machine.address.is_ipv4() { "0.0.0.0" } else { "::" }.to_owned(),
        (false, _) => "127.0.0.1".to_owned(),
    }
}

/// The database's URL; without a password it is in the password file.
fn database(project: &Project<'_>, machine: &Machine, role: &str, password: Option<&str>) -> String {
    let topology = project.topology;
    if let Some(url) = &project.secrets.database_url {
        return url.reveal().to_owned();
    }
    let edges = topology.edges();
    let edge = edges.iter().find(|edge| {
        edge.protocol == Protocol::Postgres
            && matches!(edge.from, End::Part(_, from) if from.name == machine.name)
    });
    let edge =
        edge.expect("without a URL there is a database, and every application server has an edge to it");
    let address = SocketAddr::new(edge.address, edge.port);
    // The certificate is only asked for over TLS.
    let plain = edge.is_local() && !project.secrets.certificate_alone;
    let mode: &[u8] = if plain { b"disable" } else { b"verify-full" };
    tercet_postgres::uri(role, password, &address.to_string(), topology.name(), &[("sslmode", mode)])
}

/// The lines of the file: the user's own secrets, and DATABASE_URL.
fn variables(project: &Project<'_>, application: Option<&str>, database: &str) -> String {
    let own = project.own_variables(application).map(|(name, value)| variable(name, value));
    own.chain([variable("DATABASE_URL", database)]).collect()
}

/// A line of an environment file (systemd.exec(5), `EnvironmentFile=`): in double quotes, where only these four
/// characters have a meaning.
fn variable(name: &str, value: &str) -> String {
    let mut line = format!("{name}=\"");
    for character in value.chars() {
        if matches!(character, '"' | '\\' | '`' | '$') {
            line.push('\\');
        }
        line.push(character);
    }
    line + "\"\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_characters_in_an_environment_file() {
        assert_eq!(
            variable("URL", "postgres://u:p$a%b\"c'd\\e`f@h/d"),
            "URL=\"postgres://u:p\\$a%b\\\"c'd\\\\e\\`f@h/d\"\n"
        );
    }
}
