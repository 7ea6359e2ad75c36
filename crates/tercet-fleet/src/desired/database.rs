//! Tier 3 on a machine: Debian's PostgreSQL, which accepts connections from the application machines only.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use tercet_config::{End, Machine, POSTGRES_EXPORTER, Protocol, Tier, Topology};
use tercet_database::roles::{self, AUTHENTICATED, AUTHENTICATOR, MONITOR, owner};
use tercet_machine::Desired;
use tercet_machine::cluster::{Cluster, Place};
use tercet_machine::directory::Directory;
use tercet_machine::file::{Contents, File};
use tercet_machine::main_cluster::MainCluster;
use tercet_machine::package::Package;
use tercet_machine::path::Owner;
use tercet_machine::settings::Settings;
use tercet_machine::unit::{Goal, Unit};
use tercet_postgres::hba::{self, Method, Transport};
use tercet_postgres::quote;

use super::application::migrator;
use super::backup;
use super::file::unit_file;
use super::hardening;
use super::project::Project;
use super::temporary_edge::TemporaryEdge;
use crate::backup::settings::{data, programs};
use crate::monitor;
use crate::system::System;

/// The map by which the operating system's `postgres` may be the owner: for migrations.
pub(crate) const IDENT_MAP: &str = "tercet";

/// Adds PostgreSQL to what the machine should be, on which the `temporary` edges end.
pub(super) fn add(
    desired: &mut Desired,
    project: &Project<'_>,
    machine: &Machine,
    system: &System,
    temporary: &[&TemporaryEdge],
) {
    let Some(part) = project.topology.parts().iter().find(|part| part.tier == Tier::Database) else { return };
    let from: Vec<IpAddr> =
        temporary.iter().filter(|edge| edge.tier == Tier::Database).map(|edge| edge.from.1).collect();
    let mut addresses: BTreeSet<IpAddr> =
        project.topology.addresses(part).into_iter().map(|address| address.ip()).collect();
    if !from.is_empty() {
        addresses.insert(machine.address);
    }
    let major = system.postgresql;
    let folder = PathBuf::from(format!("/etc/postgresql/{major}/main"));
    let unit = format!("postgresql@{major}-main.service");
    let own =
        |path: PathBuf, contents: Contents, mode| File { path, contents, owner: Owner::of("postgres"), mode };
    let keys = PathBuf::from("/etc/tercet/postgresql");
    let settings = own(
        folder.join("conf.d/tercet.conf"),
        Contents::Text(settings(&addresses, part.port.number, system)),
        0o640,
    );
    let archive = own(
        folder.join("conf.d/tercet-archive.conf"),
        Contents::Text(format!(
            "archive_command = {}\n",
            quote::setting(&backup::archive_command(project.topology))
        )),
        0o640,
    );
    // A database that was moved away does not start at boot.
    let start = own(folder.join("start.conf"), Contents::Text("auto\n".to_owned()), 0o644);
    let hba = own(folder.join("pg_hba.conf"), Contents::Text(hba(project, machine, &from)), 0o640);
    let ident = own(folder.join("pg_ident.conf"), Contents::Text(ident(project.topology)), 0o640);
    let drop_in = unit_file(
        &format!("{unit}.d/tercet.conf"),
        format!(
            "[Unit]\nWants=network-online.target\nAfter=network-online.target\nStartLimitIntervalSec=0\n\n\
             [Service]\nRestart=always\nRestartSec=1\n{}",
            hardening::postgresql()
        ),
    );
    let identity = &project.secrets.server;
    let identity = [
        own(keys.join("server.crt"), Contents::Text(identity.certificate.clone()), 0o640),
        own(keys.join("server.key"), Contents::Secret(identity.key.clone()), 0o600),
        own(keys.join("authority.crt"), Contents::Text(project.secrets.authority.clone()), 0o640),
    ];
    desired.packages.push(Package(format!("postgresql-{major}")));
    desired.main_cluster = Some(MainCluster { major });
    desired.directories.extend([
        Directory { path: keys, owner: Owner::of("postgres"), mode: 0o750 },
        Directory {
            path: drop_in.path.parent().expect("a file has a folder").into(),
            owner: Owner::root(),
            mode: 0o755,
        },
    ]);
    // Certificates and keys are read again by a reload (PostgreSQL manual, section 19.9.3).
    let reload_when = identity.iter().chain([&hba, &ident, &archive]).map(|file| file.path.clone()).collect();
    let place = Place { unit: unit.clone(), data: data(major), programs: programs(major) };
    desired.units.push(Unit {
        name: unit,
        enabled: None,
        goal: Goal::Running,
        restart_when: vec![settings.path.clone(), drop_in.path.clone()],
        reload_when,
    });
    let automatic = data(major).join("postgresql.auto.conf");
    desired.settings = Some(Settings {
        port: part.port.number,
        unit: place.unit.clone(),
        folder: folder.join("conf.d"),
        own: vec![settings.path.clone(), archive.path.clone()],
        automatic,
    });
    desired.files.extend(identity);
    desired.files.extend([settings, archive, start, hba, ident, drop_in]);
    desired.cluster = Some(cluster(project, part.port.number, place));
}

