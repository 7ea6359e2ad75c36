//! Listeners, logs, the admin endpoint and limits.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;
use tercet_api::config::ConfigSource;
use tercet_api::server::Server;
use tercet_observe::stages::Stages;

use crate::postgres::database;
use crate::service::{Client, Service, bearer, on_one_thread, wait_until};

const SCHEMA: &str = "
    create schema api;
    grant usage on schema api to anon, authenticated;
    create table api.things (id int primary key, name text);
    insert into api.things values (1, 'one');
    grant select, insert on api.things to anon, authenticated;
";

#[test]
fn a_request_is_logged_with_its_id_and_role() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.log");
    let database = database(SCHEMA);
    let service =
        Service::start_logging(&database.uri(), &[("log-level", "info"), ("log-query", "true")], &path);
    let token = bearer("authenticated", "1");
    on_one_thread(async {
        let mut client = Client::connect(service.address).await;
        let headers = [("authorization", token.as_str()), ("x-request-id", "id-of-the-balancer")];
        client.request("GET", "/things?id=eq.1", &headers, "").await.unwrap();
        client.request("GET", "/things", &[("x-request-id", "not ok\u{e9}")], "").await.unwrap();
    });
    let lines = || std::fs::read_to_string(&path).unwrap();
    wait_until("both requests are logged", || lines().matches("HTTP/1.1\" 200").count() == 2);
    let log = lines();
    assert!(log.contains("\"GET /things?id=eq.1 HTTP/1.1\" 200 23"), "{log}");
    let with_id = log.lines().find(|line| line.ends_with(" id-of-the-balancer")).unwrap();
    assert!(with_id.contains(" authenticated "), "{with_id}");
    assert!(log.contains("query: ") && !log.contains(&token), "{log}");
}

#[test]
fn the_admin_endpoint_shows_no_secret() {
    let database = database(SCHEMA);
    let service = Service::start(&database.uri(), &[]);
    service.get("/things");
    let config = service.admin_get("/config").body;
    assert!(config.contains("db-schemas = \"api\""), "{config}");
    assert!(!config.contains(crate::service::SECRET) && !config.contains(":secret@"), "{config}");
    let cache = service.admin_get("/schema_cache").json();
    let table = &cache["dbTables"][0];
    assert_eq!((&table["name"], &table["columns"][1]["type"]), (&"things".into(), &"text".into()), "{cache}");
    assert_eq!(table["primaryKey"], json!(["id"]));
    for part in ["dbRelationships", "dbRoutines", "dbProcedures", "dbRepresentations", "dbMediaHandlers"] {
        assert!(cache[part].is_array(), "{part}: {cache}");
    }
    let metrics = service.admin_get("/metrics").body;
    assert!(metrics.contains("tercet_api_responses_total{class=\"2xx\"} 1"), "{metrics}");
    assert!(metrics.contains("tercet_api_log_lines_lost_total 0"), "{metrics}");
    assert_eq!(service.admin_get("/nothing").status, 404);
}

#[test]
fn a_slow_request_is_logged_with_its_sql_but_not_its_values() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.log");
    let schema = format!(
        "{SCHEMA} create function api.wait(seconds float) returns float language sql volatile
             as 'select seconds from pg_sleep(seconds)';"
    );
    let database = database(&schema);
    let options = [("log-slow-requests", "200ms"), ("server-stages-header", "true")];
    let service = Service::start_logging(&database.uri(), &options, &path);
    on_one_thread(async {
        let mut client = Client::connect(service.address).await;
        let reply = client.request("GET", "/things?name=eq.one", &[], "").await.unwrap();
        let stages = Stages::parse(reply.header("x-tercet-stages").unwrap().as_bytes()).unwrap();
        assert_eq!(stages.rows, 1);
        let Stages { parse, plan, pool, database, total, .. } = stages;
        assert!(database > 0 && parse + plan + pool + database <= total, "{stages:?}");
        let headers = [("x-request-id", "slow-1"), ("content-type", "application/json")];
        let reply =
            client.request("POST", "/rpc/wait", &headers, r#"{"seconds": 0.23456789}"#).await.unwrap();
        assert_eq!(reply.body, "0.23456789");
    });
    let lines = || std::fs::read_to_string(&path).unwrap();
    wait_until("the slow request is logged", || lines().contains("slow request: POST"));
    let log = lines();
    // The machine may be slow with the others.
    let slow: Vec<&str> = log.lines().filter(|line| line.contains("slow request: POST")).collect();
    assert_eq!(slow.len(), 1, "{log}");
    assert!(slow[0].contains("POST /rpc/wait took ") && slow[0].contains("1 rows: "), "{log}");
    assert!(slow[0].contains("\"wait\"") && !slow[0].contains("0.23456789"), "{log}");
}

