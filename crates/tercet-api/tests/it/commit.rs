//! Commits: the transaction's characteristics, and synchronous standbys.

use std::sync::LazyLock;

use serde_json::json;

use crate::postgres::{Cluster, Database, database};
use crate::service::{Client, Reply, Service, bearer, on_one_thread, wait_until};

const SCHEMA: &str = r"
    create schema api;
    grant usage on schema api to public;
    create function api.level() returns text language sql stable as $$
        select current_setting('transaction_isolation') || ' ' || current_setting('transaction_read_only')
            || ' ' || current_setting('transaction_deferrable')
    $$;
    create function api.volatile_level() returns text language sql as 'select api.level()';
    create function api.serializable() returns text language sql
        set default_transaction_isolation = 'SERIALIZABLE' as 'select api.level()';
    create view api.shown as select api.level() as level;
    create table api.notes (id int primary key, note text);
    create table api.levels (id int primary key, level text default api.level());
    grant select, insert, update on all tables in schema api to public;
    create function api.add(id int) returns void language sql as $$ insert into api.notes values (id, 'new') $$;
    create function api.quietly(id int) returns void language plpgsql as $$
    begin
        set client_min_messages = error;
        insert into api.notes values (id, 'new');
    end
    $$;
    create function api.cry(id int) returns void language plpgsql as $$
    begin
        insert into api.notes values (id, 'new');
        raise warning 'canceling wait for synchronous replication due to user request'
            using detail = 'The transaction has already committed locally, but might not have been replicated to the standby.';
    end
    $$;
";

async fn ask(service: &Service, role: &str, method: &str, target: &str, prefer: &str, body: &str) -> Reply {
    let token = bearer(role, "1");
    let headers = [("authorization", &*token), ("prefer", prefer), ("content-type", "application/json")];
    Client::connect(service.address).await.request(method, target, &headers, body).await.unwrap()
}

/// Checks the isolation level of a role with these settings, for reads and all kinds of writes.
fn check_level(database: &Database, service: &Service, settings: &[&str], expected: &str) {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let role = format!("level_{}_{number}", database.name);
    database.psql(&format!("create role {role}; grant {role} to authenticator;"));
    for setting in settings {
        database.psql(&format!("alter role {role} {setting}"));
    }
    service.instruct(tercet_api::server::Instruction::ReloadConfig);
    let deferrable = if settings.iter().any(|it| it.contains("deferrable")) { "on" } else { "off" };
    let (level, read_only) = (format!("{expected} on {deferrable}"), format!("{expected} off {deferrable}"));
    wait_until(&format!("{settings:?} is {expected}"), || {
        on_one_thread(ask(service, &role, "GET", "/rpc/level", "", "")).body == format!("\"{level}\"")
    });
    on_one_thread(async {
        let shown = ask(service, &role, "GET", "/shown", "", "").await;
        assert_eq!(shown.json(), json!([{"level": level}]), "{settings:?}");
        let called = ask(service, &role, "POST", "/rpc/volatile_level", "", "").await;
        assert_eq!(called.json(), json!(read_only), "{settings:?}");
        for (prefer, id) in
            [("return=representation", 1), ("return=representation,handling=strict,max-affected=9", 2)]
        {
            let id = number * 10 + id;
            let body = json!({"id": id}).to_string();
            let written = ask(service, &role, "POST", "/levels?columns=id", prefer, &body).await;
            assert_eq!(written.json(), json!([{"id": id, "level": read_only}]), "{settings:?} {prefer}");
        }
    });
}

#[test]
fn a_transaction_has_the_characteristics_of_role_and_routine() {
    let database = database(SCHEMA);
    let service = Service::start(&database.uri(), &[]);
    let set = "set default_transaction_isolation";
    let check = |settings: &[&str], expected: &str| check_level(&database, &service, settings, expected);
    check(&[&format!("{set} = 'REPEATABLE READ'")], "repeatable read");
    check(&[&format!("{set} = 'Serializable'")], "serializable");
    check(&[&format!("{set} = 'read uncommitted'")], "read uncommitted");
    check(
        &[&format!("{set} to 'serializable'"), "set default_transaction_deferrable = 'yes'"],
        "serializable",
    );
    let here = format!("in database {} {set} = 'REPEATABLE READ'", database.name);
    check(&[&format!("{set} = 'serializable'"), &here], "repeatable read");
    on_one_thread(async {
        let called = ask(&service, "authenticated", "GET", "/rpc/serializable", "", "").await;
        assert_eq!(called.json(), json!("serializable on off"));
        let called = ask(&service, "authenticated", "POST", "/rpc/serializable", "", "").await;
        assert_eq!(called.json(), json!("serializable off off"));
    });
}

#[test]
fn the_role_overrides_the_databases_default() {
    let database = database(SCHEMA);
    database.psql(&format!(
        "alter database {} set default_transaction_isolation = 'repeatable read'",
        database.name
    ));
    let service = Service::start(&database.uri(), &[]);
    check_level(&database, &service, &[], "repeatable read");
    check_level(
        &database,
        &service,
        &["set default_transaction_isolation = 'READ COMMITTED'"],
        "read committed",
    );
}

