//! A slow server is not a dead server: whose event loop is blocked, who is stopped, who fails its checks, and what
//! becomes of the requests it has and of new ones.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tercet_balancer::Config;

use crate::backend::Backend;
use crate::client::Client;
use crate::event_loop::EventLoop;
use crate::running::{Running, config_for, sharing};

/// How a test's clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
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

/// Two servers, of which one is blocked for so long while clients go on asking. Everybody gets an answer, and nothing is
/// done twice.
fn check_blocked(blocked: Duration, pipeline: u16, spoken: Spoken) {
    let servers = [EventLoop::start(200), EventLoop::start(200)];
    let config = config_for(&servers.each_ref().map(|server| server.address), "");
    let balancer = Running::with(sharing(config, pipeline));
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
                    let said = match spoken {
                        Spoken::Http1 => targets
                            .iter()
                            .map(|target| (target.clone(), connection.get(target).status))
                            .collect(),
                        Spoken::Http2 => get_over_http2(address, &targets),
                    };
                    answered.lock().unwrap().extend(said);
                }
            });
        }
        while answered.lock().unwrap().len() < 100 {
            std::thread::yield_now();
        }
        let began = Instant::now();
        let said = match spoken {
            Spoken::Http1 => vec![(blocking.clone(), Client::connect(address).get(&blocking).status)],
            Spoken::Http2 => get_over_http2(address, std::slice::from_ref(&blocking)),
        };
        assert!(began.elapsed() >= blocked);
        answered.lock().unwrap().extend(said);
        over.store(true, Ordering::SeqCst);
    });
    let answered = answered.into_inner().unwrap();
    let failed: Vec<_> = answered.iter().filter(|(_, status)| *status != 200).collect();
    assert!(failed.is_empty(), "{blocked:?} {pipeline} {spoken:?}: {failed:?}\n{}", balancer.events());
    let mut times = HashMap::new();
    for target in servers.iter().flat_map(EventLoop::executed) {
        *times.entry(target).or_insert(0) += 1;
    }
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "{blocked:?} {pipeline} {spoken:?}: {twice:?}");
    assert_eq!(times.len(), answered.len());
    assert!(!balancer.events().contains("is down"), "{}", balancer.events());
}

/// The commonest beginner's mistake behind default options.
fn check_all_blocked(blocked: Duration) {
    std::thread::scope(|scope| {
        for (pipeline, spoken) in
            [(1, Spoken::Http1), (16, Spoken::Http1), (1, Spoken::Http2), (16, Spoken::Http2)]
        {
            scope.spawn(move || check_blocked(blocked, pipeline, spoken));
        }
    });
}

#[test]
fn an_event_loop_blocked_for_a_second_costs_nobody_an_answer() {
    check_all_blocked(Duration::from_secs(1));
}

#[test]
fn an_event_loop_blocked_for_three_seconds_costs_nobody_an_answer() {
    check_all_blocked(Duration::from_secs(3));
}

#[test]
fn an_event_loop_blocked_for_ten_seconds_costs_nobody_an_answer() {
    check_all_blocked(Duration::from_secs(10));
}

#[test]
fn while_a_server_is_blocked_new_requests_go_to_the_other_and_it_is_back_with_its_first_answer() {
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
        assert!(began.elapsed() < Duration::from_secs(2), "nobody waited: {:?}", began.elapsed());
        let answer = blocked.answer();
        assert_eq!(answer.status, 200);
        assert_ne!(answer.header("x-served-by"), Some(names[0].as_str()));
        // Its answer was the sign of life: it takes turns again at once.
        let names = [(); 4].map(|()| client.get("/").header("x-served-by").unwrap().to_owned());
        assert!(names[0] != names[1] && names[0] == names[2], "{names:?}");
        assert!(!balancer.events().contains("is down"), "{}", balancer.events());
    }
}

#[test]
fn when_all_servers_fail_their_checks_but_accept_connections_requests_are_served() {
    let servers = [EventLoop::start(503), EventLoop::start(500)];
    let addresses = servers.each_ref().map(|server| server.address);
    let balancer =
        Running::with(config_for(&addresses, "[health]\npath = \"/health\"\ninterval = \"20ms\"\n"));
    while !balancer.events().contains("no server passes its health checks") {
        std::thread::yield_now();
    }
    let mut client = Client::connect(balancer.address);
    let names = [(); 4].map(|()| client.get("/").header("x-served-by").unwrap().to_owned());
    assert_eq!(names.iter().filter(|name| *name == "app-1").count(), 2, "{names:?}");
    assert!(balancer.events().contains("app-1 is down: the check was answered 503"), "{}", balancer.events());
}

