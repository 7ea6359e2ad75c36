//! The contract between the tiers: the balancer forwards every response that SQL can set; and documented requests work, with and
//! without the balancer, over HTTP/1.1 and HTTP/2.

use std::process::Command;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use crate::folder::Folder;
use crate::http::{Answer, request};
use crate::system::System;

const SCHEMA: (&str, &str) = (
    "migrations/0001_say.sql",
    r#"create table people (id int primary key, data jsonb, range int4range, name text);
    insert into people values (1, '{"blood_type": "A-", "a b": {"c": [1]}}', '[10,18)', 'Zoë "Z" <z>');
    grant select, insert, delete on people to anon;
    create function say(status text default '', headers text default '', body text default 'body') returns text
      stable language sql as $$
        select body from (values (set_config('response.status', status, true), set_config('response.headers', headers, true))) _
      $$;
    create function say_nothing(status text default '', headers text default '') returns void language plpgsql as $$
      begin perform set_config('response.status', status, true), set_config('response.headers', headers, true); end $$;
    create function fail(code text, message text default 'failed', detail text default '') returns text stable language plpgsql as $$
      begin raise exception using errcode = code, message = message, detail = detail; end $$;
    grant execute on function say, say_nothing, fail to anon;"#,
);

/// The outcome of a request: the status and the body.
type Outcome = (u16, String);

/// The three paths of a request: through the balancer over HTTP/1.1 and HTTP/2, and directly to the data API.
struct Ways<'a> {
    system: &'a System,
    server: std::net::SocketAddr,
}

