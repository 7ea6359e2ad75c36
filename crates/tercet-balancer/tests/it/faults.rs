//! Server failures under load: refused connections, truncated responses, hangs and crashes.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

use tercet_balancer::Config;

use crate::backend::{Backend, Request};
use crate::client::Client;
use crate::running::{Running, config_for};

/// Without health checks and ejections.
const NO_CHECKS: &str = "[health]\ninterval = \"1h\"\nejection-failures = 1000000\n";

fn ok(stream: &mut std::net::TcpStream) -> bool {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_ok()
}

fn id_of(request: &Request) -> String {
    request.line().split(' ').nth(1).unwrap().to_owned()
}

/// An address that refuses connections.
fn refusing() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Sends `count` requests with `method` from each of eight clients. Returns the number of responses by status; 0 is no
/// response.
fn load(address: SocketAddr, method: &str, count: usize) -> HashMap<u16, usize> {
    let statuses = Mutex::new(HashMap::new());
    std::thread::scope(|scope| {
        for client in 0..8 {
            let statuses = &statuses;
            scope.spawn(move || {
                let mut connection = Client::connect(address);
                for number in 0..count {
                    let request = format!(
                        "{method} /{client}-{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab"
                    );
                    let answer = connection.send(request.as_bytes()).try_answer();
                    let status = answer.as_ref().map_or(0, |answer| answer.status);
                    *statuses.lock().unwrap().entry(status).or_insert(0) += 1;
                    if answer.is_none_or(|answer| answer.header("connection") == Some("close")) {
                        connection = Client::connect(address);
                    }
                }
            });
        }
    });
    statuses.into_inner().unwrap()
}

#[test]
fn after_a_refused_connection_any_method_is_retried() {
    let server = Backend::start(|_, stream| ok(stream));
    let balancer = Running::with(config_for(&[refusing(), server.address, refusing()], NO_CHECKS));
    assert_eq!(load(balancer.address, "POST", 10), HashMap::from([(200, 80)]));
    assert_eq!(server.requests().len(), 80);
}

#[test]
fn a_post_is_never_sent_twice_and_a_put_never_fails() {
    // For every tenth request, the first attempt closes the connection without a response.
    let seen = Arc::new(Mutex::new(HashMap::<String, usize>::new()));
    let servers = [0, 1, 2].map(|_| {
        let seen = Arc::clone(&seen);
        Backend::start(move |request, stream| {
            let id = format!("{} {}", &request.head[..3], id_of(request));
            let is_tenth = id.ends_with('7');
            let times = *seen.lock().unwrap().entry(id).and_modify(|times| *times += 1).or_insert(1);
            (times > 1 || !is_tenth) && ok(stream)
        })
    });
    let generous = format!("{NO_CHECKS}[retries]\nattempts = 10\nbudget-minimum = 100\n");
    let balancer = Running::start(&[&servers[0], &servers[1], &servers[2]], &generous);
    let posts = load(balancer.address, "POST", 100);
    assert_eq!(posts, HashMap::from([(200, 720), (502, 80)]));
    let twice: Vec<_> =
        seen.lock().unwrap().iter().filter(|(_, times)| **times > 1).map(|(id, _)| id.clone()).collect();
    assert!(twice.is_empty(), "sent twice: {twice:?}");
    assert_eq!(seen.lock().unwrap().len(), 800);
    assert_eq!(load(balancer.address, "PUT", 100), HashMap::from([(200, 800)]));
}

