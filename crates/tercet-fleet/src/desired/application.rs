//! Tier 2 on a machine: a unit for each running instance, old and new side by side while a release is rolled.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tercet_config::{End, Machine, Tier};
use tercet_database::roles::AUTHENTICATOR;
use tercet_machine::Desired;
use tercet_machine::Secret;
use tercet_machine::directory::Directory;
use tercet_machine::file::{Contents, File, Owner};
use tercet_machine::unit::{Goal, Unit};

use super::file::{secret_file, unit_file};
use super::hardening;
use super::project::Project;
use crate::paths::{CREDENTIALS, LIBRARY};
use crate::release::{Kind, Release};
use crate::report::SECTION;
use crate::world::{Instance, World};

/// The unit of an instance: `tercet-app-1@3f9c2ab1d0e4.service`.
pub(crate) fn unit_name(instance: &Instance) -> String {
    format!("tercet-{}@{}.service", instance.part, instance.release)
}

/// The secrets a unit gets, as systemd credentials, and what they hold.
fn credentials(project: &Project<'_>, machine: &Machine) -> Vec<(&'static str, Contents)> {
    let secrets = project.secrets;
    let secret = |text: String| Contents::Secret(Secret::new(text));
    vec![
        ("authority.crt", Contents::Text(secrets.authority.clone())),
        ("client.crt", Contents::Text(secrets.client.certificate.clone())),
        ("client.key", Contents::Secret(secrets.client.key.clone())),
        ("database-password", secret(format!("{}\n", secrets.authenticator.reveal()))),
        ("database-url", secret(database(project, machine, Some(secrets.authenticator.reveal())) + "\n")),
        // libpq's password file (PostgreSQL manual, section 34.16): for programs that read PGPASSFILE.
        ("pgpass", secret(format!("*:*:*:{AUTHENTICATOR}:{}\n", secrets.authenticator.reveal()))),
        ("jwt-secret", Contents::Secret(secrets.jwt.clone())),
    ]
}

/// Adds the instances of `world` that run on this machine.
pub(super) fn add(desired: &mut Desired, project: &Project<'_>, machine: &Machine, world: &World) {
    let credentials = credentials(project, machine);
    let parts = project.topology.parts().iter().filter(|part| part.tier == Tier::Application);
    let here: Vec<&str> = parts
        .filter(|part| project.topology.machine_of(part).name == machine.name)
        .map(|part| part.name.as_str())
        .collect();
    let environment = Secret::new(variable("DATABASE_URL", &database(project, machine, None)));
    desired.files.push(secret_file(environment_file(), environment));
    desired.files.extend(credentials.iter().map(|(name, contents)| File {
        path: PathBuf::from(CREDENTIALS).join(name),
        contents: contents.clone(),
        owner: Owner::root(),
        mode: 0o600,
    }));
    let folder = |path: PathBuf| Directory { path, owner: Owner::root(), mode: 0o755 };
    desired.directories.push(folder(PathBuf::from(LIBRARY).join("releases")));
    for release in &world.releases {
        desired.directories.push(folder(release.folder()));
        if let Kind::Api { configuration } = &release.kind {
            desired.files.push(secret_file(release.folder().join(API_CONF), configuration.clone()));
        }
        // Last: the record says that the release is whole. It repeats the configuration.
        let record = Secret::json_of(release).expect("a release is plain data");
        desired.files.push(secret_file(release.record(), record));
    }
    for instance in world.running.iter().filter(|instance| here.contains(&instance.part.as_str())) {
        let Some(release) = world.releases.iter().find(|release| release.id == instance.release) else {
            continue;
        };
        let file = unit_file(&unit_name(instance), unit(project, machine, instance, release, &credentials));
        desired.units.push(Unit {
            name: unit_name(instance),
            enabled: Some(true),
            goal: Goal::Running,
            // Its own credentials: on a shared machine those of the balancer are beside them.
            restart_when: credentials
                .iter()
                .map(|(name, _)| Path::new(CREDENTIALS).join(name))
                .chain([environment_file(), file.path.clone()])
                .collect(),
            reload_when: vec![],
        });
        desired.files.push(file);
    }
    let stale = world.stale.get(&machine.name).into_iter().flatten();
    desired.units.extend(stale.map(|instance| Unit {
        name: unit_name(instance),
        enabled: Some(false),
        goal: Goal::Absent,
        restart_when: vec![],
        reload_when: vec![],
    }));
}

