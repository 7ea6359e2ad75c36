//! A schema with every feature: responses match the description, and HTTP.

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::postgres::{Database, database};
use crate::service::{Client, Reply, Service, on_one_thread};

static DATABASE: LazyLock<Database> = LazyLock::new(|| database(include_str!("described.sql")));

fn ask(method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let service = Service::start(
        &DATABASE.uri(),
        &[("server-timing-enabled", "true"), ("openapi-title", "Things"), ("openapi-version", "7")],
    );
    ask_of(&service, method, target, headers, body)
}

fn ask_of(service: &Service, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    on_one_thread(async {
        Client::connect(service.address).await.request(method, target, headers, body).await.unwrap()
    })
}

fn openapi() -> Value {
    ask("GET", "/openapi.json", &[], "").json()
}

fn names(value: &Value) -> Vec<&str> {
    value.as_object().map(|object| object.keys().map(String::as_str).collect()).unwrap_or_default()
}

/// Checks a response against the description of its method, path, status and media type.
#[track_caller]
fn check_answer(document: &Value, method: &str, path: &str, target: &str, reply: &Reply) {
    let operation = &document["paths"][path][method];
    assert!(operation.is_object(), "{method} {path} is not described");
    let responses = &operation["responses"];
    let status = reply.status.to_string();
    let response = responses.get(&status).unwrap_or(&responses["default"]);
    let response = match response["$ref"].as_str() {
        Some(reference) => document.pointer(reference.strip_prefix('#').unwrap()).unwrap(),
        None => response,
    };
    let Some(content) = response.get("content") else {
        assert!(reply.body.is_empty(), "{target}: a body is not described: {reply:?}");
        return;
    };
    // SQL may set a status without a body.
    if [204, 205, 304].contains(&reply.status) {
        assert!(reply.body.is_empty(), "{target}: {reply:?}");
        return;
    }
    let media_type = reply.header("content-type").unwrap().split(';').next().unwrap();
    let described =
        content.get(media_type).unwrap_or_else(|| panic!("{target}: {media_type} is not described"));
    if media_type.ends_with("json") {
        let mut schema = described["schema"].clone();
        schema["components"] = document["components"].clone();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let body = reply.json();
        let errors: Vec<String> =
            validator.iter_errors(&body).map(|error| format!("{} {error}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{target}: {errors:?} in {body}");
    }
}

#[test]
fn reads_match_the_description() {
    let service = Service::start(&DATABASE.uri(), &[]);
    let document = service.get("/openapi.json").json();
    for (path, query) in [
        ("/things", ""),
        ("/things", "?select=id"),
        ("/things", "?select=*,parts(*)"),
        ("/things", "?limit=1"),
        ("/things", "?select="),
        ("/things", "?nothing=eq.1"),
        ("/parts", "?select=*,things(name)"),
        ("/shown", ""),
        ("/counted", ""),
        ("/readable", ""),
        ("/rpc/nothing", ""),
        ("/rpc/no_thing", ""),
        ("/rpc/some_things", ""),
        ("/rpc/numbers", ""),
        ("/rpc/grid", ""),
        ("/rpc/kind", ""),
        ("/rpc/pair", ""),
        ("/rpc/record", ""),
        ("/rpc/add", "?a=1"),
        ("/rpc/add", "?a=x"),
        ("/rpc/join", "?words=a&words=b"),
        ("/rpc/page", ""),
    ] {
        let target = format!("{path}{query}");
        for accept in ["*/*", "application/json", "text/csv", "text/html", "application/x-things"] {
            let reply = ask_of(&service, "GET", &target, &[("accept", accept)], "");
            assert!(reply.status < 500, "{target} {reply:?}");
            check_answer(&document, "get", path, &format!("{target} {accept}"), &reply);
        }
    }
}

#[test]
fn writes_and_calls_match_the_description() {
    let service = Service::start(&DATABASE.uri(), &[("db-tx-end", "rollback")]);
    let document = service.get("/openapi.json").json();
    let thing = r##"{"name": "three", "colour": "#ff0000", "grid": [[1, 2], [3, 4]], "kind": "7"}"##;
    let merge = "resolution=merge-duplicates";
    for (method, path, query, body) in [
        ("post", "/things", "", thing),
        ("post", "/things", "", r#"{"id": 5, "name": "three"}"#),
        ("post", "/things", "", r#"{"upper": "X", "name": "three"}"#),
        ("post", "/parts", "", r#"{"thing": 1, "number": 1}"#),
        ("post", "/fillable", "", r#"{"id": 1}"#),
        ("patch", "/things", "?id=eq.1", r#"{"name": "other"}"#),
        ("put", "/parts", "?thing=eq.1&number=eq.9", r#"{"thing": 1, "number": 9}"#),
        ("delete", "/removable", "?id=eq.1", ""),
        ("post", "/rpc/change", "", "{}"),
        ("post", "/rpc/status", "", r#"{"code": 5}"#),
        ("post", "/rpc/status", "", r#"{"code": 18}"#),
        ("post", "/rpc/teapot", "", "{}"),
        ("post", "/rpc/whole", "", "[1]"),
        ("post", "/rpc/add", "", r#"{"a": 1}"#),
        ("post", "/rpc/add", "", r#"{"a": "x"}"#),
    ] {
        for prefer in ["", "return=representation", "return=headers-only", merge] {
            let target = format!("{path}{query}");
            let headers = [("content-type", "application/json"), ("prefer", prefer)];
            let reply = ask_of(&service, &method.to_uppercase(), &target, &headers, body);
            assert!(reply.status < 500, "{target} {reply:?}");
            let described =
                reply.status == 201 || reply.status == 200 && method == "post" && !path.starts_with("/rpc");
            if described && prefer == "return=representation" {
                // described in prose, since the same status without the preference has no body
                assert!(reply.json().is_array(), "{reply:?}");
                continue;
            }
            check_answer(&document, method, path, &format!("{method} {target} {prefer}"), &reply);
        }
    }
}

#[test]
fn generated_columns_are_neither_required_nor_writable() {
    let document = openapi();
    let schemas = &document["components"]["schemas"];
    let written = names(&schemas["things.update"]["properties"]);
    assert!(!written.contains(&"id") && !written.contains(&"upper"), "{written:?}");
    assert!(written.contains(&"code") && written.contains(&"name"), "{written:?}");
    assert_eq!(schemas["things.insert"]["allOf"][1]["required"], json!(["name"]));
    assert_eq!(schemas["things"]["properties"]["id"]["readOnly"], json!(true));
    assert_eq!(names(&schemas["shown.update"]["properties"]), ["name"], "a view over them neither");
    let swagger = ask("GET", "/", &[("accept", "application/openapi+json")], "").json();
    let required = &swagger["definitions"]["things"]["required"];
    assert!(!required.as_array().unwrap().contains(&json!("upper")), "{required}");
}

#[test]
fn describes_only_what_the_role_may_use() {
    let document = openapi();
    let swagger = ask("GET", "/", &[("accept", "application/openapi+json")], "").json();
    for (path, expected) in [
        ("/things", vec!["get", "post", "put", "patch", "delete"]),
        ("/counted", vec!["get"]),
        ("/readable", vec!["get"]),
        ("/fillable", vec!["post"]),
        ("/removable", vec!["get", "delete"]),
        ("/secret", vec![]),
    ] {
        assert_eq!(names(&document["paths"][path]), expected, "{path}");
        let expected: Vec<&str> = expected.into_iter().filter(|method| *method != "put").collect();
        assert_eq!(names(&swagger["paths"][path]), expected, "{path}");
    }
}

#[test]
fn uses_the_address_of_the_proxy_and_the_configured_title() {
    let document = openapi();
    assert_eq!(document["servers"], json!([{ "url": "/" }]));
    assert_eq!((&document["info"]["title"], &document["info"]["version"]), (&json!("Things"), &json!("7")));
    let swagger = ask("GET", "/", &[("accept", "application/openapi+json")], "").json();
    assert_eq!((&swagger["host"], &swagger["schemes"]), (&Value::Null, &Value::Null));
    assert_eq!((&swagger["info"]["title"], &swagger["info"]["version"]), (&json!("Things"), &json!("7")));
}

#[test]
fn a_405_response_has_allow() {
    let service = Service::start(&DATABASE.uri(), &[]);
    for (method, target, allow) in [
        ("TRACE", "/things", "OPTIONS,GET,HEAD,POST,PUT,PATCH,DELETE"),
        ("TRACE", "/readable", "OPTIONS,GET,HEAD,POST,PUT,PATCH,DELETE"),
        ("POST", "/counted", "OPTIONS,GET,HEAD"),
        ("PATCH", "/counted", "OPTIONS,GET,HEAD"),
        ("DELETE", "/counted", "OPTIONS,GET,HEAD"),
        ("PUT", "/things", "OPTIONS,GET,HEAD,POST,PUT,PATCH,DELETE"),
        ("DELETE", "/rpc/add", "OPTIONS,GET,HEAD,POST"),
        ("PATCH", "/rpc/change", "OPTIONS,POST"),
        ("POST", "/rpc/no_method", "OPTIONS,POST"),
        ("DELETE", "/", "OPTIONS,GET,HEAD"),
        ("TRACE", "/unknown", "OPTIONS,GET,HEAD,POST,PUT,PATCH,DELETE"),
    ] {
        let body = if matches!(method, "POST" | "PATCH" | "PUT") { "{}" } else { "" };
        let reply = ask_of(&service, method, target, &[("content-type", "application/json")], body);
        assert_eq!((reply.status, reply.header("allow")), (405, Some(allow)), "{method} {target} {reply:?}");
    }
}

#[test]
fn options_have_server_timing() {
    for target in ["/things", "/rpc/nothing", "/"] {
        let reply = ask("OPTIONS", target, &[], "");
        let timing = reply.header("server-timing").unwrap();
        assert!(timing.contains("plan;dur=") && timing.contains("response;dur="), "{target}: {timing}");
    }
}

#[test]
fn locations_are_percent_encoded() {
    let service = Service::start(&DATABASE.uri(), &[("db-tx-end", "rollback")]);
    let target = "/odd%20%C3%A9%2Fname";
    let headers = [("content-type", "application/json"), ("prefer", "return=headers-only")];
    let reply = ask_of(&service, "POST", target, &headers, r#"{"the key": "a/b é"}"#);
    let location = format!("{target}?the%20key=eq.a%2Fb%20%C3%A9");
    assert_eq!((reply.status, reply.header("location")), (201, Some(location.as_str())), "{reply:?}");
    let reply = service.get(&format!("{target}?n=eq.1"));
    let location = format!("{target}?n=eq.1");
    assert_eq!((reply.status, reply.header("content-location")), (200, Some(location.as_str())), "{reply:?}");
    let embedded = service.get("/things?select=id&name=eq.%C3%A9");
    assert_eq!(embedded.header("content-location"), Some("/things?name=eq.%C3%A9&select=id"));
}

#[test]
fn nested_domains_over_tsvector_are_searched() {
    let service = Service::start(&DATABASE.uri(), &[]);
    let found = service.get("/things?select=name&search=fts(english).things");
    assert_eq!(found.json(), json!([{ "name": "one" }]), "{found:?}");
}

#[test]
fn procedures_and_unusable_conflict_targets_have_a_hint() {
    let service = Service::start(&DATABASE.uri(), &[]);
    let reply = service.get("/rpc/archive");
    assert_eq!(reply.json()["code"], "PGRST202");
    let hint = reply.json()["hint"].as_str().unwrap().to_owned();
    assert_eq!(
        hint,
        "api.archive is a procedure, and only functions can be called: write a function that calls it"
    );
    let headers = [("content-type", "application/json"), ("prefer", "resolution=merge-duplicates")];
    let body = r#"{"thing": 1, "number": 7, "note": "second"}"#;
    let reply = ask_of(&service, "POST", "/parts?on_conflict=note", &headers, body);
    assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("42P10")), "{reply:?}");
    assert!(reply.json()["hint"].as_str().unwrap().contains("partial"), "{reply:?}");
}

/// A custom representation of an enum's values may be any JSON, and so may that of a domain over it.
#[test]
fn an_enum_with_a_cast_to_json_has_no_type() {
    let database = database(
        "create schema api;
        grant usage on schema api to anon;
        create type api.mood as enum ('sad', 'happy');
        create type api.tone as enum ('low', 'high');
        create domain api.humour as api.mood;
        create function api.to_json(api.mood) returns json immutable language sql as $$ select json_build_array(1) $$;
        create cast (api.mood as json) with function api.to_json(api.mood);
        create table api.people (id int primary key, m api.mood, h api.humour, t api.tone);
        insert into api.people values (1, 'sad', 'happy', 'low');
        grant select on api.people to anon;",
    );
    let service = Service::start(&database.uri(), &[]);
    let document = service.get("/openapi.json").json();
    let reply = service.get("/people");
    check_answer(&document, "get", "/people", "/people", &reply);
    assert_eq!(reply.json(), json!([{"id": 1, "m": [1], "h": [1], "t": "low"}]));
    let properties = &document["components"]["schemas"]["people"]["properties"];
    for column in ["m", "h"] {
        assert!(
            properties[column].get("enum").is_none() && properties[column].get("type").is_none(),
            "{properties}"
        );
    }
    assert_eq!(properties["t"]["enum"], json!(["low", "high", null]));
}
