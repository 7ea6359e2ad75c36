//! A desired state and facts in, the plan as it is printed out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use expect_test::{Expect, expect};
use tercet_machine::cluster::{Cluster, Database, Role};
use tercet_machine::directory::Directory;
use tercet_machine::drop_in::DropIns;
use tercet_machine::file::{Contents, File};
use tercet_machine::firewall::{Firewall, FirewallFacts};
use tercet_machine::inventory::Before;
use tercet_machine::package::Package;
use tercet_machine::path::{Kind, Owner, PathFacts};
use tercet_machine::settings::{OtherFile, Settings};
use tercet_machine::sysctl::Sysctl;
use tercet_machine::unit::{Goal, Unit, UnitFacts};
use tercet_machine::user::User;
use tercet_machine::{Desired, Facts, Inventory, Secret, plan};

#[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
fn check(desired: &Desired, facts: &Facts, expected: Expect) {
    let mut text = String::new();
    for step in plan(desired, facts) {
        writeln!(text, "{step}").expect("a String takes anything");
        for change in step.changes() {
            writeln!(text, "  {}", change.to_string().replace('\n', "\n  "))
                .expect("a String takes anything");
        }
    }
    expected.assert_eq(&text);
}

fn file(path: &str, contents: Contents) -> File {
    File { path: path.into(), contents, owner: Owner::root(), mode: 0o640 }
}

fn written(text: &str, modified: u64) -> PathFacts {
    let digest = if text == "port = 1\n" {
        "a512046503d7fca82f59d5d02e627becbdde094e5863f8951a6e709016186d84".to_owned()
    } else {
        "other".to_owned()
    };
    PathFacts {
        kind: Kind::File { digest, text: Some(text.to_owned()) },
        mode: 0o640,
        owner: Owner::root(),
        modified: Duration::from_secs(modified),
    }
}

fn unit(restart: &[&str], reload: &[&str]) -> Unit {
    Unit {
        name: "a.service".to_owned(),
        enabled: Some(true),
        goal: Goal::Running,
        restart_when: restart.iter().map(PathBuf::from).collect(),
        reload_when: reload.iter().map(PathBuf::from).collect(),
    }
}

fn running(started: u64, reloaded: u64) -> BTreeMap<String, UnitFacts> {
    let facts = UnitFacts {
        exists: true,
        enabled: true,
        active: "active".to_owned(),
        started: Duration::from_secs(started),
        reloaded: Duration::from_secs(reloaded),
        stale: false,
    };
    BTreeMap::from([("a.service".to_owned(), facts)])
}

