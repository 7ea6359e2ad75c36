//! What a topology becomes on each machine, as it is written there.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::sync::LazyLock;
use std::time::Duration;

use expect_test::{Expect, expect};
use tercet_config::{Origin, Server, Topology};
use tercet_database::Password;
use tercet_machine::file::Contents;
use tercet_machine::path::{Kind as PathKind, Owner, PathFacts};
use tercet_machine::{Desired, Facts, Secret, plan};

use super::{Project, instance};
use crate::authority::Identity;
use crate::deployment::{Placed, Serving, seen_by_the_balancer};
use crate::monitor::receivers::Receivers;
use crate::release::{Kind, Release};
use crate::secrets::{Secrets, Store};
use crate::system::System;

mod backup;
mod firewall;
mod monitor;
mod program;
mod tls;

pub(crate) const FOUR: &str = r#"
    name = "shop"
    machine = [
        { name = "lb", ssh = "lb", address = "10.0.0.10", tiers = ["balancer"] },
        { name = "app1", ssh = "app1", address = "10.0.0.11", tiers = ["application"] },
        { name = "app2", ssh = "app2", address = "10.0.0.12", tiers = ["application"] },
        { name = "db", ssh = "db", address = "10.0.0.20", tiers = ["database"] },
    ]
"#;

pub(crate) const SHARED: &str = r#"
    name = "shop"
    balancer.listen = ["192.0.2.1:80"]
    machine = [
        { name = "one", ssh = "one", address = "10.0.0.10", tiers = ["balancer", "application", "database"] },
        { name = "two", ssh = "two", address = "10.0.0.11", tiers = ["application"] },
    ]
"#;

pub(crate) const BACKED_UP: &str = r#"
    name = "shop"
    machine = [
        { name = "lb", ssh = "lb", address = "10.0.0.10", tiers = ["balancer"] },
        { name = "app1", ssh = "app1", address = "10.0.0.11", tiers = ["application"] },
        { name = "db", ssh = "db", address = "10.0.0.20", tiers = ["database"] },
        { name = "vault", ssh = "vault", address = "10.0.0.30", tiers = ["backup"] },
    ]
"#;

pub(crate) const MONITORED: &str = r#"
    name = "shop"
    machine = [
        { name = "lb", ssh = "lb", address = "10.0.0.10", tiers = ["balancer"] },
        { name = "app1", ssh = "app1", address = "10.0.0.11", tiers = ["application"] },
        { name = "db", ssh = "db", address = "10.0.0.20", tiers = ["database"] },
        { name = "mon", ssh = "mon", address = "10.0.0.40", tiers = ["monitor"] },
    ]
"#;

/// Secrets that are known to the tests.
pub(crate) fn secrets(topology: &Topology) -> Secrets {
    let identity = |name: &str| Identity {
        certificate: format!("{name} certificate\n"),
        key: Secret::new(format!("{name} key\n")),
    };
    Secrets {
        state: None,
        project: "the-project".to_owned(),
        data: None,
        generation: 0,
        authority: "authority\n".to_owned(),
        authorities: vec![crate::digest(b"authority\n")],
        server: identity("server"),
        client: identity("client"),
        authenticator: Password::kept_in(&KEPT.path().join("authenticator")).expect("a password"),
        authenticator_verifier: Secret::new("SCRAM-SHA-256$hush"),
        certificate_alone: false,
        release_key: Password::kept_in(&KEPT.path().join("authenticator")).expect("a key"),
        jwt: Secret::new("hush"),
        variables: BTreeMap::from([(
            None,
            [("KEY", "hush-$variable"), ("PORT", "3000")]
                .map(|(name, value)| (name.to_owned(), Secret::new(value)))
                .to_vec(),
        )]),
        certificates: topology
            .balancer()
            .tls
            .iter()
            .flat_map(|tls| &tls.certificates)
            .map(|_| identity("public"))
            .collect(),
        acme_root: topology.balancer().acme.root.as_ref().map(|_| "root certificate\n".to_owned()),
        acme_hmac_key: topology.balancer().acme.eab.as_ref().map(|_| Secret::new("hush hmac")),
        users: topology.balancer().users.iter().map(|_| Secret::new("ann:hush hash")).collect(),
        database_url: match &topology.database().url {
            Some(tercet_config::Secret::Inline(url)) => Some(Secret::new(url)),
            _ => None,
        },
        backup: topology
            .machines()
            .iter()
            .filter(|_| topology.parts().iter().any(|part| part.name == "backup"))
            .map(|machine| (machine.name.clone(), identity(&format!("{} backup", machine.name))))
            .collect(),
        store: topology.backup_machine().map(|_| Store {
            key: Secret::new("hush key"),
            secret: Secret::new("hush secret"),
            cipher: Secret::new("hush cipher"),
        }),
        receivers: Receivers::of(topology, |secret| match secret {
            tercet_config::Secret::Inline(text) => Ok(Secret::new(text)),
            tercet_config::Secret::File(_) => Ok(Secret::new("https://example.com/hush")),
        })
        .expect("receivers"),
    }
}

