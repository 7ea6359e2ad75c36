//! Schema changes without a notification: requests follow the current schema.

use serde_json::{Value, json};
use tercet_api::schema::SchemaCache;
use tercet_postgres::{Connection, Statement};

use crate::postgres::{Database, database};
use crate::service::{Client, Reply, Service, on_one_thread, wait_until};

/// A service that receives no notifications, with `pool` connections.
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

/// Sends the request often enough that every connection has it prepared.
#[track_caller]
fn expect(service: &Service, target: &str, expected: &Value) {
    for number in 0..5 {
        let reply = service.get(target);
        assert_eq!((reply.status, &reply.json()), (200, expected), "{target}, time {number}: {reply:?}");
    }
}

#[test]
fn bodies_use_the_types_of_the_rows() {
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
        // The prepared statement had a number here; now it is a text.
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
fn filters_use_the_current_type() {
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
fn selects_added_columns() {
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
        // The number of columns stays the same.
        database.psql("alter table api.things drop fresh, add other int default 3");
        expect(&service, "/things", &json!([{"id": 1, "maker_id": 1, "other": 3}]));
    }
}

#[test]
fn an_outdated_schema_cache_is_reloaded() {
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

/// Columns that were numbers when the schema cache was loaded. Each service has prepared the request before.
#[test]
fn writes_use_the_current_type() {
    let create = "
        create schema api;
        grant usage on schema api to anon;
        create table api.things (id int primary key, code int);
        grant all on api.things to anon;
        create view api.shown as select * from api.things;
        grant all on api.shown to anon;";
    for (retype, json, stored) in [
        ("text", r#""007""#, json!("007")),
        ("text", "1.50", json!("1.50")),
        ("json", r#"{"b": 1, "a": "x"}"#, json!({"b": 1, "a": "x"})),
        ("jsonb", r#""007""#, json!("007")),
        ("numeric", "1.50", json!(1.50)),
        ("numeric(9,1)", "1.25", json!(1.3)),
        ("bigint", "5000000000", json!(5_000_000_000_i64)),
        ("int[]", "[1, 2]", json!([1, 2])),
        ("text[]", r#"["01", "b"]"#, json!(["01", "b"])),
        ("boolean", "true", json!(true)),
        ("bit(3)", r#""011""#, json!("011")),
        ("char(4)", r#""ab""#, json!("ab  ")),
        ("timestamptz", r#""2020-01-02T03:04:05Z""#, json!("2020-01-02T03:04:05+00:00")),
    ] {
        let ways: &[_] = &[
            ("POST", "/things", 1, ""),
            ("POST", "/shown", 1, ""),
            ("POST", "/things", 2, ""),
            ("POST", "/things?columns=id,code", 1, ""),
            ("POST", "/things", 0, "resolution=merge-duplicates, "),
            ("POST", "/things", 1, "missing=default, "),
            ("PATCH", "/things?id=eq.0", 0, ""),
            ("PUT", "/things?id=eq.0", 0, ""),
        ];
        // each kind of write once, and each type in one of them
        let ways = if retype == "numeric(9,1)" || json == r#""007""# && retype == "text" {
            ways
        } else {
            &ways[..1]
        };
        for &(method, target, key, prefer) in ways {
            let database = database(create);
            let service = start(&database, "1");
            let prefer = format!("{prefer}return=representation");
            let send = |body: &str| {
                let headers = [("content-type", "application/json"), ("prefer", prefer.as_str())];
                on_one_thread(async {
                    let mut client = Client::connect(service.address).await;
                    client.request(method, target, &headers, body).await.unwrap()
                })
            };
            let body = |code: &str| match key {
                2 => format!(r#"[{{"id": 1, "code": {code}}}, {{"id": 2, "code": {code}}}]"#),
                id => format!(r#"{{"id": {id}, "code": {code}}}"#),
            };
            for _ in 0..3 {
                database.psql("truncate api.things; insert into api.things values (0, 0)");
                let reply = send(&body("3"));
                assert!((200..300).contains(&reply.status), "{method} {target}: {reply:?}");
            }
            database.psql(&format!(
                "truncate api.things;
                drop view api.shown;
                alter table api.things alter code type {retype} using null;
                insert into api.things values (0, null);
                create view api.shown as select * from api.things;
                grant all on api.shown to anon;"
            ));
            let reply = send(&body(json));
            let case = format!("{method} {target} {prefer}, {retype}: {reply:?}");
            assert!((200..300).contains(&reply.status), "{case}");
            for row in reply.json().as_array().unwrap() {
                assert_eq!(row["code"], stored, "{case}");
            }
        }
    }
}

#[test]
fn csv_writes_use_the_current_type() {
    let database = database(
        "create schema api;
        grant usage on schema api to anon;
        create table api.things (id int primary key, code int);
        grant all on api.things to anon;",
    );
    let service = start(&database, "1");
    let send = |body: &str| {
        let headers = [("content-type", "text/csv"), ("prefer", "return=representation")];
        on_one_thread(async {
            Client::connect(service.address).await.request("POST", "/things", &headers, body).await.unwrap()
        })
    };
    assert_eq!(send("id,code\n1,007").json(), json!([{"id": 1, "code": 7}]));
    database.psql("alter table api.things alter code type text");
    assert_eq!(send("id,code\n2,007").json(), json!([{"id": 2, "code": "007"}]));
    // a missing column is reported by the current schema
    database.psql("alter table api.things drop code");
    let reply = send("id,code\n3,007");
    assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("PGRST204")), "{reply:?}");
    database.psql("drop table api.things");
    let reply = send("id\n4");
    assert_eq!((reply.status, &reply.json()["code"]), (404, &json!("PGRST205")), "{reply:?}");
}

#[test]
fn arguments_use_the_current_type() {
    let database = database(
        "create schema api;
        grant usage on schema api to anon;
        create function api.echo(n int) returns text language sql as 'select n::text';",
    );
    let service = start(&database, "1");
    let call = |json: &str, query: &str| {
        let post = send(&service, "POST", "/rpc/echo", &format!(r#"{{"n": {json}}}"#));
        [post, service.get(&format!("/rpc/echo?n={query}"))].map(|reply| (reply.status, reply.body))
    };
    let both = |text: &str| [(200, format!("\"{text}\"")), (200, format!("\"{text}\""))];
    for _ in 0..3 {
        assert_eq!(call("7", "7"), both("7"));
    }
    for (retype, json, query, text) in [
        ("text", r#""007""#, "007", "007"),
        ("numeric", "1.50", "1.50", "1.50"),
        ("bigint", "5000000000", "5000000000", "5000000000"),
        ("int[]", "[1, 2]", "{1,2}", "{1,2}"),
        ("json", r#"{"a": 1}"#, "%7B%22a%22:%201%7D", r#"{\"a\": 1}"#),
    ] {
        database.psql(&format!(
            "drop function api.echo;
            create function api.echo(n {retype}) returns text language sql as 'select n::text';"
        ));
        assert_eq!(call(json, query), both(text), "{retype}");
    }
    database.psql("drop function api.echo");
    assert!(call("7", "7").iter().all(|(status, body)| *status == 404 && body.contains("PGRST202")));
}

/// Types that the type assertion cannot distinguish are written too.
#[test]
fn every_type_can_be_written() {
    let types = [
        "int2vector",
        "oidvector",
        "int4range",
        "api.whole",
        "api.list",
        "api.lists",
        "api.listed",
        "api.mood[]",
        "\"api\".\"Odd Type\"",
        "varchar(5)[]",
        "bit",
        "\"char\"",
        "name",
        "interval day to second(3)",
        "point",
        "text collate \"C\"",
        "xml",
        "regclass",
        "tsvector",
        "int4multirange",
    ];
    let columns: Vec<_> = types.iter().enumerate().map(|(n, of)| format!("c{n} {of}")).collect();
    let database = database(&format!(
        "create schema api;
        grant usage on schema api to anon;
        create type api.mood as enum ('a');
        create type api.\"Odd Type\" as (a int);
        create domain api.whole as int;
        create domain api.list as int[];
        create domain api.lists as api.list;
        create type api.listed as (l int[]);
        create table api.things (id int generated by default as identity primary key, {});
        grant all on api.things to anon;",
        columns.join(", ")
    ));
    let service = start(&database, "1");
    for (number, of) in types.iter().enumerate() {
        let reply = send(&service, "POST", "/things", &format!(r#"{{"c{number}": null}}"#));
        assert_eq!(reply.status, 201, "{of}: {reply:?}");
    }
}

#[test]
fn types_may_be_dropped_and_recreated() {
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
fn invalid_input_stays_invalid() {
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
        "an error that imitates an outdated type is not retried"
    );
}

#[test]
fn head_executes_the_function_like_get() {
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

/// Catalogue functions see the current catalogue, the rows they are called for come from the snapshot.
#[test]
fn a_schema_that_changes_during_the_load_is_loaded_again() {
    let database = database(
        "create schema api;
        create type api.level as enum ('a', 'd');
        create function api.f(l api.level) returns text stable language sql as $$ select 'is ' || l::text $$;",
    );
    on_one_thread(async {
        let loader = Connection::connect(&database.superuser(), false).await.unwrap();
        let other = Connection::connect(&database.superuser(), false).await.unwrap();
        let run = async |sql: &'static str| {
            other.query(&Statement::new(sql, Vec::new())).await.unwrap();
        };
        run("begin").await;
        // The loader reads this table before it reads the functions.
        run("lock table pg_rewrite in access exclusive mode").await;
        let change = async {
            run("do $$ begin
              while not exists (select from pg_lock_status() where relation = 'pg_rewrite'::regclass and not granted) loop
                perform pg_sleep(0.01);
              end loop;
              drop function api.f(api.level);
              drop type api.level;
              create type api.level as enum ('a', 'd');
              create function api.f(l api.level) returns text stable language sql as 'select ''is '' || l::text';
            end $$")
            .await;
            run("commit").await;
        };
        let schemas = ["api".to_owned()];
        let (cache, ()) = tokio::join!(SchemaCache::load(&loader, &schemas), change);
        let cache = cache.unwrap();
        let types: Vec<_> =
            cache.all_routines("api").flat_map(|it| &it.parameters).map(|it| &*it.data_type).collect();
        assert_eq!(types, ["api.level"]);
    });
}