impl Ways<'_> {
    fn http1(&self, method: &str, target: &str) -> Outcome {
        let Answer { status, body, .. } = self.system.ask(request(method, target));
        (status, body)
    }

    fn http2(&self, method: &str, target: &str) -> Outcome {
        let mut curl = Command::new("curl");
        curl.args([
            "-sS",
            "-g",
            "--path-as-is",
            "--http2-prior-knowledge",
            "--max-time",
            "60",
            "-w",
            "\n%{http_code}",
        ]);
        match method {
            "HEAD" => curl.args(["-I", "-o", "/dev/null"]),
            "POST" => curl.args(["-X", "POST", "-H", "content-length: 0"]),
            other => curl.args(["-X", other]),
        };
        let output = curl.arg(format!("http://{}{target}", self.system.address)).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{method} {target}: {text} {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    fn alone(&self, method: &str, target: &str) -> Outcome {
        let Answer { status, body, .. } = request(method, target).send(self.server);
        (status, body)
    }

    /// Sends a request on all paths; the outcomes must agree.
    fn ask(&self, method: &str, target: &str) -> Outcome {
        let alone = self.alone(method, target);
        assert_eq!(self.http1(method, target), alone, "{method} {target}");
        assert_eq!(self.http2(method, target), alone, "{method} {target}");
        alone
    }
}

fn encoded(parameters: &[(&str, &str)]) -> String {
    let pairs: Vec<_> = parameters
        .iter()
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
        .collect();
    pairs.join("&")
}

#[test]
fn statuses_headers_and_errors_of_sql_reach_the_client() {
    let folder = Folder::with(&[SCHEMA]);
    let mut system = System::start(folder.path());
    let server = {
        let ready = system
            .log_lines()
            .find(|event| event["event"] == "part_ready" && event["name"] == "app-1")
            .unwrap();
        ready["address"].as_str().unwrap().rsplit("//").next().unwrap().parse().unwrap()
    };
    let ways = Ways { system: &system, server };
    documented_targets_work(&ways);
    statuses_are_sent_or_refused(&ways);
    headers_are_sent_or_refused(&ways);
    errors_are_sent_or_refused(&ways);

    // and every server is still in rotation
    let served: std::collections::BTreeSet<_> = (0..8)
        .map(|_| system.ask(request("GET", "/people?id=eq.1")).header("x-served-by").unwrap().to_owned())
        .collect();
    assert_eq!(served.len(), 2, "{served:?}");
    let log = system.log();
    for word in ["eject", "server_down"] {
        assert!(!log.contains(word), "{word}:\n{log}");
    }
    assert!(log.contains("response_unsendable"), "{log}");
}

fn documented_targets_work(ways: &Ways<'_>) {
    for (target, expected) in [
        ("/people?select=id,data->>blood_type", json!([{"id": 1, "blood_type": "A-"}])),
        (r#"/people?select=id&or=(range.adj."[18,21)",id.gt.5)"#, json!([{"id": 1}])),
        (r#"/people?select=id&name=in.("Zoë%20\"Z\"%20<z>",x)"#, json!([{"id": 1}])),
        (r#"/people?select=x:data->"a%20b"->c->0"#, json!([{"x": 1}])),
        (r#"/people?select=id&data->>"blood_type"=eq.A-"#, json!([{"id": 1}])),
        (r#"/people?select=id&order=data->>blood_type.desc,data->"a%20b""#, json!([{"id": 1}])),
        (r#"/people?select=id&or=(name.eq."Zoë%20\"Z\"%20<z>",id.gt.5)"#, json!([{"id": 1}])),
        ("/people?select=id&name=like.*<z>", json!([{"id": 1}])),
        ("/people?select=id&name=ilike.zoë*", json!([{"id": 1}])),
        (r#"/people?select=id&data=cs.{"blood_type":"A-"}"#, json!([{"id": 1}])),
        ("/people?select=id&name=match.^Z|`", json!([{"id": 1}])),
        ("/rpc/say?body=<é>", json!("<é>")),
    ] {
        // often enough for every name to be in HTTP/2's dynamic table
        let (status, body) = ways.ask("GET", target);
        assert_eq!(status, 200, "{target}: {body}");
        assert_eq!(body.parse::<serde_json::Value>().unwrap(), expected, "{target}");
        assert_eq!(ways.ask("HEAD", target).0, 200, "{target}");
    }
    // PostgreSQL's errors come from PostgreSQL, and invalid targets are refused by the first tier
    let (status, body) = ways.ask("GET", r#"/people?range=adj."[18,21)""#);
    assert_eq!((status, body.contains("malformed range literal")), (400, true), "{body}");
    // (curl sends no fragment)
    let refused = [
        ways.http1("GET", "/people?id=eq.1#a"),
        ways.alone("GET", "/people?id=eq.1#a"),
        ways.http1("GET", "/people<?id=eq.1"),
        ways.http2("GET", "/people<?id=eq.1"),
    ];
    for (status, body) in refused {
        assert_eq!((status, body.is_empty()), (400, false), "{body}");
    }
}

fn statuses_are_sent_or_refused(ways: &Ways<'_>) {
    let own = [100, 101, 102, 103, 199, 600, 700, 999];
    let sent =
        [200, 201, 204, 205, 206, 226, 300, 304, 307, 400, 401, 404, 405, 407, 416, 418, 426, 431, 499]
            .into_iter()
            .chain([500, 502, 503, 504, 511, 599]);
    for status in sent.chain(own) {
        let parameters = encoded(&[("status", &status.to_string())]);
        let expected = if own.contains(&status) { 500 } else { status };
        let has_body = !matches!(status, 204 | 205 | 304);
        for (method, routine) in [("GET", "say"), ("HEAD", "say_nothing"), ("POST", "say")] {
            let target = if method == "POST" {
                format!("/rpc/fail?{}", encoded(&[("code", &format!("PT{status}"))]))
            } else {
                format!("/rpc/{routine}?{parameters}")
            };
            let (got, body) = ways.ask(if method == "POST" { "GET" } else { method }, &target);
            assert_eq!(got, expected, "{method} {target}: {body}");
            if method == "GET" && routine == "say" {
                assert_eq!(!body.is_empty(), has_body, "{target}: {body}");
            }
            if expected == 500 && status != 500 && method == "GET" {
                assert!(body.contains(r#""code":"PGRST112""#), "{target}: {body}");
            }
        }
    }
    for status in ["abc", "99", "1000", "-1", " 200"] {
        let (got, body) = ways.ask("GET", &format!("/rpc/say?{}", encoded(&[("status", status)])));
        assert_eq!((got, body.contains("PGRST112")), (500, true), "{status}: {body}");
    }
}

fn headers_are_sent_or_refused(ways: &Ways<'_>) {
    let long = "x".repeat(70_000);
    let many = vec![json!({"set-cookie": "a"}); 120];
    // more names than the capacity of a header map
    let names: Vec<_> = (0..30_000).map(|number| json!({format!("x-{number}"): "a"})).collect();
    for (headers, expected) in [
        (json!([{"Content-Length": "7"}]), 200),
        (json!([{"Content-Length": "0"}, {"Content-Length": "9"}]), 200),
        (json!([{"Transfer-Encoding": "chunked"}]), 200),
        (json!([{"Transfer-Encoding": "gzip"}]), 200),
        (json!([{"Connection": "close"}]), 200),
        (json!([{"Connection": "upgrade"}, {"Upgrade": "websocket"}]), 200),
        (json!([{"Keep-Alive": "timeout=1"}, {"Trailer": "x"}, {"TE": "trailers"}]), 200),
        (json!([{"Date": "yesterday"}, {"Date": "today"}]), 200),
        (json!([{"Content-Type": "a"}, {"content-type": "b/c"}]), 200),
        (json!([{"Content-Range": "bytes 0-1/2"}]), 200),
        (json!([{"X-A": "é ü"}, {"Content_Length": "5"}, {"Proxy": "x"}]), 200),
        (json!([{"X-A": " padded "}, {"X-B": ""}]), 200),
        (json!([{"X-A": "a\r\nX-B: b"}]), 500),
        (json!([{"X A": "a"}]), 500),
        (json!([{"": "a"}]), 500),
        (json!([{":status": "200"}]), 500),
        (json!([{"X-A": "a\u{0}"}]), 500),
        (json!([{"X-A": 1}]), 500),
        (json!({"X-A": "a"}), 500),
        (json!([{"X-A": long.clone()}]), 500),
        (json!([{"Location": long.clone()}]), 200),
        (json!(many), 500),
        (json!(names), 500),
    ] {
        // long values are not sent in the target
        let body = json!({"headers": headers.to_string(), "status": ""}).to_string();
        let request = request("POST", "/rpc/say").json(&body).send(ways.system.address);
        assert_eq!(request.status, expected, "{headers:.100}: {request:.300?}");
        assert!(!request.body.is_empty(), "{headers:.100}");
        if body.len() < 1500 {
            let target = format!("/rpc/say?{}", encoded(&[("headers", &headers.to_string())]));
            assert_eq!(ways.ask("GET", &target).0, expected, "{headers}");
            assert_eq!(ways.ask("HEAD", &target).0, expected, "{headers}");
        }
    }
}

fn errors_are_sent_or_refused(ways: &Ways<'_>) {
    let message = json!({"code": "123", "message": "m"}).to_string();
    let raised = |detail: serde_json::Value| {
        let detail = detail.to_string();
        format!("/rpc/fail?{}", encoded(&[("code", "PGRST"), ("message", &message), ("detail", &detail)]))
    };
    for (detail, expected) in [
        (json!({"status": 402, "status_text": "Pay", "headers": {"X-A": "b"}}), 402),
        (json!({"status": 402, "status_text": "a\r\nb: c", "headers": {}}), 402),
        (json!({"status": 402, "status_text": "é", "headers": {}}), 402),
        (json!({"status": 402, "status_text": "x".repeat(4000), "headers": {}}), 402),
        (json!({"status": 400, "headers": {"Content-Length": "7", "content-length": "8"}}), 400),
        (json!({"status": 400, "headers": {"Transfer-Encoding": "chunked"}}), 400),
        (json!({"status": 400, "headers": {"Connection": "close", "Upgrade": "h2c"}}), 400),
        (json!({"status": 400, "headers": {"Content-Type": "a", "content-type": "b"}}), 400),
        (json!({"status": 204, "headers": {}}), 204),
        (json!({"status": 205, "headers": {"Content-Length": "3"}}), 205),
        (json!({"status": 304, "headers": {}}), 304),
        (json!({"status": 101, "headers": {"Upgrade": "x", "Connection": "upgrade"}}), 500),
        (json!({"status": 100, "headers": {}}), 500),
        (json!({"status": 600, "headers": {}}), 500),
        (json!({"status": 0, "headers": {}}), 500),
        (json!({"status": 70000, "headers": {}}), 500),
        (json!({"status": 400, "headers": {"a b": "c"}}), 500),
        (json!({"status": 400, "headers": {"a": "c\r\nd: e"}}), 500),
    ] {
        for method in ["GET", "HEAD"] {
            let (status, body) = ways.ask(method, &raised(detail.clone()));
            assert_eq!(status, expected, "{detail}: {body}");
        }
    }
    for (code, message, expected) in [
        ("PT402", "a\nb", 402),
        ("PT404", "é", 404),
        ("PT099", "x", 500),
        ("PT40A", "x", 500),
        ("PTABC", "x", 500),
        ("P0001", "x", 400),
        ("XX000", "x", 500),
    ] {
        let target = format!("/rpc/fail?{}", encoded(&[("code", code), ("message", message)]));
        assert_eq!(ways.ask("GET", &target).0, expected, "{code}");
    }
    let names: serde_json::Map<_, _> =
        (0..30_000).map(|number| (format!("x-{number}"), json!("a"))).collect();
    let detail = json!({"status": 400, "headers": names}).to_string();
    let body = json!({"code": "PGRST", "message": message, "detail": detail}).to_string();
    for address in [ways.system.address, ways.server] {
        let answer = request("POST", "/rpc/fail").json(&body).send(address);
        assert_eq!((answer.status, answer.body.contains("PGRST112")), (500, true), "{answer:.300?}");
    }
    let long = "x".repeat(3000);
    let target = format!("/rpc/fail?{}", encoded(&[("code", "PT418"), ("message", &long)]));
    assert_eq!(ways.ask("GET", &target).0, 418);
}
