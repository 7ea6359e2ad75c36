//! The command line: help, errors, completions, manual pages, `destroy` without machines.

use expect_test::{Expect, expect};

use crate::tercet;

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
fn check(arguments: &[&str], expected: Expect) {
    let folder = tempfile::tempdir().unwrap();
    expected.assert_eq(&tercet::run(folder.path(), arguments));
}

#[test]
fn help() {
    check(
        &["--help"],
        expect![[r#"
            A load-balanced, locked-down HTTP API over PostgreSQL on machines you own

            Usage: tercet <COMMAND>

            Commands:
              up            Run all tiers of a project on this machine, in the foreground
              init          Write a commented tercet.toml and a first migration
              migrate       Create, check and apply migrations of a project under `tercet up`
              sql           Open psql on the project's database, as its owner or as a request role
              run           Run a command of your own program, with its environment and the owner's DATABASE_URL
              types         Print the types of tables, views and functions for a programming language
              token         Print a token for requests to a project's data API
              keys          Print the keys for clients of Supabase: tokens of the roles anon and service_role
              api           Run one data API server in the foreground
              balancer      Run one balancer in the foreground
              plan          Show what an apply would change on the machines, without changing it
              apply         Bring the machines to the state that tercet.toml describes
              rollback      Return to the previous release
              rotate        Replace secrets, certificates or keys without downtime
              destroy       Take the project down: remove everything that tercet made on its machines
              backup        Back the database up, list the backups, or check one by restoring it
              restore       Restore the database as it was at a time
              move          Move a part of a project to another machine
              prove         Test all allowed and forbidden connections, from here and from each machine
              status        Show the state of `tercet up` or of the machines, and of the balancer's servers
              certificates  Show the balancer's certificates: names, issuer, expiry, next renewal, last error
              maintenance   Answer requests with status 503 and a page
              dashboard     Show the machines in a browser: requests, servers, machines, logs and alerts, live
              alerts        Show the alerts that fire, or test their receivers
              monitoring    Write files for a monitoring system of your own
              state         Share the operator state with other operators, through the machines
              logs          Show the logs of `tercet up`, or of all machines, as one stream
              trace         Show the timeline of a request, from balancer to PostgreSQL, and its log lines
              exec          Run a command on a machine, or on all machines of a tier
              completions   Print a shell's completion script
              man           Print the manual page, or write a page for each command into a folder
              help          Print this message or the help of the given subcommand(s)

            Options:
              -h, --help     Print help
              -V, --version  Print version
        "#]],
    );
    check(
        &["up", "--help"],
        expect![[r#"
            Run all tiers of a project on this machine, in the foreground.

            Starts a private PostgreSQL, applies the migrations, starts the application servers and the
            balancer. A process that crashes is restarted. New migrations and changes of tercet.toml are applied
            while it runs. Ctrl-C stops all parts.

            Usage: tercet up [OPTIONS] [DIR]

            Arguments:
              [DIR]
                      The project's folder, with tercet.toml

                      [default: .]

            Options:
                  --no-watch
                      Do not watch migrations, seeds and tercet.toml for changes

                  --no-seeds
                      Do not apply the files of seeds/ to a new database

              -v, --verbose
                      Print the log lines of all parts from the start

                  --json
                      Log as JSON, one object a line; the default if standard output is not a terminal

              -h, --help
                      Print help (see a summary with '-h')
        "#]],
    );
    check(
        &["init", "--help"],
        expect![[r#"
            Write a commented tercet.toml and a first migration.

            Existing files are never overwritten.

            Usage: tercet init [DIR]

            Arguments:
              [DIR]
                      The folder to write to; it is created if necessary

                      [default: .]

            Options:
              -h, --help
                      Print help (see a summary with '-h')
        "#]],
    );
}

#[test]
fn wrong_arguments_are_wrong_input() {
    check(
        &["upp"],
        expect![[r#"
        error: unrecognized subcommand 'upp'

          tip: a similar subcommand exists: 'up'

        Usage: tercet <COMMAND>

        For more information, try '--help'.
        exit code 2
    "#]],
    );
    check(
        &["completions", "cmd.exe"],
        expect![[r#"
        error: invalid value 'cmd.exe' for '<SHELL>'
          [possible values: bash, elvish, fish, powershell, zsh]

        For more information, try '--help'.
        exit code 2
    "#]],
    );
}

#[test]
fn every_shell_has_completions() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = tercet::run(folder.path(), ["completions", shell]);
        assert!(script.contains("balancer") && !script.contains("exit code"), "{shell}: {script}");
    }
}

#[test]
fn manual_pages() {
    let folder = tempfile::tempdir().unwrap();
    assert!(tercet::run(folder.path(), ["man"]).starts_with(".ie"));
    assert_eq!(tercet::run(folder.path(), ["man", "pages"]), "");
    let page = std::fs::read_to_string(folder.path().join("pages/tercet-up.1")).unwrap();
    assert!(page.contains(".TH tercet-up 1"), "{page}");
}

#[test]
fn a_project_is_destroyed_by_its_name_and_keeps_its_state_for_machines_that_are_off() {
    let folder = tempfile::tempdir().unwrap();
    let file = "name = \"shop\"\n\n[[machine]]\nname = \"one\"\nssh = \"root@one.invalid\"\naddress = \"10.0.0.1\"\n\
                tiers = [\"balancer\", \"application\", \"database\"]\n";
    std::fs::write(folder.path().join("tercet.toml"), file).unwrap();
    // No machine can be reached by this.
    std::fs::write(folder.path().join("ssh_config"), "Host *\n  ProxyCommand false\n").unwrap();
    let destroy = |name: &str, more: &[&str]| {
        let arguments = ["destroy", "--ssh-config", "ssh_config", "--yes", name];
        tercet::run(folder.path(), arguments.iter().chain(more))
    };
    let printed = destroy("store", &[]);
    assert!(printed.contains("--yes names another project than this one, shop"), "{printed}");
    assert!(printed.contains("exit code 2"), "{printed}");
    let printed = destroy("shop", &[]);
    assert!(
        printed.contains("this folder has no operator state") && printed.contains("exit code 1"),
        "{printed}"
    );
    assert!(!folder.path().join(".tercet").exists(), "state was made");

    let state = folder.path().join(".tercet/fleet");
    std::fs::create_dir_all(&state).unwrap();
    std::fs::set_permissions(&state, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    std::fs::write(state.join("authority.key"), key).unwrap();
    let printed = destroy("shop", &[]);
    assert!(printed.contains("one (10.0.0.1, balancer, application, database)"), "{printed}");
    assert!(
        printed.contains("some machines could not be reached") && printed.contains("exit code 1"),
        "{printed}"
    );
    assert!(state.exists(), "the state is gone");
    let printed = destroy("shop", &["--forget", "one"]);
    assert!(printed.contains("the secrets and the certificate authority are kept in"), "{printed}");
    assert!(!state.exists(), "the state is where it was");
}

#[test]
fn output_that_nobody_reads_ends_a_command_quietly_and_a_full_disk_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let balancer = "listen = [{ address = '127.0.0.1:0', tls = true }]\nservers = ['127.0.0.1:1']\ndomains = ['shop.example.com']\n";
    std::fs::write(folder.path().join("balancer.toml"), balancer).unwrap();
    // One prints by `print!`, the other by `write!`.
    for arguments in [&["certificates", "--config", "balancer.toml"][..], &["completions", "bash"]] {
        let run = |output: std::process::Stdio| {
            let mut command = tercet::command();
            command.args(arguments).current_dir(folder.path()).stdout(output);
            let output = command.output().unwrap();
            (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
        };
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(run(writer.into()), (141, String::new()));
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let (code, error) = run(full.into());
        assert!(code == 1 && !error.contains("panicked"), "{code} {error}");
    }
}

#[test]
fn a_folder_with_nothing_of_a_project_is_not_brought_up() {
    let folder = tempfile::tempdir().unwrap();
    let refused = tercet::run(folder.path(), ["up"]);
    assert!(refused.contains("there is no ./tercet.toml") && refused.ends_with("exit code 2\n"), "{refused}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
