//! Operators who push and pull, with real folders and real keys; the machines are what they would answer.

use std::fs;
use std::path::Path;

use super::encryption::{Key, Recipients, identity_kept_in};
use super::folder::tests::project;
use super::pull::{Pulled, Wanted, check, choose, pull};
use super::push::{Decision, decide, seal};
use super::*;

const PROJECT: &str = "the-project";

/// Three machines of one project, two operators who can both decrypt.
struct TestFleet {
    machines: Vec<Kept>,
    recipients: Recipients,
    keys: tempfile::TempDir,
}

impl TestFleet {
    fn new() -> Self {
        let keys = tempfile::tempdir().unwrap();
        let public = ["ann", "bob"].map(|name| identity_kept_in(&keys.path().join(name)).unwrap());
        let kept = Kept { identity: Some(identity(PROJECT)), sealed: None };
        Self { machines: vec![kept; 3], recipients: Recipients::keys(&public).unwrap().unwrap(), keys }
    }

    fn held(&self) -> Vec<Holding> {
        let names = ["lb", "app1", "db"];
        names.iter().zip(&self.machines).map(|(name, kept)| Holding::new(name, kept.clone())).collect()
    }

    /// Pushes from a folder to the machines with these numbers; the generation.
    fn push_to(&mut self, folder: &Path, by: &str, replace: bool, reached: &[usize]) -> Result<Option<u64>> {
        let local = Local::of(folder)?.unwrap();
        let held: Vec<Holding> = self
            .held()
            .into_iter()
            .enumerate()
            .filter_map(|(number, it)| reached.contains(&number).then_some(it))
            .collect();
        let sealed = match decide(&local, &held, &self.recipients, replace)? {
            Decision::Nothing => return Ok(None),
            Decision::Distribute(sealed) => *sealed,
            Decision::Seal { generation, history } => {
                let sealed = seal(&local, &self.recipients, ("shop", by), generation, history)?;
                Record { held: Held::of(&sealed), contents: local.digest.clone() }.write(folder)?;
                sealed
            }
        };
        for number in reached {
            self.machines[*number].sealed = Some(sealed.text().to_owned());
        }
        Ok(Some(sealed.header().generation))
    }

    fn push(&mut self, folder: &Path, by: &str) -> Result<Option<u64>> {
        self.push_to(folder, by, false, &[0, 1, 2])
    }

    fn pull_with(&self, folder: &Path, wanted: Wanted<'_>, replace: bool, key: &str) -> Result<Pulled> {
        let local = Local::of(folder)?;
        let found = choose(local.as_ref(), &self.held(), wanted)?;
        check(local.as_ref(), &found.sealed)?;
        let key = Key::Files(vec![self.keys.path().join(key)]);
        pull(folder, &found.sealed, &key, replace, &mut |what| bail!("asked for {what}"))
    }

    fn pull(&self, folder: &Path) -> Result<Pulled> {
        self.pull_with(folder, WANTED, false, "bob")
    }
}

const WANTED: Wanted<'_> = Wanted { name: "shop", authority: None, from: None };

fn identity(project: &str) -> Identity {
    Identity {
        project: project.to_owned(),
        name: "shop".to_owned(),
        machine: "lb".to_owned(),
        tiers: Vec::new(),
        authority: String::new(),
        generation: 0,
        since: String::new(),
        data: None,
    }
}

/// A folder with state, whose project is the machines'.
fn ann() -> tempfile::TempDir {
    let folder = project("ann's");
    fs::write(folder.path().join(".tercet/fleet/project"), PROJECT).unwrap();
    folder
}

fn change(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(".tercet/fleet").join(name), text).unwrap();
}

fn password(folder: &Path) -> String {
    fs::read_to_string(folder.join(".tercet/fleet/authenticator")).unwrap()
}

fn refused<T: std::fmt::Debug>(result: Result<T>, says: &[&str]) {
    let error = format!("{:#}", result.unwrap_err());
    for text in says {
        assert!(error.contains(text), "{text:?} is not said: {error}");
    }
}