#[test]
fn a_bare_machine_gets_everything_in_order_and_the_firewall_last() {
    let sysctls = [Sysctl { key: "net.core.somaxconn".to_owned(), value: "4096".to_owned() }];
    let desired = Desired {
        data_directories: Vec::new(),
        packages: vec![Package("nftables".to_owned()), Package("postgresql-15".to_owned())],
        users: vec![User("tercet".to_owned())],
        directories: vec![Directory { path: "/etc/tercet".into(), owner: Owner::root(), mode: 0o750 }],
        files: vec![
            file("/etc/systemd/system/a.service", Contents::Text("[Service]\n".to_owned())),
            file("/etc/tercet/key", Contents::Secret(Secret::new("hush"))),
            Sysctl::boot_file(&sysctls),
        ],
        absent: vec!["/etc/tercet/old".into()],
        sysctls: sysctls.to_vec(),
        firewall: Some(Firewall { rules: "  chain input {}\n".to_owned(), revert_seconds: 60 }),
        units: vec![unit(&["/etc/tercet/key"], &[])],
        cluster: Some(Cluster {
            place: None,
            port: 5432,
            roles: vec![Role {
                name: "authenticator".to_owned(),
                login: true,
                inherit: false,
                member_of: vec![],
                verifier: Some(Secret::new("SCRAM-SHA-256$hush")),
                settings: BTreeMap::new(),
            }],
            databases: vec![Database {
                name: "shop".to_owned(),
                owner: "shop_owner".to_owned(),
                connect: vec![],
            }],
            privileged: Some(vec![]),
        }),
        ..Desired::default()
    };
    check(
        &desired,
        &Facts::default(),
        expect![[r#"
            install nftables, postgresql-15
            create system user tercet
            make directory /etc/tercet
              directory: absent → root:root 0750
            write /etc/systemd/system/a.service
              contents: absent → 1 lines, root:root 0640
            write /etc/tercet/key
              contents: absent → 1 lines, root:root 0640
            write /etc/sysctl.d/60-tercet.conf
              contents: absent → 1 lines, root:root 0644
            set net.core.somaxconn
              value: unknown to this kernel → 4096
            reload systemd's unit files
            verify a.service
            enable a.service
            start a.service
            set database role authenticator
              role: absent → present
            set database shop
              database: absent → present
            replace the firewall rules
              rules:
                @@ -0,0 +1,5 @@
                +table inet tercet
                +delete table inet tercet
                +table inet tercet {
                +  chain input {}
                +}
              in force: no rules → these rules
            keep the firewall rules at every boot
        "#]],
    );
}

#[test]
fn drift_is_shown_line_by_line_unless_it_is_secret() {
    let text = Contents::Text("port = 1\nhost = a\n".to_owned());
    let desired = Desired {
        data_directories: Vec::new(),
        files: vec![file("/a", text), file("/b", Contents::Secret(Secret::new("hush")))],
        ..Desired::default()
    };
    let mut facts = Facts::default();
    facts.paths.insert("/a".into(), PathFacts { mode: 0o666, ..written("port = 2\nhost = a\n", 1) });
    facts.paths.insert("/b".into(), PathFacts { owner: Owner::of("daemon"), ..written("", 1) });
    check(
        &desired,
        &facts,
        expect![[r#"
            write /a
              contents:
                @@ -1 +1 @@
                -port = 2
                +port = 1
              mode: 0666 → 0640
            write /b
              contents: other contents → new contents
              owner: daemon:daemon → root:root
        "#]],
    );
}

/// A run may be killed between writing a file and restarting what reads it: the next plan must notice.
#[test]
fn a_unit_older_than_its_files_is_restarted_or_reloaded() {
    let text = Contents::Text("port = 1\n".to_owned());
    let check = |unit: Unit, modified, started, reloaded, expected| {
        let desired =
            Desired { files: vec![file("/a", text.clone())], units: vec![unit], ..Desired::default() };
        let facts = Facts {
            paths: BTreeMap::from([("/a".into(), written("port = 1\n", modified))]),
            units: running(started, reloaded),
            ..Facts::default()
        };
        check(&desired, &facts, expected);
    };
    check(unit(&["/a"], &[]), 5, 6, 0, expect![""]);
    check(unit(&["/a"], &[]), 7, 6, 0, expect!["restart a.service: /a changed\n"]);
    check(unit(&[], &["/a"]), 7, 6, 0, expect!["reload a.service: /a changed\n"]);
    check(unit(&[], &["/a"]), 7, 6, 8, expect![""]);
}

#[test]
fn a_unit_that_should_not_run_is_stopped_and_disabled() {
    let unit = Unit { enabled: Some(false), goal: Goal::Stopped, ..unit(&[], &[]) };
    let desired = Desired { units: vec![unit], ..Desired::default() };
    let facts = Facts { units: running(1, 0), ..Facts::default() };
    check(&desired, &facts, expect!["disable a.service\nstop a.service\n"]);
    // One that is not there may come with a package, which enables it.
    check(&desired, &Facts::default(), expect!["disable a.service\n"]);
}

#[test]
fn a_unit_of_an_earlier_release_goes_without_a_trace() {
    let desired =
        Desired { units: vec![Unit { goal: Goal::Absent, ..unit(&[], &[]) }], ..Desired::default() };
    let mut facts = Facts { units: running(1, 0), ..Facts::default() };
    facts.paths.insert("/etc/systemd/system/a.service".into(), written("", 1));
    check(
        &desired,
        &facts,
        expect![[r"
            remove a.service
        "]],
    );
    check(&desired, &Facts::default(), expect![""]);
}

#[test]
fn no_secret_is_in_a_step_as_it_is_printed_for_debugging() {
    let desired =
        Desired { files: vec![file("/b", Contents::Secret(Secret::new("hush")))], ..Desired::default() };
    assert!(!format!("{:?}", plan(&desired, &Facts::default())).contains("hush"));
}

#[test]
fn removes_recorded_resources_in_order_and_the_firewall_last() {
    let files = [
        ("/etc/systemd/system/a.service", Before::Absent),
        ("/etc/systemd/system/postgresql@15-main.service.d/tercet.conf", Before::Absent),
        ("/etc/postgresql/15/main/conf.d/tercet.conf", Before::Absent),
        ("/etc/postgresql/15/main/pg_hba.conf", Before::Kept("/var/lib/tercet/originals/hba".into())),
        ("/etc/postgresql/15/main/pg_ident.conf", Before::Absent),
        ("/etc/tercet/key", Before::Absent),
    ];
    let retired = Inventory {
        users: BTreeMap::from([
            ("tercet-build".to_owned(), Before::Absent),
            ("theirs".to_owned(), Before::Present),
        ]),
        directories: BTreeMap::from([
            ("/etc/tercet".into(), Before::Absent),
            ("/etc/theirs".into(), Before::Present),
        ]),
        files: files.into_iter().map(|(path, before)| (path.into(), before)).collect(),
        sysctls: BTreeMap::from([("net.core.somaxconn".to_owned(), Some("128".to_owned()))]),
        units: BTreeMap::from([
            ("a.service".to_owned(), [].into()),
            (
                "postgresql@15-main.service".to_owned(),
                ["/etc/postgresql/15/main/conf.d/tercet.conf".into()].into(),
            ),
        ]),
        firewall: true,
        cluster: Some(5432),
        ..Inventory::default()
    };
    let desired = Desired { retired, ..Desired::default() };
    let mut facts = Facts {
        users: ["tercet-build".to_owned(), "theirs".to_owned()].into(),
        sysctls: BTreeMap::from([("net.core.somaxconn".to_owned(), "4096".to_owned())]),
        firewall: FirewallFacts { listing: Some(String::new()), ..FirewallFacts::default() },
        units: running(5, 0),
        ..Facts::default()
    };
    facts.units.insert("postgresql@15-main.service".to_owned(), facts.units["a.service"].clone());
    let there = files_of(&desired).into_iter().chain([
        "/var/lib/tercet/originals/hba".into(),
        "/etc/tercet".into(),
        "/etc/theirs".into(),
    ]);
    facts.paths = there.map(|path: PathBuf| (path, written("", 1))).collect();
    check(
        &desired,
        &facts,
        expect![[r#"
            remove a.service
            set net.core.somaxconn
              value: 4096 → 128
            remove /etc/postgresql/15/main/conf.d/tercet.conf
            restore the original /etc/postgresql/15/main/pg_hba.conf
            write /etc/postgresql/15/main/pg_ident.conf
              contents:
              owner: root:root → postgres:postgres
            remove /etc/systemd/system/postgresql@15-main.service.d/tercet.conf
            remove /etc/tercet/key
            remove /etc/tercet
            remove system user tercet-build
            reload systemd's unit files
            restart postgresql@15-main.service: tercet's configuration was removed
            remove the firewall rules
        "#]],
    );
    // Killed after its settings were gone: PostgreSQL is still to be started anew, and the rest is done.
    let mut facts = Facts { units: facts.units, ..Facts::default() };
    facts.units.remove("a.service");
    facts.paths.insert("/etc/postgresql/15/main/conf.d".into(), written("", 6));
    let ident = PathFacts { owner: Owner::of("postgres"), ..written("", 1) };
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let kind = Kind::File { digest: empty.to_owned(), text: None };
    facts.paths.insert("/etc/postgresql/15/main/pg_ident.conf".into(), PathFacts { kind, ..ident });
    check(
        &desired,
        &facts,
        expect![[r#"
            restart postgresql@15-main.service: tercet's configuration was removed
        "#]],
    );
    facts.paths.insert("/etc/postgresql/15/main/conf.d".into(), written("", 4));
    check(&desired, &facts, expect![[""]]);
}

fn files_of(desired: &Desired) -> Vec<PathBuf> {
    desired.retired.files.keys().cloned().collect()
}

#[test]
fn what_others_added_is_moved_away_and_the_unit_restarted_once() {
    let desired = Desired {
        drop_ins: vec![DropIns { unit: "a.service".to_owned(), own: vec![] }],
        units: vec![unit(&[], &[])],
        ..Desired::default()
    };
    let path = PathBuf::from("/etc/systemd/system/a.service.d/override.conf");
    let text = Some("[Service]\nNice=5\n".to_owned());
    let facts = Facts {
        drop_ins: BTreeMap::from([("a.service".to_owned(), BTreeMap::from([(path, text)]))]),
        units: running(10, 0),
        ..Facts::default()
    };
    check(
        &desired,
        &facts,
        expect![[r#"
        move /etc/systemd/system/a.service.d/override.conf to /var/backups/tercet: a.service has no such drop-in
          contents:
            -[Service]
            -Nice=5
        restart a.service: a file of its settings was moved away
    "#]],
    );
    // An interrupted run moved it and did not restart the unit.
    let mark = |modified| Facts {
        paths: BTreeMap::from([("/run/tercet/due/restart/a.service".into(), written("", modified))]),
        units: running(10, 0),
        ..Facts::default()
    };
    check(
        &desired,
        &mark(11),
        expect![[r#"
        restart a.service: a file of its settings was moved away
    "#]],
    );
    check(&desired, &mark(9), expect![[""]]);
}

#[test]
fn other_settings_of_postgresql_are_undone_by_a_reload_or_a_restart() {
    let folder = PathBuf::from("/etc/postgresql/15/main/conf.d");
    let desired = Desired {
        settings: Some(Settings {
            port: 5432,
            unit: "a.service".to_owned(),
            folder: folder.clone(),
            own: vec![folder.join("tercet.conf")],
            automatic: "/data/postgresql.auto.conf".into(),
        }),
        units: vec![unit(&[], &[])],
        ..Desired::default()
    };
    let facts = |needs_restart| Facts {
        settings: BTreeMap::from([
            (folder.join("zz.conf"), OtherFile { names: vec!["max_connections".to_owned()], needs_restart }),
            (
                "/data/postgresql.auto.conf".into(),
                OtherFile { names: vec!["ssl".to_owned(), "work_mem".to_owned()], needs_restart: false },
            ),
        ]),
        units: running(10, 0),
        ..Facts::default()
    };
    check(
        &desired,
        &facts(false),
        expect![[r#"
        undo ALTER SYSTEM, after a copy of /data/postgresql.auto.conf to /var/backups/tercet: ssl, work_mem
        move /etc/postgresql/15/main/conf.d/zz.conf to /var/backups/tercet: max_connections
        reload a.service: a file of its settings was moved away
    "#]],
    );
    check(
        &desired,
        &facts(true),
        expect![[r#"
        undo ALTER SYSTEM, after a copy of /data/postgresql.auto.conf to /var/backups/tercet: ssl, work_mem
        move /etc/postgresql/15/main/conf.d/zz.conf to /var/backups/tercet: max_connections
        restart a.service: a file of its settings was moved away
    "#]],
    );
}

#[test]
fn other_roles_lose_privileges_unless_they_may_have_them() {
    let cluster = |privileged: Option<&[&str]>| Desired {
        cluster: Some(Cluster {
            port: 5432,
            place: None,
            roles: vec![],
            databases: vec![],
            privileged: privileged.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
        }),
        ..Desired::default()
    };
    let role = |bootstrap: bool, powers: &[&str], member_of: &[&str]| {
        serde_json::json!({
            "login": true, "inherit": true, "powers": powers, "member_of": member_of, "verifier": null, "settings": {},
            "bootstrap": bootstrap
        })
    };
    let roles = serde_json::json!({
        "postgres": role(true, &["superuser", "createdb"], &[]),
        "admin": role(false, &["superuser"], &[]),
        "reader": role(false, &[], &["pg_monitor"]),
        "sneaky": role(false, &[], &["postgres", "admin", "pg_execute_server_program"]),
        "stream": role(false, &["replication"], &[]),
    });
    let facts = serde_json::json!({ "cluster": { "checksums": true, "roles": roles, "databases": {} } });
    let facts: Facts = serde_json::from_value(facts).unwrap();
    check(
        &cluster(Some(&["stream"])),
        &facts,
        expect![[r#"
        restrict database role admin, which is not tercet's
          powers: superuser → none
        restrict database role sneaky, which is not tercet's
          member of: admin, pg_execute_server_program, postgres → none
    "#]],
    );
    check(&cluster(None), &facts, expect![[""]]);
}
