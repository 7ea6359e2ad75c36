//! Servers that listen on Unix sockets.

use std::io::{BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};
use tercet_balancer::Config;

use crate::admin::control;
use crate::backend::read_head;
use crate::client::Client;
use crate::running::Running;

/// Accepts connections until the test ends, and responds to each request with the socket's name and the `Host` it got.
fn serve(listener: UnixListener, name: &'static str) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            std::thread::spawn(move || respond(stream, name));
        }
    });
}

fn respond(mut stream: UnixStream, name: &str) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(head) = read_head(&mut reader) {
        let host =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("host: ").map(str::to_owned));
        let body = format!("{name} {}", host.unwrap_or_default());
        if write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).is_err() {
            return;
        }
    }
}

fn balancer(folder: &Path, servers: &[&str]) -> Running {
    let servers: Vec<String> = servers
        .iter()
        .map(|name| format!("{{ name = \"{name}\", address = \"unix:{}/{name}\" }}", folder.display()))
        .collect();
    let text = format!(
        "listen = [\"127.0.0.1:0\"]\ndrain = \"1s\"\nservers = [{}]\nadmin.socket = \"{}/admin\"\n",
        servers.join(", "),
        folder.display()
    );
    Running::with(
        Config::parse(&text, "test.toml").unwrap_or_else(|mistakes| panic!("{text}\n{}", mistakes.lines())),
    )
}

fn first_server(folder: &Path) -> Value {
    let listed: Value = serde_json::from_str(&control(&folder.join("admin"), "GET /servers").1).unwrap();
    listed["servers"][0].clone()
}

#[test]
fn requests_alternate_and_a_socket_that_is_not_there_is_a_refused_connection() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        serve(UnixListener::bind(folder.path().join(name)).unwrap(), name);
    }
    let balancer = balancer(folder.path(), &["one", "two", "none"]);
    let mut client = Client::connect(balancer.address);
    let mut bodies = Vec::new();
    for _ in 0..60 {
        let answer = client.get("/");
        assert_eq!(answer.status, 200);
        bodies.push(answer.text().to_owned());
    }
    let of = |body: &str| bodies.iter().filter(|it| *it == body).count();
    // Before the missing one is taken out, its requests are sent to the next server.
    assert!(
        of("one test") + of("two test") == 60 && of("one test").abs_diff(of("two test")) <= 6,
        "{bodies:?}"
    );
    assert_eq!(bodies[58..].iter().collect::<std::collections::HashSet<_>>().len(), 2);
    let address = format!("unix:{}/one", folder.path().display());
    assert_eq!(first_server(folder.path())["address"], address.as_str());
}

#[test]
fn a_request_waits_while_the_queue_of_connections_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("full");
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    listener.listen(0).unwrap();
    let mut filling = Vec::new();
    loop {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        match socket.connect(&SockAddr::unix(&path).unwrap()) {
            Ok(()) => filling.push(socket),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                break;
            }
        }
    }
    let balancer = balancer(folder.path(), &["full"]);
    let mut client = Client::connect(balancer.address);
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    while first_server(folder.path())["in_flight"] != 1 {
        std::thread::yield_now();
    }
    drop(filling);
    serve(UnixListener::from(std::os::fd::OwnedFd::from(listener)), "full");
    let answer = client.answer();
    assert_eq!((answer.status, answer.text()), (200, "full a"));
}
