//! Operation: start and stop, role changes, the admin endpoint.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

use tercet_api::server::{Instruction, ServerError};
use tercet_postgres::Connection;

use crate::postgres::database;
use crate::service::{Client, Service, on_one_thread, wait_until};

const SCHEMA: &str = "
    create schema api;
    grant usage on schema api to public;
    create table api.things (id int primary key);
    grant select on api.things to public;
    create function api.timeout() returns text language sql stable as $$ select current_setting('statement_timeout') $$;
";

#[test]
fn requests_wait_for_the_first_load_of_the_schema() {
    let database = database(SCHEMA);
    // Only the schema load reads this catalogue.
    on_one_thread(async {
        let holder = Connection::connect(&database.superuser(), true).await.unwrap();
        for sql in ["begin", "lock table pg_catalog.pg_foreign_table in access exclusive mode"] {
            holder.query(&sql.into()).await.unwrap();
        }
        let service = Service::start_unready(&database.uri(), &[]);
        let mut client = Client::connect(service.address).await;
        let request = client.request("GET", "/things", &[], "");
        let mut request = std::pin::pin!(request);
        // A transaction sees one snapshot of the activity: another connection watches.
        let watcher = Connection::connect(&database.superuser(), true).await.unwrap();
        let blocked = async {
            let sql = "select count(*) from pg_stat_activity \
                       where datname = current_database() and wait_event_type = 'Lock'";
            while watcher.query(&sql.into()).await.unwrap()[0].text(0) == Some("0") {}
        };
        tokio::select! {
            biased;
            answered = request.as_mut() => panic!("answered before the schema was loaded: {answered:?}"),
            () = blocked => {}
        }
        holder.query(&"commit".into()).await.unwrap();
        assert_eq!(request.await.unwrap().status, 200);
    });
}

#[test]
fn requests_wait_for_the_schema_with_a_timeout() {
    let database = database(SCHEMA);
    on_one_thread(async {
        let holder = Connection::connect(&database.superuser(), true).await.unwrap();
        for sql in ["begin", "lock table pg_catalog.pg_foreign_table in access exclusive mode"] {
            holder.query(&sql.into()).await.unwrap();
        }
        let service = Service::start_unready(&database.uri(), &[("db-pool-acquisition-timeout", "1")]);
        let mut client = Client::connect(service.address).await;
        let reply = client.request("GET", "/things", &[], "").await.unwrap();
        assert_eq!((reply.status, reply.json()["code"].as_str()), (503, Some("PGRST002")));
        holder.query(&"commit".into()).await.unwrap();
    });
}

#[test]
fn without_recovery_a_lost_database_ends_the_server() {
    let database = database(SCHEMA);
    let service = Service::start(&database.uri(), &[("db-pool-automatic-recovery", "false")]);
    let terminate = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                     where datname = current_database() and usename = 'authenticator'";
    assert_ne!(database.psql(terminate), "0");
    let ended = service.join();
    assert!(matches!(ended, Err(ServerError::ConnectionLost(_))), "{ended:?}");
}

#[test]
fn a_reload_applies_changes_of_an_anonymous_login_role() {
    let database = database(SCHEMA);
    database.psql("create role self_anonymous login noinherit password 'secret'");
    let uri = database.uri().replace("authenticator", "self_anonymous");
    let service = Service::start(&uri, &[("db-anon-role", "self_anonymous")]);
    let shown = || service.get("/rpc/timeout").body;
    assert_eq!(shown(), "\"30s\"");
    for (change, timeout) in [
        ("set statement_timeout = '7s'", "\"7s\""),
        ("set statement_timeout = '9s'", "\"9s\""),
        ("reset all", "\"30s\""),
    ] {
        database.psql(&format!("alter role self_anonymous {change}"));
        service.instruct(Instruction::ReloadConfig);
        wait_until(change, || shown() == timeout);
    }
}

#[test]
fn the_admin_endpoint_may_be_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let database = database(SCHEMA);
    let options = [
        ("admin-server-port", ""),
        ("admin-server-unix-socket", path.to_str().unwrap()),
        ("admin-server-unix-socket-mode", "600"),
    ];
    let service = Service::start_unready(&database.uri(), &options);
    let ask = || {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(b"GET /ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    wait_until("the server is ready", || ask().starts_with("HTTP/1.1 200"));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    drop(service);
    assert!(!path.exists(), "the socket is not removed");
}
