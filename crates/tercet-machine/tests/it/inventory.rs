//! The inventory: recorded before creation, removed again.

use std::fs;
use std::path::Path;

use tercet_machine::directory::Directory;
use tercet_machine::file::{Contents, File};
use tercet_machine::inventory::{self, Before};
use tercet_machine::{Desired, plan, probe};

use crate::convergence::me;

/// Makes a machine `desired`, as the agent does.
fn converge(state: &Path, desired: &Desired) -> usize {
    inventory::record(state, desired).expect("recorded");
    let steps = plan(desired, &probe(desired).expect("facts"));
    for step in &steps {
        step.execute(&mut |_| {}).expect("a step");
    }
    inventory::forget(state, desired).expect("forgotten");
    steps.len()
}

fn file(path: &Path, text: &str) -> File {
    File { path: path.into(), contents: Contents::Text(text.to_owned()), owner: me(), mode: 0o600 }
}

fn retire(state: &Path) -> Desired {
    Desired { retired: inventory::read(state).expect("the record"), ..Desired::default() }
}

#[test]
fn removal_restores_the_state_before() {
    let folder = tempfile::tempdir().unwrap();
    let (state, etc) = (folder.path().join("state"), folder.path().join("etc"));
    fs::create_dir(&etc).unwrap();
    fs::write(etc.join("hba.conf"), "theirs\n").unwrap();
    fs::write(etc.join("old.conf"), "# Written by tercet, before it kept a record\n").unwrap();
    let others = etc.join("others.d");
    let desired = Desired {
        directories: [&etc, &etc.join("tercet"), &others]
            .map(|path| Directory { path: path.clone(), owner: me(), mode: 0o750 })
            .to_vec(),
        files: vec![
            file(&etc.join("hba.conf"), "ours\n"),
            file(&etc.join("old.conf"), "ours\n"),
            file(&etc.join("tercet/key"), "ours\n"),
            file(&others.join("tercet.conf"), "ours\n"),
        ],
        ..Desired::default()
    };
    converge(&state, &desired);
    // A file is added by hand; a second convergence copies nothing again.
    fs::write(others.join("added.conf"), "theirs\n").unwrap();
    let second = Desired { files: vec![file(&etc.join("hba.conf"), "ours, changed\n")], ..desired.clone() };
    converge(&state, &second);
    let recorded = inventory::read(&state).unwrap();
    assert!(tercet_machine::Inventory::of(&desired).without(&recorded).is_empty());
    assert_eq!(recorded.directories[&etc], Before::Present);
    let copy = state.join("originals").join(etc.join("hba.conf").strip_prefix("/").unwrap());
    assert_eq!(recorded.files[&etc.join("hba.conf")], Before::Kept(copy.clone()));
    assert_eq!(fs::read_to_string(&copy).unwrap(), "theirs\n");

    // Killed after any number of steps, the next run goes on.
    let whole = retire(&state);
    let steps = plan(&whole, &probe(&whole).unwrap());
    for step in &steps[..2] {
        step.execute(&mut |_| {}).unwrap();
    }
    assert_eq!(converge(&state, &retire(&state)), steps.len() - 2);
    assert_eq!(fs::read_to_string(etc.join("hba.conf")).unwrap(), "theirs\n");
    let left: Vec<_> = fs::read_dir(&etc).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert_eq!(fs::read_dir(&others).unwrap().count(), 1);
    assert!(inventory::read(&state).unwrap().is_empty());
}

#[test]
fn forgets_removed_resources() {
    let folder = tempfile::tempdir().unwrap();
    let (state, etc) = (folder.path().join("state"), folder.path().join("etc"));
    let desired = Desired {
        directories: vec![Directory { path: etc.clone(), owner: me(), mode: 0o750 }],
        files: vec![file(&etc.join("a"), "a\n"), file(&etc.join("b"), "b\n")],
        ..Desired::default()
    };
    converge(&state, &desired);
    converge(&state, &Desired { absent: vec![etc.join("b")], ..Desired::default() });
    let left = inventory::read(&state).unwrap();
    assert_eq!(left.files.keys().collect::<Vec<_>>(), [&etc.join("a")]);
    converge(&state, &Desired { absent: vec![etc], ..Desired::default() });
    assert!(inventory::read(&state).unwrap().is_empty());
}

/// Machines have inventories that earlier versions wrote.
#[test]
fn reads_an_inventory_of_an_earlier_version() {
    let folder = tempfile::tempdir().unwrap();
    let text = r#"{
        "users": {"tercet-build": "absent"}, "directories": {"/etc/theirs": "present"},
        "files": {"/etc/postgresql/15/main/pg_hba.conf": {"kept": "/var/lib/tercet/originals/hba"}},
        "sysctls": {"net.core.somaxconn": "128"}, "units": {"tercet-app-1@a.service": []},
        "firewall": true, "cluster": 5432
    }"#;
    fs::write(folder.path().join("inventory.json"), text).unwrap();
    let read = inventory::read(folder.path()).unwrap();
    assert_eq!(
        read.files.values().collect::<Vec<_>>(),
        [&Before::Kept("/var/lib/tercet/originals/hba".into())]
    );
    assert_eq!((read.firewall, read.cluster), (true, Some(5432)));
    let written = serde_json::to_value(&read).unwrap();
    assert_eq!(written, serde_json::from_str::<serde_json::Value>(text).unwrap());
}