#[test]
fn the_least_bad_server_gets_the_requests_and_those_that_refuse_are_asked_last() {
    let (ill, refusing) = (EventLoop::start(500), TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = [refusing.local_addr().unwrap(), ill.address];
    drop(refusing);
    let rules = "[health]\npath = \"/health\"\ninterval = \"20ms\"\nejection-failures = 1000\n";
    let balancer = Running::with(config_for(&addresses, rules));
    while !balancer.events().contains("no server passes its health checks") {
        std::thread::yield_now();
    }
    let mut client = Client::connect(balancer.address);
    for _ in 0..6 {
        assert_eq!(client.get("/").header("x-served-by"), Some("app-2"));
    }
    // One that listens again is served from before its checks say so.
    let back = Backend::on(TcpListener::bind(addresses[0]).unwrap(), |_, stream| {
        std::io::Write::write_all(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_ok()
    });
    let only = Running::with(config_for(&addresses[..1], "[health]\ninterval = \"1h\"\n"));
    assert_eq!(Client::connect(only.address).get("/").status, 200);
    drop(back);
}

#[test]
fn an_answered_5xx_of_a_named_path_takes_a_server_out_at_once_and_a_refusal_counts() {
    let (ill, well) = (EventLoop::start(500), EventLoop::start(200));
    let rules = "[health]\npath = \"/health\"\ninterval = \"1h\"\nfall = 100\n";
    let balancer = Running::with(config_for(&[ill.address, well.address], rules));
    while !balancer.events().contains("server app-1 is down: the check was answered 500") {
        std::thread::yield_now();
    }
    let mut client = Client::connect(balancer.address);
    assert_eq!([(); 4].map(|()| client.get("/").status), [200; 4]);
    assert_eq!((ill.executed().len(), well.executed().len()), (0, 4));

    // Only what requests meet takes out one that refuses, before `fall` checks have.
    let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let rules = "[health]\ninterval = \"20ms\"\nfall = 3\nejection-failures = 1000\n";
    let balancer = Running::with(config_for(&[refusing, well.address], rules));
    let began = Instant::now();
    while !balancer.events().contains("server app-1 is down: connection refused") {
        std::thread::yield_now();
    }
    assert!(began.elapsed() >= Duration::from_millis(40), "the third check, not the first");
}

#[test]
fn without_a_path_pages_that_fail_or_are_slow_put_nobody_out() {
    // What its first page answers says nothing of a server.
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
fn a_request_stays_with_a_server_that_checks_find_down() {
    // Checks are answered 500 as soon as it has the request, which is answered when the verdict is known.
    let verdict = Arc::new(AtomicBool::new(false));
    let waiting = Arc::clone(&verdict);
    let has_it = Arc::new(AtomicBool::new(false));
    let telling = Arc::clone(&has_it);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (has_it, verdict) = (Arc::clone(&telling), Arc::clone(&waiting));
            std::thread::spawn(move || {
                let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
                let Some(head) = crate::backend::read_head(&mut reader) else { return };
                let is_check = head.contains("tercet-balancer");
                if !is_check {
                    has_it.store(true, Ordering::SeqCst);
                    while !verdict.load(Ordering::SeqCst) {
                        std::thread::yield_now();
                    }
                }
                let status = if is_check && has_it.load(Ordering::SeqCst) { 500 } else { 200 };
                let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok");
                let _ = std::io::Write::write_all(&mut stream, answer.as_bytes());
            });
        }
    });
    let other = Backend::saying("other");
    let rules = "[health]\npath = \"/health\"\ninterval = \"20ms\"\n";
    let balancer = Running::with(Config { workers: 1, ..config_for(&[address, other.address], rules) });
    let (mut held, mut quick) = (Client::connect(balancer.address), Client::connect(balancer.address));
    // The first turn is the first server's.
    held.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    while !balancer.events().contains("server app-1 is down: the check was answered 500") {
        std::thread::yield_now();
    }
    assert_eq!([(); 4].map(|()| quick.get("/").text().to_owned()), ["other"; 4]);
    verdict.store(true, Ordering::SeqCst);
    assert_eq!(held.answer().header("x-served-by"), Some("app-1"));
    assert_eq!(other.requests().len(), 4, "it was not moved");
}
