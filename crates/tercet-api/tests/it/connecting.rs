//! Errors while connecting to PostgreSQL, or to another server at its address, are never the client's error.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::LazyLock;

use serde_json::json;

use crate::postgres::{Cluster, database};
use crate::service::{Client, Reply, Service, bearer, on_one_thread, wait_until};

const SCHEMA: &str = "
    create schema api;
    grant usage on schema api to anon, authenticated;
    create table api.things (id int primary key);
    insert into api.things values (1);
    grant select, insert on api.things to anon, authenticated;
    create function api.ping() returns int language sql as 'select 1';
    create function api.leave() returns text language sql security definer as 'select pg_terminate_backend(pg_backend_pid())::text';
";

/// Asserts a 503 response with `Retry-After`.
#[track_caller]
fn assert_unavailable(reply: &Reply, when: &str) {
    assert_eq!(reply.status, 503, "{when}: {reply:?}");
    let code = reply.json()["code"].as_str().unwrap().to_owned();
    assert!(["PGRST000", "PGRST001", "PGRST002"].contains(&code.as_str()), "{when}: {reply:?}");
    let retry: u64 =
        reply.header("retry-after").unwrap_or_else(|| panic!("{when}: {reply:?}")).parse().unwrap();
    assert!((1..=33).contains(&retry), "{when}: {reply:?}");
    assert_eq!(reply.header("www-authenticate"), None, "{when}");
}

/// One request of each kind, each on a new connection.
fn all_kinds(service: &Service) -> Vec<Reply> {
    let token = bearer("authenticated", "1");
    let json = ("content-type", "application/json");
    on_one_thread(async {
        let mut client = Client::connect(service.address).await;
        let mut replies = Vec::new();
        for (method, target, headers, body) in [
            ("GET", "/things", vec![], ""),
            ("GET", "/things", vec![("authorization", token.as_str())], ""),
            ("POST", "/things", vec![json], r#"{"id": 2}"#),
            ("POST", "/rpc/ping", vec![("authorization", token.as_str())], ""),
            ("GET", "/", vec![], ""),
        ] {
            replies.push(client.request(method, target, &headers, body).await.unwrap());
        }
        replies
    })
}

#[test]
fn a_rejected_login_is_503_until_it_is_accepted_again() {
    static CLUSTER: LazyLock<Cluster> = LazyLock::new(Cluster::start);
    let database = CLUSTER.database(SCHEMA);
    let name = &database.name;
    let service = Service::start(&database.uri(), &[("db-pool", "2")]);
    let terminate =
        "select pg_terminate_backend(pid) from pg_stat_activity where usename in ('authenticator', 'gone')";
    for (change, undo) in [
        ("alter role authenticator nologin".to_owned(), "alter role authenticator login".to_owned()),
        (
            format!("revoke connect on database {name} from public"),
            format!("grant connect on database {name} to public"),
        ),
        (
            format!("alter database {name} allow_connections false"),
            format!("alter database {name} allow_connections true"),
        ),
        (
            "alter role authenticator password 'another'".to_owned(),
            "alter role authenticator password 'secret'".to_owned(),
        ),
        (
            "alter role authenticator rename to gone".to_owned(),
            "alter role gone rename to authenticator".to_owned(),
        ),
        (
            "alter role authenticator connection limit 0".to_owned(),
            "alter role authenticator connection limit -1".to_owned(),
        ),
        (
            format!("alter database {name} connection limit 0"),
            format!("alter database {name} connection limit -1"),
        ),
        (
            "alter role authenticator valid until '2000-01-01'".to_owned(),
            "alter role authenticator valid until 'infinity'".to_owned(),
        ),
    ] {
        service.wait_until_ready();
        CLUSTER.psql("postgres", &change);
        CLUSTER.psql("postgres", terminate);
        // Before and after the outage is detected.
        for _ in 0..3 {
            for reply in all_kinds(&service) {
                assert_unavailable(&reply, &change);
            }
        }
        CLUSTER.psql("postgres", &undo);
        wait_until("requests are served again", || service.get("/things").status == 200);
    }
}

#[test]
fn a_login_role_that_is_dropped_while_connected_is_503() {
    static CLUSTER: LazyLock<Cluster> = LazyLock::new(Cluster::start);
    let database = CLUSTER.database(SCHEMA);
    let create =
        "create role leaving login noinherit password 'secret'; grant anon, authenticated to leaving;";
    CLUSTER.psql("postgres", create);
    let service = Service::start(
        &database.uri().replace("authenticator", "leaving"),
        &[("db-pool", "2"), ("server-threads", "1")],
    );
    wait_until("connections are open", || all_kinds(&service).iter().all(|reply| reply.status < 500));
    CLUSTER.psql("postgres", "drop role leaving");
    for _ in 0..3 {
        for reply in all_kinds(&service) {
            assert_unavailable(&reply, "dropped");
        }
    }
    CLUSTER.psql("postgres", create);
    wait_until("requests are served again", || service.get("/things").status == 200);
    // The token's errors stay 4xx.
    CLUSTER.psql("postgres", "revoke authenticated from leaving");
    let token = bearer("authenticated", "1");
    let reply = on_one_thread(async {
        let mut client = Client::connect(service.address).await;
        client.request("GET", "/things", &[("authorization", &token)], "").await.unwrap()
    });
    assert_eq!((reply.status, &reply.json()["code"]), (403, &json!("42501")), "{reply:?}");
}

/// A server at PostgreSQL's address that answers the first bytes of each connection with `answer`; if that is empty,
/// never.
fn impostor(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut silent: Vec<TcpStream> = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            if answer.is_empty() {
                silent.push(stream);
                continue;
            }
            let mut first = [0; 1024];
            let _ = stream.read(&mut first).and_then(|_| stream.write_all(answer));
        }
    });
    port
}