#[test]
fn two_operators_take_turns() {
    let (mut fleet, ann, bob) = (TestFleet::new(), ann(), tempfile::tempdir().unwrap());
    refused(fleet.pull(bob.path()), &["no machine keeps an operator state", "tercet state push"]);
    assert_eq!(fleet.push(ann.path(), "ann@desk").unwrap(), Some(1));
    assert_eq!(fleet.push(ann.path(), "ann@desk").unwrap(), None, "nothing has changed");
    assert_eq!(fleet.pull(bob.path()).unwrap(), Pulled::Placed { kept: None });
    assert_eq!(fleet.pull(bob.path()).unwrap(), Pulled::AlreadyHere);
    assert_eq!(password(bob.path()), "ann's");

    // Bob changes and pushes; Ann is behind, and so is what she would push.
    change(bob.path(), "authenticator", "bob's");
    assert_eq!(fleet.push(bob.path(), "bob@lap").unwrap(), Some(2));
    change(ann.path(), "authenticator", "ann's next");
    let behind = [
        "lb: it has generation 2",
        "pushed by bob@lap at 20",
        "generation 1, changed since",
        "tercet state pull",
    ];
    refused(fleet.push(ann.path(), "ann@desk"), &behind);
    // And what she has cannot simply be replaced either.
    let both = [
        "generation 2",
        "bob@lap",
        "this folder has generation 1, changed since",
        "fleet/authenticator",
        "--replace",
    ];
    refused(fleet.pull_with(ann.path(), WANTED, false, "ann"), &both);
    assert_eq!(password(ann.path()), "ann's next", "nothing was touched");

    // As she had it, she may pull.
    change(ann.path(), "authenticator", "ann's");
    fleet.pull_with(ann.path(), WANTED, false, "ann").unwrap();
    assert_eq!(password(ann.path()), "bob's");
    assert_eq!(fleet.push(ann.path(), "ann@desk").unwrap(), None);
}

#[test]
fn a_token_secret_of_tercet_ups_own_is_kept_aside() {
    let (mut fleet, ann, bob) = (TestFleet::new(), ann(), tempfile::tempdir().unwrap());
    fleet.push(ann.path(), "ann").unwrap();
    let secret = bob.path().join(".tercet/jwt-secret");
    fs::create_dir(secret.parent().unwrap()).unwrap();
    fs::write(&secret, "bob's, for himself").unwrap();
    let Pulled::Placed { kept: Some(kept) } = fleet.pull(bob.path()).unwrap() else {
        panic!("it was not kept")
    };
    assert_eq!(fs::read_to_string(&secret).unwrap(), "ann's");
    let kept = bob.path().join(".tercet").join(kept).join("jwt-secret");
    assert_eq!(fs::read_to_string(kept).unwrap(), "bob's, for himself");
}

#[test]
fn what_differs_is_replaced_when_asked_for_and_kept_aside() {
    let (mut fleet, ann, bob) = (TestFleet::new(), ann(), tempfile::tempdir().unwrap());
    fleet.push(ann.path(), "ann").unwrap();
    fleet.pull(bob.path()).unwrap();
    for (folder, text) in [(&ann, "ann's next"), (&bob, "bob's next")] {
        change(folder.path(), "authenticator", text);
    }
    fleet.push(ann.path(), "ann").unwrap();
    let Pulled::Placed { kept: Some(kept) } = fleet.pull_with(bob.path(), WANTED, true, "bob").unwrap()
    else {
        panic!("it was not kept")
    };
    assert_eq!(password(bob.path()), "ann's next");
    let kept = bob.path().join(".tercet").join(kept).join("fleet/authenticator");
    assert_eq!(fs::read_to_string(kept).unwrap(), "bob's next");

    // The other way: a folder that was left behind becomes the newest, and the others can pull it.
    change(bob.path(), "authenticator", "bob's");
    fleet.push(bob.path(), "bob").unwrap();
    change(ann.path(), "authenticator", "ann wins");
    assert_eq!(fleet.push_to(ann.path(), "ann", true, &[0, 1, 2]).unwrap(), Some(4));
    fleet.pull(bob.path()).unwrap();
    assert_eq!(password(bob.path()), "ann wins");
}

