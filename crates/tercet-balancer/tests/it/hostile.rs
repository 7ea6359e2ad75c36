//! Hostile bytes from clients and servers, with and without pipelining.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::mpsc;

use crate::backend::{Backend, Request};
use crate::client::Client;
use crate::rules::{BODIES, REQUESTS, RESPONSE_BODIES, RESPONSES, Rule, Verdict};
use crate::running::{PIPELINES, Running, config, with_pipeline};

/// A valid response.
const MARKER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nmarker";

/// A balancer in front of a server, with this pipelining limit.
fn in_front_of(server: &Backend, pipeline: u16, more: &str) -> Running {
    Running::with(with_pipeline(config(&[server], more), pipeline))
}

/// Sends each message on its own connection, at once or first its head and then the rest.
fn check_clients(rules: &[Rule], in_two: bool) {
    for pipeline in PIPELINES {
        check_clients_of(rules, in_two, pipeline);
    }
}

fn check_clients_of(rules: &[Rule], in_two: bool, pipeline: u16) {
    let server = Backend::responding("ok");
    let balancer = in_front_of(&server, pipeline, "");
    let mut accepted = 0;
    let mut wrong = Vec::new();
    for (title, bytes, verdict) in cases(rules) {
        let mut client = Client::connect(balancer.address);
        let head = bytes.windows(4).position(|end| end == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
        if in_two && head < bytes.len() {
            client.send(&bytes[..head]);
            // Fails if the balancer has closed the connection already.
            let _ = client.stream().write_all(&bytes[head..]);
        } else {
            client.send(bytes);
        }
        let status = client.try_answer().map(|answer| answer.status);
        let is_right = match verdict {
            Verdict::Accepted => {
                accepted += 1;
                status == Some(200)
            }
            Verdict::Refused(refused) => status == Some(refused) && client.is_closed(),
        };
        let reached = server.requests().len();
        if !is_right || reached != accepted {
            wrong.push(format!(
                "{title}\n  {} ({pipeline}): {verdict:?}, but {status:?}, {reached} of {accepted} requests at the server",
                bytes.escape_ascii()
            ));
            accepted = reached;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn cases(rules: &[Rule]) -> impl Iterator<Item = (&'static str, &'static [u8], Verdict)> {
    rules.iter().flat_map(|rule| rule.cases.iter().map(|(bytes, verdict)| (rule.title, *bytes, *verdict)))
}

#[test]
fn hostile_heads_are_refused_and_never_reach_a_server() {
    check_clients(REQUESTS, false);
}

#[test]
fn a_refused_request_is_logged_with_its_request_line_if_that_is_well_formed() {
    let server = Backend::responding("ok");
    let balancer = Running::start(&[&server], "");
    for bytes in [
        &b"PUT /two?hosts HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"[..],
        b"GET /folded HTTP/1.0\r\nX: a\r\n b\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert_eq!(Client::connect(balancer.address).send(bytes).answer().status, 400);
    }
    let log = balancer.stop();
    let mut lines: Vec<&str> = log.lines().filter_map(|line| line.split('"').nth(1)).collect();
    // The order among workers is not defined.
    lines.sort_unstable();
    assert_eq!(lines, ["- - -", "GET /folded HTTP/1.0", "PUT /two?hosts HTTP/1.1"], "{log}");
}

#[test]
fn hostile_bodies_are_refused_and_never_reach_a_server() {
    check_clients(BODIES, false);
    check_clients(BODIES, true);
}

/// A server that responds to `/N` with the Nth message and to all other targets with `marker`.
fn responding_each(messages: Vec<&'static [u8]>) -> Backend {
    Backend::start(move |request: &Request, stream: &mut TcpStream| {
        let target = request.line().split(' ').nth(1).unwrap_or_default();
        match target.strip_prefix('/').and_then(|number| number.parse::<usize>().ok()) {
            Some(number) => stream.write_all(messages[number]).is_ok(),
            None => stream.write_all(MARKER).is_ok(),
        }
    })
}

/// Requests each message while another client sends a request, on the same connection to the server if it is
/// pipelined.
fn check_servers(rules: &[Rule]) {
    for pipeline in PIPELINES {
        check_servers_of(rules, pipeline);
    }
}

fn check_servers_of(rules: &[Rule], pipeline: u16) {
    let messages = cases(rules).map(|(_, bytes, _)| bytes).collect();
    let server = responding_each(messages);
    let balancer = in_front_of(&server, pipeline, "");
    let mut wrong = Vec::new();
    let (mut client, mut neighbour) = (Client::connect(balancer.address), Client::connect(balancer.address));
    // Establishes a connection that can be pipelined.
    assert_eq!(neighbour.get("/marker").text(), "marker");
    for (number, (title, bytes, verdict)) in cases(rules).enumerate() {
        client.send(format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        neighbour.send(b"GET /marker HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut answer = client.try_answer();
        while answer.as_ref().is_some_and(|answer| answer.status < 200) {
            answer = client.try_answer();
        }
        let status = answer.as_ref().map(|answer| answer.status);
        let is_right = match verdict {
            Verdict::Accepted => {
                answer.is_some_and(|answer| answer.status != 502 && answer.header("x-served-by").is_some())
            }
            // The response is truncated if its head was sent before the error was detected.
            Verdict::Refused(refused) => status == Some(refused) || status.is_none(),
        };
        if !is_right {
            wrong.push(format!(
                "{title}\n  {} ({pipeline}): {verdict:?}, but {status:?}",
                bytes.escape_ascii()
            ));
        }
        let beside = neighbour.answer();
        assert_eq!((beside.status, beside.text()), (200, "marker"), "beside {}", bytes.escape_ascii());
        if status.is_none() {
            client = Client::connect(balancer.address);
        }
        // No byte of it is left for the next request.
        let next = client.get("/marker");
        assert_eq!((next.status, next.text()), (200, "marker"), "after {}", bytes.escape_ascii());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_hostile_response_head_is_a_502_and_does_not_affect_other_requests() {
    check_servers(RESPONSES);
}

#[test]
fn a_hostile_response_body_is_truncated_and_does_not_affect_other_requests() {
    check_servers(RESPONSE_BODIES);
}

#[test]
fn bytes_after_a_response_are_never_forwarded() {
    let evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let messages: Vec<&'static [u8]> = vec![
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil",
    ];
    for (number, pipeline) in
        (0..messages.len()).flat_map(|number| PIPELINES.map(|pipeline| (number, pipeline)))
    {
        let server = responding_each(messages.clone());
        let balancer = in_front_of(&server, pipeline, "");
        let mut client = Client::connect(balancer.address);
        assert_eq!(client.get("/marker").text(), "marker");
        assert_ne!(client.get(&format!("/{number}")).status, 502);
        for _ in 0..3 {
            let mut other = Client::connect(balancer.address);
            assert_eq!(other.get("/marker").text(), "marker", "{}", evil.escape_ascii());
        }
    }
}

#[test]
fn a_connection_with_an_unsolicited_response_is_not_reused() {
    for pipeline in PIPELINES {
        let (sender, connections) = mpsc::channel::<TcpStream>();
        let server = Backend::start(move |_, stream| {
            sender.send(stream.try_clone().unwrap()).unwrap();
            stream.write_all(MARKER).is_ok()
        });
        let balancer = in_front_of(&server, pipeline, "");
        let mut client = Client::connect(balancer.address);
        for _ in 0..3 {
            assert_eq!(client.get("/").text(), "marker");
            let evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
            connections.recv().unwrap().write_all(evil).unwrap();
        }
    }
}

/// Runs `check` with a balancer that has an idle connection to a server, which handles the next request with `fault`.
fn check_fault(
    fault: impl Fn(&mut TcpStream) -> bool + Copy + Send + Sync + 'static,
    more: &str,
    check: impl Fn(&Running),
) {
    for pipeline in PIPELINES {
        let server = Backend::start(move |request, stream| {
            if request.line().starts_with("GET /marker ") {
                return stream.write_all(MARKER).is_ok();
            }
            fault(stream)
        });
        let balancer = in_front_of(&server, pipeline, &format!("retries.attempts = 0\n{more}"));
        assert_eq!(Client::connect(balancer.address).get("/marker").text(), "marker");
        check(&balancer);
    }
}

#[test]
fn a_truncated_response_is_never_relayed_as_complete() {
    for message in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
    ] {
        let fault = move |stream: &mut TcpStream| {
            stream.write_all(message).unwrap();
            false
        };
        check_fault(fault, "", |balancer| {
            let mut client = Client::connect(balancer.address);
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            let status = client.try_answer().map(|answer| answer.status);
            assert!(matches!(status, None | Some(502)), "{}: {status:?}", message.escape_ascii());
        });
    }
}

#[test]
fn an_endless_response_head_is_a_502() {
    let fault = |stream: &mut TcpStream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
        while stream
            .write_all(b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n")
            .is_ok()
        {}
        false
    };
    check_fault(fault, "[limits]\nheaders = 1000", |balancer| {
        assert_eq!(Client::connect(balancer.address).get("/").status, 502);
    });
}

#[test]
fn endless_interim_responses_are_a_502() {
    let fault = |stream: &mut TcpStream| {
        while stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").is_ok() {}
        false
    };
    check_fault(fault, "", |balancer| {
        // An HTTP/1.0 client gets no interim responses, so a status can still be sent.
        let answer = Client::connect(balancer.address).send(b"GET / HTTP/1.0\r\n\r\n").answer();
        assert_eq!(answer.status, 502);
        let mut client = Client::connect(balancer.address);
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        while client.try_answer().is_some_and(|answer| answer.status == 100) {}
        assert!(client.is_closed());
    });
}

#[test]
fn the_bind_address_is_the_host_of_an_http10_request_without_one() {
    for pipeline in PIPELINES {
        let server = Backend::responding("ok");
        let balancer = in_front_of(&server, pipeline, "");
        assert_eq!(Client::connect(balancer.address).send(b"GET / HTTP/1.0\r\n\r\n").answer().status, 200);
        assert_eq!(server.only_request().header("host"), Some("127.0.0.1:0"));
    }
}
