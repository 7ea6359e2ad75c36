//! Requests that share a connection to a server: each gets its own answer, whatever happens to its neighbours.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use crate::backend::{Backend, Request};
use crate::client::Client;
use crate::running::{self, Running, config_for};

/// One worker in front of one server that takes up to 16 requests on a connection.
fn sharing(server: std::net::SocketAddr) -> Running {
    Running::with(running::sharing(config_for(&[server], ""), 16))
}

fn target(request: &Request) -> &str {
    request.line().split(' ').nth(1).unwrap()
}

fn answer(stream: &mut TcpStream, body: &str) -> bool {
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).is_ok()
}

#[test]
fn requests_of_many_clients_go_out_together_and_each_gets_its_own_answer() {
    let most = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::clone(&most);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, most) = (stream.unwrap(), Arc::clone(&seen));
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                // What one read brought, answered in one write.
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
    let balancer = sharing(address);
    let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(balancer.address)).collect();
    // Until it was seen: who comes when is the scheduler's business.
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
    panic!("no two requests ever went out together");
}

/// A server that answers with the target, to `path` only once it is told so. Each target goes to `arrived` first.
fn holding(path: &'static str, arrived: mpsc::Sender<String>) -> (Backend, mpsc::Sender<()>) {
    let (release, released) = mpsc::channel();
    let released = Mutex::new(released);
    let server = Backend::start(move |request, stream| {
        // Not every test listens.
        let _ = arrived.send(target(request).to_owned());
        if target(request) == path {
            let _ = released.lock().unwrap().recv();
        }
        answer(stream, target(request))
    });
    (server, release)
}

#[test]
fn a_slow_answer_does_not_hold_up_those_behind_it() {
    let (server, release) = holding("/slow", mpsc::channel().0);
    let balancer = sharing(server.address);
    let (mut slow, mut quick) = (Client::connect(balancer.address), Client::connect(balancer.address));
    // From here on there is a connection to share.
    assert_eq!(slow.get("/").text(), "/");
    slow.send(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(quick.get("/quick").text(), "/quick");
    release.send(()).unwrap();
    assert_eq!(slow.answer().text(), "/slow");
    drop(release);
}

#[test]
fn a_client_that_takes_its_answer_slowly_does_not_hold_up_those_behind_it() {
    const LONG: usize = 64 << 20;
    let server = Backend::start(|request, stream| {
        if target(request) == "/long" {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n");
            return stream.write_all(head.as_bytes()).is_ok()
                && (0..LONG >> 20).all(|_| stream.write_all(&vec![b'x'; 1 << 20]).is_ok());
        }
        answer(stream, target(request))
    });
    let balancer = sharing(server.address);
    let (mut slow, mut quick) = (Client::connect(balancer.address), Client::connect(balancer.address));
    assert_eq!(slow.get("/").text(), "/");
    slow.send(b"GET /long HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(quick.get("/quick").text(), "/quick");
    assert_eq!(slow.answer().body.len(), LONG);
}

/// Eight clients ask at the same time over a shared connection; the server does `fault` to the request it gets as
/// the `at`-th. Returns how many got no answer; every answer that came must be the right one.
fn check(at: usize, fault: impl Fn(&Request, &mut TcpStream) -> bool + Send + Sync + 'static) -> usize {
    let count = AtomicUsize::new(0);
    let server = Backend::start(move |request, stream| {
        if count.fetch_add(1, Ordering::SeqCst) == at {
            return fault(request, stream);
        }
        answer(stream, target(request))
    });
    let balancer = sharing(server.address);
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
fn after_any_fault_of_the_server_those_behind_are_answered_all_the_same() {
    for at in 1..=6 {
        assert_eq!(check(at, |_, _| false), 0, "closed without an answer");
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
        assert_eq!(check(at, half), 1, "half an answer");
    }
}

#[test]
fn clients_that_leave_take_nothing_away_from_the_others() {
    let server = Backend::start(|request, stream| answer(stream, target(request)));
    let balancer = sharing(server.address);
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
fn a_request_that_changes_something_never_shares() {
    let (arrived, arrivals) = mpsc::channel();
    let (server, release) = holding("/held", arrived);
    let balancer = sharing(server.address);
    let (mut held, mut other) = (Client::connect(balancer.address), Client::connect(balancer.address));
    assert_eq!(held.get("/").text(), "/");
    held.send(b"GET /held HTTP/1.1\r\nHost: test\r\n\r\n");
    // It would wait behind the one that is held, and be sent a second time.
    other.send(b"DELETE /it HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(other.answer().text(), "/it");
    release.send(()).unwrap();
    assert_eq!(held.answer().text(), "/held");
    drop((balancer, server));
    let mut arrivals: Vec<String> = arrivals.into_iter().collect();
    arrivals.sort();
    assert_eq!(arrivals, ["/", "/held", "/it"]);
}

#[test]
fn a_switch_nobody_asked_for_costs_its_request_alone_and_nothing_is_sent_twice() {
    let (arrived, arrivals) = mpsc::channel();
    let server = Backend::start(move |request, stream| {
        let _ = arrived.send(target(request).to_owned());
        if target(request) == "/switch" {
            let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n";
            return stream.write_all(switch).is_ok();
        }
        answer(stream, target(request))
    });
    let balancer = sharing(server.address);
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
fn what_was_not_sent_when_an_answer_was_late_is_not_sent_after_it() {
    let (arrived, arrivals) = mpsc::channel();
    let (server, release) = holding("/slow", arrived);
    let balancer = sharing(server.address);
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
