//! Responses: statuses, headers and bodies over a real connection.

use std::fmt::Write as _;
use std::sync::LazyLock;

use expect_test::{Expect, expect};

use crate::postgres::{Database, database};
use crate::service::{Client, Service, on_one_thread};

/// Every transaction is rolled back unless the client requests a commit, so that checks are independent.
static SERVICE: LazyLock<(Database, Service)> = LazyLock::new(|| {
    let database = database(include_str!("responding.sql"));
    let options = [
        ("db-schemas", "api, archive"),
        ("db-tx-end", "rollback-allow-override"),
        ("db-plan-enabled", "true"),
        ("server-cors-allowed-origins", "http://shop.example"),
    ];
    let service = Service::start(&database.uri(), &options);
    (database, service)
});

/// Checks the response to a request: first line method and target, then headers, then a blank line and the body.
#[track_caller]
fn check(request: &str, expect: &Expect) {
    let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
    let mut lines = head.lines();
    let (method, target) = lines.next().unwrap().split_once(' ').unwrap();
    let headers: Vec<(&str, &str)> = lines.map(|line| line.split_once(": ").unwrap()).collect();
    let address = SERVICE.1.address;
    let reply = on_one_thread(async {
        let mut client = Client::connect(address).await;
        client.request(method, target, &headers, body).await.unwrap()
    });
    let mut text = format!("{}\n", reply.status);
    let mut names: Vec<_> = reply.headers.keys().collect();
    names.sort_by_key(|name| name.as_str());
    for name in names.into_iter().filter(|name| !["date", "vary"].contains(&name.as_str())) {
        for value in reply.headers.get_all(name) {
            writeln!(text, "{name}: {}", value.to_str().unwrap()).unwrap();
        }
    }
    writeln!(text, "\n{}", reply.body).unwrap();
    expect.assert_eq(&text);
}

