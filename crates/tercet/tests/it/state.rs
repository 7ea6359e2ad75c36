//! `tercet state`, as far as no machine is asked: keys, passphrases, and what a killed pull left.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::tercet;

/// A project on a machine that nobody can reach.
fn project(more: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let machine = "[[machine]]\nname = 'one'\nssh = 'nobody@one.invalid'\naddress = '10.0.0.1'\ntiers = ['balancer', 'application', 'database']\n";
    fs::write(folder.path().join("tercet.toml"), format!("name = 'shop'\n{more}\n{machine}")).unwrap();
    folder
}

/// What a command shows that has no terminal to ask on.
fn run_without_terminal(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("setsid");
    command.arg("--wait").arg(env!("CARGO_BIN_EXE_tercet")).args(arguments).current_dir(folder);
    let output = command.stdin(Stdio::null()).env("NO_COLOR", "1").env("COLUMNS", "300").output().unwrap();
    let code = output.status.code().unwrap();
    format!("{}exit code {code}\n", String::from_utf8(output.stderr).unwrap())
}

#[test]
fn an_identity_is_made_once_and_is_its_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys/identity");
    let first = tercet::run(folder.path(), ["state", "identity", "keys/identity"]);
    let public = first.lines().find(|line| line.starts_with("age1")).unwrap();
    assert!(first.contains("made keys/identity; keep it, and keep it private"), "{first}");
    assert_eq!(tercet::run(folder.path(), ["state", "identity", "keys/identity"]), format!("{public}\n"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    // Where it is looked for without a name.
    let mut command = tercet::command();
    command.args(["state", "identity"]).env("XDG_CONFIG_HOME", folder.path().join("configuration"));
    assert!(command.output().unwrap().status.success());
    assert!(folder.path().join("configuration/tercet/identity").exists());

    fs::write(&file, "something else").unwrap();
    let refused = tercet::run(folder.path(), ["state", "identity", "keys/identity"]);
    assert!(refused.contains("there is no age identity") && !refused.contains("something"), "{refused}");
}

#[test]
fn a_recipient_that_is_none_is_refused_before_any_machine_is_asked() {
    let folder = project("state.recipients = ['age1notone']");
    for arguments in [&["state", "push"][..], &["apply", "--yes"]] {
        let refused = run_without_terminal(folder.path(), arguments);
        assert!(refused.contains("age1notone… is no public key"), "{refused}");
        assert!(refused.ends_with("exit code 2\n"), "{refused}");
    }
}

#[test]
fn a_passphrase_is_asked_for_only_where_somebody_can_answer() {
    let folder = project("");
    let refused = run_without_terminal(folder.path(), &["state", "push"]);
    assert!(refused.contains("not interactive") && refused.contains("--passphrase-file"), "{refused}");
    assert!(refused.ends_with("exit code 2\n"), "{refused}");
    for (text, says) in [("short\n", "at least 12 characters"), ("\n", "no passphrase in its first line")] {
        fs::write(folder.path().join("passphrase"), text).unwrap();
        let refused =
            run_without_terminal(folder.path(), &["state", "push", "--passphrase-file", "passphrase"]);
        assert!(refused.contains(says), "{refused}");
    }
    let folder =
        project("state.recipients = ['age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p']");
    let refused = run_without_terminal(folder.path(), &["state", "push", "--passphrase-file", "passphrase"]);
    assert!(refused.contains("leave one of the two out"), "{refused}");
}

/// A terminal by script(1): what is typed when a question comes, and all that is seen.
#[test]
fn a_passphrase_is_asked_for_twice_and_never_seen() {
    let folder = project("");
    let mut script = Command::new("script")
        .args(["-qec", &format!("{} state push", env!("CARGO_BIN_EXE_tercet")), "/dev/null"])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .env("NO_COLOR", "1")
        .spawn()
        .unwrap();
    let (mut keys, mut screen) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
    let mut seen = String::new();
    let mut answers = ["hush, five words\r", "hush, six words\r"].into_iter();
    let mut byte = [0];
    while screen.read(&mut byte).unwrap() == 1 {
        seen.push(char::from(byte[0]));
        if seen.ends_with("operator state: ") || seen.ends_with("same again: ") {
            keys.write_all(answers.next().unwrap().as_bytes()).unwrap();
        }
    }
    assert_eq!(script.wait().unwrap().code(), Some(2));
    assert!(seen.contains("the two passphrases differ") && !seen.contains("hush"), "{seen}");
}

/// The state was complete on the disk: whoever comes next finishes what was killed.
#[test]
fn a_killed_pull_is_finished_by_the_next_command() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tercet.toml"), "").unwrap();
    let state = folder.path().join(".tercet");
    for (name, text) in [
        ("jwt-secret", "the secret that was here before"),
        ("fleet/authority.key", "before"),
        ("pull/jwt-secret", "the secret that was pulled from machines"),
        ("pull/fleet/authority.key", "pulled"),
        ("pull/old/empty", ""),
    ] {
        fs::create_dir_all(state.join(name).parent().unwrap()).unwrap();
        fs::write(state.join(name), text).unwrap();
        fs::set_permissions(state.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let token = tercet::run(folder.path(), ["token"]);
    assert_eq!(token.matches('.').count(), 2, "{token}");
    assert_eq!(fs::read_to_string(state.join("fleet/authority.key")).unwrap(), "pulled");
    assert!(fs::read_to_string(state.join("jwt-secret")).unwrap().contains("pulled"));
    assert!(!state.join("pull").exists());
}
