//! `tercet status`, `tercet logs` and `tercet trace` of a running `tercet up`.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::folder::Folder;
use crate::http::get;
use crate::system::System;
use crate::tercet;

const BOOKS: (&str, &str) = (
    "migrations/0001_books.sql",
    "create table book (id int primary key); insert into book values (1), (2); grant select on book to anon;
     create function slow() returns int language sql stable as 'select 1 from pg_sleep(0.6)';
     grant execute on function slow to anon;",
);

fn json(folder: &Path, arguments: &[&str]) -> Value {
    let printed = tercet::run(folder, arguments.iter().copied());
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

#[test]
fn a_running_up_is_asked_for_its_state_its_logs_and_the_story_of_a_request() {
    let [folder, other] = [Folder::with(&[BOOKS, ("tercet.toml", "")]), Folder::with(&[("tercet.toml", "")])];
    let not_up = tercet::run(folder.path(), ["status"]);
    assert!(not_up.contains("is not up") && not_up.ends_with("exit code 1\n"), "{not_up}");
    let mut system = System::start(folder.path());
    let _other = System::start(other.path());

    let [state, other] = [&folder, &other].map(|folder| json(folder.path(), &["status", "--json"]));
    assert_eq!(state["up"]["pid"], system.process.id());
    assert_ne!(state["up"]["pid"], other["up"]["pid"]);
    let parts = state["up"]["parts"].as_array().unwrap();
    let names: Vec<&str> = parts.iter().map(|part| part["name"].as_str().unwrap()).collect();
    assert_eq!((names[0], names[3]), ("balancer", "database"));
    assert!(parts.iter().all(|part| part["state"] == "ready" && part["pid"].is_u64()), "{state}");
    assert_eq!(state["servers"].as_array().unwrap().len(), 2);
    let shown = tercet::run(folder.path(), ["status"]);
    assert!(shown.contains(" is up on http://127.0.0.1:") && shown.contains("\napp-1 "), "{shown}");

    let answer = system.ask(get("/book"));
    let id = answer.header("x-request-id").unwrap().to_owned();
    system.wait_for(|line| line["request_id"] == *id);
    let traced = json(folder.path(), &["trace", &id, "--json"]);
    let timeline = &traced["timeline"];
    assert_eq!((&timeline["status"], &timeline["rows"]), (&200.into(), &2.into()), "{traced}");
    assert_eq!(timeline["server"].as_str(), answer.header("x-served-by"));
    adds_up(timeline);
    let drawn = tercet::run(folder.path(), ["trace", &id]);
    assert!(drawn.starts_with("GET /book → 200 by app-") && drawn.contains(" PostgreSQL "), "{drawn}");

    // A slow one has its SQL, although the data API logs no other request.
    let slow = system.ask(get("/rpc/slow")).header("x-request-id").unwrap().to_owned();
    system.wait_for(|line| line["part"] == "balancer" && line["request_id"] == *slow);
    system.wait_for(|line| line["event"] == "slow_request" && line["request_id"] == *slow);
    let traced = json(folder.path(), &["trace", &slow, "--json"]);
    assert!(traced["timeline"]["sql"].as_str().unwrap().contains("slow"), "{traced}");
    let database = span(&traced["timeline"], "PostgreSQL");
    assert!(database["duration"].as_u64().unwrap() >= 600_000, "{traced}");

    let logs = tercet::run(folder.path(), ["logs", "--request", &id]);
    assert!(logs.contains("GET /book → 200 by app-") && logs.lines().count() == 1, "{logs}");
    let logs = tercet::run(folder.path(), ["logs", "--tier", "database", "--since", "-1h"]);
    assert!(logs.contains("database system is ready to accept connections"), "{logs}");
    let unknown = tercet::run(folder.path(), ["trace", "0190aaaa-none"]);
    assert!(unknown.contains("there is no log line of request 0190aaaa-none"), "{unknown}");

    follows(&system, folder.path());
    assert_eq!(system.ask(get("/nothing")).header("x-request-id").unwrap().len(), 36);

    // Killed, it leaves its state behind, which is recognised.
    let pid = system.process.id();
    system.kill_and_wait();
    let killed = tercet::run(folder.path(), ["status"]);
    assert!(killed.contains(&format!("process {pid} of 20")) && killed.contains("was killed"), "{killed}");
    let logs = tercet::run(folder.path(), ["logs", "--request", &id]);
    assert!(logs.contains("GET /book → 200"), "{logs}");
}

/// `tercet logs -f` prints a request that is made while it runs, and ends at a signal.
fn follows(system: &System, folder: &Path) {
    let mut following = tercet::command()
        .args(["logs", "--follow", "--json", "--tier", "balancer"])
        .arg(folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    // Its first lines are older ones: it follows from now on.
    lines.next().unwrap().unwrap();
    let id = system.ask(get("/book?id=eq.2")).header("x-request-id").unwrap().to_owned();
    assert!(lines.map_while(Result::ok).any(|line| line.contains(&id)));
    rustix::process::kill_process(Pid::from_child(&following), Signal::TERM).unwrap();
    assert!(following.wait().unwrap().success());
}

fn span<'a>(timeline: &'a Value, name: &str) -> &'a Value {
    timeline["spans"].as_array().unwrap().iter().find(|span| span["name"] == name).unwrap()
}

/// Asserts that the spans of the data API are in that of the server, and PostgreSQL's in theirs.
fn adds_up(timeline: &Value) {
    let range = |name: &str| {
        let span = span(timeline, name);
        let [start, duration] = ["start", "duration"].map(|name| span[name].as_u64().unwrap());
        start..start + duration
    };
    let server = timeline["server"].as_str().unwrap();
    let [all, server, api, database] = ["balancer", server, "data API", "PostgreSQL"].map(range);
    for (inner, outer) in [(&server, &all), (&api, &server), (&database, &api)] {
        assert!(outer.start <= inner.start && inner.end <= outer.end, "{timeline}");
    }
    assert!(!database.is_empty(), "{timeline}");
}
