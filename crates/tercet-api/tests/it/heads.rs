//! Request heads on the wire: targets as clients send them, and rejections with a reason.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::LazyLock;
use std::time::Duration;

use crate::postgres::{Database, database};
use crate::service::Service;

static DATABASE: LazyLock<Database> = LazyLock::new(|| {
    database(
        r#"create schema api;
        grant usage on schema api to anon;
        create table api.people (id int primary key, data jsonb, name text);
        insert into api.people values (1, '{"blood_type": "A-"}', 'Zoë <"z">');
        create function api.echo(text) returns text immutable language sql as 'select $1';
        grant all on api.people to anon;"#,
    )
});

/// The server's output until it closes the connection, which it must.
fn exchange(service: &Service, parts: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(service.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.set_nodelay(true).unwrap();
    for part in parts {
        stream.write_all(part).unwrap();
    }
    let mut said = Vec::new();
    stream.read_to_end(&mut said).unwrap();
    String::from_utf8(said).unwrap()
}

fn statuses(said: &str) -> Vec<&str> {
    let after = said.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]);
    after.filter(|status| status.bytes().all(|byte| byte.is_ascii_digit())).collect()
}

#[test]
fn accepts_targets_that_are_not_encoded() {
    let service = Service::start(&DATABASE.uri(), &[]);
    for target in [
        "/people?select=id,data->>blood_type&data->>blood_type=eq.A-",
        r#"/people?select=id&name=in.("Zoë%20<\"z\">")"#,
        r#"/people?select=id&data=cs.{"blood_type":"A-"}"#,
        "/people?select=id&name=match.^Zo|`",
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        // however it is split into reads
        for size in [1, 7, request.len()] {
            let parts: Vec<&[u8]> = request.as_bytes().chunks(size).collect();
            let said = exchange(&service, &parts);
            assert!(said.starts_with("HTTP/1.1 200 ") && said.contains(r#"{"id":1"#), "{target}: {said}");
        }
    }
}

#[test]
fn pipelines_requests_with_all_kinds_of_bodies() {
    let service = Service::start(&DATABASE.uri(), &[]);
    let call = "POST /rpc/echo HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\n";
    let sent = [
        format!("{call}content-length: 9\r\n\r\nGET /x\r\n\r").into_bytes(),
        b"GET /people?name=like.*<* HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        format!(
            "{call}transfer-encoding: chunked\r\n\r\n5;a=b\r\nGET /\r\n4\r\n\r\n\r\n\r\n0\r\nx-sum: 1\r\n\r\n"
        )
        .into_bytes(),
        b"\r\nGET /people?name=like.*>* HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".to_vec(),
    ]
    .concat();
    for size in [1, 2, 3, 5, 8, 64, sent.len()] {
        let parts: Vec<&[u8]> = sent.chunks(size).collect();
        let said = exchange(&service, &parts);
        assert_eq!(statuses(&said), ["200"; 4], "in parts of {size}: {said}");
    }
}

#[test]
fn malformed_requests_are_answered_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    {
        let service = Service::start_logging(&DATABASE.uri(), &[], &log);
        let many = "a: b\r\n".repeat(200);
        let long = "x".repeat(70_000);
        for (sent, status) in [
            ("GET /\r\n\r\n".to_owned(), "400"),
            ("GET / HTTP/2.0\r\n\r\n".to_owned(), "505"),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), "505"),
            ("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}".to_owned(), "400"),
            ("nonsense\r\n\r\n".to_owned(), "400"),
            ("GET /a b HTTP/1.1\r\n\r\n".to_owned(), "505"),
            ("GET /people?id=eq.1#x HTTP/1.1\r\n\r\n".to_owned(), "400"),
            ("GET / HTTP/1.1\r\nbad name: x\r\n\r\n".to_owned(), "400"),
            ("GET / HTTP/1.1\r\na: \u{1}\r\n\r\n".to_owned(), "400"),
            ("POST /people HTTP/1.1\r\ncontent-length: x\r\n\r\n".to_owned(), "400"),
            ("POST /people HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".to_owned(), "400"),
            (
                "POST /people HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(),
                "400",
            ),
            ("POST /people HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n".to_owned(), "501"),
            (format!("GET / HTTP/1.1\r\n{many}\r\n"), "431"),
            (format!("GET /?{long} HTTP/1.1\r\n\r\n"), "414"),
            (format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(300_000)), "431"),
        ] {
            let said = exchange(&service, &[sent.as_bytes()]);
            assert_eq!(statuses(&said), [status], "{sent:.60}: {said}");
            let (head, body) = said.split_once("\r\n\r\n").unwrap();
            assert!(
                head.contains("content-type: application/json") && head.contains("connection: close"),
                "{head}"
            );
            assert!(body.contains(r#""code":"TCT03""#), "{sent:.60}: {body}");
            // after a valid request
            let before = "GET /people HTTP/1.1\r\nhost: a\r\n\r\n";
            let said = exchange(&service, &[before.as_bytes(), sent.as_bytes()]);
            assert_eq!(statuses(&said), ["200", status], "{sent:.60}: {said}");
        }
        // a malformed chunk is part of a valid request, so the request is rejected
        let chunk = "POST /people HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n";
        let said = exchange(&service, &[chunk.as_bytes()]);
        assert_eq!(statuses(&said), ["400"], "{said}");
        assert!(said.contains("PGRST102"), "{said}");
        // a truncated head, from a client that still reads
        let mut stream = TcpStream::connect(service.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert_eq!(statuses(&said), ["400"], "{said}");
        // a method named like the placeholder is not special
        let said = exchange(&service, &[b"REFUSED / HTTP/1.1\r\nconnection: close\r\n\r\n"]);
        assert_eq!(statuses(&said), ["405"], "{said}");
    }
    let log = std::fs::read_to_string(log).unwrap();
    assert_eq!(log.matches("refused with status").count(), 16 * 2 + 1, "{log}");
}
