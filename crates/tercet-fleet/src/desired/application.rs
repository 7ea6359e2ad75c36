//! Tier 2 on a machine: a unit for each running instance, old and new side by side while a release is rolled.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tercet_config::{End, Machine, Tier};
use tercet_database::roles::AUTHENTICATOR;
use tercet_machine::Desired;
use tercet_machine::desired::Secret;
use tercet_machine::directory::Directory;
use tercet_machine::file::{Contents, File, Owner};
use tercet_machine::unit::{Goal, Unit};

use super::file::{public_file, unit_file};
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
            desired.files.push(public_file(release.folder().join("api.conf"), configuration.clone()));
        }
        // Last: the record says that the release is whole.
        let record = serde_json::to_string_pretty(release).expect("a release is plain data");
        desired.files.push(public_file(release.record(), record + "\n"));
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
                .chain([file.path.clone()])
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
    let credential = |name: &str| format!("/run/credentials/%n/{name}");
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
            format!("{} api --config {folder}/api.conf --name {part} --json", release.program)
        }
        Kind::Own { run, .. } => {
            environment.extend([
                ("HOST", host.clone()),
                ("PORT", port.to_string()),
                ("DATABASE_URL", database(project, machine, None)),
                ("PGPASSFILE", credential("pgpass")),
            ]);
            writeln!(text, "WorkingDirectory={folder}/program").expect(INFALLIBLE);
            run.words(&host, *port).iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
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

/// A word of a unit's file: quoted, with what systemd would expand made plain (systemd.service(5), "Command
/// lines"), except the unit's own name.
fn quoted(word: &str) -> String {
    let word = word.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "$$");
    let word = word.replace('%', "%%").replace("/run/credentials/%%n/", "/run/credentials/%n/");
    format!("\"{word}\"")
}
