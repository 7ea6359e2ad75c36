//! The dashboard is one that Grafana can import, whose queries Prometheus can parse.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;

use serde_json::Value;

use super::*;

#[test]
fn the_queries_of_the_dashboard_are_valid() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut rules = String::from("groups:\n- name: dashboard\n  rules:\n");
    let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{} has an id twice", panel["title"]);
        let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(x < 24 && places.insert((x, y)), "{} overlaps another panel", panel["title"]);
            }
        }
        for target in panel["targets"].as_array().into_iter().flatten() {
            // Grafana replaces its variable before it asks.
            let query = target["expr"].as_str().unwrap().replace("$__rate_interval", "1m");
            writeln!(rules, "  - record: query_{}\n    expr: {}", rules.len(), Value::from(query)).unwrap();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rules.yml"), rules).unwrap();
    let output =
        Command::new("promtool").args(["check", "rules", "rules.yml"]).current_dir(folder.path()).output();
    let output = output.expect("promtool, of the Debian package prometheus");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_prometheus_of_the_users_own_gets_every_target_and_rule() {
    let origin = tercet_config::Origin { file: "tercet.toml", folder: "shop" };
    let text = "machine = [
        { name = 'one', ssh = 'one', address = '10.0.0.10', tiers = ['balancer', 'application', 'database'] },
    ]\n";
    let alone = tercet_config::parse(text, origin).unwrap();
    assert_eq!(files(&alone), None);
    let watched =
        tercet_config::parse(&format!("{text}monitoring.prometheus = '10.0.0.99'"), origin).unwrap();
    let files = files(&watched).unwrap();
    for target in ["10.0.0.10:9080", "10.0.0.10:9081", "10.0.0.10:9082", "10.0.0.10:9100", "10.0.0.10:9187"] {
        assert!(files[0].1.contains(target), "{target} not in\n{}", files[0].1);
    }
    assert!(files[1].1.contains("alert: \"database-down\"") && !files[1].1.contains("backup-stale"));
}