#[test]
fn a_request_with_a_streamed_body_is_not_retried() {
    let seen = Arc::new(AtomicUsize::new(0));
    let servers = [0, 1].map(|_| {
        let seen = Arc::clone(&seen);
        Backend::start(move |_, _| {
            seen.fetch_add(1, Ordering::SeqCst);
            false
        })
    });
    let balancer = Running::start(&[&servers[0], &servers[1]], NO_CHECKS);
    let mut client = Client::connect(balancer.address);
    let body = vec![b'x'; 1_000_000];
    client
        .send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes())
        .send(&body);
    assert_eq!(client.answer().status, 502);
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[test]
fn the_retry_budget_limits_retries_during_an_outage() {
    let servers = [0, 1, 2].map(|_| Backend::start(|_, _| false));
    let balancer = Running::start(
        &[&servers[0], &servers[1], &servers[2]],
        &format!("{NO_CHECKS}[retries]\nattempts = 2\nbudget-percent = 0\nbudget-minimum = 0\n"),
    );
    assert_eq!(load(balancer.address, "GET", 10), HashMap::from([(502, 80)]));
    let reached: usize = servers.iter().map(|server| server.requests().len()).sum();
    assert_eq!(reached, 80);
}

#[test]
fn retries_of_a_server_out_of_rotation_are_not_charged_to_the_budget() {
    const REQUESTS: usize = 20;
    let all_arrived = Barrier::new(REQUESTS);
    let dying = Backend::start(move |_, _| {
        all_arrived.wait();
        false
    });
    let steady = Backend::start(|_, stream| ok(stream));
    let addresses = [dying.address, steady.address];
    let balancer =
        Running::with(config_for(&addresses, "[retries]\nbudget-percent = 0\nbudget-minimum = 2\n"));
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let ask = || Client::connect(balancer.address).get("/").status;
        let clients: Vec<_> = (0..2 * REQUESTS).map(|_| scope.spawn(ask)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert_eq!(statuses, [200; 2 * REQUESTS]);
    assert_eq!((dying.requests().len(), steady.requests().len()), (REQUESTS, 2 * REQUESTS));
}

#[test]
fn a_server_crash_under_load_fails_no_idempotent_request() {
    let steady = [Backend::start(|_, stream| ok(stream)), Backend::start(|_, stream| ok(stream))];
    let dying = Mutex::new(Some(Backend::start(|_, stream| ok(stream))));
    let addresses = [steady[0].address, dying.lock().unwrap().as_ref().unwrap().address, steady[1].address];
    let balancer = Running::with(config_for(&addresses, ""));
    let statuses = std::thread::scope(|scope| {
        let loading = scope.spawn(|| load(balancer.address, "GET", 300));
        while dying.lock().unwrap().as_ref().unwrap().requests().len() < 100 {
            std::thread::yield_now();
        }
        dying.lock().unwrap().take();
        loading.join().unwrap()
    });
    assert_eq!(statuses, HashMap::from([(200, 2400)]));
}

#[test]
fn a_hung_server_gets_no_new_requests_and_its_requests_are_retried_after_the_timeout() {
    let steady = [Backend::start(|_, stream| ok(stream)), Backend::start(|_, stream| ok(stream))];
    // The kernel accepts connections, but no process responds, as with a stopped process.
    let stopped = TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = [steady[0].address, stopped.local_addr().unwrap(), steady[1].address];
    let rules = "[health]\ninterval = \"50ms\"\ntimeout = \"100ms\"\n[timeouts]\nresponse = \"2s\"\n";
    let balancer = Running::with(config_for(&addresses, rules));
    let started = Instant::now();
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| load(balancer.address, "GET", 20));
        while !balancer.events().contains("server app-2 is silent") {
            std::thread::yield_now();
        }
        // From now on new requests do not wait for it.
        let began = Instant::now();
        assert_eq!(load(balancer.address, "POST", 20), HashMap::from([(200, 160)]));
        assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
        assert_eq!(loading.join().unwrap(), HashMap::from([(200, 160)]));
    });
    assert!((2..10).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    // Once it has no more requests, health checks that time out count.
    while !balancer.events().contains("server app-2 is down: the health check timed out after") {
        std::thread::yield_now();
    }
}

