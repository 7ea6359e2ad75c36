//! `tercet state`: keys, passphrases, interrupted pulls; and two operators with machines.

pub(crate) mod machines;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use self::machines::Machines;
use crate::tercet;

/// A project on a machine that cannot be reached.
fn project(more: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let machine = "[[machine]]\nname = 'one'\nssh = 'root@one.invalid'\naddress = '10.0.0.1'\ntiers = ['balancer', 'application', 'database']\n";
    fs::write(folder.path().join("tercet.toml"), format!("name = 'shop'\n{more}\n{machine}")).unwrap();
    folder
}

/// The output of a command without a terminal.
fn run_without_terminal(folder: &Path, arguments: &[&str]) -> String {
    let mut command = tercet::command();
    let output = command.args(arguments).current_dir(folder).env("COLUMNS", "300").output().unwrap();
    let code = output.status.code().unwrap();
    format!("{}exit code {code}\n", String::from_utf8(output.stderr).unwrap())
}

#[test]
fn an_identity_is_created_once_with_mode_0600() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys/identity");
    let first = tercet::run(folder.path(), ["state", "identity", "keys/identity"]);
    let public = first.lines().find(|line| line.starts_with("age1")).unwrap();
    assert!(first.contains("created keys/identity: keep a backup, and keep it private"), "{first}");
    assert_eq!(tercet::run(folder.path(), ["state", "identity", "keys/identity"]), format!("{public}\n"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    // The default path.
    let mut command = tercet::command();
    command.args(["state", "identity"]).env("XDG_CONFIG_HOME", folder.path().join("configuration"));
    assert!(command.output().unwrap().status.success());
    assert!(folder.path().join("configuration/tercet/identity").exists());

    fs::write(&file, "something else").unwrap();
    let refused = tercet::run(folder.path(), ["state", "identity", "keys/identity"]);
    assert!(refused.contains("there is no age identity") && !refused.contains("something"), "{refused}");
}

#[test]
fn an_invalid_recipient_is_refused_before_any_connection() {
    let folder = project("state.recipients = ['age1notone']");
    for arguments in [&["state", "push"][..], &["apply", "--yes"]] {
        let refused = run_without_terminal(folder.path(), arguments);
        assert!(refused.contains("age1notone… is no public key"), "{refused}");
        assert!(refused.ends_with("exit code 2\n"), "{refused}");
    }
}

#[test]
fn a_passphrase_is_prompted_for_on_a_terminal_only() {
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
    assert!(refused.contains("use one of the two"), "{refused}");
}

/// Runs a command on a terminal by script(1), and types the answers at its prompts.
#[test]
fn a_passphrase_is_prompted_for_twice_without_echo() {
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

/// The pulled state was complete on disk: the next command completes the pull.
#[test]
fn an_interrupted_pull_is_completed_by_the_next_command() {
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

const MACHINES: [&str; 3] = ["lb", "app", "db"];

/// A project's folder with machines in its file, and no state.
fn clone(state: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut text = format!("name = 'shop'\n[state]\n{state}\n");
    for (number, (name, tier)) in MACHINES.iter().zip(["balancer", "application", "database"]).enumerate() {
        text += &format!(
            "[[machine]]\nname = '{name}'\nssh = '{name}'\naddress = '10.0.0.{number}'\ntiers = ['{tier}']\n"
        );
    }
    fs::write(folder.path().join("tercet.toml"), text.replace("10.0.0.0", "10.0.0.9")).unwrap();
    folder
}

/// The operator state of a project with the id `the-project`.
fn make_state(folder: &Path) {
    let fleet = folder.join(".tercet/fleet");
    fs::create_dir_all(&fleet).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    for (name, text) in [
        ("authority.key", key.serialize_pem()),
        ("authority.crt", certificate.pem()),
        ("project", "the-project".to_owned()),
        ("authenticator", "the password".to_owned()),
    ] {
        fs::write(fleet.join(name), text).unwrap();
        fs::set_permissions(fleet.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
}

#[track_caller]
fn says(printed: &str, texts: &[&str]) {
    let printed = printed.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    for text in texts {
        assert!(printed.contains(text), "{text:?} is not printed: {printed}");
    }
}

#[test]
fn two_operators_share_the_state_through_machines() {
    let machines = Machines::of("the-project", &MACHINES);
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("identity").display().to_string();
    let public = tercet::run(keys.path(), ["state", "identity", "identity"]);
    let recipients =
        format!("recipients = ['{}']", public.lines().find(|it| it.starts_with("age1")).unwrap());
    let ann = clone(&recipients);
    make_state(ann.path());
    let run = |folder: &tempfile::TempDir, arguments: &[&str]| machines.run(folder.path(), arguments);

    machines.reachable("db", false);
    let printed = run(&ann, &["state", "push"]);
    says(
        &printed,
        &[
            "generation 1 of the operator state is now on lb, app",
            "not pushed to db, which could not be reached",
            "timed out",
        ],
    );
    let authority = printed.split('"').find(|it| it.starts_with("sha256:")).unwrap().to_owned();
    assert!(!machines.file("db").exists());
    machines.reachable("db", true);
    says(&run(&ann, &["state", "push"]), &["generation 1 of the operator state is now on db"]);
    says(&run(&ann, &["state", "push"]), &["every machine has generation 1"]);
    for name in MACHINES {
        assert_eq!(fs::metadata(machines.file(name)).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!fs::read_to_string(machines.file(name)).unwrap().contains("the password"));
    }

    // A clone without state.
    let bob = clone(&recipients);
    says(&run(&bob, &["plan"]), &["this folder has no state", "`tercet state pull` fetches", "exit code 1"]);
    let pull = ["state", "pull", "--identity", &key];
    says(&run(&bob, &pull), &["no trusted authority", &format!("--authority {authority}"), "exit code 2"]);
    let other = format!("sha256:{:064}", 0);
    says(
        &run(&bob, &[&pull[..], &["--authority", &other]].concat()),
        &["lb: the operator state there is signed by", "exit code 1"],
    );
    says(
        &run(&bob, &["state", "pull", "--authority", &authority]),
        &["no key to decrypt the state with", "exit code 2"],
    );
    assert!(!bob.path().join(".tercet").exists());
    let trusted = format!("{recipients}\nauthority = '{authority}'");
    for folder in [&ann, &bob] {
        fs::copy(clone(&trusted).path().join("tercet.toml"), folder.path().join("tercet.toml")).unwrap();
    }
    says(&run(&bob, &pull), &["found on lb, app, db: generation 1", "this folder has generation 1"]);
    let password = |folder: &tempfile::TempDir| {
        fs::read_to_string(folder.path().join(".tercet/fleet/authenticator")).unwrap()
    };
    assert_eq!(password(&bob), "the password");

    // Bob changes something: Ann's state is behind, and all her changes are refused.
    fs::write(bob.path().join(".tercet/fleet/authenticator"), "another password").unwrap();
    says(&run(&bob, &["state"]), &["changed since: `tercet state push`"]);
    says(&run(&bob, &["state", "push"]), &["generation 2 of the operator state is now on lb, app, db"]);
    for arguments in [&["plan"][..], &["apply", "--yes"], &["rollback", "--yes"]] {
        says(
            &run(&ann, arguments),
            &["it has generation 2", "pushed by ann@", "this folder has generation 1", "exit code 1"],
        );
    }
    says(&run(&ann, &["state", "push"]), &["which was not made from that", "exit code 1"]);
    assert_eq!(password(&ann), "the password");

    // One machine's copy is damaged: another one is used, and a push replaces it.
    let good = fs::read_to_string(machines.file("lb")).unwrap();
    fs::write(machines.file("lb"), good.replace("\"generation\":2", "\"generation\":7")).unwrap();
    says(
        &run(&ann, &pull),
        &["lb: the operator state there does not count", "found on app, db: generation 2"],
    );
    assert_eq!(password(&ann), "another password");
    says(&run(&ann, &["state", "push"]), &["generation 2 of the operator state is now on lb"]);
    assert_eq!(fs::read_to_string(machines.file("lb")).unwrap(), good);
    // Copies that were truncated are rejected.
    fs::write(machines.file("db"), "tercet state 1\n").unwrap();
    says(&run(&ann, &["state", "--json"]), &["\"generation\": 2", "it is cut", "\"changed\": false"]);
}

#[test]
fn an_apply_without_state_offers_to_pull_it() {
    let machines = Machines::of("the-project", &MACHINES);
    let bob = clone("");
    let made = tercet::run(bob.path(), ["state", "identity", ".config/tercet/identity"]);
    let recipient = made.lines().find(|it| it.starts_with("age1")).unwrap().to_owned();
    let ann = clone(&format!("recipients = ['{recipient}']"));
    make_state(ann.path());
    let pushed = machines.run(ann.path(), &["state", "push"]);
    let authority = pushed.split('"').find(|it| it.starts_with("sha256:")).unwrap();
    let file = clone(&format!("recipients = ['{recipient}']\nauthority = '{authority}'"));
    fs::copy(file.path().join("tercet.toml"), bob.path().join("tercet.toml")).unwrap();

    let question = "pull the operator state now? [y/N] ";
    let seen = machines.run_on_terminal(bob.path(), "apply", question, "n\r");
    says(&seen, &["this folder has no state", "nothing was changed"]);
    assert!(!bob.path().join(".tercet").exists());
    // The apply that follows fails in a namespace, but the state was pulled.
    let seen = machines.run_on_terminal(bob.path(), "apply", question, "y\r");
    says(&seen, &["this folder has generation 1 of the operator state now"]);
    let password = fs::read_to_string(bob.path().join(".tercet/fleet/authenticator")).unwrap();
    assert_eq!(password, "the password");
    assert_eq!(seen.matches(question).count(), 1, "{seen}");
    // With --yes there is no prompt.
    fs::remove_dir_all(bob.path().join(".tercet")).unwrap();
    let seen = machines.run_on_terminal(bob.path(), "apply --yes", question, "y\r");
    assert!(!seen.contains(question) && !bob.path().join(".tercet").exists(), "{seen}");
}
