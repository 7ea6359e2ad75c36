//! The dashboard of `tercet up`: who may read it, and what a browser shows.

mod browser;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::browser::{Browser, Scheme};
use crate::balancer::load;
use crate::balancer::process::Balancer;
use crate::balancer::thread_server::ThreadServer;
use crate::folder::Folder;
use crate::http::{get, request};
use crate::state::machines::Machines;
use crate::system::System;
use crate::tercet;

const BOOKS: (&str, &str) = (
    "migrations/0001_books.sql",
    "create table book (id int primary key, title text); insert into book values (1, 'Hyperion'), (2, 'Ulysses');
     grant select on book to anon;",
);

/// The address and the path with the key, as `tercet status` says them.
fn dashboard(folder: &Folder) -> (SocketAddr, String) {
    let printed = tercet::run(folder.path(), ["status", "--json"]);
    let state: Value = serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"));
    let url = state["up"]["dashboard"].as_str().unwrap();
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    (address.parse().unwrap(), format!("/{path}"))
}

#[test]
fn the_dashboard_is_for_this_machine_and_the_key_and_shows_no_secret() {
    let folder = Folder::with(&[BOOKS]);
    let system = System::start(folder.path());
    let token = tercet::run(folder.path(), ["token", "--role", "anon"]);
    system.ask(get(&format!("/book?select=id&token={}", token.trim())));
    let (address, with_key) = dashboard(&folder);
    let path = with_key.split('?').next().unwrap();
    let state = format!("{path}state");
    assert_eq!(get(path).send(address).status, 403);
    let entered = get(&with_key).send(address);
    assert_eq!((entered.status, entered.header("location")), (303, Some(path)));
    let cookie = entered.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let page = get(path).header("cookie", &cookie).send(address);
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(request("POST", &state).header("cookie", &cookie).send(address).status, 405);
    // The balancer logs a request when it has ended.
    let started = Instant::now();
    let state = loop {
        let state = get(&state).header("cookie", &cookie).send(address);
        if !state.value()["requests"][0].is_null() {
            break state;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{}", state.body);
    };
    // The data API knows no column of this name.
    assert_eq!(state.value()["requests"][0]["status"], 400, "{}", state.body);
    assert!(state.body.contains("token=[redacted]") && !state.body.contains(token.trim()), "{}", state.body);
    for secret in std::fs::read_dir(folder.path().join(".tercet/secrets")).unwrap() {
        let secret = std::fs::read_to_string(secret.unwrap().path()).unwrap();
        assert!(!state.body.contains(secret.trim()), "{}", state.body);
    }
}

#[test]
fn a_browser_shows_the_load_a_killed_server_and_where_a_request_spent_its_time() {
    let folder = Folder::with(&[BOOKS]);
    let system = System::start(folder.path());
    let (address, path) = dashboard(&folder);
    let mut browser = Browser::open(&format!("http://{address}{path}"));
    let up = "document.querySelectorAll('#picture .box.up').length === 4";
    browser.wait_for(up);

    // Markup in a request is shown as text.
    system.ask(get("/%3Cimg%20src=x%3E?a=<img/src=x/onerror=alert(1)>"));
    browser.wait_for("document.querySelector('#list').textContent.includes('onerror=alert(1)')");
    assert_eq!(browser.evaluate("document.querySelectorAll('#list img, #log img').length"), 0);

    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (mut connection, done) = (system.connect(), &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    connection.get("/book");
                }
            });
        }
        // Dropped when the test fails, so that the threads end.
        let _done = OnDrop(&done);
        let value = "parseFloat(document.querySelector('#golden .value').textContent)";
        browser.wait_for(&format!("{value} > 2"));
        let moves = format!("(window.values ??= new Set()).add({value}).size > 1");
        browser.wait_for(&moves);
        browser.wait_for("document.querySelectorAll('#picture .flow.on').length === 5");

        system.kill("app-1");
        browser.wait_for("document.querySelectorAll('#picture .box.down').length === 1");
        assert_eq!(
            browser.evaluate("document.querySelector('#servers [data-part=app-1] .state.down') !== null"),
            true
        );
        browser.wait_for(up);

        browser.evaluate("document.querySelector('#list button').click()");
        browser.wait_for("document.querySelector('#detail').textContent.includes('PostgreSQL')");
        let shown = browser.evaluate(
            "[...document.querySelectorAll('#detail tr')].map((row) => ({
                depth: row.cells[0].className, name: row.cells[0].textContent, ms: parseFloat(row.cells[2].textContent) }))",
        );
        adds_up(&shown);
        for (width, height) in [(1280, 900), (390, 844)] {
            for scheme in [Scheme::Light, Scheme::Dark] {
                browser.show(width, height, scheme);
                let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
                assert_eq!(browser.evaluate(overflow), 0, "{width}");
                browser.screenshot(width, scheme);
            }
        }
        // A viewer who wants less motion gets none.
        browser.reduce_motion();
        browser.wait_for("document.getAnimations().every((it) => it.playState !== 'running')");
    });
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asserts that the rows of a timeline add up: those of a depth to the row above them.
fn adds_up(rows: &Value) {
    let rows: Vec<(usize, f64)> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let depth = row["depth"].as_str().unwrap().strip_prefix("depth-").unwrap().parse().unwrap();
            (depth, row["ms"].as_f64().unwrap())
        })
        .collect();
    assert!(rows.len() >= 10, "{rows:?}");
    for (index, (depth, whole)) in rows.iter().enumerate() {
        let inside = rows[index + 1..].iter().take_while(|(inner, _)| inner > depth);
        let children: Vec<f64> = inside.filter(|(inner, _)| *inner == depth + 1).map(|(_, ms)| *ms).collect();
        let sum: f64 = children.iter().sum();
        assert!(children.is_empty() || (sum - whole).abs() < 0.001, "{}", json!(rows));
    }
}