#[test]
fn reads_have_content_range() {
    check(
        "GET /films?select=id&order=id",
        &expect![[r#"
        200
        content-length: 34
        content-location: /films?order=id&select=id
        content-profile: api
        content-range: 0-2/*
        content-type: application/json; charset=utf-8

        [{"id":1}, 
         {"id":2}, 
         {"id":3}]
    "#]],
    );
    check(
        "GET /films?select=id&order=id&limit=2&offset=1\nPrefer: count=exact",
        &expect![[r#"
        206
        content-length: 22
        content-location: /films?limit=2&offset=1&order=id&select=id
        content-profile: api
        content-range: 1-2/3
        content-type: application/json; charset=utf-8
        preference-applied: count=exact

        [{"id":2}, 
         {"id":3}]
    "#]],
    );
    check(
        "GET /films?select=id\nRange: 5-9\nPrefer: count=exact",
        &expect![[r#"
        416
        content-length: 144
        content-location: /films?select=id
        content-profile: api
        content-range: */3
        content-type: application/json; charset=utf-8
        preference-applied: count=exact

        {"code":"PGRST103","message":"Requested range not satisfiable","details":"An offset of 5 was requested, but there are only 3 rows.","hint":null}
    "#]],
    );
    check(
        "HEAD /films?id=eq.1\nPrefer: count=exact, handling=lenient, nonsense",
        &expect![[r#"
        200
        content-location: /films?id=eq.1
        content-profile: api
        content-range: 0-0/1
        content-type: application/json; charset=utf-8
        preference-applied: count=exact, handling=lenient


    "#]],
    );
    check(
        "GET /films?id=eq.1&select=title\nAccept: text/csv",
        &expect![[r#"
        200
        content-length: 8
        content-location: /films?id=eq.1&select=title
        content-profile: api
        content-range: 0-0/*
        content-type: text/csv; charset=utf-8

        title
        Un
    "#]],
    );
    check(
        "GET /films?id=eq.1&select=title\nAccept: application/vnd.pgrst.object+json",
        &expect![[r#"
        200
        content-length: 14
        content-location: /films?id=eq.1&select=title
        content-profile: api
        content-range: 0-0/*
        content-type: application/vnd.pgrst.object+json; charset=utf-8

        {"title":"Un"}
    "#]],
    );
    check(
        "GET /films\nAccept: application/vnd.pgrst.object+json",
        &expect![[r#"
        406
        content-length: 131
        content-type: application/json; charset=utf-8
        proxy-status: PostgREST; error=PGRST116

        {"code":"PGRST116","message":"Cannot coerce the result to a single JSON object","details":"The result contains 3 rows","hint":null}
    "#]],
    );
}

#[test]
fn writes_have_status_and_location() {
    check(
        "POST /films\nPrefer: return=headers-only\n\n{\"id\": 9, \"title\": \"Nine\"}",
        &expect![[r#"
        201
        content-length: 0
        content-range: */*
        location: /films?id=eq.9
        preference-applied: return=headers-only


    "#]],
    );
    check(
        "POST /films?select=id\nPrefer: return=representation, resolution=merge-duplicates\n\n[{\"id\": 1, \"title\": \"One\"}]",
        &expect![[r#"
            200
            content-length: 10
            content-profile: api
            content-range: */*
            content-type: application/json; charset=utf-8
            preference-applied: resolution=merge-duplicates, return=representation

            [{"id":1}]
        "#]],
    );
    check(
        "PATCH /films?id=lt.3\nPrefer: count=exact\n\n{\"title\": \"Same\"}",
        &expect![[r#"
        204
        content-range: 0-1/2
        preference-applied: count=exact


    "#]],
    );
    check(
        "DELETE /films?id=eq.1&select=id\nPrefer: return=representation, tx=rollback",
        &expect![[r#"
        200
        content-length: 10
        content-profile: api
        content-range: */*
        content-type: application/json; charset=utf-8
        preference-applied: return=representation, tx=rollback

        [{"id":1}]
    "#]],
    );
    check(
        "DELETE /films\nPrefer: handling=strict, max-affected=1",
        &expect![[r#"
        400
        content-length: 136
        content-type: application/json; charset=utf-8
        proxy-status: PostgREST; error=PGRST124

        {"code":"PGRST124","message":"Query result exceeds max-affected preference constraint","details":"The query affects 3 rows","hint":null}
    "#]],
    );
    check(
        "PUT /films?id=eq.7\nPrefer: return=representation\n\n{\"id\": 7, \"title\": \"Seven\"}",
        &expect![[r#"
            201
            content-length: 26
            content-profile: api
            content-type: application/json; charset=utf-8
            preference-applied: return=representation

            [{"id":7,"title":"Seven"}]
        "#]],
    );
    check(
        "PUT /films?id=eq.1\n\n{\"id\": 1, \"title\": \"One\"}",
        &expect![[r#"
        204


    "#]],
    );
}

#[test]
fn routines_define_body_and_headers() {
    check(
        "GET /rpc/double?n=21",
        &expect![[r#"
        200
        content-length: 2
        content-profile: api
        content-range: 0-0/*
        content-type: application/json; charset=utf-8

        42
    "#]],
    );
    check(
        "POST /rpc/double\n\n{\"n\": 21}",
        &expect![[r#"
        200
        content-length: 2
        content-profile: api
        content-range: 0-0/*
        content-type: application/json; charset=utf-8

        42
    "#]],
    );
    check(
        "POST /rpc/nothing",
        &expect![[r#"
        204
        content-range: 0-0/*


    "#]],
    );
    check(
        "GET /rpc/teapot",
        &expect![[r#"
        418
        content-length: 17
        content-profile: api
        content-range: 0-0/*
        content-type: application/json; charset=utf-8
        set-cookie: a=1
        set-cookie: b=2
        x-pot: full

        "short and stout"
    "#]],
    );
    check(
        "GET /rpc/double?m=1",
        &expect![[r#"
        404
        content-length: 219
        content-type: application/json; charset=utf-8
        proxy-status: PostgREST; error=PGRST202

        {"code":"PGRST202","message":"Could not find the function api.double(m) in the schema cache","details":"Searched for the function api.double with parameter m, but no matches were found in the schema cache.","hint":null}
    "#]],
    );
}

#[test]
fn profiles_select_the_schema() {
    check(
        "GET /reels\nAccept-Profile: archive",
        &expect![[r#"
        200
        content-length: 10
        content-location: /reels
        content-profile: archive
        content-range: 0-0/*
        content-type: application/json; charset=utf-8

        [{"id":5}]
    "#]],
    );
    check(
        "GET /reels\nAccept-Profile: attic",
        &expect![[r#"
        406
        content-length: 130
        content-type: application/json; charset=utf-8
        proxy-status: PostgREST; error=PGRST106

        {"code":"PGRST106","message":"Invalid schema: attic","details":null,"hint":"Only the following schemas are exposed: api, archive"}
    "#]],
    );
}

#[test]
fn cors_follows_the_configuration() {
    check(
        "OPTIONS /films",
        &expect![[r#"
        200
        access-control-allow-origin: *
        allow: OPTIONS,GET,HEAD,POST,PUT,PATCH,DELETE
        content-length: 0


    "#]],
    );
    check(
        "OPTIONS /films\nOrigin: http://shop.example\nAccess-Control-Request-Method: PATCH\nAccess-Control-Request-Headers: prefer",
        &expect![[r#"
            200
            access-control-allow-credentials: true
            access-control-allow-headers: Authorization, prefer, Accept, Accept-Language, Content-Language
            access-control-allow-methods: GET, POST, PATCH, PUT, DELETE, OPTIONS, HEAD
            access-control-allow-origin: http://shop.example
            access-control-max-age: 86400
            content-length: 0


        "#]],
    );
    check(
        "GET /nowhere\nOrigin: http://shop.example",
        &expect![[r#"
        404
        access-control-allow-credentials: true
        access-control-allow-origin: http://shop.example
        access-control-expose-headers: Content-Encoding, Content-Location, Content-Range, Content-Type, Date, Location, Server, Transfer-Encoding, Range-Unit
        content-length: 117
        content-type: application/json; charset=utf-8
        proxy-status: PostgREST; error=PGRST205

        {"code":"PGRST205","message":"Could not find the table 'api.nowhere' in the schema cache","details":null,"hint":null}
    "#]],
    );
    check(
        "GET /nowhere\nOrigin: http://elsewhere.example",
        &expect![[r#"
        404
        content-length: 117
        content-type: application/json; charset=utf-8
        proxy-status: PostgREST; error=PGRST205

        {"code":"PGRST205","message":"Could not find the table 'api.nowhere' in the schema cache","details":null,"hint":null}
    "#]],
    );
}

#[test]
fn pages_need_no_token_and_no_other_host() {
    for target in ["/docs", "/docs/start.js", "/redoc"] {
        let reply = SERVICE.1.get(target);
        assert_eq!(reply.status, 200, "{target}");
        assert!(
            reply.header("content-security-policy").unwrap().starts_with("default-src 'self'"),
            "{target}"
        );
        assert!(!reply.body.contains("http://") && !reply.body.contains("https://"), "{target}");
    }
    let description = SERVICE.1.get("/openapi.json").json();
    assert_eq!(description["openapi"], "3.1.0");
    assert_eq!(SERVICE.1.get("/").json()["swagger"], "2.0");
}
