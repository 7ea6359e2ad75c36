//! Migrations by a user's own program.

use expect_test::expect;
use tercet_config::Server;

use super::*;
use crate::release::Kind;

const PROGRAM: &str = "application = { run = \"./run\", migrate = \"alembic upgrade head\" }\n";

/// A release of a program that migrates.
fn own(release: Release) -> Release {
    let topology =
        tercet_config::parse(PROGRAM, Origin { file: "tercet.toml", folder: "shop" }).expect("a valid file");
    let Server::Own { program, .. } = &topology.applications()[0].server else { panic!("another server") };
    let kind = Kind::Own {
        run: program.clone(),
        build: None,
        migrate: topology.applications()[0].environment.migrate.clone(),
        health: Some("/health".to_owned()),
        variables: BTreeMap::new(),
        start_timeout: None,
        archive: release.id.clone(),
    };
    Release { kind, ..release }
}

#[test]
fn a_new_release_migrates_once_before_its_servers_start_and_the_owner_has_a_password_meanwhile() {
    let text = format!("{FOUR}{PROGRAM}");
    let (old, new) = (own(release('a', '1')), own(release('b', '1')));
    let fleet = Fleet::serving(&text, &old, &[]);
    let plan = fleet.plan(&intent(new.clone())).expect("a plan");
    let shown: Vec<String> = plan.operations().map(|it| revisions_hidden(&it.to_string())).collect();
    expect![[r#"
        app1: ship release bbbbbbbbbbbb
        app2: ship release bbbbbbbbbbbb
        db: give the owner of the database a password, for migrate on app1
        app1: migrate the database: alembic upgrade head
        db: take the owner's password away, and end its sessions over the network
    "#]]
    .assert_eq(&shown[..9.min(shown.len())].concat());
    assert!(!format!("{plan:?}").contains(fleet.secrets.owner_password(&new.id).reveal()), "{plan:?}");
    // The plan of the same goal is the same plan: what was confirmed is executed.
    assert_eq!(plan, fleet.plan(&intent(new.clone())).expect("a plan"));
    let migrates = |fleet: &Fleet, intent: &Intent| {
        let plan = fleet.plan(intent).expect("a plan");
        plan.operations().any(|it| matches!(it.action, Action::MigrateByProgram { .. }))
    };
    assert!(!migrates(&Fleet::serving(&text, &old, &[]), &intent(old.clone())));
    assert!(!migrates(&Fleet::serving(&text, &new, &[old]), &Intent::Rollback { application: None }));
}

#[test]
fn a_migration_that_fails_takes_the_password_away() {
    let login = OwnerLogin { database: "shop".to_owned(), port: 5432, password: Some(Secret::new("hush")) };
    let set = |login| Operation::on("db", Action::SetOwnerLogin { login, from: "app1".to_owned() });
    let undone = set(OwnerLogin { password: None, ..login.clone() });
    assert_eq!(set(login).undo(), std::slice::from_ref(&undone));
    assert_eq!(undone.undo(), []);
}
