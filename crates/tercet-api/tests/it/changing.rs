//! The schema changes and nobody tells: requests see what is there.

use serde_json::{Value, json};

use crate::postgres::{Database, database};
use crate::service::{Client, Reply, Service, on_one_thread, wait_until};

/// A service that has never been told of a change, with as many connections as `pool`.
fn start(database: &Database, pool: &str) -> Service {
    Service::start(
        &database.uri(),
        &[("db-pool", pool), ("db-channel-enabled", "false"), ("server-threads", "1")],
    )
}

fn send(service: &Service, method: &str, target: &str, body: &str) -> Reply {
    let headers = [("content-type", "application/json"), ("prefer", "return=representation")];
    on_one_thread(async {
        Client::connect(service.address).await.request(method, target, &headers, body).await.unwrap()
    })
}

/// Asks often enough to be answered by a prepared statement, on every connection.
#[track_caller]
fn expect(service: &Service, target: &str, expected: &Value) {
    for number in 0..5 {
        let reply = service.get(target);
        assert_eq!((reply.status, &reply.json()), (200, expected), "{target}, time {number}: {reply:?}");
    }
}

#[test]
fn the_types_that_count_are_those_of_the_rows() {
    for pool in ["1", "3"] {
        let database = database(
            "create schema api;
            grant usage on schema api to anon;
            create table api.things (code numeric, flag boolean, plain text);
            insert into api.things values (7, true, 'x');
            grant select on api.things to anon;
            create view api.shown as select * from api.things;
            grant select on api.shown to anon;",
        );
        let service = start(&database, pool);
        let targets =
            ["/things", "/things?select=code,flag,plain", "/things?select=code,flag,plain&code=gt.0"];
        for target in targets {
            expect(&service, target, &json!([{"code": 7, "flag": true, "plain": "x"}]));
        }
        expect(&service, "/shown", &json!([{"code": 7, "flag": true, "plain": "x"}]));
        database.psql(
            "drop view api.shown;
            alter table api.things alter code type text using '007', alter flag type text using 't';
            insert into api.things values ('1e5', 'f', 'y');
            create view api.shown as select * from api.things;
            grant select on api.shown to anon;",
        );
        let rows = json!([
            {"code": "007", "flag": "t", "plain": "x"},
            {"code": "1e5", "flag": "f", "plain": "y"}
        ]);
        for target in &targets[..2] {
            expect(&service, target, &rows);
        }
        expect(&service, "/shown", &rows);
        // What a prepared statement took for a number is a text now.
        expect(&service, "/things?code=eq.1e5&select=code", &json!([{"code": "1e5"}]));
        database.psql(
            "drop view api.shown;
            alter table api.things alter code type jsonb using to_jsonb(code), alter plain type int using 5;",
        );
        expect(
            &service,
            "/things?select=code,plain",
            &json!([{"code": "007", "plain": 5}, {"code": "1e5", "plain": 5}]),
        );
        database.psql("alter table api.things alter plain type date using '2026-02-28'");
        expect(&service, "/things?select=plain&limit=1", &json!([{"plain": "2026-02-28"}]));
    }
}

