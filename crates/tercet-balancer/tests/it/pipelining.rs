//! Pipelined requests: each gets its own response, whatever happens to the others on the connection.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use crate::backend::{Backend, Request};
use crate::client::Client;
use crate::running::{self, Running, config_for};

/// One worker in front of one server with a pipelining limit of 16.
fn with_pipeline(server: std::net::SocketAddr) -> Running {
    Running::with(running::with_pipeline(config_for(&[server], ""), 16))
}

fn target(request: &Request) -> &str {
    request.line().split(' ').nth(1).unwrap()
}

fn answer(stream: &mut TcpStream, body: &str) -> bool {
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).is_ok()
}

#[test]
fn requests_of_many_clients_are_sent_in_one_write_and_each_gets_its_own_response() {
    let most = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::clone(&most);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, most) = (stream.unwrap(), Arc::clone(&seen));
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                // Responds to all requests of one read in one write.
                while let Ok(bytes) = reader.fill_buf() {
                    let text = String::from_utf8(bytes.to_vec()).unwrap();
                    let heads: Vec<&str> = text.split_inclusive("\r\n\r\n").collect();
                    if heads.last().is_none_or(|head| !head.ends_with("\r\n\r\n")) {
                        return;
                    }
                    most.fetch_max(heads.len(), Ordering::SeqCst);
                    let mut answers = Vec::new();
                    for head in heads {
                        let body = head.split(' ').nth(1).unwrap();
                        write!(answers, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
                            .unwrap();
                    }
                    let length = bytes.len();
                    reader.consume(length);
                    if stream.write_all(&answers).is_err() {
                        return;
                    }
                }
            });
        }
    });
    let balancer = with_pipeline(address);
    let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(balancer.address)).collect();
    // Repeated until it happens: the timing depends on the scheduler.
    for round in 0..10_000 {
        for (index, client) in clients.iter_mut().enumerate() {
            client.send(format!("GET /{round}/{index} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes());
        }
        for (index, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.answer().text(), format!("/{round}/{index}"));
        }
        if most.load(Ordering::SeqCst) > 2 {
            return;
        }
    }
    panic!("no two requests were sent in one write");
}

/// A server that responds with the target; to `path` only after a message on the returned channel. Each target is
/// sent to `arrived` first.
fn blocking_at(path: &'static str, arrived: mpsc::Sender<String>) -> (Backend, mpsc::Sender<()>) {
    let (release, released) = mpsc::channel();
    let released = Mutex::new(released);
    let server = Backend::start(move |request, stream| {
        // Fails if the test has dropped the receiver.
        let _ = arrived.send(target(request).to_owned());
        if target(request) == path {
            let _ = released.lock().unwrap().recv();
        }
        answer(stream, target(request))
    });
    (server, release)
}

#[test]
fn a_late_response_does_not_block_those_behind_it() {
    let (server, release) = blocking_at("/slow", mpsc::channel().0);
    let balancer = with_pipeline(server.address);
    let (mut slow, mut quick) = (Client::connect(balancer.address), Client::connect(balancer.address));
    // Establishes a connection that can be pipelined.
    assert_eq!(slow.get("/").text(), "/");
    slow.send(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(quick.get("/quick").text(), "/quick");
    release.send(()).unwrap();
    assert_eq!(slow.answer().text(), "/slow");
    drop(release);
}

#[test]
fn a_slow_reader_does_not_block_the_responses_behind_its_own() {
    const LONG: usize = 64 << 20;
    let server = Backend::start(|request, stream| {
        if target(request) == "/long" {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n");
            return stream.write_all(head.as_bytes()).is_ok()
                && (0..LONG >> 20).all(|_| stream.write_all(&vec![b'x'; 1 << 20]).is_ok());
        }
        answer(stream, target(request))
    });
    let balancer = with_pipeline(server.address);
    let (mut slow, mut quick) = (Client::connect(balancer.address), Client::connect(balancer.address));
    assert_eq!(slow.get("/").text(), "/");
    slow.send(b"GET /long HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(quick.get("/quick").text(), "/quick");
    assert_eq!(slow.answer().body.len(), LONG);
}

/// Eight clients send requests at the same time on a pipelined connection; the server handles the `at`-th with `fault`.
/// Returns the number of missing responses; all others must be correct.
fn check(at: usize, fault: impl Fn(&Request, &mut TcpStream) -> bool + Send + Sync + 'static) -> usize {
    let count = AtomicUsize::new(0);
    let server = Backend::start(move |request, stream| {
        if count.fetch_add(1, Ordering::SeqCst) == at {
            return fault(request, stream);
        }
        answer(stream, target(request))
    });
    let balancer = with_pipeline(server.address);
    let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(balancer.address)).collect();
    assert_eq!(clients[0].get("/").text(), "/");
    for (index, client) in clients.iter_mut().enumerate() {
        client.send(format!("GET /{index} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes());
    }
    let answers = clients.iter_mut().enumerate().map(|(index, client)| match client.try_answer() {
        Some(answer) => {
            assert_eq!((answer.status, answer.text()), (200, format!("/{index}").as_str()));
            0
        }
        None => 1,
    });
    answers.sum()
}

#[test]
fn after_a_server_error_the_requests_behind_it_still_get_their_responses() {
    for at in 1..=6 {
        assert_eq!(check(at, |_, _| false), 0, "closed without a response");
        assert_eq!(check(at, |_, stream| stream.write_all(b"\x16\x03garbage\r\n\r\n").is_ok()), 0, "garbage");
        let closes = |request: &Request, stream: &mut TcpStream| {
            let body = target(request);
            let head = format!("Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}").as_bytes()).unwrap();
            false
        };
        assert_eq!(check(at, closes), 0, "the connection is closed after it");
        let half = |_: &Request, stream: &mut TcpStream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nha").unwrap();
            false
        };
        assert_eq!(check(at, half), 1, "a truncated response");
    }
}

#[test]
fn clients_that_disconnect_do_not_affect_the_others() {
    let server = Backend::start(|request, stream| answer(stream, target(request)));
    let balancer = with_pipeline(server.address);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let balancer = &balancer;
            scope.spawn(move || {
                let mut client = Client::connect(balancer.address);
                for round in 0..200 {
                    Client::connect(balancer.address).send(b"GET /gone HTTP/1.1\r\nHost: test\r\n\r\n");
                    let path = format!("/{thread}/{round}");
                    assert_eq!(client.get(&path).text(), path);
                }
            });
        }
    });
}

