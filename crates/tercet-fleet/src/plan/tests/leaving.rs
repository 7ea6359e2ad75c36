//! Machines that leave the file, and projects that are taken down.

use std::time::Duration;

use tercet_config::{Machine, Reach};
use tercet_machine::firewall::FirewallFacts;
use tercet_machine::path::{Kind as PathKind, Owner, PathFacts};
use tercet_machine::unit::UnitFacts;

use super::*;
use crate::plan::leaving::{gone, whole};
use crate::remembered::Remembered;
use crate::remembered::Unreached;
use crate::survey::Leaving;

/// The file of [`FOUR`] with other machines of the application tier.
fn with_applications(machines: &[(&str, u8)]) -> String {
    let entries: String = machines
        .iter()
        .map(|(name, last)| {
            format!(
                "{{ name = \"{name}\", ssh = \"{name}\", address = \"10.0.0.{last}\", tiers = [\"application\"] }},\n"
            )
        })
        .collect();
    format!(
        "name = \"shop\"\nmachine = [\n{{ name = \"lb\", ssh = \"lb\", address = \"10.0.0.10\", tiers = [\"balancer\"] }},\n\
         {entries}{{ name = \"db\", ssh = \"db\", address = \"10.0.0.20\", tiers = [\"database\"] }},\n]\n"
    )
}

/// Facts by which everything of an inventory is there.
fn all_there(inventory: &Inventory) -> Facts {
    let path = |kind| PathFacts { kind, mode: 0o644, owner: Owner::root(), modified: Duration::from_secs(1) };
    let file = || path(PathKind::File { digest: String::new(), text: None });
    let files = inventory.files.keys().map(|it| (it.clone(), file()));
    let directories = inventory.directories.keys().map(|it| (it.clone(), path(PathKind::Directory)));
    let units = inventory.units.keys().map(|name| {
        let facts = UnitFacts { enabled: true, active: "active".to_owned(), ..UnitFacts::default() };
        (name.clone(), facts)
    });
    Facts {
        users: inventory.users.keys().cloned().collect(),
        paths: files.chain(directories).collect(),
        units: units.collect(),
        firewall: FirewallFacts { kept: Some("rules".to_owned()), ..FirewallFacts::default() },
        ..Facts::default()
    }
}

impl Fleet {
    /// What a machine was made to be, recorded and there.
    fn recorded(mut self) -> Self {
        let intent = intent(release('a', '1'));
        let project = self.project();
        let target = Target::of(&project, &self.survey, &intent).expect("a target");
        let made: Vec<Inventory> = self
            .survey
            .machines
            .iter()
            .map(|machine| Inventory::of(&target.after(machine).expect("a desired state")))
            .collect();
        for (machine, inventory) in self.survey.machines.iter_mut().zip(made) {
            let cluster = machine.facts.cluster.take();
            machine.facts = Facts { cluster, ..all_there(&inventory) };
            machine.report.inventory = inventory;
        }
        self
    }

    /// The same with another file; machines that are not in it leave, or are lost.
    fn with_file(mut self, text: &str, unreached: &[&str]) -> Self {
        let before = std::mem::replace(
            &mut self.topology,
            tercet_config::parse(text, Origin { file: "tercet.toml", folder: "shop" }).expect("a valid file"),
        );
        let remembered = |name: &str| {
            let machine = before.machines().iter().find(|it| it.name == name).expect("a machine").clone();
            Remembered { machine, id: name.to_owned(), cut_off: None }
        };
        let machines = std::mem::take(&mut self.survey.machines);
        for surveyed in machines {
            let name = surveyed.name.clone();
            if self.topology.machines().iter().any(|it| it.name == name) {
                self.survey.machines.push(surveyed);
            } else if unreached.contains(&name.as_str()) {
                let why = format!("{name}: cannot be reached by ssh");
                self.survey.unreached.push(Unreached { remembered: remembered(&name), why });
            } else {
                self.survey.leaving.push(Leaving { remembered: remembered(&name), surveyed });
            }
        }
        self.secrets.database_url = secrets(&self.topology).database_url;
        let bare = Self::bare(text).survey.machines;
        let is_new = |it: &Surveyed| !before.machines().iter().any(|old| old.name == it.name);
        let at = self.survey.machines.len() - 1;
        self.survey.machines.splice(at..at, bare.into_iter().filter(is_new));
        self
    }