#[test]
fn a_filter_is_of_the_type_the_column_has_now() {
    let database = database(
        "create schema api;
        grant usage on schema api to anon;
        create table api.things (code int, name text);
        insert into api.things values (7, 'seven');
        grant select, update on api.things to anon;",
    );
    let service = start(&database, "1");
    expect(&service, "/things?code=eq.7", &json!([{"code": 7, "name": "seven"}]));
    for _ in 0..3 {
        assert_eq!(send(&service, "PATCH", "/things?code=eq.7", r#"{"name": "VII"}"#).status, 200);
    }
    database.psql("alter table api.things alter code type text using 'abc'");
    expect(&service, "/things?code=eq.abc", &json!([{"code": "abc", "name": "VII"}]));
    let patched = send(&service, "PATCH", "/things?code=eq.abc", r#"{"name": "ABC"}"#);
    assert_eq!(patched.json(), json!([{"code": "abc", "name": "ABC"}]));
}

#[test]
fn a_column_that_was_added_is_selected() {
    for pool in ["1", "3"] {
        let database = database(
            "create schema api;
            grant usage on schema api to anon;
            create table api.makers (id int primary key, day date);
            create table api.things (id int primary key, maker_id int references api.makers);
            insert into api.makers values (1, '2026-02-28');
            insert into api.things values (1, 1);
            grant select on all tables in schema api to anon;
            create view api.shown as select id from api.things;
            grant select on api.shown to anon;",
        );
        let service = start(&database, pool);
        expect(&service, "/things", &json!([{"id": 1, "maker_id": 1}]));
        expect(&service, "/shown", &json!([{"id": 1}]));
        let embedded = "/things?select=*,makers(*)";
        expect(
            &service,
            embedded,
            &json!([{"id": 1, "maker_id": 1, "makers": {"id": 1, "day": "2026-02-28"}}]),
        );
        database.psql(
            "alter table api.things add fresh text default 'new';
            alter table api.makers add name text default 'maker';
            create or replace view api.shown as select id, 5 as five from api.things;",
        );
        expect(&service, "/things", &json!([{"id": 1, "maker_id": 1, "fresh": "new"}]));
        expect(&service, "/things?id=eq.1&order=id", &json!([{"id": 1, "maker_id": 1, "fresh": "new"}]));
        expect(&service, "/shown", &json!([{"id": 1, "five": 5}]));
        let maker = json!({"id": 1, "day": "2026-02-28", "name": "maker"});
        expect(&service, embedded, &json!([{"id": 1, "maker_id": 1, "fresh": "new", "makers": maker}]));
        // One for another: as many as before.
        database.psql("alter table api.things drop fresh, add other int default 3");
        expect(&service, "/things", &json!([{"id": 1, "maker_id": 1, "other": 3}]));
    }
}

#[test]
fn a_change_that_a_request_meets_has_the_schema_loaded() {
    let database = database(
        "create schema api;
        grant usage on schema api to anon;
        create table api.things (id int primary key);
        grant select on api.things to anon;
        create function api.twice(n int) returns int language sql as 'select n * 2';",
    );
    let service = start(&database, "1");
    assert_eq!(service.get("/later").status, 404);
    database.psql(
        "alter table api.things add fresh text;
        create view api.later as select 1 as n;
        grant select on api.later to anon;",
    );
    wait_until("the view is known", || {
        assert_eq!(service.get("/things").status, 200);
        service.get("/later").status == 200
    });
    database.psql(
        "drop function api.twice;
        create function api.twice(n text) returns text language sql as $$ select n || n $$;",
    );
    wait_until("the function is known", || service.get("/rpc/twice?n=ab").json() == json!("abab"));
}

#[test]
fn types_may_be_dropped_and_made_again() {
    let schema = "
        create type api.level as enum ('a', 'd');
        create domain api.grade as int check (value > 0);
        create type api.pair as (one int, two text);
        create function api.f(l api.level) returns text stable language sql as $$ select 'is ' || l::text $$;
        create function api.g(l api.grade) returns int stable language sql as $$ select l + 1 $$;
        create function api.p(l api.pair) returns text stable language sql as $$ select (l).two $$;
        create table api.things (id int primary key, level api.level);
        insert into api.things values (1, 'd');
        grant select, insert, update, delete on api.things to anon;
    ";
    for pool in ["1", "3"] {
        let database = database(&format!(
            "create schema api;
            grant usage on schema api to anon;
            {schema}
            create function api.local() returns text language plpgsql as $$
              declare l api.level := 'd';
              begin return l; end
            $$;"
        ));
        let service = start(&database, pool);
        let check = || {
            expect(&service, "/rpc/f?l=d", &json!("is d"));
            expect(&service, "/rpc/g?l=4", &json!(5));
            expect(&service, "/rpc/p?l=(1,b)", &json!("b"));
            expect(&service, "/things?level=eq.d", &json!([{"id": 1, "level": "d"}]));
            for _ in 0..4 {
                let reply = send(&service, "POST", "/rpc/f", r#"{"l": "d"}"#);
                assert_eq!((reply.status, reply.json()), (200, json!("is d")), "{reply:?}");
                let reply = send(&service, "POST", "/rpc/local", "{}");
                assert_eq!((reply.status, reply.json()), (200, json!("d")), "{reply:?}");
                let reply = send(&service, "PATCH", "/things?level=eq.d", r#"{"level": "d"}"#);
                assert_eq!(
                    (reply.status, reply.json()),
                    (200, json!([{"id": 1, "level": "d"}])),
                    "{reply:?}"
                );
                let reply = send(&service, "POST", "/things", r#"{"id": 2, "level": "a"}"#);
                assert_eq!(
                    (reply.status, reply.json()),
                    (201, json!([{"id": 2, "level": "a"}])),
                    "{reply:?}"
                );
                let reply = send(&service, "DELETE", "/things?level=eq.a", "");
                assert_eq!(
                    (reply.status, reply.json()),
                    (200, json!([{"id": 2, "level": "a"}])),
                    "{reply:?}"
                );
            }
        };
        check();
        for _ in 0..2 {
            database.psql(&format!(
                "drop type api.level, api.pair cascade; drop domain api.grade cascade; drop table api.things; {schema}"
            ));
            check();
        }
    }
}

#[test]
fn bad_input_stays_bad_input() {
    let database = database(
        "create schema api;
        grant usage on schema api to anon;
        create table api.things (id int primary key);
        insert into api.things values (1);
        grant select on api.things to anon;
        create function api.stale() returns int language plpgsql as $$
        begin raise sqlstate 'XX000' using message = 'cache lookup failed for type 5'; end $$;
        create sequence api.calls;
        create function api.count() returns int language plpgsql as $$
        begin perform nextval('api.calls'); raise sqlstate '0A000' using message = 'cached plan must not change result type'; end $$;
        grant usage on api.calls to anon;",
    );
    let service = start(&database, "1");
    for _ in 0..4 {
        expect(&service, "/things?id=eq.1", &json!([{"id": 1}]));
        let refused = service.get("/things?id=eq.one");
        assert_eq!((refused.status, &refused.json()["code"]), (400, &json!("22P02")));
    }
    for _ in 0..4 {
        assert_eq!(send(&service, "POST", "/rpc/stale", "{}").json()["code"], "XX000");
        assert_eq!(send(&service, "POST", "/rpc/count", "{}").json()["code"], "0A000");
    }
    assert_eq!(
        database.psql("select last_value from api.calls"),
        "4",
        "what only looks like it is not run twice"
    );
}

#[test]
fn head_of_a_function_runs_what_get_runs() {
    let database = database(
        "create schema api;
        grant usage on schema api to anon;
        create table api.things (id int primary key);
        insert into api.things values (1);
        grant select on api.things to anon;
        create function api.say(n int default 1) returns int stable language plpgsql as $$
        begin
          perform set_config('response.headers', '[{\"x-said\": \"yes\"}]', true), set_config('response.status', '203', true);
          return 1;
        end $$;
        create function api.fail() returns int immutable language plpgsql as $$
        begin raise sqlstate 'PT418' using message = 'no coffee'; end $$;
        create function api.rows() returns setof api.things stable language plpgsql as $$
        begin raise sqlstate 'PT418' using message = 'no coffee'; end $$;
        create function api.nothing() returns void stable language plpgsql as $$
        begin perform set_config('response.headers', '[{\"x-said\": \"yes\"}]', true); end $$;",
    );
    let service = start(&database, "1");
    for target in
        ["/rpc/say", "/rpc/say?n=5", "/rpc/fail", "/rpc/rows", "/rpc/nothing", "/rpc/rows?select=id&limit=1"]
    {
        let (got, head) = (send(&service, "GET", target, ""), send(&service, "HEAD", target, ""));
        assert_eq!((head.status, head.body.as_str()), (got.status, ""), "{target}");
        let without = |reply: &Reply| {
            let mut headers = reply.headers.clone();
            for name in ["content-length", "date"] {
                headers.remove(name);
            }
            headers
        };
        assert_eq!(without(&head), without(&got), "{target}");
    }
}
