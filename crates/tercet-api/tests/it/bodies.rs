//! Bodies built outside PostgreSQL: byte for byte what PostgreSQL builds, and valid JSON after a schema change.

use std::sync::LazyLock;

use serde_json::json;

use crate::postgres::{Database, database};
use crate::service::{Client, Service, on_one_thread, wait_until};

const SCHEMA: &str = r#"
    create schema api;
    grant usage on schema api to anon;
    create type api.mood as enum ('calm', 'loud "ly"');
    create domain api.grade as numeric check (value < 100);
    create domain api.label as text;
    create type api.pair as (left_one int, right_one text);
    create table api.kinds (
      id int primary key,
      truth boolean, small smallint, big bigint, exact numeric, single real, double double precision,
      words text, short varchar(20), fixed char(4), "na""me" name, letter "char", one uuid,
      raw json, document jsonb, bytes bytea, day date, at timestamp, since timestamptz, clock timetz, span interval,
      price money, address inet, bits bit varying, spread int4range,
      feeling api.mood, graded api.grade, labelled api.label, both_ones api.pair, many int[], texts text[]
    );
    insert into api.kinds (id) values (0);
    insert into api.kinds values
      (1, true, -5, 9223372036854775807, 12.3400, 1e-30, 1e300, E'a "b" \\ / \n\t\b\f\r \u0001\u001f\u007f ü 🦀', 'x', 'ab', 'name', 'c',
        '00000000-0000-0000-0000-00000000000a', '{"a":  1,"a":2}', '{"b": [1, null]}', '\x00ff', '2026-02-28',
        '2026-02-28 12:00:00.5', '2026-02-28 12:00:00+02', '12:00:00+02', '1 day 2 hours', 12.5, '::1', '101', '[1,5)',
        'loud "ly"', 99.50, 'label', '(1,"two, 2")', '{1,null,3}', '{"a","b \" c",null}'),
      (2, false, 0, 0, 'NaN', 'NaN', '-Infinity', '', '', '', '', '', null, 'null', 'null', '', '-infinity', 'infinity',
        '4713-01-01 BC', null, '-1 mon', 0, '10.0.0.0/8', '', 'empty', 'calm', 0, '', null, '{}', '{}'),
      (3, null, null, null, 1e60, 'Infinity', '1.5', null, null, null, null, null, null, '"text"', '3', null, null, null, null,
        null, null, null, null, null, null, null, -1e-20, null, null, null, null);
    grant select on api.kinds to anon;
"#;

static DATABASE: LazyLock<Database> = LazyLock::new(|| database(SCHEMA));

#[test]
fn every_type_has_postgresqls_json() {
    let service = Service::start(&DATABASE.uri(), &[]);
    for condition in ["true", "id = 1", "id < 0"] {
        let filter = match condition {
            "true" => "",
            "id = 1" => "&id=eq.1",
            _ => "&id=lt.0",
        };
        let expected = DATABASE.psql(&format!(
            "select coalesce(json_agg(k order by id), '[]') from api.kinds k where {condition}"
        ));
        assert_eq!(service.get(&format!("/kinds?order=id{filter}")).body, expected);
    }
    let expected = DATABASE.psql("select to_json(k) from api.kinds k where id = 1");
    let one = on_one_thread(async {
        let headers = [("accept", "application/vnd.pgrst.object+json")];
        Client::connect(service.address).await.request("GET", "/kinds?id=eq.1", &headers, "").await.unwrap()
    });
    assert_eq!(one.body, expected);
}

#[test]
fn reads_follow_a_schema_change() {
    let database = database(
        "create schema api;
        grant usage on schema api to anon;
        create table api.things (id int primary key, name text, gone int, changed int);
        insert into api.things values (1, 'one', 2, 3);
        grant select on api.things to anon;",
    );
    let service = Service::start(&database.uri(), &[]);
    let first = json!([{"id": 1, "name": "one", "gone": 2, "changed": 3}]);
    // Often enough to be prepared.
    for _ in 0..4 {
        assert_eq!(service.get("/things").json(), first);
    }
    database.psql("alter table api.things alter changed type date using '2026-02-28'");
    let changed = json!([{"id": 1, "name": "one", "gone": 2, "changed": "2026-02-28"}]);
    for _ in 0..4 {
        assert_eq!(service.get("/things").json(), changed);
    }
    database.psql("alter table api.things drop gone");
    let dropped = json!([{"id": 1, "name": "one", "changed": "2026-02-28"}]);
    for _ in 0..4 {
        assert_eq!(service.get("/things").json(), dropped);
    }
    let refused = service.get("/things?select=gone");
    assert_eq!((refused.status, &refused.json()["code"]), (400, &json!("42703")));
    database.psql("alter table api.things add fresh jsonb default '{}'; notify pgrst, 'reload schema'");
    wait_until("the new column is known", || service.get("/things").json()[0]["fresh"] == json!({}));
}

#[test]
fn response_settings_apply_without_a_row() {
    let database = database(
        "create schema api;
        grant usage on schema api to anon;
        create table api.things (id int primary key);
        grant select on api.things to anon;
        create function api.say() returns void language sql as $$
          select set_config('response.headers', '[{\"x-said\": \"yes\"}]', true), set_config('response.status', '203', true)
        $$;",
    );
    let service = Service::start(&database.uri(), &[("db-pre-request", "api.say")]);
    let reply = service.get("/things");
    assert_eq!((reply.status, reply.header("x-said"), &*reply.body), (203, Some("yes"), "[]"));
}
