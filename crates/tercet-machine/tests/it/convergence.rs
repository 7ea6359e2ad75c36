//! Probe, plan, execute on real files; what needs root and systemd is tried in the lab.

use std::process::Command;

use tercet_machine::directory::Directory;
use tercet_machine::file::{Contents, File};
use tercet_machine::path::Owner;
use tercet_machine::{Desired, plan, probe};

/// The user and group the tests run as.
pub(crate) fn me() -> Owner {
    let id = |flag: &str| {
        let output = Command::new("id").arg(flag).output().expect("id runs");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    Owner { user: id("-un"), group: id("-gn") }
}

fn desired(folder: &std::path::Path) -> Desired {
    let text = |name: &str, text: &str| File {
        path: folder.join("etc").join(name),
        contents: Contents::Text(text.to_owned()),
        owner: me(),
        mode: 0o600,
    };
    Desired {
        directories: vec![Directory { path: folder.join("etc"), owner: me(), mode: 0o750 }],
        files: vec![text("a.conf", "a\n"), text("b.conf", "b\n")],
        absent: vec![folder.join("stray"), folder.join("strays")],
        ..Desired::default()
    }
}

#[test]
fn a_second_run_plans_nothing_after_an_interruption() {
    let whole = {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("stray"), "").unwrap();
        std::fs::create_dir(folder.path().join("strays")).unwrap();
        let desired = desired(folder.path());
        plan(&desired, &probe(&desired).unwrap()).len()
    };
    assert_eq!(whole, 5);
    for killed_after in 0..=whole {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("stray"), "").unwrap();
        std::fs::create_dir(folder.path().join("strays")).unwrap();
        let desired = desired(folder.path());
        for step in plan(&desired, &probe(&desired).unwrap()).iter().take(killed_after) {
            step.execute(&mut |_| {}).unwrap();
        }
        let rest = plan(&desired, &probe(&desired).unwrap());
        assert_eq!(rest.len(), whole - killed_after);
        for step in &rest {
            step.execute(&mut |_| {}).unwrap();
        }
        assert_eq!(plan(&desired, &probe(&desired).unwrap()), []);
        assert_eq!(std::fs::read_to_string(folder.path().join("etc/b.conf")).unwrap(), "b\n");
        assert_eq!(std::fs::read_dir(folder.path().join("etc")).unwrap().count(), 2);
    }
}

#[test]
fn a_file_that_cannot_be_written_is_named_and_the_old_one_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut desired = desired(folder.path());
    desired.files[0].path = folder.path().join("missing/a.conf");
    let steps = plan(&desired, &probe(&desired).unwrap());
    let error = steps.iter().find_map(|step| step.execute(&mut |_| {}).err()).unwrap().to_string();
    assert!(error.contains("missing/a.conf: No such file"), "{error}");
}
