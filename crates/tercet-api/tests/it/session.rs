//! Session isolation: what a request can leave in its session (the list of `DISCARD ALL`,
//! <https://www.postgresql.org/docs/current/sql-discard.html>, and attacks of hostile functions on the reset), and
//! that the next request on the connection sees none of it; in every way a request can execute user-defined code.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::postgres::{Database, database};
use crate::service::{Choices, Client, Reply, Service, on_one_thread, wait_until};

/// Session state to leave behind, by the value of the header `x-leave`.
const STATES: [&str; 17] = [
    "setting",
    "unit",
    "format",
    "characteristics",
    "role",
    "authorization",
    "temporary",
    "lock",
    "sequence",
    "cursor",
    "listen",
    "prepare",
    "deallocate",
    "replace",
    "path",
    "timeout",
    "read only",
];

/// The ways to execute user-defined code: method, target, body.
const WAYS: [(&str, &str, &str); 16] = [
    ("GET", "/rpc/leave", ""),
    ("HEAD", "/rpc/leave", ""),
    ("POST", "/rpc/leave", ""),
    ("POST", "/rpc/leave_and_fail", ""),
    ("GET", "/rpc/leave_and_fail", ""),
    ("POST", "/triggered", r#"{"n": 1}"#),
    ("POST", "/deferred", r#"{"n": 1}"#),
    ("POST", "/defaulted?columns=n", r#"{"n": 1}"#),
    ("GET", "/guarded", ""),
    ("PATCH", "/guarded?n=eq.1", r#"{"n": 1}"#),
    ("GET", "/plain?select=n,computed", ""),
    ("GET", "/plain?computed=is.true", ""),
    ("GET", "/plain?select=n,relatives(n)", ""),
    ("GET", "/shown", ""),
    ("GET", "/shown_again?n=eq.1", ""),
    ("GET", "/checked?select=n::suspicious", ""),
];

const SCHEMA: &str = r#"
    create schema api;
    create schema evil;
    grant usage on schema api, evil to public;
    create sequence api.numbers;
    grant usage on sequence api.numbers to public;

    create function evil.pg_advisory_unlock_all() returns void language sql as 'select';
    create function evil.set_config(text, text, boolean) returns text language sql as $$ select null::text $$;

    create function api.leave() returns boolean language plpgsql as $$
    begin
        case current_setting('request.headers')::json ->> 'x-leave'
        when 'setting' then perform set_config('app.secret', 'secret', false);
        when 'unit' then execute 'set work_mem = ''7MB''';
        when 'format' then execute 'set datestyle = ''German''; set extra_float_digits = -10; set bytea_output = ''escape''';
        when 'characteristics' then execute 'set session characteristics as transaction isolation level serializable';
        when 'read only' then execute 'set session characteristics as transaction read only';
        when 'role' then perform set_config('role', 'authenticated', false);
        when 'authorization' then execute 'set session authorization authenticator';
        when 'temporary' then execute 'create temporary table leaked as select ''secret'' as secret';
        when 'lock' then perform pg_advisory_lock(42), pg_advisory_lock_shared(43);
        when 'sequence' then perform nextval('api.numbers');
        when 'cursor' then execute 'declare leaked cursor with hold for select ''secret''';
        when 'listen' then execute 'listen leaked';
        when 'prepare' then execute 'prepare leaked as select ''secret''';
        when 'deallocate' then execute 'deallocate all';
        when 'replace' then
            perform pg_advisory_lock(42);
            execute 'deallocate all';
            for number in 0..80 loop
                execute format('prepare s%s as select ''evil''', number);
            end loop;
        when 'path' then
            perform pg_advisory_lock(42);
            perform set_config('search_path', 'evil, pg_catalog', false);
        when 'timeout' then
            perform pg_advisory_lock(42);
            perform set_config('statement_timeout', '1', false);
            perform set_config('lock_timeout', '1', false);
        else
        end case;
        return true;
    end
    $$;

    create function api.residue() returns jsonb language plpgsql as $$
    declare
        last text;
    begin
        begin
            last := lastval()::text;
        exception when object_not_in_prerequisite_state then
            last := 'none';
        end;
        return jsonb_build_object(
            'role', current_user,
            'session', session_user,
            'secret', nullif(current_setting('app.secret', true), ''),
            'settings', (
                select jsonb_object_agg(name, setting)
                from pg_catalog.pg_settings
                where source = 'session'
                  and name <> all(array['role', 'search_path', 'transaction_read_only', 'client_min_messages', 'client_encoding'])
            ),
            'isolation', current_setting('transaction_isolation'),
            'locks', (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()),
            'cursors', (select count(*) from pg_cursors where is_holdable),
            'channels', (select count(*) from pg_listening_channels()),
            'temporary', (select count(*) from pg_class where relnamespace = pg_my_temp_schema()),
            'prepared', (select count(*) from pg_prepared_statements where from_sql),
            'last', last
        );
    end
    $$;

    create function api.leave_and_fail() returns void language plpgsql as $$
    begin
        perform api.leave();
        raise exception 'as asked';
    end
    $$;
    create function api.leave_and_sleep() returns void language plpgsql as $$
    begin
        perform api.leave();
        perform pg_sleep(600);
    end
    $$;
    create function api.before() returns void language plpgsql as $$
    begin
        if current_setting('request.headers')::json ->> 'x-before' is not null then
            perform api.leave();
        end if;
    end
    $$;

    create table api.plain (n int primary key, at timestamptz, ratio float, bytes bytea);
    insert into api.plain values (1, '2026-11-29 12:00:00Z', 0.1, '\xff');
    create function api.computed(api.plain) returns boolean language sql as 'select api.leave()';
    create function api.relatives(api.plain) returns setof api.plain language sql rows 1000
        as 'select $1 where api.leave()';
    create view api.shown as select n, api.leave() from api.plain;
    create view api.shown_again as select * from api.shown;
    create view api.seen as select api.residue() as residue;

    create table api.triggered (n int);
    create function api.on_write() returns trigger language plpgsql as $$
    begin
        perform api.leave();
        return new;
    end
    $$;
    create trigger leave after insert on api.triggered for each row execute function api.on_write();
    create table api.deferred (n int);
    create constraint trigger leave after insert on api.deferred deferrable initially deferred
        for each row execute function api.on_write();
    create table api.defaulted (n int, left_behind boolean default api.leave());
    create table api.guarded (n int);
    insert into api.guarded values (1);
    alter table api.guarded enable row level security;
    create policy leave on api.guarded using (api.leave());
    create domain api.suspicious as int check (api.leave());
    create table api.checked (n int);
    insert into api.checked values (1);
    grant select, insert, update on all tables in schema api to public;
"#;

/// An unchanged session, and rows in its formats.
fn clean() -> (Value, Value) {
    let residue = json!({
        "role": "anon", "session": "authenticator", "secret": null, "settings": {"statement_timeout": "30000"},
        "isolation": "read committed", "locks": 0, "cursors": 0, "channels": 0, "temporary": 0, "prepared": 0,
        "last": "none",
    });
    let rows = json!([{"n": 1, "at": "2026-11-29T12:00:00+00:00", "ratio": 0.1, "bytes": "\\xff"}]);
    (residue, rows)
}

fn start(database: &Database, pool: &str, threads: &str) -> Service {
    Service::start(&database.uri(), &[("db-pool", pool), ("server-threads", threads)])
}

/// Reads in one of the ways that would reveal changed session state.
async fn look(client: &mut Client, way: u64) -> (Reply, bool) {
    let (residue, rows) = clean();
    let (method, target, expected) = match way {
        0 => ("GET", "/rpc/residue", residue),
        1 => ("POST", "/rpc/residue", residue),
        2 => ("GET", "/seen", json!([{"residue": residue}])),
        _ => ("GET", "/plain", rows),
    };
    let reply = client.request(method, target, &[], "").await.unwrap();
    let is_clean = reply.status == 200 && reply.json() == expected;
    (reply, is_clean)
}

#[test]
fn the_next_request_sees_an_unchanged_session() {
    let database = database(SCHEMA);
    let service = start(&database, "1", "1");
    on_one_thread(async {
        let mut client = Client::connect(service.address).await;
        // Every statement is prepared before it matters.
        for _ in 0..3 {
            for way in 0..4 {
                let (reply, is_clean) = look(&mut client, way).await;
                assert!(is_clean, "before anything: {reply:?}");
            }
        }
        for state in STATES {
            for (method, target, body) in WAYS {
                let headers = [("x-leave", state), ("content-type", "application/json")];
                let left = client.request(method, target, &headers, body).await.unwrap();
                // A function that removes state its own request still needs, or time, gets the response it caused.
                let is_its_own = matches!(state, "replace" | "timeout");
                assert!(left.status < 500 || is_its_own, "{state} by {method} {target}: {left:?}");
                for way in [0, 3] {
                    let (reply, is_clean) = look(&mut client, way).await;
                    assert!(is_clean, "{state} left by {method} {target} ({}): {reply:?}", left.status);
                }
            }
        }
    });
}

#[test]
fn a_cancelled_request_leaves_an_unchanged_session() {
    let database = database(SCHEMA);
    let service = start(&database, "1", "1");
    let asleep = || {
        database.psql("select count(*) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()")
    };
    on_one_thread(async {
        for state in STATES {
            for method in ["GET", "POST"] {
                let mut leaving = Client::connect(service.address).await;
                let headers = [("x-leave", state)];
                let asked = leaving.request(method, "/rpc/leave_and_sleep", &headers, "");
                let sleeps = async {
                    // Read-only transactions reject some of them before they sleep.
                    while asleep() != "1" {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                tokio::select! {
                    reply = asked => assert!(reply.unwrap().status >= 400),
                    () = sleeps => {}
                }
                drop(leaving);
                let mut client = Client::connect(service.address).await;
                for way in 0..4 {
                    let (reply, is_clean) = look(&mut client, way).await;
                    assert!(is_clean, "{state} left by {method}, cancelled: {reply:?}");
                }
            }
        }
    });
}

#[test]
fn a_pre_request_function_leaves_an_unchanged_session() {
    let database = database(SCHEMA);
    let options = [("db-pool", "1"), ("server-threads", "1"), ("db-pre-request", "api.before")];
    let service = Service::start(&database.uri(), &options);
    on_one_thread(async {
        let mut client = Client::connect(service.address).await;
        for state in STATES {
            for (method, body) in [("GET", ""), ("POST", r#"{"n": 2}"#)] {
                let headers = [("x-leave", state), ("x-before", "yes"), ("content-type", "application/json")];
                client.request(method, "/checked", &headers, body).await.unwrap();
                for way in 0..4 {
                    let (reply, is_clean) = look(&mut client, way).await;
                    assert!(is_clean, "{state} left before {method}: {reply:?}");
                }
            }
        }
    });
}

const CLIENTS: u64 = 16;
const REQUESTS: u64 = 150;

/// Random interleavings on few connections: none of thousands of requests sees changed session state.
#[test]
fn thousands_of_concurrent_readers_see_an_unchanged_session() {
    let database = database(SCHEMA);
    let service = Rc::new(start(&database, "3", "2"));
    on_one_thread(async {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let service = Rc::clone(&service);
                tokio::task::spawn_local(async move {
                    let mut choices = Choices(number + 77);
                    let mut client = Client::connect(service.address).await;
                    for _ in 0..REQUESTS {
                        if choices.next(3) == 0 {
                            let state = STATES[choices.below(STATES.len())];
                            let (method, target, body) = WAYS[choices.below(WAYS.len())];
                            let headers = [("x-leave", state), ("content-type", "application/json")];
                            client.request(method, target, &headers, body).await.unwrap();
                        } else {
                            let (reply, is_clean) = look(&mut client, choices.next(4)).await;
                            assert!(is_clean, "{reply:?}");
                        }
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
    });
    // The last resets may be in flight.
    wait_until("no lock is held", || {
        database.psql("select count(*) from pg_locks where locktype = 'advisory' and objid in (42, 43)")
            == "0"
    });
}

/// A proof of no side effects may be outdated between a schema change and the reload; the reload resets sessions.
#[test]
fn a_reload_resets_sessions() {
    let database = database(SCHEMA);
    let service = start(&database, "1", "1");
    on_one_thread(async {
        let mut client = Client::connect(service.address).await;
        for _ in 0..3 {
            assert!(look(&mut client, 3).await.1);
        }
        database.psql("alter table api.plain enable row level security; create policy leave on api.plain using (api.leave());");
        let headers = [("x-leave", "lock")];
        let reply = client.request("GET", "/plain", &headers, "").await.unwrap();
        assert_eq!(reply.json(), clean().1, "the policy applies at once");
        database.psql("notify pgrst, 'reload schema'");
        wait_until("no lock is held", || {
            database.psql("select count(*) from pg_locks where locktype = 'advisory' and objid = 42") == "0"
        });
        for way in 0..4 {
            assert!(look(&mut client, way).await.1);
        }
    });
}
