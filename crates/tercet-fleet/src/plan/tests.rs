//! Surveys in, runbooks out: no machine is needed to see what would be done.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use expect_test::{Expect, expect};
use tercet_config::{Origin, Topology};
use tercet_machine::Facts;
use tercet_machine::cluster::ClusterFacts;

use super::*;
use crate::desired::tests::{FOUR, secrets};
use crate::identity::Data;
use crate::instance::Instance;
use crate::migrate::{DatabaseState, Migrate};
use crate::paths;
use crate::report::{Report, UnitState};
use crate::secrets::Secrets;
use crate::system::System;

mod applications;
mod backup;
mod leaving;
mod program_migration;
mod website;

/// A fleet that a test changes before it is planned for.
struct Fleet {
    topology: Topology,
    secrets: Secrets,
    program: String,
    survey: Survey,
}

/// A release of the data API, `id` its only digit, made by the tercet of digit `by`.
fn release(id: char, by: char) -> Release {
    Release {
        id: id.to_string().repeat(12),
        application: None,
        kind: Kind::Api { configuration: Secret::new(format!("db-max-rows = {}\n", u32::from(id))) },
        program: paths::program(&by.to_string().repeat(16)),
        website: None,
    }
}

fn intent(release: Release) -> Intent {
    let files = vec![("0001_event.sql".to_owned(), String::new())];
    let migrate = Some(Migrate { database: "shop".to_owned(), port: 5432, files, grants: None });
    Intent::Apply { releases: vec![release], migrate, consent: Consent::default() }
}

/// Where the data of [`Fleet::serving`] is.
fn data() -> Data {
    Data {
        cluster: "7".to_owned(),
        database: "shop".to_owned(),
        machine: "db".to_owned(),
        since: "2026-11-29T12:00:00Z".to_owned(),
    }
}

/// A cluster with the database of the project.
fn cluster(identifier: &str) -> ClusterFacts {
    let facts = serde_json::json!({
        "identifier": identifier, "roles": {}, "databases": { "shop": { "owner": "shop_owner", "connect": [] } }
    });
    serde_json::from_value(facts).expect("facts")
}

impl Fleet {
    /// Bare machines.
    fn bare(text: &str) -> Self {
        let topology =
            tercet_config::parse(text, Origin { file: "tercet.toml", folder: "shop" }).expect("a valid file");
        let machines = topology.machines().iter().map(|machine| Surveyed {
            name: machine.name.clone(),
            system: System {
                distribution: ("debian".to_owned(), "12".to_owned()),
                id: machine.name.clone(),
                memory_kib: 4 << 20,
                addresses: vec![machine.address],
                operator: (IpAddr::from([192, 0, 2, 7]), 22),
                postgresql: 15,
                data_kib: 40 << 20,
                listeners: Vec::new(),
                replaced: Vec::new(),
                without_conf_d: None,
                accepts_passwords: false,
            },
            report: Report::default(),
            facts: Facts::default(),
        });
        let pending = vec!["0001_event.sql".to_owned()];
        let database = Some(DatabaseState { prepared: false, pending });
        let survey = Survey { machines: machines.collect(), database, ..Survey::default() };
        let (secrets, program) = (secrets(&topology), paths::program(&"1".repeat(16)));
        Self { topology, secrets, program, survey }
    }

