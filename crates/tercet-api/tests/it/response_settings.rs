//! Responses that SQL defines and that are invalid, and all notations of preferences, over a real connection.

use std::sync::LazyLock;

use serde_json::json;

use crate::postgres::{Database, database};
use crate::service::{Client, Reply, Service, on_one_thread};

const SCHEMA: &str = "
    create schema api;
    grant usage on schema api to anon;
    create table api.notes (id int primary key);
    create function api.shout() returns trigger language plpgsql as $$
    begin
      perform set_config('response.headers', (select json_agg(json_build_object('x-' || i, 'a'))::text from generate_series(1, 30000) i), true);
      return new;
    end $$;
    create trigger shout before insert on api.notes for each row when (new.id >= 100) execute function api.shout();
    create function api.names(n int, long int default 1) returns int stable language plpgsql as $$
    begin
      perform set_config('response.headers',
        (select json_agg(json_build_object('x-' || i, repeat('a', long)))::text from generate_series(1, n) i), true);
      return n;
    end $$;
    create function api.raises(n int) returns int stable language plpgsql as $$
    begin
      raise sqlstate 'PGRST' using message = '{\"code\": \"1\", \"message\": \"m\"}',
        detail = json_build_object('status', 400, 'headers', (select json_object_agg('x-' || i, 'a') from generate_series(1, n) i))::text;
    end $$;
    grant all on api.notes to anon;
";

static SERVICE: LazyLock<(Database, Service)> = LazyLock::new(|| {
    let database = database(SCHEMA);
    let service =
        Service::start(&database.uri(), &[("db-tx-end", "commit-allow-override"), ("server-threads", "1")]);
    (database, service)
});

fn send(method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let headers = [&[("content-type", "application/json")], headers].concat();
    let address = SERVICE.1.address;
    on_one_thread(async {
        Client::connect(address).await.request(method, target, &headers, body).await.unwrap()
    })
}

#[test]
fn sql_cannot_set_more_headers_than_the_limit() {
    for routine in ["names", "raises"] {
        for (count, fits) in [(10, true), (81, false), (24_000, false), (30_000, false), (100_000, false)] {
            let target = format!("/rpc/{routine}?n={count}");
            let expected = match (fits, routine) {
                (false, _) => 500,
                (true, "names") => 200,
                (true, _) => 400,
            };
            for method in ["GET", "HEAD", "POST"] {
                let body = if method == "POST" { json!({"n": count}).to_string() } else { String::new() };
                let target = if method == "POST" { format!("/rpc/{routine}") } else { target.clone() };
                let reply = send(method, &target, &[], &body);
                assert_eq!(reply.status, expected, "{method} {target}: {reply:?}");
                let says = reply.body.contains(r#""code":"PGRST112""#);
                assert_eq!(says, !fits && method != "HEAD", "{method} {target}: {reply:?}");
                assert_eq!(reply.headers.contains_key("x-10"), fits);
            }
        }
    }
    let reply = send("GET", "/rpc/names?n=3&long=20000", &[], "");
    assert_eq!((reply.status, reply.body.contains("PGRST112")), (500, true), "{reply:?}");
}

/// Where the answer is checked before the commit, so is the response set by SQL.
#[test]
fn a_checked_write_with_an_invalid_response_is_rolled_back() {
    let there = |id: i32| SERVICE.0.psql(&format!("select count(*) from api.notes where id = {id}")) == "1";
    for (id, headers, is_there) in [
        (100, &[][..], true),
        (101, &[("accept", "application/vnd.pgrst.object+json"), ("prefer", "return=representation")], false),
    ] {
        let reply = send("POST", "/notes", headers, &json!({"id": id}).to_string());
        assert_eq!((reply.status, reply.body.contains("PGRST112")), (500, true), "{reply:?}");
        assert_eq!(there(id), is_there, "{id}");
    }
    let reply = send("PUT", "/notes?id=eq.102", &[], r#"{"id": 102}"#);
    assert_eq!((reply.status, reply.body.contains("PGRST112")), (500, true), "{reply:?}");
    assert!(!there(102));
}

#[test]
fn preferences_apply_in_every_notation() {
    for (number, prefer) in [
        &["tx=rollback"][..],
        &["TX=rollback"],
        &["tx=\"rollback\""],
        &["tx = rollback"],
        &["tx=rollback;q=1"],
        &["respond-async, Tx=Rollback ; a=\"b,c\""],
        &["return=minimal", "tx=rollback"],
        &["handling=\"strict\", tx\t=\t\"rollback\""],
    ]
    .into_iter()
    .enumerate()
    {
        let headers: Vec<_> = prefer.iter().map(|value| ("prefer", *value)).collect();
        let reply = send("POST", "/notes", &headers, &json!({"id": 10 + number}).to_string());
        assert_eq!(reply.status, 201, "{prefer:?}: {reply:?}");
        let applied = reply.headers.get("preference-applied").unwrap().to_str().unwrap();
        assert!(applied.contains("tx=rollback"), "{prefer:?}: {applied}");
    }
    assert_eq!(SERVICE.0.psql("select count(*) from api.notes where id between 10 and 30"), "0");
    let reply = send("DELETE", "/notes?id=gt.-1", &[("prefer", "Handling=\"strict\", MAX-AFFECTED=x")], "");
    assert_eq!((reply.status, reply.body.contains("PGRST122")), (400, true), "{reply:?}");
}