#[test]
fn a_server_that_responds_to_requests_is_not_taken_down_by_late_checks() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let checks = Arc::new(Mutex::new(Vec::new()));
    let held = Arc::clone(&checks);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let held = Arc::clone(&held);
            std::thread::spawn(move || {
                let mut head = [0; 4096];
                while let Ok(length @ 1..) = std::io::Read::read(&mut stream, &mut head) {
                    if String::from_utf8_lossy(&head[..length]).contains("tercet-balancer") {
                        held.lock().unwrap().push(stream);
                        return;
                    }
                    ok(&mut stream);
                }
            });
        }
    });
    let rules = "[health]\npath = \"/\"\ninterval = \"10ms\"\ntimeout = \"500ms\"\n";
    let balancer = Running::with(config_for(&[address], rules));
    let mut client = Client::connect(balancer.address);
    while checks.lock().unwrap().len() < 5 {
        assert_eq!(client.get("/").status, 200);
    }
}

#[test]
fn consecutive_failures_eject_a_server_but_never_the_last_one() {
    let good = Backend::start(|_, stream| ok(stream));
    let broken = Backend::start(|_, _| false);
    let rules = "[health]\ninterval = \"1h\"\nejection-failures = 3\nejection-time = \"1h\"\nejection-time-max = \"1h\"\n[retries]\nattempts = 0\n";
    let balancer = Running::start(&[&good, &broken], rules);
    let mut statuses = Vec::new();
    for _ in 0..12 {
        let mut client = Client::connect(balancer.address);
        statuses.push(client.get("/").status);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 502).count(), 3, "{statuses:?}");
    drop(good);
    let mut client = Client::connect(balancer.address);
    assert_eq!(client.get("/").status, 503, "the last available server is not ejected");
    assert_eq!(broken.requests().len(), 3);
}

#[test]
fn passed_checks_do_not_reset_failed_requests() {
    let good = Backend::start(|_, stream| ok(stream));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (passed, checks) = mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = [0; 4096];
            let length = std::io::Read::read(&mut stream, &mut head).unwrap_or(0);
            // For requests the connection is closed without a response.
            if String::from_utf8_lossy(&head[..length]).contains("tercet-balancer") {
                ok(&mut stream);
                let _ = passed.send(());
            }
        }
    });
    let rules = "[health]\npath = \"/\"\ninterval = \"10ms\"\nejection-failures = 3\nejection-time = \"1h\"\nejection-time-max = \"1h\"\n[retries]\nattempts = 0\n";
    let balancer = Running::with(config_for(&[good.address, address], rules));
    let mut failed = 0;
    for _ in 0..12 {
        failed += usize::from(Client::connect(balancer.address).get("/").status == 502);
        // The first of the two may have begun before the request failed.
        for _ in 0..2 {
            checks.recv().unwrap();
        }
    }
    assert_eq!(failed, 3);
}

#[test]
fn a_recovered_server_gets_requests_again() {
    let steady = Backend::start(|_, stream| ok(stream));
    let address = refusing();
    let rules = "[health]\ninterval = \"20ms\"\nrise = 1\nslow-start = \"0s\"\n";
    let balancer = Running::with(config_for(&[steady.address, address], rules));
    let mut client = Client::connect(balancer.address);
    assert_eq!(client.get("/").status, 200);
    let listener = TcpListener::bind(address).unwrap();
    let back = Backend::on(listener, |_, stream| ok(stream));
    while back.requests().is_empty() {
        assert_eq!(client.get("/").status, 200);
    }
}

#[test]
fn recovery_of_a_server_ends_its_ejection() {
    let steady = Backend::start(|_, stream| ok(stream));
    let dying = Backend::start(|_, _| false);
    let address = dying.address;
    let rules = "[health]\ninterval = \"20ms\"\nrise = 1\nslow-start = \"0s\"\nejection-failures = 1\nejection-time = \"1h\"\nejection-time-max = \"1h\"\n";
    let balancer = Running::with(config_for(&[steady.address, address], rules));
    let mut client = Client::connect(balancer.address);
    while dying.requests().is_empty() {
        assert_eq!(client.get("/").status, 200);
    }
    // It is ejected for an hour. Then its checks fail, and pass again after a restart.
    drop(dying);
    while !balancer.events().contains("server app-2 is down") {
        assert_eq!(client.get("/").status, 200);
    }
    let back = Backend::on(TcpListener::bind(address).unwrap(), |_, stream| ok(stream));
    while back.requests().is_empty() {
        assert_eq!(client.get("/").status, 200);
    }
}

