//! Recovery: PostgreSQL stops and restarts; clients disconnect; the schema changes under load; the server stops.

use std::sync::LazyLock;

use serde_json::json;
use tercet_api::server::Instruction;

use crate::postgres::{Cluster, Database, SHARED, database};
use crate::service::{Client, Service, bearer, on_one_thread, wait_until};

const SCHEMA: &str = r"
    create schema api;
    grant usage on schema api to anon, authenticated;
    create table api.things (id int primary key, name text);
    insert into api.things select n, 'thing ' || n from generate_series(1, 100) as n;
    grant select on api.things to anon;
    create view api.sleep as select pg_sleep(600)::text as slept;
    grant select on api.sleep to anon;
    create function api.lock() returns void language sql as 'select pg_sleep(600)';
    create view api.backend as select pg_backend_pid() as pid;
    grant select on api.backend to anon;
";

fn sleeping(database: &Database) -> usize {
    let count =
        "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()";
    database.psql(count).parse().unwrap()
}

#[test]
fn an_outage_is_503_until_postgresql_is_back() {
    static CLUSTER: LazyLock<Cluster> = LazyLock::new(Cluster::start);
    let database = CLUSTER.database(SCHEMA);
    let service = Service::start(&database.uri(), &[]);
    assert_eq!(service.get("/things?id=eq.1").status, 200);
    for kill in [|| CLUSTER.stop("immediate"), || CLUSTER.kill(), || CLUSTER.stop("fast")] {
        kill();
        wait_until("the outage is noticed", || service.admin_get("/ready").status == 503);
        let reply = service.get("/things?id=eq.1");
        assert_eq!(reply.status, 503, "{reply:?}");
        assert!(reply.json()["code"].as_str().unwrap().starts_with("PGRST00"), "{reply:?}");
        let retry: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=33).contains(&retry), "{retry}");
        assert_eq!(service.admin_get("/live").status, 200);
        CLUSTER.restart();
        service.wait_until_ready();
        let reply = service.get("/things?id=eq.1");
        assert_eq!(reply.json(), json!([{"id": 1, "name": "thing 1"}]));
    }
}

#[test]
fn a_server_may_start_before_its_database() {
    static CLUSTER: LazyLock<Cluster> = LazyLock::new(Cluster::start);
    let database = CLUSTER.database(SCHEMA);
    CLUSTER.stop("fast");
    let service = Service::start_unready(&database.uri(), &[]);
    wait_until("the outage is noticed", || service.get("/things").status == 503);
    assert_eq!(service.admin_get("/ready").status, 503);
    CLUSTER.restart();
    service.wait_until_ready();
    assert_eq!(service.get("/things?id=eq.1").status, 200);
}

#[test]
fn reads_survive_killed_backends() {
    let database = database(SCHEMA);
    let service = Service::start(&database.uri(), &[("db-pool", "2")]);
    for _ in 0..20 {
        let pid = service.get("/backend").json()[0]["pid"].to_string();
        database.psql(&format!("select pg_terminate_backend({pid})"));
        assert_eq!(service.get("/things?id=eq.1").status, 200);
    }
}

#[test]
fn a_wrong_password_ends_the_server_at_once() {
    let database = database(SCHEMA);
    let uri = database.uri().replace("secret", "wrong");
    let error = Service::start_unready(&uri, &[]).join().unwrap_err();
    assert!(error.to_string().contains("28P01"), "{error}");
}

#[test]
fn a_disconnected_client_cancels_its_query() {
    let database = database(SCHEMA);
    let service = Service::start(&database.uri(), &[("db-pool", "1")]);
    for (method, target) in [("GET", "/sleep"), ("POST", "/rpc/lock"), ("GET", "/sleep")] {
        on_one_thread(async {
            let mut client = Client::connect(service.address).await;
            let token = bearer("authenticated", "1");
            let headers = if method == "POST" { vec![("authorization", token.as_str())] } else { vec![] };
            let asked = client.request(method, target, &headers, "");
            let seen = tokio::task::spawn_blocking({
                let uri = database.name.clone();
                move || {
                    let count = format!(
                        "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and datname = '{uri}'"
                    );
                    wait_until("the query runs", || SHARED.psql("postgres", &count) == "1");
                }
            });
            tokio::select! {
                reply = asked => panic!("{reply:?}"),
                seen = seen => seen.unwrap(),
            }
        });
        wait_until("the query is cancelled", || sleeping(&database) == 0);
        assert_eq!(service.get("/things?id=eq.1").status, 200, "the connection is as good as new");
    }
}

