//! Input that is rejected instead of repaired: text with NUL, surplus parameters, CSV that does not match its header;
//! and accepted input is stored unchanged.

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::postgres::{Database, database};
use crate::service::{Client, Reply, Service, bearer, on_one_thread};

const SCHEMA: &str = r#"
    create schema api;
    grant usage on schema api to anon;
    create table api.articles (id int primary key, title text, tags text[], data jsonb, body bytea, parent int references api.articles);
    create function api.seed() returns void language sql security definer as $$
      delete from api.articles;
      insert into api.articles values (1, 'ann', '{ann}', '{"a": "ann"}', null, null), (2, 'bob', '{}', '{}', null, 1)
    $$;
    create function api.echo(word text) returns text immutable language sql as 'select word';
    create function api.echo_all(variadic words text[]) returns text immutable language sql as $$ select array_to_string(words, '-') $$;
    create function api.whole_json(json) returns text immutable language sql as 'select $1::text';
    create function api.whole_jsonb(jsonb) returns text immutable language sql as 'select $1::text';
    create function api.whole_text(text) returns text immutable language sql as 'select $1';
    create function api.whole_xml(xml) returns text immutable language sql as 'select $1::text';
    create function api.whole_bytes(bytea) returns text immutable language sql as $$ select encode($1, 'hex') $$;
    create function api.nothing() returns int immutable language sql as 'select 1';
    create table api.sheet (n int, a text, "b,""c" text, "ü
d" text);
    create table api.column_alone (only_one text);
    grant all on all tables in schema api to anon;
"#;

static DATABASE: LazyLock<Database> = LazyLock::new(|| database(SCHEMA));

fn send(service: &Service, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    on_one_thread(async {
        Client::connect(service.address).await.request(method, target, headers, body).await.unwrap()
    })
}

/// The rows of all tables.
fn state() -> String {
    DATABASE.psql("select jsonb_agg(t order by id) from api.articles t")
}

#[test]
fn text_with_nul_is_rejected_everywhere() {
    let service = Service::start(&DATABASE.uri(), &[]);
    DATABASE.psql("select api.seed()");
    let before = state();
    let json = &[("content-type", "application/json")][..];
    let form = &[("content-type", "application/x-www-form-urlencoded")][..];
    let csv = &[("content-type", "text/csv")][..];
    let text = &[("content-type", "text/plain")][..];
    for nul in ["%00", "ann%00", "ann%00zzz", "%ff", "ann%c3", "%ed%a0%80"] {
        for (method, target) in [
            ("DELETE", format!("/articles?title=eq.{nul}")),
            ("DELETE", format!("/articles?title=in.(ann,{nul})")),
            ("DELETE", format!("/articles?title=in.(%22{nul}%22)")),
            ("DELETE", format!("/articles?title=like(any).{{{nul}}}")),
            ("DELETE", format!("/articles?tags=cs.{{{nul}}}")),
            ("DELETE", format!("/articles?or=(title.eq.{nul},title.eq.%22{nul}%22)")),
            ("DELETE", format!("/articles?title=isdistinct.{nul}")),
            ("DELETE", format!("/articles?title=fts.{nul}")),
            ("DELETE", format!("/articles?data-%3E%3E{nul}=eq.ann")),
            ("DELETE", format!("/articles?data-%3E%22{nul}%22-%3E%3Ea=eq.ann")),
            ("DELETE", format!("/articles?%22{nul}%22=eq.1")),
            ("GET", format!("/articles?select=%22{nul}%22")),
            ("GET", format!("/articles?select=%22{nul}%22:id")),
            ("GET", format!("/articles?select=data-%3E%3E%22{nul}%22")),
            ("GET", format!("/articles?select=articles!%22{nul}%22(id)")),
            ("GET", format!("/articles?order=%22{nul}%22")),
            ("GET", format!("/articles?order=data-%3E%22{nul}%22")),
            ("GET", format!("/rpc/echo?word={nul}")),
            ("GET", format!("/rpc/echo_all?words=a&words={nul}")),
            ("GET", format!("/rpc/echo?{nul}=a")),
        ] {
            let reply = send(&service, method, &target, &[], "");
            assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("22021")), "{target}: {reply:?}");
            let message = reply.json()["message"].as_str().unwrap().to_owned();
            assert!(message.starts_with("invalid byte sequence for encoding \"UTF8\": 0x"), "{message}");
        }
        for (method, target, headers, body) in [
            ("POST", "/articles?columns=%22{nul}%22", json, "{}".to_owned()),
            ("PATCH", "/articles?columns=%22{nul}%22", json, "{}".to_owned()),
            ("POST", "/articles", form, format!("id=7&title={nul}")),
            ("POST", "/articles", form, format!("id=7&{nul}=a")),
            ("POST", "/rpc/echo", form, format!("word={nul}")),
        ] {
            let target = target.replace("{nul}", nul);
            let reply = send(&service, method, &target, headers, &body);
            assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("22021")), "{target}: {reply:?}");
        }
    }
    for (method, target, headers, body, code) in [
        ("POST", "/articles", csv, "id,title\n7,x\0y", "22021"),
        ("POST", "/rpc/whole_text", text, "x\0y", "22021"),
        ("POST", "/articles?columns=id,title", json, "{\"id\": 7, \"title\": \"x\0y\"}", "22021"),
        // PostgreSQL's message about the escape
        ("POST", "/articles", json, r#"{"id": 7, "title": "x\u0000y"}"#, "22P05"),
        ("POST", "/articles?columns=id,title", json, r#"{"id": 7, "title": "x\u0000y"}"#, "22P05"),
        ("PATCH", "/articles?id=eq.1", json, r#"{"title": "x\u0000y"}"#, "22P05"),
        ("POST", "/rpc/echo", json, r#"{"word": "x\u0000y"}"#, "22P05"),
        ("POST", "/rpc/whole_jsonb", json, r#"["x\u0000y"]"#, "22P05"),
        ("POST", "/articles", json, "{\"id\": 7, \"title\": \"x\0y\"}", "PGRST102"),
    ] {
        let reply = send(&service, method, target, headers, body);
        assert_eq!(
            (reply.status, &reply.json()["code"]),
            (400, &json!(code)),
            "{target} {body:?}: {reply:?}"
        );
    }
    assert_eq!(state(), before);
    for target in
        ["/articles%00", "/articles%ff", "/%c3", "/rpc/echo%00?word=a", "/rpc/echo%ff", "/articles%00/x/y"]
    {
        for method in ["GET", "POST", "DELETE", "OPTIONS"] {
            let reply = send(&service, method, target, &[], "");
            assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("22021")), "{method} {target}");
        }
    }
    let token = bearer("anon\0x", "1");
    let reply = send(&service, "GET", "/articles", &[("authorization", &token)], "");
    assert!((400..500).contains(&reply.status), "{reply:?}");
}

#[test]
fn unsupported_parameters_are_rejected() {
    let service = Service::start(&DATABASE.uri(), &[]);
    let other = database(SCHEMA);
    let service_of_its_own = Service::start(&other.uri(), &[]);
    other.psql("select api.seed()");
    let rows = "select jsonb_agg(t order by id) from api.articles t";
    let before = other.psql(rows);
    let returning = &[("prefer", "return=representation")][..];
    for target in [
        "/articles?id!=eq.1",
        "/articles?id%3E=eq.1",
        "/articles?id)=eq.1",
        "/articles?id",
        "/articles?id=eq.1)&id",
        "/articles?id=is.null)",
        "/articles?id=in.(1)2",
        "/articles?or=(id.eq.1)2",
        "/articles?limit=1",
        "/articles?offset=1",
        "/articles?limit=0",
        "/articles?select=-dash",
        "/articles?select=id,-dash",
        "/articles?id=eq.1&select=id&select=title",
        "/articles?on_conflict=id",
        "/articles?title=eq.a;b",
        "/articles?order=id.sideways",
        "/articles?select=id,articles(id)&articles.limit=1",
    ] {
        for (method, body) in [("DELETE", ""), ("PATCH", r#"{"title": "gone"}"#)] {
            for headers in [&[][..], returning] {
                let reply = send(&service_of_its_own, method, target, headers, body);
                assert_eq!(
                    (reply.status, &reply.json()["code"]),
                    (400, &json!("PGRST100")),
                    "{method} {target}"
                );
                assert!(reply.json()["message"].as_str().unwrap().contains("column"), "{reply:?}");
                assert!(reply.json()["details"].as_str().unwrap().starts_with("unexpected "), "{reply:?}");
            }
        }
        let is_refused = !target.contains("limit=") && !target.contains("offset=1");
        if is_refused {
            assert_eq!(send(&service, "GET", target, &[], "").status, 400, "{target}");
        }
    }
    for (method, target, body) in [
        ("DELETE", "/articles?order=id", ""),
        ("DELETE", "/articles?columns=id", ""),
        ("PATCH", "/articles?order=id", "{}"),
        ("POST", "/articles?id=eq.7", r#"{"id": 7}"#),
        ("POST", "/articles?on_conflict=id", r#"{"id": 7}"#),
        ("POST", "/articles?limit=1", r#"{"id": 7}"#),
        ("PUT", "/articles?id=eq.7&columns=id", r#"{"id": 7}"#),
        ("GET", "/articles?columns=id", ""),
        ("GET", "/articles?limit=many", ""),
        ("GET", "/?select=id", ""),
    ] {
        let reply = send(&service_of_its_own, method, target, &[], body);
        assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("PGRST100")), "{method} {target}");
    }
    // under strict handling, unknown preferences are rejected too
    for prefer in ["handling=strict, max-affected=ten", "handling=strict, tx=rollback"] {
        let reply = send(&service_of_its_own, "DELETE", "/articles?id=gt.0", &[("prefer", prefer)], "");
        assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("PGRST122")), "{prefer}");
    }
    assert_eq!(other.psql(rows), before);
    // supported parameters still are
    let reply =
        send(&service_of_its_own, "DELETE", "/articles?id=gt.1&order=id.desc&select=id", returning, "");
    assert_eq!((reply.status, reply.json()), (200, json!([{"id": 2}])));
}

#[test]
fn bodies_that_would_be_truncated_are_rejected() {
    let service = Service::start(&DATABASE.uri(), &[]);
    let csv = [("content-type", "text/csv")];
    let post = |body: &str| send(&service, "POST", "/sheet", &csv, body);
    let reply = post("n,a\n1,one\n5,Smith, John\n");
    assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("PGRST102")));
    assert_eq!(reply.json()["details"], "Line 3 has 3 fields and the header has 2");
    for body in ["n,a\n1", "n,n\n1,2", "n,a\n1,\"x", "n,a\n1,x\"y", "n,a\n1,\"x\"y", "n,zzz\n"] {
        let reply = post(body);
        assert_eq!(reply.status, 400, "{body:?}: {reply:?}");
    }
    let form = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(send(&service, "POST", "/sheet", &form, "n=1&n=2").status, 400);
    for body in ["5", "\"text\"", "null", "[7]", "[{\"n\":1},7]"] {
        assert_eq!(send(&service, "POST", "/sheet", &[], body).status, 400, "{body}");
    }
    assert_eq!(DATABASE.psql("select count(*) from api.sheet"), "0");
    // `columns` applies to every media type
    let chosen = send(&service, "POST", "/articles?columns=id", &csv, "id,title,data\n70,x,{}\n");
    assert_eq!(chosen.status, 201, "{chosen:?}");
    assert_eq!(DATABASE.psql("delete from api.articles where id = 70 returning title is null"), "t");
}

#[test]
fn a_body_for_an_unnamed_parameter_is_unchanged() {
    let service = Service::start(&DATABASE.uri(), &[]);
    let call = |routine: &str, content_type: &str, body: &str| {
        send(&service, "POST", &format!("/rpc/{routine}"), &[("content-type", content_type)], body)
    };
    for body in [
        "5",
        "-1.50",
        "\"text\"",
        "null",
        "true",
        "[]",
        "[ ]",
        "[1,2]",
        "[[]]",
        "[null]",
        "{}",
        r#"{"a":1}"#,
        r#"[{"a":1},{"b":2}]"#,
        r#"[{"a":1},{"a":2}]"#,
        " 5 ",
        "\"ü \\u00e9\"",
    ] {
        let reply = call("whole_json", "application/json", body);
        assert_eq!((reply.status, reply.json()), (200, json!(body)), "{body}");
        let reply = call("whole_jsonb", "application/json", body);
        let arrived: Value = serde_json::from_str(reply.json().as_str().unwrap()).unwrap();
        assert_eq!(arrived, serde_json::from_str::<Value>(body).unwrap(), "{body}");
    }
    assert_eq!(call("whole_json", "application/json", "").json(), "{}");
    for body in ["", "plain", "ü\n\"", "5"] {
        assert_eq!(call("whole_text", "text/plain", body).json(), body);
        let digits: String = body.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(call("whole_bytes", "application/octet-stream", body).json(), *digits);
    }
    assert_eq!(call("whole_bytes", "application/octet-stream", "\0\u{1}").json(), "0001");
    assert_eq!(call("whole_xml", "text/xml", "<a>&lt;</a>").json(), "<a>&lt;</a>");
    // rejected if there is no unnamed parameter
    for (routine, body) in [("nothing", "5"), ("nothing", "[1]"), ("echo", "\"x\""), ("echo", "null")] {
        let reply = call(routine, "application/json", body);
        assert_eq!((reply.status, &reply.json()["code"]), (404, &json!("PGRST202")), "{routine} {body}");
    }
    assert_eq!(call("echo", "application/json", r#"[{"word":"a"}]"#).json(), "a");
}

/// Method, target, headers and body of a request; status and code of the response.
type Refused<'t> = (&'t str, &'t str, &'t [(&'t str, &'t str)], &'t str, u16, &'t str);

/// Sends requests that must be rejected, and checks that the rows are unchanged.
fn refused(cases: &[Refused<'_>]) {
    let other = database(SCHEMA);
    let service = Service::start(&other.uri(), &[]);
    other.psql("select api.seed(); create table api.calls (n int); grant all on api.calls to anon;
        create function api.note(a int, b int default 0) returns int language sql as 'insert into api.calls values (a) returning n';
        create function api.note_all(variadic v int[]) returns int language sql as 'insert into api.calls select unnest(v) returning n';
        notify pgrst, 'reload schema'");
    crate::service::wait_until("the function is known", || service.get("/calls").status == 200);
    let state = || {
        other.psql("select jsonb_build_array((select jsonb_agg(t order by id) from api.articles t), (select jsonb_agg(c) from api.calls c))")
    };
    let before = state();
    for (method, target, headers, body, status, code) in cases {
        let reply = send(&service, method, target, headers, body);
        assert_eq!(
            (reply.status, &reply.json()["code"]),
            (*status, &json!(code)),
            "{method} {target} {headers:?} {body:.200}: {reply:?}"
        );
        assert_eq!(state(), before, "{method} {target} {headers:?} {body:.200}");
    }
    // similar and valid
    let json = &[("content-type", "application/json; charset=utf-8"), ("content-encoding", "identity")][..];
    let form = &[("content-type", "application/x-www-form-urlencoded")][..];
    for (method, target, headers, body, status) in [
        ("PATCH", "/articles?id=eq.1", json, r#"[{"title":"ann"}]"#, 204),
        ("PATCH", "/articles?id=eq.1", json, "[]", 204),
        ("PUT", "/articles?id=eq.1", json, r#"[{"id":1,"title":"ann"}]"#, 204),
        ("POST", "/rpc/note", json, r#"[{"a":1},{"a":2}]"#, 200),
        ("POST", "/rpc/note", CSV, "a,b\n1,2\n", 200),
        ("POST", "/rpc/note_all", form, "v=1&v=2", 200),
        ("POST", "/rpc/whole_json", json, r#"{"a":1,"a":2}"#, 200),
        ("POST", "/articles", json, r#"{"id":7,"data":{"a":1,"a":2},"title":"100%"}"#, 201),
        ("GET", "/articles?title=like(any).{%nn%,%b}&select=id", json, "", 200),
        ("POST", "/rpc/echo", form, "word=100%25", 200),
    ] {
        let reply = send(&service, method, target, headers, body);
        assert_eq!(reply.status, status, "{method} {target} {body}: {reply:?}");
    }
}

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const CSV: &[(&str, &str)] = &[("content-type", "text/csv")];
const FORM: &[(&str, &str)] = &[("content-type", "application/x-www-form-urlencoded")];

#[test]
fn rows_and_keys_that_would_be_dropped_are_rejected() {
    let merge = &[("content-type", "application/json"), ("prefer", "resolution=merge-duplicates")][..];
    refused(&[
        ("PATCH", "/articles?id=eq.1", JSON, r#"[{"title":"x"},{"title":"y"}]"#, 400, "PGRST102"),
        ("PATCH", "/articles?id=eq.1", JSON, r#"[{"title":"x"},{"title":"x"}]"#, 400, "PGRST102"),
        ("PATCH", "/articles?id=eq.1&columns=title", JSON, r#"[{"title":"x"},{"id":2}]"#, 400, "PGRST102"),
        ("PATCH", "/articles?id=eq.1", JSON, "[{},{}]", 400, "PGRST102"),
        ("PATCH", "/articles?id=eq.1", CSV, "title\nx\ny\n", 400, "PGRST102"),
        ("POST", "/rpc/note", CSV, "a,b\n1,2\n3,4", 400, "PGRST102"),
        ("POST", "/rpc/note?columns=a", CSV, "a,b\n1,2\n3,4", 400, "PGRST102"),
        ("POST", "/rpc/note", CSV, "a,b\n", 400, "PGRST102"),
        ("POST", "/rpc/note?columns=a", JSON, "[]", 400, "PGRST102"),
        ("POST", "/articles", JSON, r#"{"id":8,"title":"x","title":"y"}"#, 400, "PGRST102"),
        ("POST", "/articles", JSON, r#"{"id":8,"\u0069d":9}"#, 400, "PGRST102"),
        ("POST", "/articles", JSON, r#"[{"id":8},{"id":9,"id":10}]"#, 400, "PGRST102"),
        ("POST", "/articles?columns=id", JSON, r#"[{"id":8},{"x":1,"id":9,"id":10}]"#, 400, "PGRST102"),
        ("PATCH", "/articles?id=eq.1", JSON, r#"{"title":"x","title":"y"}"#, 400, "PGRST102"),
        ("PUT", "/articles?id=eq.1", JSON, r#"{"id":1,"id":1}"#, 400, "PGRST102"),
        ("POST", "/rpc/note", JSON, r#"{"a":1,"a":2}"#, 400, "PGRST102"),
        ("POST", "/rpc/note?columns=a", JSON, r#"{"a":1,"a":2}"#, 400, "PGRST102"),
        ("POST", "/rpc/note_all", JSON, r#"{"v":[1],"v":[2]}"#, 400, "PGRST102"),
        ("POST", "/rpc/note", FORM, "a=1&a=2", 400, "PGRST102"),
        ("GET", "/rpc/echo?word=a&word=b", &[], "", 400, "PGRST100"),
    ]);
    let other = database(
        "create schema api; grant usage on schema api to anon;
        create table api.keyed (id int primary key, t text); grant all on api.keyed to anon;",
    );
    let service = Service::start(&other.uri(), &[]);
    let two = r#"[{"id":1,"t":"a"},{"id":1,"t":"b"}]"#;
    assert_eq!(send(&service, "PUT", "/keyed?id=eq.1", JSON, two).status, 400);
    let csv = send(&service, "PUT", "/keyed?id=eq.1", CSV, "id,t\n1,a\n1,a");
    assert_eq!((csv.status, &csv.json()["code"]), (400, &json!("PGRST102")), "{csv:?}");
    let twice = send(&service, "POST", "/keyed", merge, two);
    assert_eq!((twice.status, &twice.json()["code"]), (400, &json!("21000")), "{twice:?}");
    assert_eq!(other.psql("select count(*) from api.keyed"), "0");
}

#[test]
fn unsupported_encodings_are_rejected() {
    let gzip = &[("content-type", "application/json"), ("content-encoding", "gzip")][..];
    let utf16 = &[("content-type", "application/json; charset=utf-16")][..];
    let twice = &[("content-type", "application/json"), ("content-type", "text/csv")][..];
    let deep = format!(r#"{{"id":8,"data":{}{}}}"#, "[".repeat(200_000), "]".repeat(200_000));
    let row = r#"{"id":8}"#;
    refused(&[
        ("DELETE", "/articles?title=eq.%zz", &[], "", 400, "PGRST100"),
        ("DELETE", "/articles?id=eq.1&title=like.%", &[], "", 400, "PGRST100"),
        ("PATCH", "/articles?title=eq.%4", JSON, r#"{"title":"x"}"#, 400, "PGRST100"),
        ("POST", "/articles", FORM, "id=8&title=%zz", 400, "PGRST100"),
        ("POST", "/articles", FORM, "id=8&title=100%", 400, "PGRST100"),
        ("POST", "/rpc/echo", FORM, "word=%4", 400, "PGRST100"),
        ("GET", "/rpc/echo?word=%zz", &[], "", 400, "PGRST100"),
        ("GET", "/articles%zz", &[], "", 400, "PGRST100"),
        ("POST", "/articles", gzip, row, 415, "PGRST102"),
        ("POST", "/rpc/whole_json", gzip, row, 415, "PGRST102"),
        ("PATCH", "/articles?id=eq.1", utf16, r#"{"title":"x"}"#, 415, "PGRST102"),
        ("POST", "/rpc/note", utf16, r#"{"a":1}"#, 415, "PGRST102"),
        ("POST", "/articles", twice, row, 400, "PGRST102"),
        ("POST", "/articles", JSON, &deep, 400, "PGRST102"),
        ("POST", "/articles?columns=id,data", JSON, &deep, 400, "PGRST102"),
        ("POST", "/rpc/whole_json", JSON, &deep, 400, "PGRST102"),
        ("GET", "/articles?offset=-1&limit=2", &[], "", 416, "PGRST103"),
    ]);
    let service = Service::start(&DATABASE.uri(), &[]);
    let fine = format!("{}{}", "[".repeat(999), "]".repeat(999));
    for routine in ["whole_json", "whole_jsonb"] {
        assert_eq!(send(&service, "POST", &format!("/rpc/{routine}"), JSON, &fine).status, 200);
    }
    let most = i64::MAX;
    assert_eq!(service.get(&format!("/articles?offset={most}&limit={most}")).body, "[]");
}

/// A cell: null, or a text that needs quoting in CSV.
fn cell() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        Just(None),
        "(NULL|null|,|\"|\\\\|\n|\r|\r\n| |\t|'|;|ü|🦀|a|\u{feff}|\\{|\\}|\\(|\\)){0,6}".prop_map(Some),
        "\\PC{0,12}".prop_map(Some),
    ]
}

#[test]
fn csv_round_trips() {
    let database = database(SCHEMA);
    let service = Service::start(&database.uri(), &[]);
    let headers = [("accept", "text/csv")];
    let export = |target: &str| send(&service, "GET", target, &headers, "");
    let import = |target: &str, body: &str| {
        let reply = send(&service, "POST", target, &[("content-type", "text/csv")], body);
        assert_eq!(reply.status, 201, "{body:?}: {reply:?}");
    };
    let rows = "select coalesce(jsonb_agg(t order by n), '[]') from api.sheet t";
    let check = |cells: Vec<[Option<String>; 3]>| {
        let literal = |cell: &Option<String>| {
            cell.as_ref().map_or("null".to_owned(), |text| format!("'{}'", text.replace('\'', "''")))
        };
        let values: Vec<String> = cells
            .iter()
            .enumerate()
            .map(|(n, cells)| format!("({n}, {})", cells.iter().map(literal).collect::<Vec<_>>().join(", ")))
            .collect();
        database.psql(&format!(
            "truncate api.sheet, api.column_alone; insert into api.sheet values {}",
            values.join(", ")
        ));
        let (first, before) = (export("/sheet?order=n").body, database.psql(rows));
        database.psql("insert into api.column_alone select a from api.sheet order by n");
        let alone =
            (export("/column_alone").body, database.psql("select json_agg(t) from api.column_alone t"));
        database.psql("truncate api.sheet, api.column_alone");
        import("/sheet", &first);
        import("/column_alone", &alone.0);
        assert_eq!(database.psql(rows), before, "{first:?}");
        assert_eq!(export("/sheet?order=n").body, first);
        assert_eq!(database.psql("select json_agg(t) from api.column_alone t"), alone.1, "{:?}", alone.0);
        assert_eq!(export("/column_alone").body, alone.0);
    };
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() });
    let strategy = proptest::collection::vec([cell(), cell(), cell()], 1..6);
    runner
        .run(&strategy, |cells| {
            check(cells);
            Ok(())
        })
        .unwrap();

    database.psql(
        r#"truncate api.sheet; insert into api.sheet values (1, 'back\slash', null, 'NULL'), (2, '', 'x,NULL', 'say "hi"')"#,
    );
    assert_eq!(
        export("/sheet?order=n").body,
        "n,a,\"b,\"\"c\",\"ü\nd\"\n1,\"back\\slash\",,\"NULL\"\n2,\"\",\"x,NULL\",\"say \"\"hi\"\"\""
    );
    // without rows there is still the header, with the columns of the rows
    assert_eq!(export("/sheet?n=lt.0&select=a,n").body, "a,n\n");
    let written = send(
        &service,
        "PATCH",
        "/sheet?n=eq.1&select=a",
        &[("accept", "text/csv"), ("prefer", "return=representation")],
        r#"{"a": "c:\\d"}"#,
    );
    assert_eq!((written.status, &*written.body), (200, "a\n\"c:\\d\""));
}