#[test]
fn a_read_only_role_cannot_write() {
    let database = database(SCHEMA);
    let role = format!("reader_{}", database.name);
    database.psql(&format!(
        "create role {role}; grant {role} to authenticator; alter role {role} set default_transaction_read_only = 'TRUE';"
    ));
    let service = Service::start(&database.uri(), &[]);
    on_one_thread(async {
        for prefer in ["", "handling=strict,max-affected=9"] {
            let reply = ask(&service, &role, "POST", "/notes", prefer, r#"{"id": 1}"#).await;
            assert_eq!((reply.status, &reply.json()["code"]), (405, &json!("25006")), "{prefer}: {reply:?}");
        }
    });
}

/// The number of backends waiting for a standby.
fn waiting(database: &Database) -> usize {
    let count =
        "select count(*) from pg_stat_activity where wait_event = 'SyncRep' and datname = current_database()";
    database.psql(count).parse().unwrap()
}

fn end_waits(database: &Database, by: &str) {
    database.psql(&format!(
        "select {by}(pid) from pg_stat_activity where wait_event = 'SyncRep' and datname = current_database()"
    ));
}

/// A database whose synchronous standby is absent, and roles with warnings disabled.
fn without_its_standby(cluster: &'static Cluster) -> Database {
    let database = cluster.database(SCHEMA);
    database.psql(
        "create role deaf; grant deaf to authenticator; alter role deaf set client_min_messages = 'error';
         alter role authenticator set client_min_messages = 'error';",
    );
    cluster.psql("postgres", "alter system set synchronous_standby_names = 'absent'");
    cluster.psql("postgres", "select pg_reload_conf()");
    wait_until("commits wait", || database.psql("show synchronous_standby_names") == "absent");
    database
}

#[test]
fn a_commit_whose_standby_wait_is_cancelled_is_not_acknowledged() {
    static CLUSTER: LazyLock<Cluster> = LazyLock::new(Cluster::start);
    let database = without_its_standby(&CLUSTER);
    let service = Service::start(&database.uri(), &[]);
    let mut id = 0;
    for by in ["pg_cancel_backend", "pg_terminate_backend"] {
        for (method, target, prefer) in [
            ("POST", "/notes", ""),
            ("POST", "/notes", "return=representation"),
            ("POST", "/notes", "handling=strict,max-affected=9"),
            ("PUT", "/notes?id=eq.", ""),
            ("POST", "/rpc/add", ""),
            ("POST", "/rpc/cry", ""),
            ("POST", "/rpc/quietly", ""),
        ] {
            for role in ["authenticated", "deaf"] {
                id += 1;
                let target = if method == "PUT" { format!("{target}{id}") } else { target.to_owned() };
                let body = json!({"id": id}).to_string();
                let reply = on_one_thread(async {
                    let asked = ask(&service, role, method, &target, prefer, &body);
                    let broken_off = async {
                        while waiting(&database) == 0 {
                            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                        }
                        end_waits(&database, by);
                    };
                    tokio::join!(asked, broken_off).0
                });
                assert_eq!(
                    (reply.status, &reply.json()["code"]),
                    (504, &json!("TCT01")),
                    "{method} {target} {prefer} as {role}, {by}: {reply:?}"
                );
                let kept = database.psql(&format!("select count(*) from api.notes where id = {id}"));
                assert_eq!(kept, "1", "committed here");
            }
        }
    }
    // A statement timeout does not cancel the wait, and the text of a warning is not evidence.
    CLUSTER.psql("postgres", "alter system reset synchronous_standby_names");
    CLUSTER.psql("postgres", "select pg_reload_conf()");
    on_one_thread(async {
        let reply = ask(&service, "authenticated", "POST", "/rpc/cry", "", r#"{"id": 1000}"#).await;
        assert_eq!(reply.status, 204, "{reply:?}");
    });
}

#[test]
fn a_commit_is_not_cancelled_when_its_client_disconnects() {
    static CLUSTER: LazyLock<Cluster> = LazyLock::new(Cluster::start);
    let database = without_its_standby(&CLUSTER);
    let service = Service::start(&database.uri(), &[("db-pool", "1"), ("server-threads", "1")]);
    on_one_thread(async {
        let asked = ask(
            &service,
            "authenticated",
            "POST",
            "/notes",
            "handling=strict,max-affected=9",
            r#"{"id": 1}"#,
        );
        let waits = async {
            while waiting(&database) == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            reply = asked => panic!("{reply:?}"),
            () = waits => {}
        }
    });
    // The pool has a single connection: the next request gets it after the commit.
    on_one_thread(async {
        let next = ask(&service, "authenticated", "GET", "/notes", "", "");
        let seen = async {
            let mut admin = Client::connect(service.admin).await;
            while !admin
                .request("GET", "/metrics", &[], "")
                .await
                .unwrap()
                .body
                .contains("pgrst_db_pool_waiting 1")
            {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            assert_eq!(waiting(&database), 1, "the wait goes on");
            CLUSTER.psql("postgres", "alter system reset synchronous_standby_names");
            CLUSTER.psql("postgres", "select pg_reload_conf()");
        };
        let (reply, ()) = tokio::join!(next, seen);
        assert_eq!(reply.json(), json!([{"id": 1, "note": null}]));
    });
}