#[test]
fn a_lease_timeout_is_reported() {
    let database = database(SCHEMA);
    let options = [("db-pool", "1"), ("db-pool-acquisition-timeout", "1")];
    let service = Service::start(&database.uri(), &options);
    let reply = on_one_thread(async {
        let (mut slow, mut quick) =
            (Client::connect(service.address).await, Client::connect(service.address).await);
        // On a busy machine connecting may take longer than a lease times out.
        let holds = async {
            loop {
                let reply = slow.request("GET", "/sleep", &[], "").await.unwrap();
                assert_eq!((reply.status, &reply.json()["code"]), (504, &json!("PGRST003")), "{reply:?}");
            }
        };
        let waits = async {
            while sleeping(&database) == 0 {
                tokio::task::yield_now().await;
            }
            quick.request("GET", "/things?id=eq.1", &[], "").await.unwrap()
        };
        tokio::select! {
            () = holds => unreachable!("it never ends"),
            reply = waits => reply,
        }
    });
    assert_eq!((reply.status, &reply.json()["code"]), (504, &json!("PGRST003")), "{reply:?}");
    let metrics = service.admin_get("/metrics").body;
    let counted = metrics.lines().find_map(|line| line.strip_prefix("pgrst_db_pool_timeouts_total "));
    assert!(counted.unwrap().parse::<f64>().unwrap() >= 1.0, "{metrics}");
}

#[test]
fn a_statement_timeout_ends_the_statement() {
    let database = database(SCHEMA);
    let service = Service::start(&database.uri(), &[("db-statement-timeout", "1")]);
    let reply = service.get("/sleep");
    assert_eq!((reply.status, &reply.json()["code"]), (500, &json!("57014")), "{reply:?}");
}

#[test]
fn settings_of_the_login_role_are_kept() {
    let database = database(SCHEMA);
    let role = format!("patient_{}", database.name);
    database.psql(&format!(
        "create role {role} login noinherit password 'secret';
         grant anon to {role};
         alter role {role} set statement_timeout = '50ms';"
    ));
    let service = Service::start(&database.uri().replace("authenticator", &role), &[]);
    assert_eq!(service.get("/sleep").json()["code"], "57014");
}

#[test]
fn a_function_may_deallocate_all_statements() {
    let database = database(&format!(
        "{SCHEMA} create function api.forget() returns void language plpgsql as
         $$ begin execute 'deallocate all'; end $$;"
    ));
    let service = Service::start(&database.uri(), &[("db-pool", "1")]);
    for _ in 0..3 {
        for _ in 0..3 {
            assert_eq!(service.get("/things?id=eq.1").status, 200);
        }
        on_one_thread(async {
            let mut client = Client::connect(service.address).await;
            client.request("POST", "/rpc/forget", &[], "").await.unwrap();
        });
    }
}