    #[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
    fn check_all(&self, intent: &Intent, expected: Expect) {
        let plan = self.plan(intent).expect("a plan");
        let lines = plan.operations().map(|operation| revisions_hidden(&operation.to_string()));
        let notes = plan.notes.iter().map(|note| format!("note: {note}\n"));
        expected.assert_eq(&lines.chain(notes).collect::<String>());
    }
}

fn serving() -> Fleet {
    Fleet::serving(FOUR, &release('a', '1'), &[]).recorded()
}

#[test]
fn a_machine_that_left_the_file_finishes_its_requests_and_is_cleaned_up() {
    let fleet = serving().with_file(&with_applications(&[("app1", 11)]), &[]);
    fleet.check_all(
        &intent(release('a', '1')),
        expect![[r#"
            lb: take app-2 out of rotation
            lb: wait until the balancer has removed app-2
            app2: drain and stop app-2 of release aaaaaaaaaaaa on port 8081
            app2: stop its services and remove their units
            db: end the database sessions of app2 (10.0.0.12)
            app2: remove all that tercet made here, the firewall last
            app2: remove tercet's binaries, its state and last the machine's identity
            note: installed packages stay on the machines that leave
        "#]],
    );
}

#[test]
fn the_first_of_two_leaves_and_the_other_takes_its_name_without_a_gap() {
    let fleet = serving().with_file(&with_applications(&[("app2", 12)]), &[]);
    fleet.check_all(
        &intent(release('a', '1')),
        expect![[r#"
            app2: start app-1 of release aaaaaaaaaaaa on port 8082
            app2: wait until app-1 is ready: http://10.0.0.12:9082/ready
            lb: put app-1 on app2, port 8082, in rotation in place of the one on app1
            lb: wait until the balancer finds app-1 healthy
            app1: drain and stop app-1 of release aaaaaaaaaaaa on port 8081
            lb: take app-2 out of rotation
            lb: wait until the balancer has removed app-2
            app2: drain and stop app-2 of release aaaaaaaaaaaa on port 8081
            app2: remove tercet-app-2@aaaaaaaaaaaa…
            app1: stop its services and remove their units
            db: end the database sessions of app1 (10.0.0.11)
            app1: remove all that tercet made here, the firewall last
            app1: remove tercet's binaries, its state and last the machine's identity
            note: installed packages stay on the machines that leave
        "#]],
    );
}

#[test]
fn a_machine_is_replaced_by_another() {
    let fleet = serving().with_file(&with_applications(&[("app1", 11), ("app3", 13)]), &[]);
    fleet.check_all(
        &intent(release('a', '1')),
        expect![[r#"
            app3: record that it belongs to project shop
            app3: ship release aaaaaaaaaaaa
            app3: start app-2 of release aaaaaaaaaaaa on port 8081
            app3: wait until app-2 is ready: http://10.0.0.13:9081/ready
            lb: put app-2 on app3, port 8081, in rotation in place of the one on app2
            lb: wait until the balancer finds app-2 healthy
            app2: drain and stop app-2 of release aaaaaaaaaaaa on port 8081
            lb: record that the project's data is in database shop on db
            app1: record that the project's data is in database shop on db
            app3: record that the project's data is in database shop on db
            db: record that the project's data is in database shop on db
            app2: stop its services and remove their units
            db: end the database sessions of app2 (10.0.0.12)
            app2: remove all that tercet made here, the firewall last
            app2: remove tercet's binaries, its state and last the machine's identity
            note: installed packages stay on the machines that leave
        "#]],
    );
}

#[test]
fn a_machine_that_cannot_be_reached_is_listed_and_loses_its_access() {
    let mut fleet = serving().with_file(&with_applications(&[("app1", 11)]), &["app2"]);
    fleet.check_all(&intent(release('a', '1')), expect![[r#"
        lb: take app-2 out of rotation
        lb: wait until the balancer has removed app-2
        db: end the database sessions of app2 (10.0.0.12)
        note: app2 (10.0.0.12, application) left the project and could not be cleaned up: app2: cannot be reached by ssh
          still there: the database's password, the client certificate and the token secret in /etc/tercet/credentials; its services, which start at boot
          hint: apply again when it can be reached; if it is in other hands, change the secrets it has; `--forget app2` stops asking
    "#]]);
    // The next time, nothing is left to do.
    fleet.survey.unreached[0].remembered.cut_off = Some("2026-11-29T12:00:00Z".to_owned());
    let serving = fleet.report("lb").serving.clone();
    fleet.report("lb").serving = serving.into_iter().filter(|(name, _)| name == "app-1").collect();
    let plan = fleet.plan(&intent(release('a', '1'))).expect("a plan");
    assert!(
        !plan.operations().any(|it| matches!(it.action, Action::EndSessions { .. } | Action::Rotate { .. }))
    );
    assert_eq!(plan.notes.len(), 1);
}

#[test]
fn the_database_of_the_project_is_not_given_up_in_silence() {
    let text = with_applications(&[("app1", 11), ("app2", 12)]);
    let text = text
        .lines()
        .filter(|line| !line.contains("name = \"db\""))
        .collect::<Vec<_>>()
        .join("\n")
        .replace("name = \"shop\"", "name = \"shop\"\ndatabase.url = \"postgresql://elsewhere/shop\"");
    let fleet = serving().with_file(&text, &[]);
    let Intent::Apply { releases, .. } = intent(release('a', '1')) else { panic!("it is an apply") };
    let apply = |consent| Intent::Apply { releases: releases.clone(), migrate: None, consent };
    let error = fleet.plan(&apply(Consent::default())).expect_err("a refusal");
    expect![[r#"
        db: its PostgreSQL has the project's data, and tercet.toml has no database there any more
        hint: give the machine its tier back, or move the data to another machine (`tercet move database --to NAME`); `tercet apply --new-database` leaves it as it is, without a connection from outside
    "#]].assert_eq(&format!("{error:#}\n"));
    let consent = Consent { new_database: true, ..Consent::default() };
    assert!(fleet.plan(&apply(consent)).is_ok());
}

#[test]
fn unowned_data_is_taken_over_only_with_consent() {
    let mut fleet = Fleet::bare(FOUR);
    fleet.survey.machines[3].facts.cluster = Some(cluster("7"));
    let error = fleet.plan(&intent(release('a', '1'))).expect_err("a refusal");
    expect![[r#"
        db: its PostgreSQL has a database shop already, which belongs to no project: `tercet destroy` kept it, or it was created by hand
        hint: `tercet apply --take-over` makes it this project's, with its data; else give the project another `name`
    "#]].assert_eq(&format!("{error:#}\n"));
    let Intent::Apply { releases, migrate, .. } = intent(release('a', '1')) else { panic!("it is an apply") };
    let consent = Consent { take_over: true, ..Consent::default() };
    fleet.plan(&Intent::Apply { releases, migrate, consent }).expect("a plan, since the person says so");
    // What an apply that was killed had begun is the project's.
    let identity = fleet.identity("db");
    fleet.report("db").identity = Some(Identity { data: None, ..identity });
    fleet.plan(&intent(release('a', '1'))).expect("a plan");
}

#[test]
fn a_tier_that_a_machine_lost_is_taken_away_from_it() {
    let text = FOUR.replace("tiers = [\"database\"]", "tiers = [\"application\", \"database\"]");
    let mut fleet = Fleet::serving(&text, &release('a', '1'), &[]).recorded();
    let certificate: std::path::PathBuf = "/etc/tercet/credentials/balancer-1.key".into();
    let lb = &mut fleet.survey.machines[0];
    lb.report.inventory.files.insert(certificate.clone(), tercet_machine::inventory::Before::Absent);
    lb.facts.paths.insert(certificate, lb.facts.paths.values().next().expect("a path").clone());
    let fleet = fleet.with_file(FOUR, &[]);
    fleet.check_all(
        &intent(release('a', '1')),
        expect![[r#"
            db: record that it belongs to project shop
            lb: take app-3 out of rotation
            lb: wait until the balancer has removed app-3
            db: drain and stop app-3 of release aaaaaaaaaaaa on port 8081
            db: remove tercet-app-3@aaaaaaaaaaaa… /usr/local/lib/tercet/releases/aaaaaaaaaaaa
            lb: remove what is no longer used here
            db: remove what is no longer used here
        "#]],
    );
}

fn destroyed(unreached: &[&str]) -> Fleet {
    let mut fleet = serving();
    let machines: Vec<Machine> = fleet.topology.machines().to_vec();
    let all = std::mem::take(&mut fleet.survey.machines);
    for (machine, surveyed) in machines.into_iter().zip(all) {
        assert_ne!(machine.reach, Reach::ThisMachine);
        let remembered = Remembered { id: machine.name.clone(), machine, cut_off: None };
        if unreached.contains(&surveyed.name.as_str()) {
            let why = format!("{}: cannot be reached by ssh", surveyed.name);
            fleet.survey.unreached.push(Unreached { remembered, why });
        } else {
            fleet.survey.leaving.push(Leaving { remembered, surveyed });
        }
    }
    fleet
}

#[test]
fn a_project_is_taken_down_balancer_first_and_database_last() {
    destroyed(&[]).check_all(&Intent::Destroy { with_data: false }, expect![[r#"
        lb: stop the balancer: clients find a closed port
        app1: stop the application servers
        app2: stop the application servers
        db: take the application servers' password from the database
        lb: remove all that tercet made here, the firewall last
        app1: remove all that tercet made here, the firewall last
        app2: remove all that tercet made here, the firewall last
        db: remove all that tercet made here, the firewall last
        lb: remove tercet's binaries, its state and last the machine's identity
        app1: remove tercet's binaries, its state and last the machine's identity
        app2: remove tercet's binaries, its state and last the machine's identity
        db: remove tercet's binaries, its state and last the machine's identity
        note: db: THE DATA STAYS: PostgreSQL goes on as the machine's own, for connections from the machine itself; --with-data drops the project's database
        note: installed packages stay
    "#]]);
    destroyed(&[]).check_all(
        &Intent::Destroy { with_data: true },
        expect![[r#"
            lb: stop the balancer: clients find a closed port
            app1: stop the application servers
            app2: stop the application servers
            db: DROP DATABASE shop AND ALL DATA IN IT, of PostgreSQL cluster 7
            lb: remove all that tercet made here, the firewall last
            app1: remove all that tercet made here, the firewall last
            app2: remove all that tercet made here, the firewall last
            db: remove all that tercet made here, the firewall last
            lb: remove tercet's binaries, its state and last the machine's identity
            app1: remove tercet's binaries, its state and last the machine's identity
            app2: remove tercet's binaries, its state and last the machine's identity
            db: remove tercet's binaries, its state and last the machine's identity
            note: installed packages stay
        "#]],
    );
    destroyed(&["app2"]).check_all(&Intent::Destroy { with_data: false }, expect![[r#"
        lb: stop the balancer: clients find a closed port
        app1: stop the application servers
        db: take the application servers' password from the database
        lb: remove all that tercet made here, the firewall last
        app1: remove all that tercet made here, the firewall last
        db: remove all that tercet made here, the firewall last
        lb: remove tercet's binaries, its state and last the machine's identity
        app1: remove tercet's binaries, its state and last the machine's identity
        db: remove tercet's binaries, its state and last the machine's identity
        note: db: THE DATA STAYS: PostgreSQL goes on as the machine's own, for connections from the machine itself; --with-data drops the project's database
        note: installed packages stay
        note: app2 (10.0.0.12, application) left the project and could not be cleaned up: app2: cannot be reached by ssh
          still there: the database's password, the client certificate and the token secret in /etc/tercet/credentials; its services, which start at boot
          hint: destroy again when it can be reached; if it is in other hands, change the secrets it has; `--forget app2` stops asking
    "#]]);
}

#[test]
fn all_that_was_made_is_taken_away() {
    let shared = FOUR.replace("tiers = [\"balancer\"]", "tiers = [\"balancer\", \"database\"]");
    let shared = shared.replace("tiers = [\"database\"]", "tiers = [\"application\"]");
    let own =
        shared.replace("name = \"shop\"", "name = \"shop\"\napplication = { run = \"a\", build = \"b\" }");
    for text in [FOUR.to_owned(), shared, own] {
        let fleet = Fleet::serving(&text, &release('a', '1'), &[]).recorded();
        for machine in &fleet.survey.machines {
            let all = whole(&machine.report);
            let steps = steps(&gone(all.clone()), &machine.facts);
            let said: Vec<String> = steps.iter().map(ToString::to_string).collect();
            let removed = |path: &std::path::Path| {
                said.iter().any(|step| {
                    step.strip_prefix("remove ").is_some_and(|it| path.starts_with(it))
                        || *step == format!("write {}", path.display())
                })
            };
            for path in all.files.keys().chain(all.directories.keys()) {
                let unit = path.file_name().expect("a name").to_string_lossy().into_owned();
                assert!(
                    removed(path) || said.contains(&format!("remove {unit}")),
                    "{} stays: {said:#?}",
                    path.display()
                );
            }
            for user in all.users.keys() {
                assert!(said.contains(&format!("remove system user {user}")), "{said:#?}");
            }
            assert_eq!(said.last().map(String::as_str), Some("remove the firewall rules"));
        }
    }
}

#[test]
fn metrics_that_no_task_writes_any_more_are_removed() {
    let store = "s3://bucket/shop?endpoint=s3.example.com&region=eu-central-1";
    let watched = FOUR.replace(
        r#""10.0.0.12", tiers = ["application"]"#,
        r#""10.0.0.12", tiers = ["application", "monitor"]"#,
    );
    let backed_up =
        |file: &str| format!("{file}backup = {{ to = \"{store}\", key = \"@key\", secret = \"@secret\" }}");
    let mut fleet = Fleet::serving(&backed_up(&watched), &release('a', '1'), &[]).recorded();
    let metrics = |name: &str| std::path::Path::new("/var/lib/tercet/metrics").join(name);
    let db = fleet.survey.machines.iter_mut().find(|it| it.name == "db").expect("a machine");
    let there = db.facts.paths.values().next().expect("a path").clone();
    for name in ["archive.prom", "backup.prom", "certificates.prom", "prove.prom"] {
        db.facts.paths.insert(metrics(name), there.clone());
    }
    let removed = |fleet: &Fleet| {
        let plan = fleet.plan(&intent(release('a', '1'))).expect("a plan");
        let steps = plan.operations().flat_map(Operation::steps).map(ToString::to_string);
        steps.filter(|step| step.contains(".prom")).collect::<Vec<_>>()
    };
    assert_eq!(removed(&fleet), [""; 0]);
    let remove = |name| format!("remove {}", metrics(name).display());
    // The daily check of certificates writes wherever there is the folder, with backups alone, too.
    let fleet = fleet.with_file(&backed_up(FOUR), &[]);
    assert_eq!(removed(&fleet), [remove("prove.prom")]);
    let fleet = fleet.with_file(&watched, &[]);
    assert_eq!(removed(&fleet), ["archive.prom", "backup.prom"].map(remove));
}
