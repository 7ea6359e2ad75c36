//! Forwarding of requests and responses, with every framing.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use tercet_observe::Format;

use crate::backend::Backend;
use crate::client::Client;
use crate::running::{Running, config};

#[test]
fn round_robin_is_strict_across_clients_and_workers() {
    let servers = [Backend::responding("one"), Backend::responding("two"), Backend::responding("three")];
    let balancer = Running::start(&[&servers[0], &servers[1], &servers[2]], "");
    let mut client = Client::connect(balancer.address);
    let order: Vec<String> = (0..6).map(|_| client.get("/").text().to_owned()).collect();
    assert_eq!(order[..3], order[3..]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = Client::connect(balancer.address);
                for _ in 0..30 {
                    assert_eq!(client.get("/").status, 200);
                }
            });
        }
    });
    let counts: Vec<usize> = servers.iter().map(|server| server.requests().len()).collect();
    assert_eq!(counts, [82, 82, 82]);
}

#[test]
fn the_response_names_its_server_and_the_request_is_logged() {
    let server = Backend::responding("hello");
    let balancer = Running::start(&[&server], "");
    let mut client = Client::connect(balancer.address);
    let answer = client
        .send(b"GET /a?b=c HTTP/1.1\r\nHost: example.org\r\nUser-Agent: test\r\nX-Own: Kept\r\nConnection: X-Drop\r\nX-Drop: 1\r\n\r\n")
        .answer();
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    assert_eq!(answer.header("x-served-by"), Some("app-1"));
    assert!(answer.header("date").is_some());
    let request = server.only_request();
    assert_eq!(request.line(), "GET /a?b=c HTTP/1.1");
    assert_eq!(request.header("host"), Some("example.org"));
    assert!(request.head.contains("\r\nX-Own: Kept\r\n"), "names keep their case: {}", request.head);
    assert_eq!(request.header("x-drop"), None);
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    let id = request.header("x-request-id").unwrap();
    assert!(request.header("traceparent").unwrap().contains(&id.replace('-', "")));
    assert_eq!(answer.header("x-request-id"), Some(id));
    let log = balancer.stop();
    assert_eq!(log.lines().count(), 1);
    assert!(log.contains("\"GET /a?b=c HTTP/1.1\" 200 5 \"-\" \"test\" app-1 "), "{log}");
    assert!(log.trim_end().ends_with(id), "{log}");
}

#[test]
fn a_servers_request_id_is_replaced_and_its_stages_are_logged_and_removed() {
    let server = Backend::start(|_, stream| {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Request-Id: theirs\r\nx-tercet-stages: 900 20 30 4 800 2\r\n";
        write!(stream, "{head}\r\n").is_ok()
    });
    let balancer = Running::logging(config(&[&server], ""), Format::Json);
    let mut client = Client::connect(balancer.address);
    let answer = client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Tercet-Stages: 1 1 1 1 1 1\r\n\r\n").answer();
    let request = server.only_request();
    assert_eq!(answer.header("x-request-id"), request.header("x-request-id"));
    assert_eq!((answer.header("x-tercet-stages"), request.header("x-tercet-stages")), (None, None));
    let log = balancer.stop();
    assert!(log.contains(r#""api_seconds":0.000900,"parse_seconds":0.000020,"plan_seconds":0.000030,"pool_seconds":0.000004,"database_seconds":0.000800,"rows":2"#), "{log}");
    let record: serde_json::Value = serde_json::from_str(&log).unwrap();
    let [all, queue, upstream] =
        ["seconds", "queue_seconds", "upstream_seconds"].map(|name| record[name].as_f64().unwrap());
    assert!(queue + upstream <= all, "{record}");
}

#[test]
fn bodies_are_forwarded_in_both_directions_with_any_framing_and_length() {
    let server = Backend::start(|request, stream| {
        let body = &request.body;
        match request.line().split(' ').nth(1) {
            Some("/length") => {
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).unwrap();
                stream.write_all(body).is_ok()
            }
            Some("/chunked") => {
                write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
                for chunk in body.chunks(70_000) {
                    write!(stream, "{:x}\r\n", chunk.len()).unwrap();
                    stream.write_all(chunk).unwrap();
                    stream.write_all(b"\r\n").unwrap();
                }
                stream.write_all(b"0\r\nX-Trailer: kept\r\n\r\n").is_ok()
            }
            _ => {
                write!(stream, "HTTP/1.1 200 OK\r\n\r\n").unwrap();
                stream.write_all(body).unwrap();
                false
            }
        }
    });
    let balancer = Running::start(&[&server], "");
    let mut client = Client::connect(balancer.address);
    for length in [0, 1, 5_000, 100_000, 3_000_000] {
        let body: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
        for target in ["/length", "/chunked", "/until-close"] {
            let head = format!("POST {target} HTTP/1.1\r\nHost: test\r\n");
            client.send(format!("{head}Content-Length: {length}\r\n\r\n").as_bytes()).send(&body);
            let answer = client.answer();
            assert!(answer.status == 200 && answer.body == body, "{target} {length}");
            client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes());
            for chunk in body.chunks(10_000) {
                client.send(format!("{:x}\r\n", chunk.len()).as_bytes()).send(chunk).send(b"\r\n");
            }
            let answer = client.send(b"0\r\n\r\n").answer();
            assert!(answer.status == 200 && answer.body == body, "{target} {length} chunked");
        }
    }
}