/// Where the one password is that all tests use: digests of credentials are then the same in all.
static KEPT: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("authenticator");
    std::fs::write(&path, "a password for tests only").expect("a file");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("its mode");
    folder
});

const ORIGIN: Origin<'_> = Origin { file: "tercet.toml", folder: "shop" };

/// What `machine` should be, with every server of a release at its first port.
fn desired(text: &str, machine: &str) -> Desired {
    let topology = tercet_config::parse(text, ORIGIN).expect("a valid file");
    let release = Release {
        id: "abc".to_owned(),
        application: topology.applications()[0].name.clone(),
        kind: match &topology.applications()[0].server {
            Server::Api(api) => {
                Kind::Api { configuration: Secret::new(toml::to_string(&api.options).expect("TOML")) }
            }
            Server::Own { program, build, health } => Kind::Own {
                migrate: topology.applications()[0].environment.migrate.clone(),
                run: program.clone(),
                build: build.clone(),
                health: health.clone(),
                variables: topology.applications()[0].environment.variables.clone(),
                start_timeout: None,
                archive: "0".to_owned(),
            },
        },
        program: "/usr/local/lib/tercet/1/tercet".to_owned(),
        website: None,
    };
    desired_of(text, machine, &release)
}

fn desired_of(text: &str, machine: &str, release: &Release) -> Desired {
    let topology =
        tercet_config::parse(text, Origin { file: "tercet.toml", folder: "shop" }).expect("a valid file");
    let secrets = secrets(&topology);
    let project = Project {
        topology: &topology,
        secrets: &secrets,
        program: "/usr/local/lib/tercet/1/tercet",
        checks: &[],
    };
    let parts = topology.parts().iter().filter(|part| part.name.starts_with("app-"));
    let serving: Vec<Serving<'_>> = parts
        .map(|part| {
            let instance = instance(&project, part, release, part.port.number);
            let machine = topology.machine_of(part).name.clone();
            let address = seen_by_the_balancer(&topology, &[], &machine).expect("its address");
            let address = SocketAddr::new(address, instance.port);
            let placed = Placed { machine, address, instance };
            Serving { name: part.name.clone(), placed, release, has_website: true }
        })
        .collect();
    let machine = topology.machines().iter().find(|it| it.name == machine).expect("a machine of the file");
    project.desired(machine, &system(machine.address), &serving, &serving, &[]).expect("it can be computed")
}

