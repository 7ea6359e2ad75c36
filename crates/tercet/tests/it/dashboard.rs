//! The dashboard of `tercet up`: who may read it, and what a browser shows.

mod browser;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use self::browser::{Browser, Scheme};
use crate::folder::Folder;
use crate::http::{get, request};
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
    let state = get(&state).header("cookie", &cookie).send(address);
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
