//! Changes of a running balancer without failed requests: drains, reloads, stops.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use crate::backend::Backend;
use crate::client::Client;
use crate::running::{Running, config};

/// Sends requests from four clients until `done` returns. Returns the number of responses.
fn under_load(address: SocketAddr, done: impl FnOnce()) -> usize {
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::connect(address);
                while !stop.load(Ordering::SeqCst) {
                    assert_eq!(client.get("/").status, 200);
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        done();
        stop.store(true, Ordering::SeqCst);
    });
    answered.into_inner()
}

#[test]
fn a_hundred_reloads_under_load_fail_no_request_and_close_no_connection() {
    let servers = [Backend::responding("one"), Backend::responding("two"), Backend::responding("three")];
    let balancer = Running::start(&[&servers[0], &servers[1]], "");
    let mut before = Client::connect(balancer.address);
    assert_eq!(before.get("/").status, 200);
    let answered = under_load(balancer.address, || {
        for round in 0..100 {
            let named: &[&Backend] =
                if round % 2 == 0 { &[&servers[1], &servers[2]] } else { &[&servers[0], &servers[1]] };
            let policy = if round % 3 == 0 { "policy = \"least-connections\"\n" } else { "" };
            balancer.balancer().reload(config(named, policy), Vec::new()).unwrap();
            // At least one request between two reloads.
            assert_eq!(Client::connect(balancer.address).get("/").status, 200);
        }
    });
    assert!(answered > 100, "{answered}");
    assert_eq!(before.get("/").status, 200, "the connection from before is still served");
    assert!(!servers[2].requests().is_empty());
}

#[test]
fn a_reload_with_a_missing_certificate_changes_nothing() {
    let server = Backend::responding("still");
    let balancer = Running::start(&[&server], "");
    let mut changed = config(&[&Backend::responding("new")], "");
    changed.listen[0].certificates =
        vec![tercet_balancer::config::Certificate { certificate: "/nowhere".into(), key: "/nowhere".into() }];
    let error = balancer.balancer().reload(changed, Vec::new()).unwrap_err();
    assert!(error.to_string().contains("/nowhere"), "{error}");
    assert_eq!(Client::connect(balancer.address).get("/").text(), "still");
}

#[test]
fn requests_over_the_rate_limit_get_retry_after() {
    let server = Backend::responding("ok");
    let balancer = Running::start(&[&server], "[limits]\nrequests-per-second = 1\nrequest-burst = 2\n");
    let mut client = Client::connect(balancer.address);
    let statuses = [(); 3].map(|()| client.get("/").status);
    assert_eq!(statuses, [200, 200, 429]);
    assert_eq!(client.get("/").header("retry-after"), Some("1"));
}

#[test]
fn connections_over_a_clients_limit_are_closed_and_over_the_total_limit_wait() {
    let server = Backend::responding("ok");
    let balancer = Running::start(&[&server], "[limits]\nconnections-per-client = 2\n");
    let mut open = [Client::connect(balancer.address), Client::connect(balancer.address)];
    for client in &mut open {
        assert_eq!(client.get("/").status, 200);
    }
    assert!(Client::connect(balancer.address).is_closed());

    let mut one = config(&[&server], "[limits]\nconnections = 1\n");
    one.workers = 1;
    let balancer = Running::with(one);
    let mut first = Client::connect(balancer.address);
    assert_eq!(first.get("/").status, 200);
    let mut second = Client::connect(balancer.address);
    second.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(first.get("/").status, 200);
    drop(first);
    assert_eq!(second.answer().status, 200);
}

#[test]
fn stopping_finishes_requests_in_flight_and_closes_idle_connections() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let waiting = Arc::clone(&gate);
    let server = Backend::start(move |_, stream| {
        let (open, opened) = &*waiting;
        drop(opened.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast").is_ok()
    });
    let balancer = Running::start(&[&server], "");
    let mut idle = Client::connect(balancer.address);
    // The balancer responds itself and keeps the connection.
    idle.send(b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n");
    assert_eq!(idle.answer().status, 200);
    let mut busy = Client::connect(balancer.address);
    busy.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    while server.requests().is_empty() {
        std::thread::yield_now();
    }
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| balancer.stop());
        assert!(idle.is_closed());
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        let answer = busy.answer();
        assert_eq!((answer.text(), answer.header("connection")), ("last", None));
        assert!(busy.is_closed());
        assert_eq!(stopping.join().unwrap().lines().count(), 2);
    });
}
