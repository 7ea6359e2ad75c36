//! An unresponsive database that accepts everything sent to it; and a standby that does not accept LISTEN yet.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::postgres::{Cluster, database};
use crate::service::{Client, Service, bearer, on_one_thread, wait_until};

const SCHEMA: &str = "
    create schema api;
    grant usage on schema api to anon, authenticated;
    create table api.things (id int primary key);
    insert into api.things values (1);
    grant select, insert on api.things to anon, authenticated;
    create function api.ping() returns int language sql as 'select 1';
";

/// A proxy that accepts data on selected connections but forwards nothing.
struct Proxy {
    port: u16,
    /// Connections with a lower number are blackholed.
    swallowed: Arc<AtomicUsize>,
    accepted: Arc<AtomicUsize>,
}

impl Proxy {
    fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (swallowed, accepted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let proxy = Self { port, swallowed: Arc::clone(&swallowed), accepted: Arc::clone(&accepted) };
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                let number = accepted.fetch_add(1, Ordering::SeqCst);
                for (mut from, mut to) in [
                    (client.try_clone().unwrap(), server.try_clone().unwrap()),
                    (server.try_clone().unwrap(), client.try_clone().unwrap()),
                ] {
                    let swallowed = Arc::clone(&swallowed);
                    std::thread::spawn(move || {
                        let mut bytes = [0; 8192];
                        while let Ok(read @ 1..) = from.read(&mut bytes) {
                            let passes = number >= swallowed.load(Ordering::SeqCst);
                            if passes && to.write_all(&bytes[..read]).is_err() {
                                return;
                            }
                        }
                        if number >= swallowed.load(Ordering::SeqCst) {
                            let _ = to.shutdown(Shutdown::Both);
                        }
                    });
                }
            }
        });
        proxy
    }

    /// Blackholes all present and future connections.
    fn swallow_all(&self) {
        self.swallowed.store(usize::MAX, Ordering::SeqCst);
    }

    /// Blackholes the present connections.
    fn swallow_present(&self) {
        self.swallowed.store(self.accepted.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

/// Requests of all kinds, concurrently, each on a new connection; status and code of each response, and the longest
/// duration.
fn all_at_once(service: &Service) -> (Vec<(u16, String)>, Duration) {
    let began = Instant::now();
    let token = bearer("authenticated", "1");
    let asked = |method: &'static str, target: &'static str, body: &'static str| {
        let token = token.clone();
        let address = service.address;
        async move {
            let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
            let reply = Client::connect(address).await.request(method, target, &headers, body).await.unwrap();
            let code = if reply.status < 300 {
                String::new()
            } else {
                reply.json()["code"].as_str().unwrap().into()
            };
            (reply.status, code)
        }
    };
    let answers = on_one_thread(async {
        let answers = tokio::join!(
            asked("GET", "/things", ""),
            asked("GET", "/things?id=eq.1", ""),
            asked("POST", "/rpc/ping", "{}"),
            asked("PATCH", "/things?id=eq.1", r#"{"id": 1}"#),
            asked("GET", "/", ""),
        );
        vec![answers.0, answers.1, answers.2, answers.3, answers.4]
    });
    (answers, began.elapsed())
}

#[test]
fn an_unresponsive_database_is_detected() {
    let database = database(SCHEMA);
    let proxy = Proxy::start(database.port());
    let uri = format!(
        "postgresql://authenticator:secret@127.0.0.1:{}/{}?connect_timeout=2&sslmode=disable",
        proxy.port, database.name
    );
    let options = [("db-statement-timeout", "1"), ("db-pool-acquisition-timeout", "2"), ("db-pool", "6")];
    let service = Service::start(&uri, &options);
    for _ in 0..3 {
        assert_eq!(service.get("/things").status, 200);
    }
    proxy.swallow_all();
    let (answers, took) = all_at_once(&service);
    for (status, code) in answers {
        assert!(
            matches!((status, &*code), (503, "PGRST000" | "PGRST001") | (504, "PGRST003")),
            "{status} {code}"
        );
    }
    // 1 s for a statement and 5 s more, checked once a second; connecting and cancelling have their own timeouts.
    assert!(took < Duration::from_secs(14), "{took:?}");
    let began = Instant::now();
    assert_eq!(service.admin_get("/ready").status, 503);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    wait_until("the outage is known", || service.get("/things").json()["code"] == "PGRST000");
    let (answers, took) = all_at_once(&service);
    assert!(answers.iter().all(|(status, _)| *status == 503), "{answers:?}");
    assert!(took < Duration::from_secs(3), "requests do not wait during an outage: {took:?}");
    proxy.swallow_present();
    service.wait_until_ready();
    assert_eq!(service.get("/things").json(), json!([{"id": 1}]));
}

#[test]
fn unresponsive_connections_are_replaced() {
    let database = database(SCHEMA);
    let proxy = Proxy::start(database.port());
    let uri = format!(
        "postgresql://authenticator:secret@127.0.0.1:{}/{}?connect_timeout=2&sslmode=disable",
        proxy.port, database.name
    );
    let options = [("db-statement-timeout", "1"), ("db-pool", "1"), ("server-threads", "1")];
    let service = Service::start(&uri, &options);
    assert_eq!(service.get("/things").status, 200);
    assert_eq!(service.get("/later").status, 404);
    proxy.swallow_present();
    let began = Instant::now();
    // An earlier answer is valid for half a second.
    wait_until("readiness reflects a round trip", || service.admin_get("/ready").status == 503);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let reply = service.get("/things");
    assert!(matches!(reply.status, 503 | 504), "{reply:?}");
    assert_eq!(service.get("/things").json(), json!([{"id": 1}]), "the next one has a new connection");
    // The monitoring connection is replaced too.
    service.wait_until_ready();
    database.psql("create view api.later as select 1 as n; grant select on api.later to anon; notify pgrst");
    wait_until("the view is known", || service.get("/later").status == 200);
}

#[test]
fn listens_on_a_promoted_standby() {
    static PRIMARY: LazyLock<Cluster> = LazyLock::new(Cluster::start);
    let database = PRIMARY.database(SCHEMA);
    let standby = PRIMARY.standby();
    let log = tempfile::NamedTempFile::new().unwrap();
    let service = Service::start_logging(&standby.uri(&database.name), &[], log.path());
    assert_eq!(service.get("/things").json(), json!([{"id": 1}]));
    let view = |name: &str| {
        format!("create view api.{name} as select 1 as n; grant select on api.{name} to anon; notify pgrst")
    };
    standby.promote();
    standby.psql(&database.name, &view("first"));
    wait_until("changes before LISTEN are loaded", || service.get("/first").status == 200);
    standby.psql(&database.name, &view("second"));
    wait_until("notifications are received", || service.get("/second").status == 200);
    let log = std::fs::read_to_string(log.path()).unwrap();
    assert_eq!(log.matches("is a standby").count(), 1, "{log}");
}

#[test]
fn a_login_role_that_cannot_assume_anon_is_logged_at_start() {
    let database = database(SCHEMA);
    let role = format!("stranger_{}", database.name);
    database.psql(&format!("create role {role} login noinherit password 'secret'"));
    let uri = database.uri().replace("authenticator", &role);
    for (anon, says) in [
        (
            "anon",
            format!(
                "role \"{role}\" cannot assume role \"anon\" (db-anon-role): every request without a token fails; hint: grant anon to {role};"
            ),
        ),
        (
            "Absent role",
            format!(
                "role \"Absent role\" (db-anon-role) does not exist: every request without a token fails; hint: create role \"Absent role\" nologin; grant \"Absent role\" to {role};"
            ),
        ),
    ] {
        let log = tempfile::NamedTempFile::new().unwrap();
        let service = Service::start_logging(&uri, &[("db-anon-role", anon)], log.path());
        wait_until("it is logged", || std::fs::read_to_string(log.path()).unwrap().contains(&says));
        drop(service);
    }
    let log = tempfile::NamedTempFile::new().unwrap();
    let service = Service::start_logging(&database.uri(), &[], log.path());
    drop(service);
    assert!(!std::fs::read_to_string(log.path()).unwrap().contains("db-anon-role"));
}

/// PostgreSQL reads nothing while a statement runs: data sent meanwhile fills the buffers and stays unacknowledged.
#[test]
fn a_long_message_behind_a_slow_statement_is_no_timeout() {
    let database = database(
        "create schema api;
        grant usage on schema api to anon;
        create table api.things (body text);
        grant select, insert on api.things to anon;
        create function api.slowly() returns void language plpgsql as $$ begin perform pg_sleep(5); end $$;",
    );
    let service = Service::start(&database.uri(), &[("db-pool", "1"), ("db-pre-request", "api.slowly")]);
    // Longer than all buffers on the path.
    let body = json!({"body": "x".repeat(40 << 20)}).to_string();
    let headers = [("content-type", "application/json")];
    let reply = on_one_thread(async {
        let mut client = Client::connect(service.address).await;
        client.request("POST", "/things", &headers, &body).await.unwrap()
    });
    assert_eq!(reply.status, 201, "{reply:?}");
    assert_eq!(database.psql("select length(body) from api.things"), (40 << 20).to_string());
}