#[test]
fn responses_to_pipelined_requests_are_in_order() {
    let counter = AtomicUsize::new(0);
    let server = Backend::start(move |_, stream| {
        let number = counter.fetch_add(1, Ordering::SeqCst).to_string();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{number}", number.len()).is_ok()
    });
    let balancer = Running::start(&[&server], "");
    let mut client = Client::connect(balancer.address);
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    for number in ["0", "1", "2"] {
        assert_eq!(client.answer().text(), number);
    }
}

#[test]
fn without_an_available_server_the_response_is_503_at_once() {
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let balancer = Running::with(crate::running::config_for(&[gone], ""));
    let mut client = Client::connect(balancer.address);
    for _ in 0..2 {
        let answer = client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab").answer();
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
        let body: serde_json::Value = serde_json::from_str(answer.text()).unwrap();
        assert_eq!(body["message"], "no server is available");
        assert_eq!(body["request_id"].as_str(), answer.header("x-request-id"));
    }
}

#[test]
fn a_malformed_request_is_refused_and_the_connection_closed() {
    let server = Backend::responding("never");
    let balancer = Running::start(&[&server], "");
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("GET / HTTP/2.7\r\nHost: a\r\n\r\n", 505),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ] {
        let mut client = Client::connect(balancer.address);
        let answer = client.send(request.as_bytes()).answer();
        assert_eq!((answer.status, answer.header("connection")), (status, Some("close")), "{request}");
        assert!(answer.header("x-request-id").is_some_and(|id| id.len() == 36), "{request}");
        assert!(client.is_closed(), "{request}");
    }
    assert!(server.requests().is_empty());
}

#[test]
fn proxy_authorization_is_not_forwarded_and_a_426_keeps_its_upgrade_field() {
    let server = Backend::start(|_, stream| {
        let head = "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket, HTTP/3.0\r\nConnection: Upgrade\r\n";
        stream.write_all(format!("{head}Content-Length: 0\r\n\r\n").as_bytes()).is_ok()
    });
    let balancer = Running::start(&[&server], "");
    let mut client = Client::connect(balancer.address);
    let request =
        b"GET / HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic YTpi\r\nAuthorization: Bearer x\r\n\r\n";
    let answer = client.send(request).answer();
    assert_eq!((answer.status, answer.header("upgrade")), (426, Some("websocket, HTTP/3.0")));
    assert_eq!(answer.header("connection"), Some("Upgrade"));
    assert_eq!(client.get("/").status, 426, "the connection is kept");
    let request = &server.requests()[0];
    assert_eq!(request.header("proxy-authorization"), None);
    assert_eq!(request.header("authorization"), Some("Bearer x"));
}
