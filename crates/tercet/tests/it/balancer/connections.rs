//! Thousands of connections, most of them idle or with unfinished requests.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, prlimit, setrlimit};
use socket2::SockRef;

use super::load::{Client, get};
use super::process::{Balancer, eventually};
use super::thread_server::ThreadServer;

/// A connection that is used in one of several ways.
fn come_and_go(address: SocketAddr, way: usize) {
    let send = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    };
    let reset = |stream: TcpStream| SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    match way % 8 {
        0 => assert_eq!(get(address).unwrap(), "ok"),
        1 => drop(TcpStream::connect(address).unwrap()),
        2 => drop(send(b"GET / HTTP/1.1\r\nHos")),
        3 => drop(send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")),
        4 => reset(send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")),
        5 => reset(send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")),
        6 => drop(send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")),
        _ => {
            let mut client = Client::new(address);
            for _ in 0..3 {
                assert_eq!(client.ask("POST", "/", "").unwrap(), (200, "ok".to_owned()));
            }
        }
    }
}

#[test]
fn connections_that_come_and_go_leave_no_descriptor_behind() {
    let server = ThreadServer::answering("ok");
    // One check, at the start, and idle connections to the server do not stay for long.
    let rules = "health.interval = \"1h\"\nhealth.timeout = \"10s\"\ntimeouts.server-idle = \"200ms\"\n";
    let balancer = Balancer::start(&[server.address], rules);
    let is_unused = || server.accepted.load(Ordering::SeqCst) > 1 && server.open.load(Ordering::SeqCst) == 0;
    eventually("the first request's connection is closed", is_unused);
    let before = balancer.descriptors();
    std::thread::scope(|scope| {
        for thread in 0..24 {
            scope.spawn(move || (0..40).for_each(|number| come_and_go(balancer.address, thread + number)));
        }
    });
    eventually("its descriptors are as many as before", || balancer.descriptors() <= before);
}

#[test]
fn running_out_of_descriptors_is_not_a_servers_failure() {
    // Each request needs a connection of its own.
    let server = ThreadServer::closing("ok");
    let rules =
        "timeouts.connect = \"300ms\"\n[health]\ninterval = \"50ms\"\nfall = 1\nejection-failures = 1\n";
    let balancer = Balancer::start(&[server.address], rules);
    let mut client = Client::new(balancer.address);
    assert_eq!(client.ask("GET", "/", "").unwrap(), (200, "ok".to_owned()));
    let worker = balancer.worker();
    // No descriptor can be opened any more.
    let before =
        prlimit(worker, Resource::Nofile, Rlimit { current: Some(3), ..getrlimit(Resource::Nofile) })
            .unwrap();
    let refused = || {
        let (status, body) = client.ask("GET", "/", "").unwrap();
        status == 503 && body.contains("the balancer has no sockets left")
    };
    eventually("it has none left", refused);
    prlimit(worker, Resource::Nofile, before).unwrap();
    assert_eq!(client.ask("GET", "/", "").unwrap(), (200, "ok".to_owned()));
    assert_eq!(client.connections, 1);
    let log = balancer.log();
    assert!(!log.contains("app-1"), "{log}");
}

#[test]
fn ten_thousand_idle_connections_are_kept_and_others_served() {
    /// For the other tests of this program, and what the balancer needs besides.
    const RESERVE: u64 = 2_000;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let allowed = limit.maximum.unwrap_or(u64::MAX).saturating_sub(RESERVE);
    let count = usize::try_from(allowed.min(10_000)).unwrap();
    assert!(count > 500, "the limit of open files is too low: {limit:?}");
    let server = ThreadServer::answering("ok");
    let balancer = Balancer::start(&[server.address], "");
    let ask = |client: &mut Client| assert_eq!(client.ask("GET", "/", "").unwrap(), (200, "ok".to_owned()));
    let mut idle: Vec<Client> = (0..count).map(|_| Client::new(balancer.address)).collect();
    idle.iter_mut().for_each(ask);
    assert!(balancer.descriptors() >= count);
    for _ in 0..200 {
        assert_eq!(get(balancer.address).unwrap(), "ok");
    }
    for client in idle.iter_mut().step_by(100) {
        ask(client);
        assert_eq!(client.connections, 1, "it was kept");
    }
}