/// An error raised by a function is not evidence: it can have any code and message.
#[test]
fn a_failed_function_is_never_retried() {
    let raise = |code: &str, message: &str| format!("raise exception '{message}' using errcode = '{code}'");
    let ends = [
        raise("26000", "prepared statement \"s1\" does not exist"),
        raise("0A000", "cached plan must not change result type"),
        raise("XX000", "cache lookup failed for type 12345"),
        raise("42704", "type with OID 12345 does not exist"),
        raise("42804", "wrong type"),
        raise("42P01", "relation \"api.things\" does not exist"),
        raise("42P05", "prepared statement \"s1\" already exists"),
        "execute 'execute s123456'".to_owned(),
        "execute 'deallocate s123456'".to_owned(),
    ];
    let database = database(&format!(
        "{SCHEMA} create sequence api.runs; grant usage on sequence api.runs to anon;
         create table api.noted (id int); grant insert on api.noted to anon;"
    ));
    for (number, end) in ends.iter().enumerate() {
        database.psql(&format!(
            "create function api.fail_{number}() returns int language plpgsql as
             $$ begin perform nextval('api.runs'); {end}; return 1; end $$;
             create function api.note_{number}() returns trigger language plpgsql as
             $$ begin perform nextval('api.runs'); {end}; return new; end $$;"
        ));
    }
    let service = Service::start(&database.uri(), &[("db-pool", "1"), ("server-threads", "1")]);
    let runs = || database.psql("select last_value from api.runs").parse::<u64>().unwrap();
    on_one_thread(async {
        let mut client = Client::connect(service.address).await;
        database.psql("select nextval('api.runs')");
        for (number, end) in ends.iter().enumerate() {
            database.psql(&format!(
                "create or replace trigger note before insert on api.noted for each row execute function api.note_{number}()"
            ));
            // New, prepared, and executed as prepared.
            for _ in 0..4 {
                for (target, body) in
                    [(format!("/rpc/fail_{number}"), ""), ("/noted".to_owned(), r#"{"id": 1}"#)]
                {
                    let before = runs();
                    let headers = [("content-type", "application/json")];
                    let reply = client.request("POST", &target, &headers, body).await.unwrap();
                    assert!(reply.status >= 400, "{end}: {reply:?}");
                    assert_eq!(runs() - before, 1, "{end}: {target}: {reply:?}");
                }
            }
        }
    });
}

#[test]
fn a_schema_change_fails_no_request() {
    let database = database(SCHEMA);
    let service = Service::start(&database.uri(), &[]);
    assert_eq!(service.get("/later").status, 404);
    on_one_thread(async {
        let mut client = Client::connect(service.address).await;
        for column in 0..5 {
            database.psql(&format!(
                "alter table api.things add column extra_{column} int default {column};
                 create or replace view api.later as select {column} as n;
                 grant select on api.later to anon;
                 notify pgrst, 'reload schema';"
            ));
            let wanted = format!("/things?id=eq.1&select=extra_{column}");
            loop {
                let reply = client.request("GET", "/things?id=eq.1&select=id", &[], "").await.unwrap();
                assert_eq!(reply.json(), json!([{"id": 1}]), "the old columns are still served");
                let reply = client.request("GET", &wanted, &[], "").await.unwrap();
                if reply.status == 200 {
                    break;
                }
                assert_eq!(reply.json()["code"], "42703", "{reply:?}");
            }
        }
    });
    wait_until("the view is known", || service.get("/later").status == 200);
}

#[test]
fn ddl_reloads_the_schema_by_an_event_trigger() {
    let database = database(&format!(
        "{SCHEMA}
        create function public.tell_the_api() returns event_trigger language plpgsql as $$
        begin
            notify pgrst, 'reload schema';
        end
        $$;
        create event trigger tell_the_api on ddl_command_end execute function public.tell_the_api();"
    ));
    let service = Service::start(&database.uri(), &[]);
    database.psql("create view api.later as select 1 as n; grant select on api.later to anon;");
    wait_until("the view is known", || service.get("/later").status == 200);
}

#[test]
fn the_database_configures_its_servers() {
    let database = database(SCHEMA);
    let role = format!("configured_{}", database.name);
    database.psql(&format!(
        "create role {role} login noinherit password 'secret';
         grant anon to {role};
         alter role {role} in database {} set pgrst.db_max_rows = '3';",
        database.name
    ));
    let uri = database.uri().replace("authenticator", &role);
    let service = Service::start(&uri, &[("db-max-rows", "50")]);
    let rows = || service.get("/things").json().as_array().unwrap().len();
    assert_eq!(rows(), 3);
    database.psql(&format!("alter role {role} in database {} set pgrst.db_max_rows = '2'", database.name));
    database.psql("notify pgrst, 'reload config'");
    wait_until("the option is in force", || rows() == 2);
    database.psql(&format!("alter role {role} in database {} set pgrst.db_max_rows = 'many'", database.name));
    service.instruct(Instruction::ReloadConfig);
    database.psql("create view api.later as select 1 as n; grant select on api.later to anon;");
    service.instruct(Instruction::ReloadSchema);
    wait_until("the reload is over", || service.get("/later").status == 200);
    assert_eq!(rows(), 2, "an invalid configuration is ignored");
}

#[test]
fn a_stopping_server_finishes_requests_in_flight() {
    let database = database(&format!(
        "{SCHEMA} create view api.while_locked as select pg_advisory_lock(1)::text, pg_advisory_unlock(1) as done;
         grant select on api.while_locked to anon;"
    ));
    let service = Service::start(&database.uri(), &[]);
    on_one_thread(async {
        let holder = tercet_postgres::Connection::connect(&database.superuser(), true).await.unwrap();
        holder.query(&"select pg_advisory_lock(1)".into()).await.unwrap();
        let mut client = Client::connect(service.address).await;
        let begun = async {
            let blocked = "select 1 from pg_locks where locktype = 'advisory' and not granted";
            while holder.query(&blocked.into()).await.unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
            service.instruct(Instruction::Stop("the test wants it"));
            while tokio::net::TcpStream::connect(service.address).await.is_ok() {
                tokio::task::yield_now().await;
            }
            holder.query(&"select pg_advisory_unlock(1)".into()).await.unwrap();
        };
        let (reply, ()) = tokio::join!(client.request("GET", "/while_locked?select=done", &[], ""), begun);
        assert_eq!(reply.unwrap().json(), json!([{"done": true}]));
    });
    service.join().unwrap();
}
