//! `tercet up` with the data API: round-robin, crashes, outages, restarts, errors at the start.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};

use expect_test::{Expect, expect};
use rustix::process::Signal;

use crate::folder::Folder;
use crate::http::{Answer, get};
use crate::system::System;
use crate::tercet;

const BOOKS: (&str, &str) = (
    "migrations/0001_book.sql",
    "create table book (id int primary key, title text);\n\
     insert into book values (1, 'Hyperion'), (2, 'Ulysses');\n\
     grant select on book to anon;\n",
);
const BOOK: &str = "/book?id=eq.1&select=title";

fn server(answer: &Answer) -> String {
    answer.header("x-served-by").unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

#[test]
fn requests_alternate_and_killed_parts_are_restarted() {
    let folder = Folder::with(&[BOOKS]);
    let mut system = System::start(folder.path());
    let first = system.ask(get(BOOK));
    assert_eq!((first.status, first.body.as_str()), (200, r#"[{"title":"Hyperion"}]"#));
    ports_stay_reserved(&system);
    requests_follow_strict_round_robin(&system);
    no_request_is_lost_when_a_server_is_killed(&mut system);
    without_its_database_requests_get_503_and_no_part_restarts(&mut system);
}

/// Even while no process listens on it: another `tercet up` that took it would get this one's requests.
fn ports_stay_reserved(system: &System) {
    for part in ["database", "app-1", "app-2", "balancer"] {
        let ready =
            system.log_lines().find(|event| event["event"] == "part_ready" && event["name"] == part).unwrap();
        let port = ready["address"].as_str().unwrap().rsplit_once(':').unwrap().1;
        let name = SocketAddr::from_abstract_name(format!("tercet-port-{port}")).unwrap();
        let error = UnixDatagram::bind_addr(&name).expect_err(part);
        assert_eq!(error.kind(), ErrorKind::AddrInUse, "{part}");
    }
}

fn requests_follow_strict_round_robin(system: &System) {
    let turns: Vec<_> = (0..10).map(|_| server(&system.ask(get(BOOK)))).collect();
    assert!(turns.chunks(2).all(|pair| pair == &turns[..2]) && turns[0] != turns[1], "{turns:?}");

    // 200 connections at once: on any of them, every second request went to app-1.
    let served: Vec<String> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..200)
            .map(|_| {
                let mut connection = system.connect();
                scope.spawn(move || (0..5).map(|_| server(&connection.get(BOOK))).collect::<Vec<_>>())
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let count = |name| served.iter().filter(|server| *server == name).count();
    assert_eq!((count("app-1"), count("app-2")), (500, 500));
}

fn no_request_is_lost_when_a_server_is_killed(system: &mut System) {
    let killed = system.pid("app-1");
    let done = AtomicBool::new(false);
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let mut connection = system.connect();
                let done = &done;
                scope.spawn(move || {
                    let mut answers = vec![connection.get(BOOK)];
                    while !done.load(Ordering::Relaxed) {
                        answers.push(connection.get(BOOK));
                    }
                    answers
                })
            })
            .collect();
        system.kill("app-1");
        system.wait_until_ready("app-1");
        // Until the balancer has it back.
        let mut connection = system.connect();
        while server(&connection.get(BOOK)) != "app-1" {}
        done.store(true, Ordering::Relaxed);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let lost: Vec<_> = answers.iter().filter(|answer| answer.status != 200).collect();
    assert!(lost.is_empty(), "{} of {}: {lost:#?}\n{}", lost.len(), answers.len(), system.log());
    assert_ne!(system.pid("app-1"), killed);
}

fn without_its_database_requests_get_503_and_no_part_restarts(system: &mut System) {
    let servers = [system.pid("app-1"), system.pid("app-2"), system.pid("balancer")];
    system.kill("database");
    let mut connection = system.connect();
    let mut refusals = 0;
    loop {
        let answer = connection.get(BOOK);
        match answer.status {
            200 if refusals > 0 => break,
            // Answered before the outage was noticed.
            200 => {}
            503 => {
                refusals += 1;
                assert!(answer.body.len() > 10, "{answer:?}");
            }
            _ => panic!("{answer:?}\n{}", system.log()),
        }
    }
    system.wait_until_ready("database");
    assert_eq!(servers, [system.pid("app-1"), system.pid("app-2"), system.pid("balancer")]);
}

#[test]
fn a_folder_is_run_by_one_up_and_survives_kills() {
    let folder = Folder::with(&[BOOKS]);
    let system = System::start(folder.path());
    let pid = system.own_pid();
    let second = folder.up_to_the_end();
    assert!(second.contains(&format!("is up already: process {pid} runs it since 20")), "{second}");
    assert!(second.ends_with("exit code 1\n"), "{second}");
    system.kill_and_wait();

    // A power cut: the process ids in stale lock files belong to other processes.
    let lock = folder.cluster().join("data/postmaster.pid");
    std::fs::write(&lock, format!("{}\n{}\n", std::process::id(), folder.cluster().display())).unwrap();
    let system = System::start(folder.path());
    assert_eq!(system.ask(get(BOOK)).status, 200);

    let (code, log) = system.stop(Signal::TERM);
    assert_eq!(code, Some(0));
    let events = |name: &str| {
        let of = log.iter().filter(|event| event["event"] == name);
        of.map(|event| event["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let mut stopped = events("part_stopped");
    stopped[1..3].sort();
    assert_eq!(stopped, ["balancer", "app-1", "app-2", "database"]);
    assert!(!lock.exists());
    for part in ["up", "balancer", "app-1", "app-2", "database"] {
        let log = folder.path().join(format!(".tercet/log/{part}.log"));
        assert!(std::fs::metadata(&log).unwrap().len() > 0, "{}", log.display());
    }
}

#[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
fn check_refused(files: &[(&str, &str)], expected: Expect) {
    let folder = Folder::with(files);
    let printed = folder.up_to_the_end();
    // Log lines are JSON; the final error is text.
    let lines: Vec<&str> = printed.lines().filter(|line| !line.starts_with('{')).collect();
    expected.assert_eq(&(lines.join("\n") + "\n"));
}

#[test]
fn errors_at_the_start_have_the_right_exit_code() {
    check_refused(
        &[("tercet.toml", "nam = 'shop'\n")],
        expect![[r#"
          × tercet.toml has a mistake

        Error:
          × unknown key nam at the top of the file
           ╭─[tercet.toml:1:1]
         1 │ nam = ******
           · ─┬─
           ·  ╰── unknown
           ╰────
          help: did you mean name?

        exit code 2
    "#]],
    );
    check_refused(
        &[("migrations/book.sql", "select 1")],
        expect![[r#"
          × DIR/migrations/book.sql: a migration's name begins with its
          │ number; hint: rename it to 0001_book.sql

        exit code 2
    "#]],
    );
    check_refused(
        &[("migrations/1_a.sql", "create table a ();\nselect from b;\n")],
        expect![[r#"
          × DIR/migrations/1_a.sql:2:13: relation "b" does not exist

        exit code 1
    "#]],
    );
    let own = "[database]\nurl = 'postgres://127.0.0.1:1/none'\n[application]\nservers = 1\n";
    check_refused(
        &[("tercet.toml", &format!("{own}run = 'false'\n"))],
        expect![[r#"
          × app-1 did not start: exit status 1

        exit code 1
    "#]],
    );
    check_refused(
        &[("tercet.toml", &format!("{own}run = 'true'\n"))],
        expect![[r#"
          × app-1 did not start: exit status 0
          │ hint: a server has to stay in the foreground

        exit code 1
    "#]],
    );
    // The error depends on the folders of PATH that the user may read.
    let shell = format!("{own}run = 'cd app && ./server'\n");
    let said = tercet::run(Folder::with(&[("tercet.toml", &shell)]).path(), ["up", "--json"]);
    assert!(said.contains("cd cannot be run: ") && said.contains("there is no shell: sh -c"), "{said}");
    let foreign = "echo 'FATAL:  no pg_hba.conf entry for host' >&2; echo 'see the manual' >&2; exit 1";
    check_refused(
        &[("tercet.toml", &format!("{own}run = 'sh server.sh'\n")), ("server.sh", foreign)],
        expect![[r#"
              × app-1 did not start: exit status 1; its last output: FATAL:  no
              │ pg_hba.conf entry for host
              │ hint: the program has to connect by DATABASE_URL; it has tried another
              │ user, database or host

            exit code 1
        "#]],
    );
    let in_use = "echo 'OSError: [Errno 98] Address already in use' >&2; exit 1";
    check_refused(
        &[("tercet.toml", &format!("{own}run = 'sh server.sh'\n")), ("server.sh", in_use)],
        expect![[r#"
              × app-1 did not start: exit status 1; its last output: OSError: [Errno 98]
              │ Address already in use
              │ hint: the program has to listen on {host}:{port} in run, or on HOST and
              │ PORT of its environment

            exit code 1
        "#]],
    );
    let deaf = format!("{own}run = 'sleep 1000'\nstart-timeout = '1s'\n");
    let said = tercet::run(Folder::with(&[("tercet.toml", &deaf)]).path(), ["up", "--json"]);
    assert!(
        said.contains("does not accept connections") && said.contains("give it a longer start-timeout"),
        "{said}"
    );
    check_refused(
        &[("tercet.toml", &format!("{own}run = './missing'\n"))],
        expect![[r#"
              × app-1 did not start: exit status 1; its last output: ./missing cannot be
              │ run: No such file or directory (os error 2)
              │ hint: a path is relative to the folder of tercet.toml: is the program
              │ installed there, and executable?

            exit code 1
        "#]],
    );
}

#[test]
fn a_named_port_in_use_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let folder = Folder::with(&[("tercet.toml", &format!("balancer.listen = ['{address}']\n"))]);
    let printed = folder.up_to_the_end();
    assert!(
        printed.contains(&format!("balancer cannot listen on {address}: the port is in use")),
        "{printed}"
    );
    assert!(printed.ends_with("exit code 1\n"), "{printed}");
}

#[test]
fn a_certificate_opens_a_tls_listener() {
    let pair = rcgen::generate_simple_self_signed(["shop.test".to_owned()]).unwrap();
    let (certificate, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
    let file = "[balancer]\nlisten = ['127.0.0.1:0']\ntls-listen = ['127.0.0.1:0']\nhsts = '1d'\n\
                certificates = [{ certificate = 'tls/shop.crt', key = 'tls/shop.key' }]\n";
    let folder =
        Folder::with(&[BOOKS, ("tercet.toml", file), ("tls/shop.crt", &certificate), ("tls/shop.key", &key)]);
    let system = System::start(folder.path());
    let output = std::process::Command::new("curl")
        .args(["--silent", "--show-error", "--include", "--noproxy", "*", "--cacert"])
        .arg(folder.path().join("tls/shop.crt"))
        .arg("--connect-to")
        .arg(format!("shop.test:443:{}", system.address))
        .arg(format!("https://shop.test{BOOK}"))
        .output()
        .expect("curl runs; hint: sudo apt-get install curl");
    let answer = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(answer.contains("strict-transport-security: max-age=86400"), "{answer}");
    assert!(answer.ends_with(r#"[{"title":"Hyperion"}]"#), "{answer}");
}