/// A machine of this address without anything in the way.
pub(crate) fn system(address: IpAddr) -> System {
    System {
        distribution: ("debian".to_owned(), "12".to_owned()),
        id: address.to_string(),
        memory_kib: 4 << 20,
        addresses: vec![address],
        operator: (IpAddr::from([192, 0, 2, 7]), 22),
        postgresql: 15,
        data_kib: 40 << 20,
        listeners: Vec::new(),
        replaced: Vec::new(),
        without_conf_d: None,
        accepts_passwords: false,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
fn check(desired: &Desired, path: &str, expected: Expect) {
    let file = desired.files.iter().find(|file| file.path.ends_with(path)).expect("a file of the machine");
    let Contents::Text(text) = &file.contents else { panic!("{path} is secret") };
    expected.assert_eq(text);
}

/// The unit of the application server.
fn application(desired: &Desired) -> String {
    let mut units = desired.units.iter().map(|unit| &unit.name);
    units.find(|name| name.starts_with("tercet-app-")).expect("a unit").clone()
}

/// The rules that accept connections, besides those of every machine.
fn openings(desired: &Desired) -> String {
    rules(desired, |line| line.contains("comment") && !line.contains("skuid"))
}

fn rules(desired: &Desired, shown: impl Fn(&str) -> bool) -> String {
    let rules = &desired.firewall.as_ref().expect("every machine has a firewall").rules;
    rules.lines().filter(|line| shown(line)).map(|line| format!("{}\n", line.trim())).collect()
}

#[test]
fn postgresql_accepts_application_machines_only() {
    check(
        &desired(FOUR, "db"),
        "pg_hba.conf",
        expect![[r##"
        # Written by tercet from the edges of the topology; changes are undone by the next apply.
        local all postgres peer
        local "shop" "shop_owner" peer map=tercet
        hostssl "shop" authenticator 10.0.0.11/32 scram-sha-256 clientcert=verify-full
        hostssl "shop" authenticator 10.0.0.12/32 scram-sha-256 clientcert=verify-full
    "##]],
    );
    check(
        &desired(SHARED, "one"),
        "pg_hba.conf",
        expect![[r##"
        # Written by tercet from the edges of the topology; changes are undone by the next apply.
        local all postgres peer
        local "shop" "shop_owner" peer map=tercet
        host "shop" authenticator 127.0.0.1/32 scram-sha-256
        hostssl "shop" authenticator 10.0.0.11/32 scram-sha-256 clientcert=verify-full
    "##]],
    );
    check(
        &desired(SHARED, "one"),
        "conf.d/tercet.conf",
        expect![[r#"
            listen_addresses = '10.0.0.10, 127.0.0.1'
            port = 5432
            max_connections = 200
            ssl = on
            ssl_cert_file = '/etc/tercet/postgresql/server.crt'
            ssl_key_file = '/etc/tercet/postgresql/server.key'
            ssl_ca_file = '/etc/tercet/postgresql/authority.crt'
            ssl_min_protocol_version = 'TLSv1.3'
            password_encryption = 'scram-sha-256'
            idle_in_transaction_session_timeout = '60s'
            shared_buffers = '1024MB'
            effective_cache_size = '3072MB'
            maintenance_work_mem = '256MB'
            wal_level = logical
            archive_mode = on
            archive_timeout = '60s'
            log_destination = 'stderr,syslog'
            syslog_sequence_numbers = off
            syslog_split_messages = off
            log_connections = off
            log_line_prefix = '%m [%p] %q%u@%d '
        "#]],
    );
}

#[test]
fn an_application_server_is_a_unit_with_its_secrets_as_credentials() {
    let desired = desired(FOUR, "app1");
    check(
        &desired,
        &application(&desired),
        expect![[r#"
            [Unit]
            Description=tercet: app-1, release abc
            Wants=network-online.target
            After=network-online.target
            StartLimitIntervalSec=0

            [Service]
            MemoryDenyWriteExecute=yes
            RuntimeDirectory=tercet-app-1@abc-e61c6be5
            RuntimeDirectoryMode=0700
            RuntimeDirectoryPreserve=restart
            LoadCredential=api.conf:/usr/local/lib/tercet/releases/abc/api.conf
            ExecStart=/usr/local/lib/tercet/1/tercet api --config /run/credentials/tercet-app-1@abc-e61c6be5.service/api.conf --name app-1 --json
            Environment="PGSSLROOTCERT=/run/credentials/tercet-app-1@abc-e61c6be5.service/authority.crt"
            Environment="PGSSLCERT=/run/credentials/tercet-app-1@abc-e61c6be5.service/client.crt"
            Environment="PGSSLKEY=/run/credentials/tercet-app-1@abc-e61c6be5.service/client.key"
            Environment="PGRST_SERVER_HOST=10.0.0.11"
            Environment="PGRST_SERVER_PORT=8081"
            Environment="PGRST_ADMIN_SERVER_PORT=9081"
            Environment="PGRST_DB_URI=@/run/credentials/tercet-app-1@abc-e61c6be5.service/database-url"
            Environment="PGRST_JWT_SECRET=@/run/credentials/tercet-app-1@abc-e61c6be5.service/jwt-secret"
            Environment="PGRST_JWKS_CACHE_FILE=/run/tercet-app-1@abc-e61c6be5/provider-keys.json"
            LoadCredential=authority.crt:/etc/tercet/credentials/application-018a537933d2/authority.crt
            LoadCredential=client.crt:/etc/tercet/credentials/application-018a537933d2/client.crt
            LoadCredential=client.key:/etc/tercet/credentials/application-018a537933d2/client.key
            LoadCredential=database-password:/etc/tercet/credentials/application-018a537933d2/database-password
            LoadCredential=database-url:/etc/tercet/credentials/application-018a537933d2/database-url
            LoadCredential=pgpass:/etc/tercet/credentials/application-018a537933d2/pgpass
            LoadCredential=jwt-secret:/etc/tercet/credentials/application-018a537933d2/jwt-secret
            User=tercet-application
            ProtectSystem=strict
            ProtectHome=yes
            PrivateTmp=yes
            PrivateDevices=yes
            ProtectKernelTunables=yes
            ProtectKernelModules=yes
            ProtectKernelLogs=yes
            ProtectControlGroups=yes
            ProtectClock=yes
            ProtectHostname=yes
            ProtectProc=invisible
            ProcSubset=pid
            NoNewPrivileges=yes
            RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
            RestrictNamespaces=yes
            RestrictRealtime=yes
            RestrictSUIDSGID=yes
            LockPersonality=yes
            SystemCallArchitectures=native
            SystemCallFilter=@system-service
            MemoryMax=75%
            SystemCallFilter=~@privileged @resources
            CapabilityBoundingSet=
            AmbientCapabilities=
            RemoveIPC=yes
            UMask=0077
            TasksMax=512
            LimitNOFILE=65536
            LimitCORE=0
            LogRateLimitIntervalSec=0
            Restart=always
            RestartSec=200ms
            TimeoutStopSec=40

            [Install]
            WantedBy=multi-user.target

            [X-Tercet]
            Part=app-1
            Release=abc
            Revision=e61c6be5
            Port=8081
        "#]],
    );
}

#[test]
fn the_balancer_has_a_socket_that_stays() {
    let desired = desired(SHARED, "one");
    check(
        &desired,
        "balancer.toml",
        expect![[r#"
            listen = ["192.0.2.1:80"]

            [health]
            path = "/ready"

            [maintenance]
            file = "/etc/tercet/maintenance"

            [access-log]
            format = "json"
            to = "stdout"

            [admin]
            socket = "/run/tercet-balancer/admin.sock"

            [[servers]]
            name = "app-1"
            address = "127.0.0.1:8081"
            health-address = "127.0.0.1:9081"

            [[servers]]
            name = "app-2"
            address = "10.0.0.11:8081"
            health-address = "10.0.0.11:9081"
        "#]],
    );
    check(
        &desired,
        "tercet-balancer.socket",
        expect![[r#"
        [Unit]
        Description=tercet: the balancer's public door

        [Socket]
        ListenStream=192.0.2.1:80
        BindIPv6Only=ipv6-only
        Backlog=4096
        NoDelay=yes

        [Install]
        WantedBy=sockets.target
    "#]],
    );
}

/// Every option of the data API that may be secret. Each value contains `hush`, in letters that no encoding changes.
const SECRET_API: &str = r#"
    api.jwt-secret = "hush-jwt-$HOME-%n-with-at-least-32-characters"
    [api.app.settings]
    signing-key = 'hush $(HOME) %n \ " '
"#;

/// A person's own program and a PostgreSQL that exists already.
const SECRET_OWN: &str = r#"
    application.run = "server 'a b' 50% $5"
    database.url = "postgres://shop:hush$x%25y%n%40z`'w@db.example/shop?sslmode=require"
"#;

#[test]
fn no_plan_unit_or_log_may_show_a_secret() {
    let four: String = FOUR.replace(r#"{ name = "db""#, r#"#{ name = "db""#);
    let certificates = "balancer.certificates = [{ certificate = 'shop.crt', key = 'shop.key' }]\n";
    for text in [
        format!("{certificates}{FOUR}{SECRET_API}"),
        format!("{certificates}{SECRET_OWN}{four}"),
        format!("{certificates}{SHARED}{SECRET_API}").replace("balancer.listen = [\"192.0.2.1:80\"]", ""),
    ] {
        for machine in tercet_config::parse(&text, ORIGIN).expect("a valid file").machines() {
            let desired = desired(&text, &machine.name);
            let mut hidden = 0;
            for file in &desired.files {
                match &file.contents {
                    Contents::Text(text) => assert!(shows_nothing(text), "{}:\n{text}", file.path.display()),
                    Contents::Secret(_) => {
                        hidden += 1;
                        assert_eq!(file.mode, 0o600, "{}", file.path.display());
                    }
                }
            }
            assert!(hidden > 0, "{} has no secret, so nothing was tried", machine.name);
            for facts in [Facts::default(), elsewhere(&desired)] {
                let steps = plan(&desired, &facts);
                assert!(!steps.is_empty());
                for step in &steps {
                    let changes: Vec<String> = step.changes().iter().map(ToString::to_string).collect();
                    assert!(shows_nothing(&format!("{step}\n{changes:?}\n{step:?}")), "{step}");
                    let json = serde_json::to_string(&(step.to_string(), step.changes())).expect("JSON");
                    assert!(shows_nothing(&json), "{json}");
                }
            }
            assert!(shows_nothing(&format!("{desired:?}")));
            assert!(serde_json::to_string(&desired).is_err(), "a secret was serialised");
        }
    }
}

fn shows_nothing(text: &str) -> bool {
    !text.contains("hush") && !text.contains(" key\n")
}

/// A machine on which every file is there with other contents and another mode, and every role with other settings.
fn elsewhere(desired: &Desired) -> Facts {
    let paths = desired.files.iter().map(|file| {
        let facts = PathFacts {
            kind: PathKind::File { digest: "0".to_owned(), text: None },
            mode: 0o644,
            owner: Owner::root(),
            modified: Duration::ZERO,
        };
        (file.path.clone(), facts)
    });
    Facts { paths: paths.collect(), ..Facts::default() }
}