    fn project(&self) -> Project<'_> {
        Project { topology: &self.topology, secrets: &self.secrets, program: &self.program, checks: &[] }
    }

    /// The same with every server serving `release`, and `others` kept, used last first.
    fn serving(text: &str, release: &Release, others: &[Release]) -> Self {
        Self::serving_each(text, std::slice::from_ref(release), others)
    }

    /// The same with the servers of each application serving its own of `releases`.
    fn serving_each(text: &str, releases: &[Release], others: &[Release]) -> Self {
        let mut fleet = Self::bare(text);
        let mut serving = BTreeMap::new();
        let instances: Vec<(String, Instance)> = parts(&fleet.project())
            .map(|part| {
                let machine = fleet.topology.machine_of(part).name.clone();
                let application = fleet.topology.application_of(part).expect("its application");
                let release = of(application, releases).expect("its release");
                (machine, instance(&fleet.project(), part, release, part.port.number))
            })
            .collect();
        for (machine, instance) in instances {
            let address = seen_by_the_balancer(&fleet.topology, &[], &machine).expect("its address");
            serving.insert(instance.part.clone(), SocketAddr::new(address, instance.port));
            let report = fleet.report(&machine);
            report.releases = releases.iter().chain(others).cloned().collect();
            report.instances.push((instance, UnitState::default()));
            report.programs = releases
                .iter()
                .chain(others)
                .map(|it| it.program.clone())
                .collect::<BTreeSet<_>>()
                .iter()
                .filter_map(|path| path.split('/').nth(5).map(str::to_owned))
                .collect();
        }
        fleet.report("lb").serving = serving;
        fleet.survey.database = Some(DatabaseState { prepared: true, pending: Vec::new() });
        let names = ["lb", "app1", "app2", "db"];
        for (machine, name) in names.map(|name| (fleet.identity(name), name)) {
            fleet.report(name).identity = Some(machine);
        }
        fleet.survey.machines.iter_mut().for_each(|machine| machine.facts.cluster = Some(cluster("7")));
        fleet.secrets.data = Some(data());
        fleet
    }

    fn identity(&self, machine: &str) -> Identity {
        let tiers =
            self.topology.machines().iter().find(|it| it.name == machine).expect("a machine").tiers.clone();
        Identity {
            project: self.secrets.project.clone(),
            name: "shop".to_owned(),
            machine: machine.to_owned(),
            tiers: tiers.iter().map(ToString::to_string).collect(),
            authority: self.secrets.authorities[0].clone(),
            generation: self.secrets.generation,
            since: "2026-11-29T12:00:00Z".to_owned(),
            data: Some(data()),
        }
    }

    fn report(&mut self, machine: &str) -> &mut Report {
        let machine = self.survey.machines.iter_mut().find(|it| it.name == machine);
        &mut machine.expect("a machine of the file").report
    }

    /// The runbook, without converging: the facts here are none.
    fn plan(&self, intent: &Intent) -> Result<ExecutionPlan> {
        plan(&self.project(), &self.survey, intent)
    }

    #[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
    fn check(&self, intent: &Intent, expected: Expect) {
        let text = match self.plan(intent) {
            Ok(plan) => plan.operations().map(|operation| revisions_hidden(&operation.to_string())).collect(),
            Err(error) => format!("{error:#}\n"),
        };
        expected.assert_eq(&text);
    }
}

/// Operations but for what is only known by its digest.
fn revisions_hidden(text: &str) -> String {
    let words = text.split(' ').filter(|_| !text.contains(": converge, ")).map(|word| {
        word.split_once('@').map_or(word.to_owned(), |(unit, rest)| format!("{unit}@{}…", &rest[..12]))
    });
    let line = words.collect::<Vec<_>>().join(" ");
    if line.is_empty() { line } else { line + "\n" }
}