#[test]
fn another_server_at_postgresqls_address_is_no_client_error() {
    let database = database(SCHEMA);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let uri = |host: &str, port: u16, options: &str| {
        format!("postgresql://authenticator:secret@{host}:{port}/test?connect_timeout=1&{options}")
    };
    let plain = |answer| uri("127.0.0.1", impostor(answer), "sslmode=disable");
    for (case, uri) in [
        ("connection refused", uri("127.0.0.1", closed, "")),
        ("a host name that does not resolve", uri("database.invalid", 5432, "")),
        ("no answer", plain(b"")),
        ("no answer to the TLS request", uri("127.0.0.1", impostor(b""), "")),
        ("HTTP", plain(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")),
        ("a greeting", plain(b"220 mail.example ESMTP\r\n")),
        ("TLS is refused", uri("127.0.0.1", impostor(b"N"), "sslmode=require")),
        (
            "an invalid TLS record",
            uri("127.0.0.1", impostor(b"Snonsense that is long enough to be a record"), ""),
        ),
        ("starting up", plain(b"E\0\0\0\x1eSFATAL\0VFATAL\0C57P03\0Mno\0\0")),
        ("insufficient privilege", plain(b"E\0\0\0\x1eSFATAL\0VFATAL\0C42501\0Mno\0\0")),
        ("an internal error", plain(b"E\0\0\0\x1eSFATAL\0VFATAL\0CXX000\0Mno\0\0")),
        (
            "an unknown protocol version",
            uri("127.0.0.1", impostor(b"E\0\0\0\x1eSFATAL\0VFATAL\0C0A000\0Mno\0\0"), "sslmode=disable"),
        ),
        ("other session attributes", database.uri() + "?target_session_attrs=standby"),
    ] {
        let service = Service::start_unready(&uri, &[]);
        wait_until(case, || service.get("/things").json()["code"] == "PGRST000");
        for reply in all_kinds(&service) {
            assert_unavailable(&reply, case);
        }
        assert_eq!(service.admin_get("/ready").status, 503, "{case}");
    }
}

#[test]
fn a_closed_connection_is_no_client_error() {
    let database = database(SCHEMA);
    let role = format!("idle_{}", database.name);
    database.psql(&format!(
        "create role {role} login noinherit password 'secret';
         grant anon to {role};
         alter role {role} set idle_session_timeout = '500ms';"
    ));
    let service = Service::start(&database.uri().replace("authenticator", &role), &[("db-pool", "1")]);
    let connections = format!(
        "select count(*) from pg_stat_activity where usename = '{role}' and query not like 'listen%'"
    );
    for _ in 0..3 {
        let reply = service.get("/things");
        assert_eq!(reply.json(), json!([{"id": 1}]), "{reply:?}");
        wait_until("the session has timed out", || database.psql(&connections) == "0");
    }
    let leave = on_one_thread(async {
        Client::connect(service.address).await.request("POST", "/rpc/leave", &[], "").await.unwrap()
    });
    assert_unavailable(&leave, "a session that was terminated under a call");
}