#[test]
fn unsafe_requests_are_not_pipelined() {
    let (arrived, arrivals) = mpsc::channel();
    let (server, release) = blocking_at("/blocked", arrived);
    let balancer = with_pipeline(server.address);
    let (mut blocked, mut other) = (Client::connect(balancer.address), Client::connect(balancer.address));
    assert_eq!(blocked.get("/").text(), "/");
    blocked.send(b"GET /blocked HTTP/1.1\r\nHost: test\r\n\r\n");
    // Pipelined, it would wait behind the blocked one, and be sent a second time.
    other.send(b"DELETE /it HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(other.answer().text(), "/it");
    release.send(()).unwrap();
    assert_eq!(blocked.answer().text(), "/blocked");
    drop((balancer, server));
    let mut arrivals: Vec<String> = arrivals.into_iter().collect();
    arrivals.sort();
    assert_eq!(arrivals, ["/", "/blocked", "/it"]);
}

#[test]
fn an_unsolicited_101_fails_only_its_request_and_no_request_is_sent_twice() {
    let (arrived, arrivals) = mpsc::channel();
    let server = Backend::start(move |request, stream| {
        let _ = arrived.send(target(request).to_owned());
        if target(request) == "/switch" {
            let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n";
            return stream.write_all(switch).is_ok();
        }
        answer(stream, target(request))
    });
    let balancer = with_pipeline(server.address);
    let mut client = Client::connect(balancer.address);
    for round in 0..3 {
        assert_eq!(client.get(&format!("/{round}")).status, 200);
        assert_eq!(client.get("/switch").status, 502);
    }
    drop((balancer, server));
    let arrivals: Vec<String> = arrivals.into_iter().collect();
    assert_eq!(arrivals, ["/0", "/switch", "/1", "/switch", "/2", "/switch"]);
}

#[test]
fn requests_that_moved_away_from_a_late_response_are_not_sent_after_it() {
    let (arrived, arrivals) = mpsc::channel();
    let (server, release) = blocking_at("/slow", arrived);
    let balancer = with_pipeline(server.address);
    let mut slow = Client::connect(balancer.address);
    assert_eq!(slow.get("/").text(), "/");
    slow.send(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(arrivals.iter().nth(1).as_deref(), Some("/slow"));
    let mut others: Vec<Client> = (0..4).map(|_| Client::connect(balancer.address)).collect();
    for (index, other) in others.iter_mut().enumerate() {
        other.send(format!("GET /{index} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes());
    }
    for (index, other) in others.iter_mut().enumerate() {
        assert_eq!(other.answer().text(), format!("/{index}"));
    }
    release.send(()).unwrap();
    assert_eq!(slow.answer().text(), "/slow");
    assert_eq!(slow.get("/last").text(), "/last");
    drop((balancer, server));
    let mut arrivals: Vec<String> = arrivals.into_iter().collect();
    arrivals.sort();
    assert_eq!(arrivals, ["/0", "/1", "/2", "/3", "/last"]);
}
