//! The admin socket and the metrics address.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use crate::backend::Backend;
use crate::client::{Client, TIMEOUT};
use crate::running::{Running, config};

/// Sends one request and returns the status and the body.
fn exchange(mut stream: impl std::io::Read + std::io::Write, request: &str) -> (u16, String) {
    write!(stream, "{request} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

/// Sends a request to the admin socket, once the balancer listens on it.
pub(crate) fn control(socket: &Path, request: &str) -> (u16, String) {
    loop {
        if let Ok(stream) = UnixStream::connect(socket) {
            return exchange(stream, request);
        }
        std::thread::yield_now();
    }
}

fn with_admin_socket(servers: &[&Backend], folder: &Path) -> (Running, std::path::PathBuf) {
    let socket = folder.join("admin.sock");
    let mut config = config(servers, "");
    config.admin.socket = Some(socket.clone());
    (Running::with(config), socket)
}

#[test]
fn a_drained_server_gets_no_request_until_it_is_put_back() {
    let servers = [Backend::responding("one"), Backend::responding("two")];
    let folder = tempfile::tempdir().unwrap();
    let (balancer, socket) = with_admin_socket(&[&servers[0], &servers[1]], folder.path());
    let mut client = Client::connect(balancer.address);

    let (status, body) = control(&socket, "POST /servers/app-1/drain");
    let drained: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &drained["state"], &drained["in_flight"]), (200, &"draining".into(), &0.into()));
    assert_eq!([(); 4].map(|()| client.get("/").text().to_owned()), ["two"; 4]);

    assert_eq!(control(&socket, "POST /servers/app-1/undrain").0, 200);
    let mut bodies = [(); 4].map(|()| client.get("/").text().to_owned());
    bodies.sort();
    assert_eq!(bodies, ["one", "one", "two", "two"]);

    let (status, body) = control(&socket, "POST /servers/app-9/drain");
    assert_eq!((status, body.as_str()), (404, "no server is named app-9\n"));
}

#[test]
fn the_admin_socket_lists_servers_and_the_latest_requests() {
    let server = Backend::responding("hello");
    let folder = tempfile::tempdir().unwrap();
    let (balancer, socket) = with_admin_socket(&[&server], folder.path());
    let mut client = Client::connect(balancer.address);
    for target in ["/first", "/second"] {
        assert_eq!(client.get(target).status, 200);
    }
    // The client may get its response before the request is recorded.
    let requests = loop {
        let (_, body) = control(&socket, "GET /requests");
        let listed: Value = serde_json::from_str(&body).unwrap();
        let requests = listed["requests"].as_array().unwrap().clone();
        if requests.len() == 2 {
            break requests;
        }
    };
    assert_eq!((&requests[0]["target"], &requests[1]["target"]), (&"/second".into(), &"/first".into()));
    assert_eq!(requests[0]["server"], "app-1");
    assert_eq!(requests[0]["bytes"], 5);
    assert!(
        requests[0]["queue_seconds"].is_f64() && requests[0]["upstream_seconds"].is_f64(),
        "{requests:?}"
    );
    let id = server.requests()[1].header("x-request-id").unwrap().to_owned();
    assert_eq!(requests[0]["request_id"], Value::from(id));

    let (_, body) = control(&socket, "GET /servers");
    let listed: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(listed["servers"][0]["name"], "app-1");
    assert_eq!(listed["servers"][0]["pool"], "application");
    assert_eq!(listed["servers"][0]["answers"]["2xx"], 2);
    assert_eq!(control(&socket, "POST /reload").0, 501, "it has no configuration file");
}

#[test]
fn metrics_have_the_count_and_latency_of_requests_by_server() {
    let server = Backend::responding("hello");
    let address: SocketAddr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut config = config(&[&server], "");
    config.admin.metrics = Some(address);
    let balancer = Running::with(config);
    let mut client = Client::connect(balancer.address);
    for _ in 0..3 {
        assert_eq!(client.get("/").status, 200);
    }
    let lines = [
        "tercet_balancer_connections 1",
        "tercet_balancer_server_requests_total{pool=\"application\",server=\"app-1\"} 3",
        "tercet_balancer_server_responses_total{pool=\"application\",server=\"app-1\",class=\"2xx\"} 3",
        "tercet_balancer_responses_total{class=\"2xx\"} 3",
        "tercet_balancer_request_duration_seconds_count 3",
        "tercet_balancer_log_lines_lost_total 0",
        "tercet_balancer_maintenance 0",
        "tercet_balancer_server_up{pool=\"application\",server=\"app-1\"} 1",
        "tercet_balancer_server_first_byte_seconds_count{pool=\"application\",server=\"app-1\"} 3",
    ];
    // A response is counted after it was sent, so the client may be quicker.
    let started = Instant::now();
    loop {
        let scrape = TcpStream::connect(address).map(|stream| exchange(stream, "GET /metrics").1);
        let text = scrape.unwrap_or_default();
        let missing = lines.iter().find(|line| !text.contains(**line));
        let Some(missing) = missing else { break };
        assert!(started.elapsed() < TIMEOUT, "{missing} not in\n{text}");
        std::thread::yield_now();
    }
    let stream = TcpStream::connect(address).unwrap();
    assert_eq!(exchange(stream, "POST /servers/app-1/drain").0, 404, "the metrics address is read-only");
}