#[test]
fn an_older_generation_is_refused() {
    let (mut fleet, ann) = (TestFleet::new(), ann());
    fleet.push(ann.path(), "ann").unwrap();
    let old = fleet.machines.clone();
    change(ann.path(), "authenticator", "newer");
    fleet.push(ann.path(), "ann").unwrap();
    // Machines that were put back to a backup, or lie.
    fleet.machines = old;
    for replace in [false, true] {
        let says = ["is generation 1", "this folder has generation 2, which is newer"];
        refused(fleet.pull_with(ann.path(), WANTED, replace, "ann"), &says);
    }
    assert_eq!(password(ann.path()), "newer");
    // One of them is enough to know better.
    assert_eq!(fleet.push(ann.path(), "ann").unwrap(), Some(3), "generation 2 is not used again");
}

#[test]
fn a_machine_that_was_away_gets_the_same_generation() {
    let (mut fleet, ann, bob) = (TestFleet::new(), ann(), tempfile::tempdir().unwrap());
    fleet.push(ann.path(), "ann").unwrap();
    change(ann.path(), "authenticator", "newer");
    assert_eq!(fleet.push_to(ann.path(), "ann", false, &[0, 2]).unwrap(), Some(2));
    fleet.pull(bob.path()).unwrap();
    assert_eq!(password(bob.path()), "newer", "the newest counts, not the first");
    assert_eq!(fleet.push(bob.path(), "bob").unwrap(), Some(2));
    assert_eq!(fleet.machines[0].sealed, fleet.machines[1].sealed);
    assert_eq!(fleet.push(ann.path(), "ann").unwrap(), None);
}

#[test]
fn two_different_states_of_one_generation_are_both_named() {
    let (mut fleet, ann, bob) = (TestFleet::new(), ann(), tempfile::tempdir().unwrap());
    fleet.push(ann.path(), "ann@desk").unwrap();
    fleet.pull(bob.path()).unwrap();
    change(ann.path(), "authenticator", "ann's next");
    change(bob.path(), "authenticator", "bob's next");
    // Each reaches other machines.
    fleet.push_to(ann.path(), "ann@desk", false, &[0]).unwrap();
    fleet.push_to(bob.path(), "bob@lap", false, &[1, 2]).unwrap();
    let carol = tempfile::tempdir().unwrap();
    refused(
        fleet.pull(carol.path()),
        &["lb: generation 2", "ann@desk", "db: generation 2", "bob@lap", "--from MACHINE"],
    );
    fleet.pull_with(carol.path(), Wanted { from: Some("db"), ..WANTED }, false, "bob").unwrap();
    assert_eq!(password(carol.path()), "bob's next");
    refused(fleet.push(ann.path(), "ann@desk"), &["bob@lap", "which was not made from that"]);
    assert_eq!(fleet.push_to(ann.path(), "ann@desk", true, &[0, 1, 2]).unwrap(), Some(3));
}

#[test]
fn only_the_authoritys_state_counts() {
    let (mut fleet, ann, mallory) = (TestFleet::new(), ann(), ann());
    fleet.push(ann.path(), "ann").unwrap();
    let right = Local::of(ann.path()).unwrap().unwrap().authority().unwrap();
    // A machine offers a newer state of an authority of its own.
    let good = fleet.machines.clone();
    for _ in 0..5 {
        change(mallory.path(), "authenticator", &format!("{:?}", fleet.machines[1]));
        fleet.push_to(mallory.path(), "ann", true, &[1]).unwrap();
    }
    let clone = tempfile::tempdir().unwrap();
    refused(fleet.pull(clone.path()), &["different operator states", &right, "--authority"]);
    let wanted = Wanted { authority: Some(&right), ..WANTED };
    let local = Local::of(ann.path()).unwrap();
    let found = choose(local.as_ref(), &fleet.held(), wanted).unwrap();
    assert_eq!(
        (found.machines.as_slice(), found.sealed.header().generation),
        (&["lb".into(), "db".into()][..], 1)
    );
    assert!(
        found.notes[0].contains("app1: the operator state there is signed by authority sha256:"),
        "{:?}",
        found.notes
    );
    fleet.pull_with(clone.path(), wanted, false, "bob").unwrap();
    assert_eq!(password(clone.path()), "ann's");
    let other = Wanted { authority: Some("sha256:0"), ..WANTED };
    let clone = tempfile::tempdir().unwrap();
    refused(
        fleet.pull_with(clone.path(), other, false, "bob"),
        &["not by sha256:0", "compare the authority"],
    );
    assert!(!clone.path().join(".tercet").exists());
    // What it offers does not keep its operator from pushing over it, once said so.
    refused(fleet.push(ann.path(), "ann"), &["app1", "signed by another authority"]);
    fleet.push_to(ann.path(), "ann", true, &[0, 1, 2]).unwrap();
    assert_ne!(fleet.machines[1].sealed, good[1].sealed);
}