#[test]
fn machines_are_read_over_ssh_while_the_page_is_open() {
    let settings = "name = 'shop'\nmachine = [
        { name = 'one', ssh = 'one', address = '10.0.0.1', tiers = ['balancer', 'application'] },
        { name = 'two', ssh = 'two', address = '10.0.0.2', tiers = ['database'] },
    ]\n";
    let folder = Folder::with(&[("tercet.toml", settings)]);
    let machines = Machines::of("the-project", &["one", "two"]);
    machines.reachable("two", false);
    let server = ThreadServer::answering("ok");
    let balancer = Balancer::start(&[server.address], "");
    machines.balancer("one", &balancer.file().with_file_name("admin.sock"));
    let down = json!({ "level": "warn", "event": "server_down", "message": "server app-1 is down: refused" });
    machines.log("one", "tercet-balancer.service", &down.to_string());
    let mut process = machines.start(folder.path(), &["dashboard"]);
    let mut printed = BufReader::new(process.0.stdout.take().unwrap()).lines();
    let first = printed.next().unwrap().unwrap();
    let url = first.strip_prefix("dashboard  http://").unwrap_or_else(|| panic!("{first}"));
    let (address, with_key) = url.split_once('/').unwrap();
    let (address, with_key): (SocketAddr, _) = (address.parse().unwrap(), format!("/{with_key}"));
    let path = with_key.split('?').next().unwrap();
    assert_eq!(get(&format!("{path}state")).send(address).status, 403);
    let entered = get(&with_key).send(address);
    let cookie = entered.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();

    let state = |wanted: &dyn Fn(&Value) -> bool| {
        let started = Instant::now();
        loop {
            let state = get(&format!("{path}state")).header("cookie", &cookie).send(address).value();
            if wanted(&state) {
                return state;
            }
            assert!(started.elapsed() < Duration::from_secs(30), "{state:#}");
            std::thread::yield_now();
        }
    };
    let state = state(&|state| {
        let has_line = state["lines"].as_array().unwrap().iter().any(|line| line["part"] == "balancer");
        has_line && state["machines"][0]["memory"][0].is_u64() && state["servers"][0]["state"] == "up"
    });
    assert_eq!((&state["name"], &state["summary"]), (&"shop".into(), &"on 2 machines".into()));
    let reason = state["machines"][1]["reason"].as_str().unwrap();
    assert!(reason.contains("cannot be reached by ssh"), "{reason}");

    let lines = state["lines"].as_array().unwrap();
    let line = lines.iter().find(|line| line["part"] == "balancer").unwrap_or_else(|| panic!("{state:#}"));
    assert_eq!((&line["level"], &line["message"]), (&"warn".into(), &"server app-1 is down: refused".into()));

    let request = &state["requests"][0];
    assert_eq!((&request["status"], &request["server"]), (&200.into(), &"app-1".into()), "{request}");
    let names: Vec<_> =
        request["spans"].as_array().unwrap().iter().map(|span| span["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["balancer", "select and connect", "app-1", "response to the client"]);

    let mut browser = Browser::open(&format!("http://{url}"));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                load::get(balancer.address).unwrap();
            }
        });
        // Dropped when the test fails, so that the thread ends.
        let _done = OnDrop(&done);
        browser.wait_for("parseFloat(document.querySelector('#golden .value').textContent) > 2");
        browser.wait_for("document.querySelector('#list').textContent.includes('GET /')");
    });
    browser.wait_for("document.querySelector('#log').textContent.includes('server app-1 is down')");
    browser.wait_for("document.querySelector('#facts').textContent.includes('cannot be reached by ssh')");
    browser.wait_for("document.querySelector('#servers [data-part=database] .state.between').textContent === 'unreachable'");
    browser.wait_for("document.querySelector('#facts-title').textContent === 'Machines'");
    for (width, scheme) in [(1280, Scheme::Light), (390, Scheme::Dark)] {
        browser.show(width, 844, scheme);
        let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(browser.evaluate(overflow), 0, "{width}");
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&process.0),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    assert!(process.0.wait().unwrap().success());
}
