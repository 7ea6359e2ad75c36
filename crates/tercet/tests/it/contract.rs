//! The data API's OpenAPI document compared with its behaviour, by schemathesis with all checks, on the atlas and on a schema
//! with every feature; and the options of `tercet api` that do not start a server.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::examples::{copy_of, made};
use crate::system::System;
use crate::tercet;

/// How many requests are made up for each operation, of those that fit the description and of those that do not.
const EXAMPLES: &str = "6";

/// The first data API server's own configuration.
fn api(folder: &Path) -> PathBuf {
    let mut files: Vec<PathBuf> =
        folder.join(".tercet/run").read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let is_api =
        |path: &PathBuf| std::fs::read_to_string(path).is_ok_and(|text| text.contains("server-port = "));
    files.into_iter().find(is_api).unwrap()
}

/// Runs schemathesis on a server, always with the same requests, and checks that it finds no fault.
fn check(config: &Path) {
    let options: toml::Table = std::fs::read_to_string(config).unwrap().parse().unwrap();
    let address = format!("http://{}:{}", options["server-host"].as_str().unwrap(), options["server-port"]);
    let python = made("TERCET_TEST_SCHEMATHESIS").join("bin");
    let folder = tempfile::tempdir().unwrap();
    let events = folder.path().join("events.ndjson");
    let run = Command::new(python.join("schemathesis"))
        .current_dir(folder.path())
        .args(["run", &format!("{address}/openapi.json"), "--checks", "all", "--phases", "fuzzing"])
        .args(["--max-examples", EXAMPLES, "--generation-deterministic", "--no-shrink"])
        .args(["--continue-on-failure", "--suppress-health-check", "all", "--no-color"])
        .args(["--report", "ndjson", "--report-ndjson-path"])
        .arg(&events)
        .output()
        .unwrap();
    // 1: it found something; what, is looked at here.
    assert!(matches!(run.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&run.stdout));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/contract.py");
    let judged = Command::new(python.join("python")).arg(script).arg(&events).output().unwrap();
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stderr));
    let judged: Value = serde_json::from_slice(&judged.stdout).unwrap();
    assert!(judged["checks"].as_u64().unwrap() > 1000, "{judged}");
    assert_eq!(judged["faults"], serde_json::json!([]), "{judged:#}");
}

#[test]
fn the_atlas_conforms_to_its_description() {
    let folder = copy_of("atlas");
    let _system = System::start(folder.path());
    check(&api(folder.path()));
}

#[test]
fn a_schema_with_every_feature_conforms_to_its_description() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("tercet.toml"),
        "name = \"everything\"\n[api]\ndb-schemas = [\"api\"]\n",
    )
    .unwrap();
    std::fs::create_dir(folder.path().join("migrations")).unwrap();
    let schema = include_str!("../../../tercet-api/tests/it/described.sql");
    std::fs::write(folder.path().join("migrations/0001_everything.sql"), schema).unwrap();
    let _system = System::start(folder.path());
    let config = api(folder.path());
    check(&config);

    let run = |flag: &str| tercet::run(folder.path(), ["api", "--config", config.to_str().unwrap(), flag]);
    assert!(run("--ready").starts_with("ready: http://127.0.0.1:"), "{}", run("--ready"));
    let dumped: toml::Table = run("--dump-config").parse().unwrap();
    assert_eq!(dumped["db-schemas"].as_str(), Some("api"));
    assert_eq!(dumped["openapi-title"].as_str(), Some("everything"));
    assert_eq!(dumped["jwt-secret"].as_str(), Some("(kept secret)"));
    let schema: Value = serde_json::from_str(&run("--dump-schema")).unwrap();
    let tables = schema["dbTables"].as_array().unwrap();
    assert!(tables.iter().any(|table| table["name"] == "things"), "{schema}");
    assert_eq!(schema["dbProcedures"], serde_json::json!([{ "schema": "api", "name": "archive" }]));
}

#[test]
fn configuration_and_schema_are_dumped_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let example = tercet::run(folder.path(), ["api", "--example"]);
    assert!(example.contains("\n# db-uri = ") && example.contains("\n# openapi-title = "), "{example}");
    let config = folder.path().join("api.conf");
    let run = |text: &str, flag: &str| {
        std::fs::write(&config, text).unwrap();
        tercet::run(folder.path(), ["api", "--config", "api.conf", flag])
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let database = "db-uri = \"postgresql://me@127.0.0.1:1/db\"\n";
    let dumped = run(&format!("{database}db-config = false\ndb-pool = 7\n"), "--dump-config");
    assert!(dumped.contains("\ndb-pool = 7\n") && !dumped.contains("exit code"), "{dumped}");
    let off = run(database, "--ready");
    assert!(off.contains("admin endpoint is switched off") && off.ends_with("exit code 2\n"), "{off}");
    let stopped =
        run(&format!("{database}admin-server-host = \"127.0.0.1\"\nadmin-server-port = {port}\n"), "--ready");
    assert!(
        stopped.contains(&format!("127.0.0.1:{port}")) && stopped.ends_with("exit code 1\n"),
        "{stopped}"
    );
    let unreachable = run(database, "--dump-schema");
    assert!(unreachable.ends_with("exit code 1\n"), "{unreachable}");
    let both = tercet::run(folder.path(), ["api", "--dump-config", "--dump-schema"]);
    assert!(both.contains("cannot be used with"), "{both}");
}