#[test]
fn an_invalid_response_is_a_502_and_a_truncated_one_stays_truncated() {
    let server = Backend::start(|request, stream| {
        let answer: &[u8] = match id_of(request).as_str() {
            "/garbage" => b"\x16\x03\x01 what is this",
            "/half" => b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
            "/half-chunk" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n",
            _ => b"HTTP/1.1 200 OK\r\nX-Cut",
        };
        stream.write_all(answer).unwrap();
        false
    });
    let balancer = Running::start(&[&server], &format!("{NO_CHECKS}[retries]\nattempts = 0\n"));
    for (target, status) in [("/garbage", 502), ("/head", 502)] {
        assert_eq!(Client::connect(balancer.address).get(target).status, status, "{target}");
    }
    for target in ["/half", "/half-chunk"] {
        let mut client = Client::connect(balancer.address);
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        assert!(client.try_answer().is_none(), "{target} must not look complete");
    }
}

/// Two working servers, and one that handles requests with `fault`. Clients get `expected` from it (0 is a truncated
/// response) until it is ejected, and no failures after that.
fn check_one_of_three(fault: fn(&mut std::net::TcpStream), expected: u16) {
    let good = [Backend::start(|_, stream| ok(stream)), Backend::start(|_, stream| ok(stream))];
    let bad = Backend::start(move |_, stream| {
        fault(stream);
        false
    });
    let rules = "[health]\ninterval = \"1h\"\nejection-time = \"1h\"\nejection-time-max = \"1h\"\n[timeouts]\nresponse = \"300ms\"\n";
    let balancer = Running::start(&[&good[0], &bad, &good[1]], rules);
    let mut statuses = load(balancer.address, "POST", 30);
    let answered = statuses.remove(&200).unwrap_or(0);
    let failed = statuses.remove(&expected).unwrap_or(0);
    assert!(statuses.is_empty(), "expected {expected}, got also {statuses:?}");
    // Three failures eject it; each of the eight clients may have had another request in flight.
    assert!((3..=3 + 8).contains(&failed), "{failed}");
    assert_eq!((answered + failed, bad.requests().len()), (8 * 30, failed));
    assert_eq!(load(balancer.address, "POST", 10), HashMap::from([(200, 80)]));
}

#[test]
fn a_server_that_does_not_respond_is_ejected_and_the_others_are_not_affected() {
    check_one_of_three(|_| {}, 502);
    check_one_of_three(
        // Until the balancer closes the connection.
        |stream| drop(std::io::Read::read(stream, &mut [0])),
        504,
    );
}

/// Two servers that handle `/bad` with `fault`: its client gets `expected` (0 is a truncated response), and other
/// requests are not affected, with and without pipelining.
fn check_invalid_responses(fault: fn(&mut std::net::TcpStream), expected: u16) {
    for pipeline in [1, 16] {
        let servers = [(); 2].map(|()| {
            Backend::start(move |request, stream| {
                if id_of(request) == "/bad" {
                    fault(stream);
                    return false;
                }
                ok(stream)
            })
        });
        let mut config = config_for(&servers.each_ref().map(|server| server.address), EJECT_AT_FIRST_FAILURE);
        for server in &mut config.servers {
            server.pipeline = pipeline;
        }
        let balancer = Running::with(config);
        let mut client = Client::connect(balancer.address);
        for _ in 0..8 {
            let answer =
                Client::connect(balancer.address).send(b"GET /bad HTTP/1.1\r\nHost: a\r\n\r\n").try_answer();
            assert_eq!(answer.map_or(0, |answer| answer.status), expected);
            let names = [(); 2].map(|()| {
                let answer = client.get("/");
                assert_eq!(answer.status, 200);
                answer.header("x-served-by").unwrap().to_owned()
            });
            assert_ne!(names[0], names[1], "both are still in rotation");
        }
        assert!(!balancer.events().contains("app-"), "{}", balancer.events());
    }
}