#[test]
fn bare_machines_get_everything_and_the_balancer_when_all_servers_are_ready() {
    let fleet = Fleet::bare(FOUR);
    fleet.check(
        &intent(release('b', '1')),
        expect![[r#"
            lb: record that it belongs to project shop
            app1: record that it belongs to project shop
            app2: record that it belongs to project shop
            db: record that it belongs to project shop
            app1: ship release bbbbbbbbbbbb
            app2: ship release bbbbbbbbbbbb
            db: migrate the database: 0001_event.sql
            app1: start app-1 of release bbbbbbbbbbbb on port 8081
            app2: start app-2 of release bbbbbbbbbbbb on port 8081
            app1: wait until app-1 is ready: http://10.0.0.11:9081/ready
            app2: wait until app-2 is ready: http://10.0.0.12:9081/ready
            lb: wait until the balancer finds app-1, app-2 healthy
            lb: record that the project's data is in database shop on db
            app1: record that the project's data is in database shop on db
            app2: record that the project's data is in database shop on db
            db: record that the project's data is in database shop on db
        "#]],
    );
}

#[test]
fn a_release_is_rolled_one_server_after_the_other() {
    let fleet = Fleet::serving(FOUR, &release('a', '1'), &[]);
    fleet.check(
        &intent(release('b', '1')),
        expect![[r#"
            app1: ship release bbbbbbbbbbbb
            app2: ship release bbbbbbbbbbbb
            app1: start app-1 of release bbbbbbbbbbbb on port 8082
            app1: wait until app-1 is ready: http://10.0.0.11:9082/ready
            lb: put app-1 on port 8082 in rotation
            lb: wait until the balancer finds app-1 healthy
            app1: drain and stop app-1 of release aaaaaaaaaaaa on port 8081
            app2: start app-2 of release bbbbbbbbbbbb on port 8082
            app2: wait until app-2 is ready: http://10.0.0.12:9082/ready
            lb: put app-2 on port 8082 in rotation
            lb: wait until the balancer finds app-2 healthy
            app2: drain and stop app-2 of release aaaaaaaaaaaa on port 8081
            app1: remove tercet-app-1@aaaaaaaaaaaa…
            app2: remove tercet-app-2@aaaaaaaaaaaa…
        "#]],
    );
}

#[test]
fn a_rollout_of_a_share_replaces_a_group_at_the_same_time() {
    let next = release('b', '1');
    let fleet = Fleet::serving(&format!("{FOUR}application.rollout = \"100%\""), &release('a', '1'), &[]);
    fleet.check(
        &intent(next),
        expect![[r#"
        app1: ship release bbbbbbbbbbbb
        app2: ship release bbbbbbbbbbbb
        app1: start app-1 of release bbbbbbbbbbbb on port 8082
        app2: start app-2 of release bbbbbbbbbbbb on port 8082
        app1: wait until app-1 is ready: http://10.0.0.11:9082/ready
        app2: wait until app-2 is ready: http://10.0.0.12:9082/ready
        lb: put app-1 on port 8082 in rotation
        lb: wait until the balancer finds app-1 healthy
        lb: put app-2 on port 8082 in rotation
        lb: wait until the balancer finds app-2 healthy
        app1: drain and stop app-1 of release aaaaaaaaaaaa on port 8081
        app2: drain and stop app-2 of release aaaaaaaaaaaa on port 8081
        app1: remove tercet-app-1@aaaaaaaaaaaa…
        app2: remove tercet-app-2@aaaaaaaaaaaa…
    "#]],
    );
}

#[test]
fn a_rollback_walks_to_the_release_used_before() {
    let fleet = Fleet::serving(FOUR, &release('b', '1'), &[release('a', '1')]);
    fleet.check(
        &Intent::Rollback { application: None },
        expect![[r#"
            app1: start app-1 of release aaaaaaaaaaaa on port 8082
            app1: wait until app-1 is ready: http://10.0.0.11:9082/ready
            lb: put app-1 on port 8082 in rotation
            lb: wait until the balancer finds app-1 healthy
            app1: drain and stop app-1 of release bbbbbbbbbbbb on port 8081
            app2: start app-2 of release aaaaaaaaaaaa on port 8082
            app2: wait until app-2 is ready: http://10.0.0.12:9082/ready
            lb: put app-2 on port 8082 in rotation
            lb: wait until the balancer finds app-2 healthy
            app2: drain and stop app-2 of release bbbbbbbbbbbb on port 8081
            app1: mark release aaaaaaaaaaaa as used
            app2: mark release aaaaaaaaaaaa as used
            app1: remove tercet-app-1@bbbbbbbbbbbb…
            app2: remove tercet-app-2@bbbbbbbbbbbb…
        "#]],
    );
    let fleet = Fleet::serving(FOUR, &release('a', '1'), &[]);
    fleet.check(
        &Intent::Rollback { application: None },
        expect![[r#"
        there is no earlier release on the machines
        hint: tercet apply makes releases
    "#]],
    );
}

#[test]
fn a_changed_secret_rolls_the_servers_without_a_new_release() {
    let mut fleet = Fleet::serving(FOUR, &release('a', '1'), &[]);
    fleet.secrets.jwt = Secret::new("another");
    fleet.check(
        &intent(release('a', '1')),
        expect![[r#"
            app1: start app-1 of release aaaaaaaaaaaa on port 8082
            app1: wait until app-1 is ready: http://10.0.0.11:9082/ready
            lb: put app-1 on port 8082 in rotation
            lb: wait until the balancer finds app-1 healthy
            app1: drain and stop app-1 of release aaaaaaaaaaaa on port 8081
            app2: start app-2 of release aaaaaaaaaaaa on port 8082
            app2: wait until app-2 is ready: http://10.0.0.12:9082/ready
            lb: put app-2 on port 8082 in rotation
            lb: wait until the balancer finds app-2 healthy
            app2: drain and stop app-2 of release aaaaaaaaaaaa on port 8081
            app1: remove tercet-app-1@aaaaaaaaaaaa…
            app2: remove tercet-app-2@aaaaaaaaaaaa…
        "#]],
    );
}

#[test]
fn an_interrupted_apply_is_continued() {
    // Killed after app-1 was put in rotation, before its predecessor was stopped; half a build is on app2.
    let (old, new) = (release('a', '1'), release('b', '1'));
    let mut fleet = Fleet::serving(FOUR, &old, &[]);
    let part = parts(&fleet.project()).next().expect("app-1").clone();
    let next = instance(&fleet.project(), &part, &new, part.ports()[1]);
    let report = fleet.report("app1");
    report.instances.push((next.clone(), UnitState::default()));
    report.releases.insert(0, new.clone());
    fleet.report("app2").incomplete = vec![new.id.clone(), "e".repeat(12), "../../etc".to_owned()];
    fleet.report("lb").serving.insert("app-1".to_owned(), SocketAddr::from(([10, 0, 0, 11], next.port)));
    fleet.check(
        &intent(new),
        expect![[r#"
            app2: ship release bbbbbbbbbbbb
            app2: start app-2 of release bbbbbbbbbbbb on port 8082
            app2: wait until app-2 is ready: http://10.0.0.12:9082/ready
            lb: put app-2 on port 8082 in rotation
            lb: wait until the balancer finds app-2 healthy
            app2: drain and stop app-2 of release aaaaaaaaaaaa on port 8081
            app1: remove tercet-app-1@aaaaaaaaaaaa…
            app2: remove tercet-app-2@aaaaaaaaaaaa… /usr/local/lib/tercet/releases/eeeeeeeeeeee
        "#]],
    );
}

/// The releases `made`, used last first, each `release by`; the first serves.
#[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
fn check_kept(made: &[(char, char)], programs: &str, next: (char, char), by: char, expected: Expect) {
    let releases: Vec<Release> = made.iter().map(|(id, by)| release(*id, *by)).collect();
    let mut fleet = Fleet::serving(FOUR, &releases[0], &releases[1..]);
    fleet.program = paths::program(&by.to_string().repeat(16));
    fleet.report("app1").programs = programs.chars().map(|digit| digit.to_string().repeat(16)).collect();
    let plan = fleet.plan(&intent(release(next.0, next.1))).expect("a plan");
    let removed =
        plan.operations().filter(|it| it.machine == "app1").filter_map(|operation| match &operation.action {
            Action::CleanUp { paths, .. } => Some(paths.clone()),
            _ => None,
        });
    let lines = removed.flatten().map(|path| format!("{}\n", path.display()));
    expected.assert_eq(&lines.collect::<String>());
}

#[test]
fn keeps_the_last_three_releases_and_their_binaries() {
    check_kept(
        &[('c', '3'), ('b', '2'), ('a', '1')],
        "1234",
        ('d', '4'),
        '4',
        expect![[r#"
        /usr/local/lib/tercet/releases/aaaaaaaaaaaa
        /usr/local/lib/tercet/1111111111111111
    "#]],
    );
    check_kept(
        &[('c', '1'), ('b', '1'), ('a', '1')],
        "12",
        ('d', '2'),
        '2',
        expect![[r#"
        /usr/local/lib/tercet/releases/aaaaaaaaaaaa
    "#]],
    );
    // Going back needs the older binary, and tercet itself.
    check_kept(
        &[('b', '2'), ('a', '1')],
        "1234",
        ('a', '1'),
        '3',
        expect![[r#"
        /usr/local/lib/tercet/4444444444444444
    "#]],
    );
}

#[test]
fn a_failed_rollout_is_undone_in_reverse_order() {
    let fleet = Fleet::serving(FOUR, &release('a', '1'), &[]);
    let plan = fleet.plan(&intent(release('b', '1'))).expect("a plan");
    // All of the roll of app-1, and the start of app-2.
    let until =
        plan.operations().position(|it| it.to_string().starts_with("app2: start")).expect("app-2 starts");
    let begun: Vec<Operation> = plan.operations().take(until + 1).cloned().collect();
    let undone = begun.iter().rev().flat_map(Operation::undo);
    let text: String = undone.map(|operation| revisions_hidden(&operation.to_string())).collect();
    expect![[r#"
        app2: remove tercet-app-2@bbbbbbbbbbbb…
        app1: start app-1 of release aaaaaaaaaaaa on port 8081
        app1: wait until app-1 is ready: http://10.0.0.11:9081/ready
        lb: put app-1 on port 8081 in rotation
        lb: wait until the balancer finds app-1 healthy
        app1: remove tercet-app-1@bbbbbbbbbbbb…
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_plan_shows_every_step_and_no_secret() {
    let plan = Fleet::bare(FOUR).plan(&intent(release('b', '1'))).expect("a plan").to_string();
    for line in
        ["  5. db: converge, ", "       install nftables, postgresql-15", "write /etc/tercet/balancer.toml"]
    {
        assert!(plan.contains(line), "{line} is not in\n{plan}");
    }
    assert!(!plan.contains("hush"), "{plan}");
}

/// What is said when the machines of [`Fleet::serving`] are changed by `change`; nothing is planned then.
#[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
fn check_refused(change: impl FnOnce(&mut Fleet), expected: Expect) {
    let release = release('a', '1');
    let mut fleet = Fleet::serving(FOUR, &release, &[]);
    change(&mut fleet);
    let error = fleet.plan(&intent(release.clone())).expect_err("a refusal");
    expected.assert_eq(&format!("{error:#}\n"));
    let consent = Consent { take_over: true, new_database: true, move_database: false };
    let Intent::Apply { releases, migrate, .. } = intent(release) else { panic!("it is an apply") };
    fleet.plan(&Intent::Apply { releases, migrate, consent }).expect("a plan, since the person says so");
}

#[test]
fn machines_of_others_are_refused() {
    check_refused(
        |fleet| {
            let mut identity = fleet.identity("app2");
            identity.project = "another-project".to_owned();
            fleet.report("app2").identity = Some(identity);
        },
        expect![[r#"
            app2: it is machine app2 (application) of project shop (another-) since 2026-11-29T12:00:00Z
            hint: name another machine, or `tercet apply --take-over` makes it this project's
        "#]],
    );
    check_refused(
        |fleet| fleet.secrets.authorities = vec!["another authority".to_owned()],
        expect![[r#"
        lb: it is machine lb (balancer) of project shop (the-proj) since 2026-11-29T12:00:00Z, with another certificate authority than this folder has: its secrets are another operator's
        hint: copy .tercet from the folder it was applied from, or `tercet apply --take-over` replaces its secrets
    "#]],
    );
}

#[test]
fn data_is_not_left_behind_in_silence() {
    let at_database = |change: fn(&mut Facts)| {
        move |fleet: &mut Fleet| {
            let machine = fleet.survey.machines.iter_mut().find(|it| it.name == "db");
            change(&mut machine.expect("the database's machine").facts);
        }
    };
    check_refused(
        at_database(|facts| facts.cluster = Some(cluster("8"))),
        expect![[r#"
            db: its PostgreSQL cluster is another one, 8
            the project's data is in database shop of PostgreSQL cluster 7 on db, since 2026-11-29T12:00:00Z
            hint: put `name` and the database's machine in tercet.toml back to what they were, or move the data there (`tercet move database --to db`); `tercet apply --new-database` starts with an empty one and leaves the old as it is
        "#]],
    );
    check_refused(
        at_database(|facts| facts.cluster = None),
        expect![[r#"
            db: PostgreSQL is not installed on it: it would start empty
            the project's data is in database shop of PostgreSQL cluster 7 on db, since 2026-11-29T12:00:00Z
            hint: put `name` and the database's machine in tercet.toml back to what they were, or move the data there (`tercet move database --to db`); `tercet apply --new-database` starts with an empty one and leaves the old as it is
        "#]],
    );
    check_refused(
        at_database(|facts| {
            facts.cluster = serde_json::from_str(r#"{"identifier":"7","roles":{},"databases":{}}"#).ok();
        }),
        expect![[r#"
            db: there is no database shop in its PostgreSQL cluster any more
            the project's data is in database shop of PostgreSQL cluster 7 on db, since 2026-11-29T12:00:00Z
            hint: put `name` and the database's machine in tercet.toml back to what they were, or move the data there (`tercet move database --to db`); `tercet apply --new-database` starts with an empty one and leaves the old as it is
        "#]],
    );
    // Known from the machines alone, when the operator's own note is lost.
    check_refused(
        |fleet| {
            fleet.secrets.data = None;
            fleet.report("db").identity = None;
            at_database(|facts| facts.cluster = None)(fleet);
        },
        expect![[r#"
            db: PostgreSQL is not installed on it: it would start empty
            the project's data is in database shop of PostgreSQL cluster 7 on db, since 2026-11-29T12:00:00Z
            hint: put `name` and the database's machine in tercet.toml back to what they were, or move the data there (`tercet move database --to db`); `tercet apply --new-database` starts with an empty one and leaves the old as it is
        "#]],
    );
}

/// A phase of a rotation is a plan like any other: the release that serves goes on serving, whatever the files say.
#[test]
fn other_secrets_are_rolled_with_the_release_that_serves() {
    let phase = |change: fn(&mut Secrets)| {
        let mut fleet = Fleet::serving(FOUR, &release('a', '1'), &[release('b', '1')]);
        fleet.secrets.generation = 1;
        change(&mut fleet.secrets);
        fleet
    };
    // What servers need does not change: only PostgreSQL converges.
    phase(|secrets| secrets.certificate_alone = true).check(
        &Intent::Rotate,
        expect![[r#"
            lb: record that it belongs to project shop, secrets of generation 1
            app1: record that it belongs to project shop, secrets of generation 1
            app2: record that it belongs to project shop, secrets of generation 1
            db: record that it belongs to project shop, secrets of generation 1
        "#]],
    );
    phase(|secrets| secrets.client.certificate = "another\n".to_owned()).check(
        &Intent::Rotate,
        expect![[r#"
            lb: record that it belongs to project shop, secrets of generation 1
            app1: record that it belongs to project shop, secrets of generation 1
            app2: record that it belongs to project shop, secrets of generation 1
            db: record that it belongs to project shop, secrets of generation 1
            app1: start app-1 of release aaaaaaaaaaaa on port 8082
            app1: wait until app-1 is ready: http://10.0.0.11:9082/ready
            lb: put app-1 on port 8082 in rotation
            lb: wait until the balancer finds app-1 healthy
            app1: drain and stop app-1 of release aaaaaaaaaaaa on port 8081
            app2: start app-2 of release aaaaaaaaaaaa on port 8082
            app2: wait until app-2 is ready: http://10.0.0.12:9082/ready
            lb: put app-2 on port 8082 in rotation
            lb: wait until the balancer finds app-2 healthy
            app2: drain and stop app-2 of release aaaaaaaaaaaa on port 8081
            app1: remove tercet-app-1@aaaaaaaaaaaa…
            app2: remove tercet-app-2@aaaaaaaaaaaa…
        "#]],
    );
    let mut nothing = Fleet::bare(FOUR);
    nothing.secrets.generation = 1;
    nothing.check(
        &Intent::Rotate,
        expect![[r#"
        no application server serves yet
        hint: tercet apply first
    "#]],
    );
}

#[test]
fn secrets_of_an_older_generation_are_refused() {
    check_refused(
        |fleet| {
            let mut identity = fleet.identity("db");
            identity.generation = 3;
            fleet.report("db").identity = Some(identity);
        },
        expect![[r#"
            db: it is machine db (database) of project shop (the-proj) since 2026-11-29T12:00:00Z, and its secrets are of generation 3: they were rotated after this folder's copy of generation 0 was made
            hint: copy .tercet from the folder it was applied from, or `tercet apply --take-over` replaces its secrets
        "#]],
    );
}
