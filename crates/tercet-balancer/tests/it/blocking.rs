//! Slow servers are not dead: blocked event loops, stopped processes and failed health checks, and their effect on
//! requests in flight and new ones.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tercet_balancer::Config;

use crate::backend::Backend;
use crate::client::Client;
use crate::event_loop::EventLoop;
use crate::running::{Running, config_for, with_pipeline};

/// The protocol of a test's clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// Sends GETs over HTTP/2, all on one connection, and returns their statuses.
fn get_over_http2(address: SocketAddr, targets: &[String]) -> Vec<(String, u16)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        let answers = async {
            let mut waiting = Vec::new();
            for target in targets {
                client = client.ready().await.unwrap();
                let request = http::Request::get(format!("http://test{target}")).body(()).unwrap();
                waiting.push((target.clone(), client.send_request(request, true).unwrap().0));
            }
            let mut answers = Vec::new();
            for (target, answer) in waiting {
                answers.push((target, answer.await.map_or(0, |answer| answer.status().as_u16())));
            }
            answers
        };
        tokio::select! {
            answers = answers => answers,
            ended = connection => panic!("the connection ended: {ended:?}"),
        }
    })
}

/// Blocks one of two servers while clients keep sending requests. All requests succeed, and none is executed twice.
fn check_blocked(blocked: Duration, pipeline: u16, protocol: Protocol) {
    let servers = [EventLoop::start(200), EventLoop::start(200)];
    let config = config_for(&servers.each_ref().map(|server| server.address), "");
    let balancer = Running::with(with_pipeline(config, pipeline));
    let address = balancer.address;
    let (answered, over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let blocking = format!("/block/{}/it", blocked.as_millis());
    std::thread::scope(|scope| {
        for client in 0..8 {
            let (answered, over) = (&answered, &over);
            scope.spawn(move || {
                let mut connection = Client::connect(address);
                for number in 0.. {
                    if over.load(Ordering::SeqCst) {
                        return;
                    }
                    let targets: Vec<String> =
                        (0..4).map(|part| format!("/{client}/{number}/{part}")).collect();
                    let statuses = match protocol {
                        Protocol::Http1 => targets
                            .iter()
                            .map(|target| (target.clone(), connection.get(target).status))
                            .collect(),
                        Protocol::Http2 => get_over_http2(address, &targets),
                    };
                    answered.lock().unwrap().extend(statuses);
                }
            });
        }
        while answered.lock().unwrap().len() < 100 {
            std::thread::yield_now();
        }
        let began = Instant::now();
        let statuses = match protocol {
            Protocol::Http1 => vec![(blocking.clone(), Client::connect(address).get(&blocking).status)],
            Protocol::Http2 => get_over_http2(address, std::slice::from_ref(&blocking)),
        };
        assert!(began.elapsed() >= blocked);
        answered.lock().unwrap().extend(statuses);
        over.store(true, Ordering::SeqCst);
    });
    let answered = answered.into_inner().unwrap();
    let failed: Vec<_> = answered.iter().filter(|(_, status)| *status != 200).collect();
    assert!(failed.is_empty(), "{blocked:?} {pipeline} {protocol:?}: {failed:?}\n{}", balancer.events());
    let mut times = HashMap::new();
    for target in servers.iter().flat_map(EventLoop::executed) {
        *times.entry(target).or_insert(0) += 1;
    }
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "{blocked:?} {pipeline} {protocol:?}: {twice:?}");
    assert_eq!(times.len(), answered.len());
    assert!(!balancer.events().contains("is down"), "{}", balancer.events());
}

/// With default options, all protocols, and with and without pipelining.
fn check_all_blocked(blocked: Duration) {
    std::thread::scope(|scope| {
        for (pipeline, protocol) in
            [(1, Protocol::Http1), (16, Protocol::Http1), (1, Protocol::Http2), (16, Protocol::Http2)]
        {
            scope.spawn(move || check_blocked(blocked, pipeline, protocol));
        }
    });
}

#[test]
fn an_event_loop_blocked_for_1_second_fails_no_request() {
    check_all_blocked(Duration::from_secs(1));
}

#[test]
fn an_event_loop_blocked_for_3_seconds_fails_no_request() {
    check_all_blocked(Duration::from_secs(3));
}

#[test]
fn an_event_loop_blocked_for_10_seconds_fails_no_request() {
    check_all_blocked(Duration::from_secs(10));
}

#[test]
fn a_blocked_server_gets_no_new_requests_until_its_next_response() {
    let servers = [EventLoop::start(200), EventLoop::start(200)];
    let rules = "[health]\ninterval = \"50ms\"\ntimeout = \"100ms\"\n";
    for path in ["", "path = \"/health\"\n"] {
        let addresses = servers.each_ref().map(|server| server.address);
        let balancer = Running::with(config_for(&addresses, &format!("{rules}{path}")));
        let mut blocked = Client::connect(balancer.address);
        blocked.send(b"GET /block/3000/x HTTP/1.1\r\nHost: test\r\n\r\n");
        while !balancer.events().contains("is silent: 1 requests in flight") {
            std::thread::yield_now();
        }
        let mut client = Client::connect(balancer.address);
        let began = Instant::now();
        let names: Vec<_> =
            (0..20).map(|_| client.get("/").header("x-served-by").unwrap().to_owned()).collect();
        assert!(names.iter().all(|name| *name == names[0]), "{names:?}");
        assert!(began.elapsed() < Duration::from_secs(2), "no request waited: {:?}", began.elapsed());
        let answer = blocked.answer();
        assert_eq!(answer.status, 200);
        assert_ne!(answer.header("x-served-by"), Some(names[0].as_str()));
        // Its response puts it back into rotation at once.
        let names = [(); 4].map(|()| client.get("/").header("x-served-by").unwrap().to_owned());
        assert!(names[0] != names[1] && names[0] == names[2], "{names:?}");
        assert!(!balancer.events().contains("is down"), "{}", balancer.events());
    }
}