fn unit(
    project: &Project<'_>,
    machine: &Machine,
    instance: &Instance,
    release: &Release,
    credentials: &[(&str, Contents)],
) -> String {
    let Instance { part, release: id, port } = instance;
    let folder = release.folder();
    let folder = folder.display();
    let mut text = format!(
        "[Unit]\nDescription=tercet: {part}, release {id}\nWants=network-online.target\nAfter=network-online.target\n\
         StartLimitIntervalSec=0\n\n[Service]\n"
    );
    let host = listen_host(project, machine);
    let unit = unit_name(instance);
    let credential = |name: &str| format!("/run/credentials/{unit}/{name}");
    // libpq's variables (PostgreSQL manual, section 34.15): the same for the data API and any other client.
    let mut environment = vec![
        ("PGSSLROOTCERT", credential("authority.crt")),
        ("PGSSLCERT", credential("client.crt")),
        ("PGSSLKEY", credential("client.key")),
    ];
    let start = match &release.kind {
        Kind::Api { .. } => {
            environment.extend([
                ("PGRST_SERVER_HOST", host),
                ("PGRST_SERVER_PORT", port.to_string()),
                ("PGRST_ADMIN_SERVER_PORT", tercet_config::admin_port(*port).to_string()),
                ("PGRST_DB_URI", format!("@{}", credential("database-url"))),
                ("PGRST_JWT_SECRET", format!("@{}", credential("jwt-secret"))),
            ]);
            text += hardening::NO_NEW_CODE;
            writeln!(text, "LoadCredential={API_CONF}:{folder}/{API_CONF}").expect(INFALLIBLE);
            format!("{} api --config {} --name {part} --json", release.program, credential(API_CONF))
        }
        Kind::Own { run, .. } => {
            environment.extend([
                ("HOST", host.clone()),
                ("PORT", port.to_string()),
                ("PGPASSFILE", credential("pgpass")),
            ]);
            let secrets = environment_file();
            writeln!(text, "WorkingDirectory={folder}/program\nEnvironmentFile={}", secrets.display())
                .expect(INFALLIBLE);
            run.words(&host, *port).iter().map(|word| argument(word)).collect::<Vec<_>>().join(" ")
        }
    };
    writeln!(text, "ExecStart={start}").expect(INFALLIBLE);
    for (key, value) in environment {
        writeln!(text, "Environment={}", quoted(&format!("{key}={value}"))).expect(INFALLIBLE);
    }
    for (name, _) in credentials {
        writeln!(text, "LoadCredential={name}:{CREDENTIALS}/{name}").expect(INFALLIBLE);
    }
    text += hardening::SERVICE;
    text += "TimeoutStopSec=40\n\n[Install]\nWantedBy=multi-user.target\n\n";
    writeln!(text, "{SECTION}\nPart={part}\nRelease={id}\nPort={port}").expect(INFALLIBLE);
    text
}

/// The data API's configuration: a file of the release, and a credential of its units.
const API_CONF: &str = "api.conf";

/// The variables of a person's own program that are secret. systemd reads the file as root; unlike `Environment=`, it
/// never shows the values (systemd.exec(5)).
fn environment_file() -> PathBuf {
    Path::new(CREDENTIALS).join("environment")
}

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
fn database(project: &Project<'_>, machine: &Machine, password: Option<&str>) -> String {
    let topology = project.topology;
    if let Some(url) = &project.secrets.database_url {
        return url.reveal().to_owned();
    }
    let edges = topology.edges();
    let edge = edges.iter().find(|edge| {
        edge.to.tier == Tier::Database && matches!(edge.from, End::Part(_, from) if from.name == machine.name)
    });
    let edge =
        edge.expect("without a URL there is a database, and every application server has an arrow to it");
    let address = SocketAddr::new(edge.address, edge.port);
    let password = password.map(|password| format!(":{password}")).unwrap_or_default();
    let mode = if edge.is_local() { "disable" } else { "verify-full" };
    format!("postgresql://{AUTHENTICATOR}{password}@{address}/{}?sslmode={mode}", topology.name())
}

/// A word of a command line (systemd.service(5), "Command lines"): `$` would begin a variable.
fn argument(word: &str) -> String {
    quoted(&word.replace('$', "$$"))
}

/// A double-quoted item of a unit file (systemd.syntax(7), "Quoting"): `%` would begin a specifier, and a line break
/// would end the setting.
fn quoted(item: &str) -> String {
    let mut quoted = String::from("\"");
    for character in item.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '%' => quoted += "%%",
            _ if character.is_ascii_control() => {
                write!(quoted, "\\x{:02x}", u32::from(character)).expect(INFALLIBLE);
            }
            _ => quoted.push(character),
        }
    }
    quoted + "\""
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
    fn words_keep_their_characters_in_a_unit_file() {
        assert_eq!(argument("a b$c%d\"e\\f'g"), r#""a b$$c%%d\"e\\f'g""#);
        assert_eq!(argument("one\nExecStart=two"), r#""one\x0aExecStart=two""#);
        // No variable is expanded in a value of `Environment=`.
        assert_eq!(quoted("PORT=$1"), r#""PORT=$1""#);
    }

    #[test]
    fn values_keep_their_characters_in_an_environment_file() {
        assert_eq!(
            variable("URL", "postgres://u:p$a%b\"c'd\\e`f@h/d"),
            "URL=\"postgres://u:p\\$a%b\\\"c'd\\\\e\\`f@h/d\"\n"
        );
    }
}