const EJECT_AT_FIRST_FAILURE: &str = "[health]\ninterval = \"1h\"\nejection-failures = 1\n";

#[test]
fn an_invalid_response_fails_its_request_and_does_not_eject_the_server() {
    check_invalid_responses(|stream| drop(stream.write_all(b"\x16\x03\x01 what is this\r\n\r\n")), 502);
    check_invalid_responses(|stream| while stream.write_all(b"HTTP/1.1 200 OK\r\n").is_ok() {}, 502);
    check_invalid_responses(
        |stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
            while stream.write_all(b"X-Endless: an endless header section\r\n").is_ok() {}
        },
        502,
    );
    check_invalid_responses(
        |stream| drop(stream.write_all(b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok")),
        502,
    );
    check_invalid_responses(
        |stream| drop(stream.write_all(b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n")),
        502,
    );
    check_invalid_responses(
        |stream| drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")),
        0,
    );
}

#[test]
fn server_timeouts_are_504_and_client_timeouts_408() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let waiting = Arc::clone(&gate);
    let server = Backend::start(move |_, _| {
        let (open, opened) = &*waiting;
        drop(opened.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
        false
    });
    let rules = format!(
        "{NO_CHECKS}[timeouts]\nresponse = \"100ms\"\nhead = \"100ms\"\nbody = \"100ms\"\nidle = \"100ms\"\n"
    );
    let balancer = Running::start(&[&server], &rules);
    let mut client = Client::connect(balancer.address);
    assert_eq!(client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").answer().status, 504);
    assert!(client.is_closed(), "the idle timeout");
    let mut client = Client::connect(balancer.address);
    assert_eq!(client.send(b"GET / HTTP/1.1\r\nHos").answer().status, 408);
    assert!(client.is_closed());
    let mut client = Client::connect(balancer.address);
    assert_eq!(client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab").answer().status, 408);
    assert!(client.is_closed());
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
}

#[test]
fn requests_over_a_servers_limit_are_queued_and_over_the_queues_limit_refused() {
    let (arrived, release) = (Arc::new(AtomicUsize::new(0)), Arc::new((Mutex::new(false), Condvar::new())));
    let (counting, waiting) = (Arc::clone(&arrived), Arc::clone(&release));
    let server = Backend::start(move |_, stream| {
        counting.fetch_add(1, Ordering::SeqCst);
        let (open, opened) = &*waiting;
        drop(opened.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
        ok(stream)
    });
    let mut config = config_for(&[server.address], &format!("{NO_CHECKS}[limits]\nqueue = 1\n"));
    config.servers[0].max_connections = 1;
    let balancer = Running::with(config);
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut first = Client::connect(balancer.address);
    first.send(request);
    while arrived.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    // One of the next two is queued, and the other one refused.
    let (mut second, mut third) = (Client::connect(balancer.address), Client::connect(balancer.address));
    let barrier = Barrier::new(2);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let clients = [&mut second, &mut third].map(|client| {
            let (barrier, release) = (&barrier, &release);
            scope.spawn(move || {
                barrier.wait();
                let status = client.send(request).answer().status;
                // The queued one continues after the refusal.
                *release.0.lock().unwrap() = true;
                release.1.notify_all();
                status
            })
        });
        clients.map(|client| client.join().unwrap()).to_vec()
    });
    assert!(statuses.contains(&503) && statuses.contains(&200), "{statuses:?}");
    assert_eq!(first.answer().status, 200);
    assert_eq!(arrived.load(Ordering::SeqCst), 2);
}

#[test]
fn a_client_that_disconnects_gives_up_its_place_in_the_queue() {
    check_place_in_the_queue("GET", 0, "");
}

#[test]
fn so_does_one_whose_body_is_buffered() {
    check_place_in_the_queue("POST", 100_000, "[[route]]\nbuffer-requests = true\n");
}

/// Requests with a body of this length, of which two are sent when the only server is busy.
fn check_place_in_the_queue(method: &str, length: usize, routes: &str) {
    let (report, arrived) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let server = Backend::start(move |request, stream| {
        report.send(request.line().to_owned()).unwrap();
        released.lock().unwrap().recv().unwrap();
        ok(stream)
    });
    let more = format!("{NO_CHECKS}[limits]\nqueue = 1\n[timeouts]\nqueue = '1h'\n{routes}");
    let mut config = config_for(&[server.address], &more);
    config.servers[0].max_connections = 1;
    let balancer = Running::with(config);
    let requesting = |target: &str| {
        let mut client = Client::connect(balancer.address);
        let head = format!("{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        client.send(head.as_bytes()).send(&vec![b'x'; length]);
        client
    };
    let mut first = requesting("/first");
    assert!(arrived.recv().unwrap().contains("/first"));
    // Of two more one is refused, so the other one is in the queue.
    let mut more = [requesting("/gone"), requesting("/gone")];
    let has_answer = |client: &Client| client.stream().peek(&mut [0]).is_ok();
    for client in &more {
        client.stream().set_nonblocking(true).unwrap();
    }
    while !more.iter().any(has_answer) {
        std::thread::yield_now();
    }
    more.sort_by_key(|client| !has_answer(client));
    let [mut refused, queued] = more;
    refused.stream().set_nonblocking(false).unwrap();
    assert_eq!(refused.answer().status, 503);
    socket2::SockRef::from(queued.stream()).set_linger(Some(Duration::ZERO)).unwrap();
    drop(queued);
    while !balancer.accesses().contains(&format!("\"{method} /gone HTTP/1.1\" 499 0 ")) {
        std::thread::yield_now();
    }
    let mut next = requesting("/next");
    release.send(()).unwrap();
    release.send(()).unwrap();
    assert_eq!((first.answer().status, next.answer().status), (200, 200));
    assert!(arrived.recv().unwrap().contains("/next"), "the client of the request that was queued is gone");
}

#[test]
fn a_half_closed_client_gets_its_response() {
    let server = Backend::responding("late");
    let balancer = Running::start(&[&server], "");
    let mut client = Client::connect(balancer.address);
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.stream().shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.answer().text(), "late");
    assert!(client.is_closed());
}

#[test]
fn the_reset_of_a_clients_connection_frees_the_server() {
    let freed = Arc::new(AtomicBool::new(false));
    let report = Arc::clone(&freed);
    let server = Backend::start(move |_, stream| {
        // Reads until the balancer closes.
        report.store(std::io::Read::read(stream, &mut [0]).is_ok_and(|count| count == 0), Ordering::SeqCst);
        false
    });
    let balancer = Running::start(&[&server], NO_CHECKS);
    let mut client = Client::connect(balancer.address);
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    while server.requests().is_empty() {
        std::thread::yield_now();
    }
    socket2::SockRef::from(client.stream()).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    while !freed.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
    let log = balancer.stop();
    assert!(log.contains("\" 499 0 "), "{log}");
}

#[test]
fn a_stopping_balancer_serves_one_request_of_an_accepted_connection() {
    let server = Backend::responding("served");
    // One worker, which has started once it responds.
    let balancer = Running::with(Config { workers: 1, ..config_for(&[server.address], "") });
    let address = balancer.address;
    assert_eq!(Client::connect(address).get("/").status, 200);
    let mut client = Client::connect(address);
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| balancer.stop());
        while std::net::TcpStream::connect(address).is_ok() {
            std::thread::yield_now();
        }
        assert_eq!(client.get("/").status, 200);
        stopping.join().unwrap();
    });
}