#[test]
fn tampered_cut_and_foreign_states_do_not_count() {
    let (mut fleet, ann) = (TestFleet::new(), ann());
    fleet.push(ann.path(), "ann").unwrap();
    let good = fleet.machines[0].sealed.clone().unwrap();
    let check = |fleet: &TestFleet, says: &str| {
        let clone = tempfile::tempdir().unwrap();
        refused(fleet.pull(clone.path()), &[says]);
        assert!(!clone.path().join(".tercet").exists());
    };
    for (text, says) in [
        (good.replacen("\"generation\":1", "\"generation\":9", 1), "tampered with or damaged"),
        (good[..good.len() / 2].to_owned(), "it is cut"),
        (good.replacen("state 1", "state 2", 1), "that this tercet can read"),
        (String::new(), "it is cut"),
    ] {
        fleet.machines.iter_mut().for_each(|kept| kept.sealed = Some(text.clone()));
        check(&fleet, says);
    }
    // One good one is enough, and a push mends the others.
    fleet.machines[2].sealed = Some(good.clone());
    fleet.pull(tempfile::tempdir().unwrap().path()).unwrap();
    assert_eq!(fleet.push(ann.path(), "ann").unwrap(), Some(1));
    assert!(fleet.machines.iter().all(|kept| kept.sealed.as_deref() == Some(&good)));
    // The state of another project: by name, by the machine's identity, by the folder's own.
    let clone = tempfile::tempdir().unwrap();
    let other = Wanted { name: "store", ..WANTED };
    refused(fleet.pull_with(clone.path(), other, false, "bob"), &["another project's: shop (the-proj)"]);
    let folder = project("other");
    refused(fleet.pull(folder.path()), &["another project's: shop"]);
    fleet.machines.iter_mut().for_each(|kept| kept.identity = Some(identity("another")));
    check(&fleet, "another project's");
}

#[test]
fn a_wrong_identity_gets_nothing() {
    let (mut fleet, ann, clone) = (TestFleet::new(), ann(), tempfile::tempdir().unwrap());
    fleet.push(ann.path(), "ann").unwrap();
    identity_kept_in(&fleet.keys.path().join("eve")).unwrap();
    refused(
        fleet.pull_with(clone.path(), WANTED, false, "eve"),
        &["none of your keys is among its 2 recipients"],
    );
    refused(fleet.pull_with(clone.path(), WANTED, false, "unknown"), &["unknown"]);
    assert!(!clone.path().join(".tercet").exists());
}

#[test]
fn a_copy_by_hand_and_a_push_that_was_killed_go_on() {
    let (mut fleet, ann) = (TestFleet::new(), ann());
    let copy = tempfile::tempdir().unwrap();
    let copied =
        std::process::Command::new("cp").arg("-r").arg(ann.path().join(".tercet")).arg(copy.path()).status();
    assert!(copied.unwrap().success());
    fleet.push(ann.path(), "ann").unwrap();
    // The copy has the same state and knows nothing of the push.
    refused(fleet.push(copy.path(), "bob"), &["never pushed or pulled", "tercet state pull"]);
    assert_eq!(fleet.pull(copy.path()).unwrap(), Pulled::AlreadyHere);
    assert_eq!(fleet.push(copy.path(), "bob").unwrap(), None);
    // Killed after it was written down, before any machine had it.
    change(ann.path(), "authenticator", "newer");
    fleet.push_to(ann.path(), "ann", false, &[]).unwrap();
    assert_eq!(fleet.push(ann.path(), "ann").unwrap(), Some(3));
    // Killed when one machine had it.
    change(ann.path(), "authenticator", "newest");
    fleet.push_to(ann.path(), "ann", false, &[1]).unwrap();
    assert_eq!(fleet.push(ann.path(), "ann").unwrap(), Some(4));
}