/// Settings by the machine's size: a quarter of its memory for PostgreSQL's own cache, as its manual advises
/// (section 20.4, shared_buffers). The journal has its log, besides Debian's file.
fn settings(addresses: &BTreeSet<IpAddr>, port: u16, system: &System) -> String {
    let addresses: BTreeSet<String> = addresses.iter().map(ToString::to_string).collect();
    let addresses: Vec<String> = addresses.into_iter().collect();
    let megabytes = system.memory_kib >> 10;
    format!(
        "listen_addresses = '{}'\nport = {port}\nmax_connections = 200\n\
         ssl = on\nssl_cert_file = '/etc/tercet/postgresql/server.crt'\nssl_key_file = '/etc/tercet/postgresql/server.key'\n\
         ssl_ca_file = '/etc/tercet/postgresql/authority.crt'\nssl_min_protocol_version = 'TLSv1.3'\n\
         password_encryption = 'scram-sha-256'\nidle_in_transaction_session_timeout = '60s'\n\
         shared_buffers = '{}MB'\neffective_cache_size = '{}MB'\nmaintenance_work_mem = '{}MB'\n\
         wal_level = logical\narchive_mode = on\narchive_timeout = '60s'\n\
         log_destination = 'stderr,syslog'\nsyslog_sequence_numbers = off\nsyslog_split_messages = off\n\
         log_connections = off\nlog_line_prefix = '%m [%p] %q%u@%d '\n",
        addresses.join(", "),
        (megabytes / 4).clamp(32, 16_384),
        (megabytes * 3 / 4).max(64),
        (megabytes / 16).clamp(32, 1024),
    )
}

/// The lines of `pg_hba.conf`: the first match decides, and without a match the login is rejected (PostgreSQL manual,
/// chapter 21.1).
///
/// While the password is replaced, the certificate alone is enough (`cert`: its common name has to be the role's,
/// section 21.12), since a role has one password and the servers of the old one and of the new one have to get in. Those on
/// PostgreSQL's own machine then come by TLS; without it they still need the password. `temporary` are the addresses of
/// machines that leave.
pub(crate) fn hba(project: &Project<'_>, machine: &Machine, temporary: &[IpAddr]) -> String {
    let topology = project.topology;
    let name = hba::name(topology.name());
    let host = |transport, address, method| hba::host(transport, &name, AUTHENTICATOR, address, method);
    let mut lines = vec![
        "# Written by tercet from the edges of the topology; changes are undone by the next apply.\n"
            .to_owned(),
        hba::local("all", "postgres", Method::Peer),
        hba::local(&name, &hba::name(&owner(topology.name())), Method::PeerMap(IDENT_MAP)),
    ];
    if is_monitored(topology) {
        lines.push(hba::local(&hba::name("postgres"), MONITOR, Method::PeerMap(IDENT_MAP)));
    }
    let remote = |address| {
        let certificate_alone = project.secrets.certificate_alone;
        let method = if certificate_alone { Method::Certificate } else { Method::ScramAndCertificate };
        host(Transport::Tls, address, method)
    };
    let mut seen = BTreeSet::new();
    for edge in topology.edges().iter().filter(|edge| edge.protocol == Protocol::Postgres) {
        let End::Part(_, from) = edge.from else { continue };
        if !seen.insert(&from.name) {
            continue;
        }
        if from.name == machine.name {
            if project.secrets.certificate_alone {
                lines.push(host(Transport::Tls, edge.address, Method::Certificate));
            }
            lines.push(host(Transport::Any, edge.address, Method::Scram));
        } else {
            lines.push(remote(from.address));
        }
    }
    lines.extend(temporary.iter().copied().map(remote));
    if let Some(from) = migrator(topology) {
        let owner = hba::name(&owner(topology.name()));
        let is_local = from.name == machine.name;
        let address = if is_local { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { from.address };
        let (transport, method) = if is_local {
            (Transport::Any, Method::Scram)
        } else {
            (Transport::Tls, Method::ScramAndAuthority)
        };
        lines.push(
            "# While a release migrates the database; the owner has no password otherwise.\n".to_owned(),
        );
        lines.push(hba::host(transport, &name, &owner, address, method));
    }
    lines.concat()
}

fn ident(topology: &Topology) -> String {
    let owner = hba::ident(IDENT_MAP, "postgres", &hba::name(&owner(topology.name())));
    let monitor = is_monitored(topology).then(|| hba::ident(IDENT_MAP, monitor::ACCOUNT, MONITOR));
    [owner, monitor.unwrap_or_default()].concat()
}

/// Whether an exporter reads PostgreSQL's statistics.
fn is_monitored(topology: &Topology) -> bool {
    topology.part(POSTGRES_EXPORTER).is_some()
}

fn cluster(project: &Project<'_>, port: u16, place: Place) -> Cluster {
    let name = project.topology.name();
    // A person's own program does not choose a role for each request: its sessions begin as one.
    let session_role = project.topology.has_programs().then_some(AUTHENTICATED);
    let verifier = project.secrets.authenticator_verifier.clone();
    Cluster {
        port,
        place: Some(place),
        // The owner comes by the socket alone, without a password.
        roles: roles::roles(name, None, Some(verifier), session_role)
            .into_iter()
            .chain(is_monitored(project.topology).then(roles::monitor))
            .collect(),
        databases: vec![roles::database(name)],
        privileged: Some(project.topology.database().privileged_roles.clone()),
    }
}