#[test]
fn requests_are_served_if_all_servers_fail_their_checks_but_accept_connections() {
    let servers = [EventLoop::start(503), EventLoop::start(500)];
    let addresses = servers.each_ref().map(|server| server.address);
    let balancer =
        Running::with(config_for(&addresses, "[health]\npath = \"/health\"\ninterval = \"20ms\"\n"));
    while !balancer.events().contains("no server of application passes its health checks") {
        std::thread::yield_now();
    }
    let mut client = Client::connect(balancer.address);
    let names = [(); 4].map(|()| client.get("/").header("x-served-by").unwrap().to_owned());
    assert_eq!(names.iter().filter(|name| *name == "app-1").count(), 2, "{names:?}");
    let expected = "app-1 is down: the health check returned status 503";
    assert!(balancer.events().contains(expected), "{}", balancer.events());
}

#[test]
fn servers_of_the_best_standing_are_tried_first_and_unreachable_ones_last() {
    let (failing, refusing) = (EventLoop::start(500), TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = [refusing.local_addr().unwrap(), failing.address];
    drop(refusing);
    let rules = "[health]\npath = \"/health\"\ninterval = \"20ms\"\nejection-failures = 1000\n";
    let balancer = Running::with(config_for(&addresses, rules));
    while !balancer.events().contains("no server of application passes its health checks") {
        std::thread::yield_now();
    }
    let mut client = Client::connect(balancer.address);
    for _ in 0..6 {
        assert_eq!(client.get("/").header("x-served-by"), Some("app-2"));
    }
    // A server that accepts connections again gets requests before its checks pass.
    let back = Backend::on(TcpListener::bind(addresses[0]).unwrap(), |_, stream| {
        std::io::Write::write_all(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_ok()
    });
    let only = Running::with(config_for(&addresses[..1], "[health]\ninterval = \"1h\"\n"));
    assert_eq!(Client::connect(only.address).get("/").status, 200);
    drop(back);
}

#[test]
fn a_5xx_of_the_configured_path_takes_a_server_down_at_once_and_a_refused_connection_after_fall_checks() {
    let (failing, healthy) = (EventLoop::start(500), EventLoop::start(200));
    let rules = "[health]\npath = \"/health\"\ninterval = \"1h\"\nfall = 100\n";
    let balancer = Running::with(config_for(&[failing.address, healthy.address], rules));
    while !balancer.events().contains("server app-1 is down: the health check returned status 500") {
        std::thread::yield_now();
    }
    let mut client = Client::connect(balancer.address);
    assert_eq!([(); 4].map(|()| client.get("/").status), [200; 4]);
    assert_eq!((failing.executed().len(), healthy.executed().len()), (0, 4));

    let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let rules = "[health]\ninterval = \"20ms\"\nfall = 3\nejection-failures = 1000\n";
    let balancer = Running::with(config_for(&[refusing, healthy.address], rules));
    let began = Instant::now();
    while !balancer.events().contains("server app-1 is down: connection refused") {
        std::thread::yield_now();
    }
    assert!(began.elapsed() >= Duration::from_millis(40), "the third check, not the first");
}

#[test]
fn without_a_path_error_statuses_of_requests_take_no_server_down() {
    let servers = [(); 2].map(|()| {
        Backend::start(|_, stream| {
            std::io::Write::write_all(stream, b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n").is_ok()
        })
    });
    let balancer = Running::start(&[&servers[0], &servers[1]], "[health]\ninterval = \"10ms\"\nfall = 1\n");
    let mut client = Client::connect(balancer.address);
    for _ in 0..50 {
        assert_eq!(client.get("/").status, 500);
    }
    assert!(!balancer.events().contains("app-"), "{}", balancer.events());
}

#[test]
fn a_request_in_flight_stays_on_a_server_that_goes_down() {
    // Checks get status 500 once the request has arrived, and the request gets its response once the server is down.
    let is_down = Arc::new(AtomicBool::new(false));
    let waiting = Arc::clone(&is_down);
    let has_request = Arc::new(AtomicBool::new(false));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (has_request, is_down) = (Arc::clone(&has_request), Arc::clone(&waiting));
            std::thread::spawn(move || {
                let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
                let Some(head) = crate::backend::read_head(&mut reader) else { return };
                let is_check = head.contains("tercet-balancer");
                if !is_check {
                    has_request.store(true, Ordering::SeqCst);
                    while !is_down.load(Ordering::SeqCst) {
                        std::thread::yield_now();
                    }
                }
                let status = if is_check && has_request.load(Ordering::SeqCst) { 500 } else { 200 };
                let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok");
                let _ = std::io::Write::write_all(&mut stream, answer.as_bytes());
            });
        }
    });
    let other = Backend::responding("other");
    let rules = "[health]\npath = \"/health\"\ninterval = \"20ms\"\n";
    let balancer = Running::with(Config { workers: 1, ..config_for(&[address, other.address], rules) });
    let (mut slow, mut quick) = (Client::connect(balancer.address), Client::connect(balancer.address));
    // The first request goes to the first server.
    slow.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    while !balancer.events().contains("server app-1 is down: the health check returned status 500") {
        std::thread::yield_now();
    }
    assert_eq!([(); 4].map(|()| quick.get("/").text().to_owned()), ["other"; 4]);
    is_down.store(true, Ordering::SeqCst);
    assert_eq!(slow.answer().header("x-served-by"), Some("app-1"));
    assert_eq!(other.requests().len(), 4, "it was not moved");
}