#[test]
fn other_recipients_are_another_generation() {
    let (mut fleet, ann) = (TestFleet::new(), ann());
    fleet.push(ann.path(), "ann").unwrap();
    let texts = fleet.recipients.texts().to_vec();
    fleet.recipients = Recipients::keys(&texts[..1]).unwrap().unwrap();
    assert_eq!(fleet.push(ann.path(), "ann").unwrap(), Some(2));
    refused(
        fleet.pull(tempfile::tempdir().unwrap().path()),
        &["none of your keys is among its 1 recipients"],
    );
}

#[test]
fn machines_of_no_project_and_states_of_old_projects_are_ignored() {
    let (mut fleet, ann) = (TestFleet::new(), ann());
    // Left by the project that was taken over.
    let old = project("old");
    let mut before = TestFleet::new();
    before.machines.iter_mut().for_each(|kept| kept.identity = Some(identity("old")));
    before.push(old.path(), "old").unwrap();
    fleet.machines[0].sealed = before.machines[0].sealed.clone();
    fleet.machines[2].identity = None;
    assert_eq!(fleet.push(ann.path(), "ann").unwrap(), Some(1));
    fleet.machines[2].sealed = None;
    assert_eq!(fleet.push(ann.path(), "ann").unwrap(), None, "a machine of no project is not waited for");
    check_current(None, "old", "lb", None).unwrap();
}

#[test]
fn what_a_stale_folder_would_apply_is_refused() {
    let (mut fleet, ann, bob) = (TestFleet::new(), ann(), tempfile::tempdir().unwrap());
    fleet.push(ann.path(), "ann@desk").unwrap();
    fleet.pull(bob.path()).unwrap();
    let there = |fleet: &TestFleet| {
        Holding::new("lb", fleet.machines[0].clone()).sealed.unwrap().as_ref().map(Held::of)
    };
    let current = |fleet: &TestFleet, folder: &Path| {
        let record = Record::of(folder).unwrap();
        check_current(record.as_ref(), PROJECT, "lb", there(fleet).as_ref())
    };
    current(&fleet, bob.path()).unwrap();
    change(ann.path(), "authenticator", "newer");
    fleet.push(ann.path(), "ann@desk").unwrap();
    current(&fleet, ann.path()).unwrap();
    let says = [
        "lb: it has generation 2",
        "ann@desk",
        "this folder has generation 1",
        "hint: `tercet state pull` first",
    ];
    refused(current(&fleet, bob.path()), &says);
    refused(current(&fleet, tempfile::tempdir().unwrap().path()), &["never pushed or pulled"]);
    // A change that is not pushed yet is no reason.
    change(ann.path(), "authenticator", "newest");
    current(&fleet, ann.path()).unwrap();
    // Another project's is none of ours.
    check_current(None, "another", "lb", there(&fleet).as_ref()).unwrap();
}

#[test]
fn no_ciphertext_shows_what_it_holds() {
    let (mut fleet, ann) = (TestFleet::new(), ann());
    let hush = "hush-hush-hush";
    change(ann.path(), "authenticator", hush);
    fleet.push(ann.path(), "ann").unwrap();
    let text = fleet.machines[0].sealed.clone().unwrap();
    assert!(!text.contains(hush));
    let local = Local::of(ann.path()).unwrap().unwrap();
    assert!(!text.contains(&local.digest), "not even its digest");
    assert!(!format!("{local:?}").contains(hush) && !format!("{:?}", fleet.recipients).contains(hush));
}
