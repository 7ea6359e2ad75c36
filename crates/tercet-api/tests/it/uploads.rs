//! Request bodies: received only if needed, with a timeout and a memory budget.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::postgres::{Database, database};
use crate::service::{SECRET, Service, wait_until};

fn shop() -> Database {
    database(
        "create schema api;
        grant usage on schema api to anon;
        create table api.things (id int primary key, name text);
        grant select, insert, update, delete on api.things to anon;
        create view api.seen as select 1 as id;
        grant select, insert on api.seen to anon;
        create function api.ping(n text) returns text language sql as 'select n';",
    )
}

/// A connection with a request in flight whose body has `length` bytes, of which `sent` are sent.
fn begin(service: &Service, head: &str, length: &str, sent: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(service.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
        .write_all(
            format!("{head}\r\nhost: api\r\ncontent-type: application/json\r\n{length}\r\n\r\n").as_bytes(),
        )
        .unwrap();
    // If the body is not needed, the server may have closed the connection.
    let _ = stream.write_all(sent);
    stream
}

/// The head of the response.
fn answer(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let mut bytes = [0; 4096];
    while !read.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut bytes) {
            Ok(count @ 1..) => read.extend_from_slice(&bytes[..count]),
            other => panic!("{other:?} after {}", String::from_utf8_lossy(&read)),
        }
    }
    String::from_utf8_lossy(&read).into_owned()
}

fn status(stream: &mut TcpStream) -> u16 {
    answer(stream)[9..12].parse().unwrap()
}

#[test]
fn errors_that_need_no_body_come_first() {
    let database = shop();
    let service = Service::start(&database.uri(), &[]);
    let big = format!("content-length: {}", 60 << 20);
    let sent = vec![b'x'; 1 << 20];
    let bad = format!("GET /things HTTP/1.1\r\nauthorization: Bearer {SECRET}");
    for (head, expected) in [
        ("GET /nonexistent HTTP/1.1", 404),
        ("GET /things HTTP/1.1", 200),
        ("HEAD /things HTTP/1.1", 200),
        ("OPTIONS /things HTTP/1.1", 200),
        ("OPTIONS /things HTTP/1.1\r\norigin: http://x\r\naccess-control-request-method: GET", 200),
        ("DELETE /things?id=eq.1 HTTP/1.1", 204),
        ("POST /nonexistent HTTP/1.1", 404),
        ("PATCH /nonexistent?id=eq.1 HTTP/1.1", 404),
        ("POST /rpc/nonexistent HTTP/1.1", 404),
        ("POST /a/b/c HTTP/1.1", 404),
        ("POST /seen HTTP/1.1", 405),
        ("PATCH /seen?id=eq.1 HTTP/1.1", 405),
        ("PUT /seen?id=eq.1 HTTP/1.1", 405),
        ("POST /things?select=-dash HTTP/1.1", 400),
        ("POST /things HTTP/1.1\r\ncontent-encoding: gzip", 415),
        ("TRACE /things HTTP/1.1", 405),
        ("PUT /rpc/ping HTTP/1.1", 405),
        ("POST /things HTTP/1.1\r\ncontent-profile: other", 406),
        ("POST /things HTTP/1.1\r\nauthorization: Bearer nonsense", 401),
        (&bad, 401),
    ] {
        for length in [&*big, "transfer-encoding: chunked"] {
            if length != big && head.contains("/rpc/nonexistent") {
                // This much is received to name the arguments in the error.
                continue;
            }
            let sent = if length == big { &*sent } else { b"5\r\nab" };
            let mut stalled = begin(&service, head, length, sent);
            assert_eq!(status(&mut stalled), expected, "{head} {length}");
        }
    }
    // Too long, by its Content-Length.
    let mut long = begin(&service, "POST /things HTTP/1.1", &format!("content-length: {}", 65 << 20), b"[");
    assert_eq!(status(&mut long), 413);
}