#[test]
fn a_body_has_a_limit() {
    let database = database(SCHEMA);
    let service = Service::start(&database.uri(), &[("server-max-body", "100")]);
    on_one_thread(async {
        let mut client = Client::connect(service.address).await;
        let headers = [("content-type", "application/json")];
        let body = json!({"id": 2, "name": "x".repeat(50)}).to_string();
        assert_eq!(client.request("POST", "/things", &headers, &body).await.unwrap().status, 201);
        let body = json!({"id": 3, "name": "x".repeat(100)}).to_string();
        assert_eq!(client.request("POST", "/things", &headers, &body).await.unwrap().status, 413);
    });
}

#[test]
fn sends_server_timing_and_trace_header_if_enabled() {
    let database = database(SCHEMA);
    let options = [("server-timing-enabled", "true"), ("server-trace-header", "x-trace")];
    let service = Service::start(&database.uri(), &options);
    on_one_thread(async {
        let mut client = Client::connect(service.address).await;
        let reply = client.request("GET", "/things", &[("x-trace", "abc")], "").await.unwrap();
        assert_eq!(reply.header("x-trace"), Some("abc"));
        let timing = reply.header("server-timing").unwrap();
        for stage in ["jwt", "parse", "plan", "transaction", "response"] {
            assert!(timing.contains(&format!("{stage};dur=")), "{timing}");
        }
    });
}

#[test]
fn a_stale_unix_socket_is_replaced_and_removed_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let source =
        source(&[("server-unix-socket", path.to_str().unwrap()), ("server-unix-socket-mode", "600")]);
    on_one_thread(async {
        let server = Server::bind(source.clone()).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let taken = Server::bind(source.clone()).await.unwrap_err().to_string();
        assert!(taken.contains("api.sock"), "{taken}");
        drop(server);
    });
    assert!(!path.exists());
}

#[test]
fn a_port_is_shared_only_with_server_reuseport() {
    on_one_thread(async {
        let alone = Server::bind(source(&[])).await.unwrap();
        let port = alone.address().unwrap().port().to_string();
        assert!(Server::bind(source(&[("server-port", &port)])).await.is_err());
        let shared = [("server-reuseport", "true")];
        let one = Server::bind(source(&shared)).await.unwrap();
        let port = one.address().unwrap().port().to_string();
        Server::bind(source(&[shared.as_slice(), &[("server-port", &port)]].concat())).await.unwrap();
    });
}

fn source(options: &[(&str, &str)]) -> ConfigSource {
    let defaults = [("db-uri", "postgresql://me@/db"), ("server-host", "127.0.0.1"), ("server-port", "0")];
    let variable = |name: &str| format!("PGRST_{}", name.to_uppercase().replace('-', "_"));
    let environment =
        defaults.iter().chain(options).map(|(name, value)| (variable(name), (*value).to_owned())).collect();
    ConfigSource { file: None, environment }
}

#[test]
fn the_pages_load_nothing_from_other_hosts() {
    let database = database(SCHEMA);
    let service = Service::start(&database.uri(), &[]);
    let page = service.get("/redoc");
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'self'; connect-src 'self';"), "{policy}");
    assert!(!page.body.contains("http"), "{}", page.body);
    // Parts of npm's bundle that ours lacks: see docs/decisions/0086.
    let bundle = concat!(env!("CARGO_MANIFEST_DIR"), "/src/openapi/page/redoc.standalone.js.gz");
    let unpacked = std::process::Command::new("gzip").args(["-dc", bundle]).output().unwrap().stdout;
    let script = String::from_utf8(unpacked).unwrap();
    assert!(script.contains("Redoc"));
    for foreign in ["cdn.redoc.ly", "otel.cloud.redocly.com", "Function(XDe)", "disabled:e.disabled"] {
        assert!(!script.contains(foreign), "{foreign}");
    }
}
