//! The metrics of a running `tercet up`: their format, and their addresses.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::folder::Folder;
use crate::http::get;
use crate::system::System;
use crate::tercet;

const BOOKS: (&str, &str) =
    ("migrations/0001_books.sql", "create table book (id int primary key); grant select on book to anon;");

/// Prometheus' own linter: names, units, types, help.
fn lint(page: &str) {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().expect("promtool, of the Debian package prometheus");
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let found = [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned()).concat();
    assert!(output.status.success() && found.trim().is_empty(), "{found}\n{page}");
}

#[test]
fn both_tiers_pages_pass_promtool_and_their_addresses_follow_from_the_servers() {
    let folder = Folder::with(&[BOOKS, ("tercet.toml", "")]);
    let system = System::start(folder.path());
    assert_eq!(system.ask(get("/book")).status, 200);
    let state: Value = serde_json::from_str(&tercet::run(folder.path(), ["status", "--json"])).unwrap();
    let mut pages = 0;
    for part in state["up"]["parts"].as_array().unwrap() {
        let Some(admin) = part["admin"].as_str() else { continue };
        let admin: SocketAddr = admin.parse().unwrap();
        let page = get("/metrics").send(admin);
        assert_eq!(page.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        lint(&page.body);
        let openmetrics =
            get("/metrics").header("accept", "application/openmetrics-text; version=1.0.0").send(admin);
        assert!(openmetrics.body.ends_with("# EOF\n"), "{}", openmetrics.body);
        if let Some(address) = part["address"].as_str().filter(|_| part["name"] != "balancer") {
            // Another `tercet up` may have the port; then it is the next free one.
            let server: SocketAddr = address.parse().unwrap();
            assert!(admin.port() >= server.port() + 1000, "{part}");
            assert!(
                page.body.contains("pgrst_db_pool_max ")
                    && page.body.contains("pgrst_db_pool_timeouts_total ")
            );
        }
        pages += 1;
    }
    assert_eq!(pages, 3, "{state}");
}