#[test]
fn a_client_that_goes_on_sending_gets_the_response() {
    let database = shop();
    let service = Service::start(&database.uri(), &[]);
    for size in [1_000, 500_000, 8 << 20] {
        let body = vec![b'x'; size];
        let mut stream = TcpStream::connect(service.address).unwrap();
        let head = format!("POST /nonexistent HTTP/1.1\r\nhost: api\r\ncontent-length: {size}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&body).unwrap();
        assert_eq!(status(&mut stream), 404, "{size}");
    }
    // A short body is discarded, and the connection is kept alive.
    let mut stream = begin(&service, "GET /nonexistent HTTP/1.1", "content-length: 3", b"abc");
    assert_eq!(status(&mut stream), 404);
    stream.write_all(b"GET /things HTTP/1.1\r\nhost: api\r\n\r\n").unwrap();
    wait_until("the next answer is there", || answer(&mut stream).contains("200 OK"));
}

#[test]
fn a_missing_body_times_out() {
    let database = shop();
    let service = Service::start(&database.uri(), &[("server-body-timeout", "1")]);
    for head in ["POST /things HTTP/1.1", "POST /rpc/ping HTTP/1.1", "POST /rpc/nonexistent HTTP/1.1"] {
        let mut stalled = begin(&service, head, "content-length: 100", b"[{");
        assert_eq!(status(&mut stalled), 408, "{head}");
    }
}

#[test]
fn bodies_share_a_memory_budget() {
    let database = shop();
    let service = Service::start(&database.uri(), &[("server-max-body-memory", "1000000")]);
    let body = format!(r#"[{{"id": 1, "name": "{}"}}]"#, "x".repeat(700_000));
    let length = format!("content-length: {}", body.len());
    let (most, rest) = body.as_bytes().split_at(690_000);
    let held = |bytes: usize| {
        service.admin_get("/metrics").body.contains(&format!("\ntercet_api_body_bytes {bytes}\n"))
    };
    for _ in 0..3 {
        let mut first = begin(&service, "POST /things HTTP/1.1", &length, most);
        wait_until("the first body is in memory", || held(most.len()));
        let mut second = begin(&service, "POST /rpc/ping HTTP/1.1", &length, most);
        let answer = answer(&mut second);
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
        assert!(answer.contains("error=TCT02"), "{answer}");
        first.write_all(rest).unwrap();
        assert_eq!(status(&mut first), 201);
        wait_until("no body is in memory", || held(0));
        database.psql("delete from api.things");
    }
}

/// Bodies of about `size` bytes that are rejected in the end, and their error.
fn long_bodies(size: usize) -> [(&'static str, String); 4] {
    let mut csv = String::from("id,name\n");
    while csv.len() < size {
        csv.push_str("1234567,\"a name of some \"\"length\"\"\"\n");
    }
    csv.push_str("too,many,fields");
    let mut rows = String::from("[");
    while rows.len() < size {
        rows.push_str(r#"{"id":1234567,"name":"a name"},"#);
    }
    rows.push_str(r#"{"id":1}]"#);
    let mut keys = String::from("{");
    let mut form = String::new();
    let mut n = 0;
    while keys.len() < size {
        write!(keys, r#""k{n}":{n},"#).unwrap();
        write!(form, "k{n}={n}&").unwrap();
        n += 1;
    }
    keys.push_str(r#""last":1}"#);
    [
        ("text/csv", csv),
        ("application/json", rows),
        ("application/json", keys),
        ("application/x-www-form-urlencoded", form),
    ]
}

/// Sends a request whose body lacks the last byte.
fn almost(service: &Service, content_type: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(service.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let length = body.len();
    write!(&mut stream as &mut dyn std::io::Write, "POST /things HTTP/1.1\r\nhost: api\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n").unwrap();
    stream.write_all(&body.as_bytes()[..length - 1]).unwrap();
    stream
}

#[test]
fn a_long_body_does_not_delay_other_requests() {
    let database = shop();
    let service = Service::start(&database.uri(), &[("server-threads", "1")]);
    for (content_type, body) in long_bodies(4 << 20) {
        let mut long = almost(&service, content_type, &body);
        wait_until("the body is in memory", || {
            service
                .admin_get("/metrics")
                .body
                .contains(&format!("\ntercet_api_body_bytes {}\n", body.len() - 1))
        });
        let mut other = TcpStream::connect(service.address).unwrap();
        let ask = b"HEAD /things HTTP/1.1\r\nhost: api\r\n\r\n";
        other.write_all(ask).unwrap();
        assert_eq!(status(&mut other), 200);
        long.write_all(&body.as_bytes()[body.len() - 1..]).unwrap();
        // Tests without waiting whether it has been answered.
        long.set_nonblocking(true).unwrap();
        let mut answered = 0;
        let mut byte = [0];
        while long.peek(&mut byte).is_err() {
            other.write_all(ask).unwrap();
            assert_eq!(status(&mut other), 200);
            answered += 1;
        }
        long.set_nonblocking(false).unwrap();
        assert_eq!(status(&mut long), 400, "{content_type}");
        // The form is rejected early, by its number of fields.
        let least = if content_type.contains("form") { 0 } else { 2 };
        assert!(answered > least, "{content_type}: {answered} requests were answered meanwhile");
    }
}

#[test]
fn parsed_bodies_count_against_the_budget() {
    let database = shop();
    let service = Service::start(&database.uri(), &[("server-max-body-memory", "4000000")]);
    let narrow = format!("id\n{}", "1\n".repeat(500_000));
    let wide = format!("{}\n{}", "n".repeat(60_000), "1\n".repeat(1_000));
    let control = format!("id=1&name={}", "\u{1}".repeat(900_000));
    for (content_type, body) in
        [("text/csv", narrow), ("text/csv", wide), ("application/x-www-form-urlencoded", control)]
    {
        let mut stream = almost(&service, content_type, &body);
        stream.write_all(&body.as_bytes()[body.len() - 1..]).unwrap();
        assert_eq!(status(&mut stream), 413, "{content_type}");
        wait_until("no body is in memory", || {
            service.admin_get("/metrics").body.contains("\ntercet_api_body_bytes 0\n")
        });
    }
}

/// Runs in a child process, to measure its memory.
#[test]
fn a_body_takes_a_small_multiple_of_its_size() {
    const CHILD: &str = "TERCET_TEST_DATABASE_OF_PEAK";
    let Ok(uri) = std::env::var(CHILD) else {
        let database = shop();
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "uploads::a_body_takes_a_small_multiple_of_its_size", "--nocapture"])
            .env(CHILD, database.uri())
            .output()
            .unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
        return;
    };
    let memory = |field: &str| -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    };
    let service = Service::start(&uri, &[]);
    for (content_type, body) in long_bodies(16 << 20) {
        // Resets the peak.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = memory("VmRSS");
        let mut stream = almost(&service, content_type, &body);
        stream.write_all(&body.as_bytes()[body.len() - 1..]).unwrap();
        assert_eq!(status(&mut stream), 400, "{content_type}");
        let more = memory("VmHWM").saturating_sub(before);
        println!("{content_type}: {} bytes took {more}", body.len());
        assert!(more < 5 * body.len(), "{content_type}: {} bytes took {more}", body.len());
    }
}
