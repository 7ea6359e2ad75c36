//! Streaming: server-sent events, WebSockets, bodies in both directions at once, interim responses, trailers.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use tokio_tungstenite::tungstenite::{self, Message};

use crate::backend::{Backend, read_head};
use crate::client::Client;
use crate::running::{Running, config_for};

/// A server that passes each connection to `serve` after the request's head; health checks get status 200.
pub(crate) fn raw_server(
    serve: impl Fn(String, BufReader<TcpStream>) + Send + Sync + 'static,
) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = std::sync::Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = std::sync::Arc::clone(&serve);
            thread::spawn(move || {
                let mut reader = BufReader::new(stream.unwrap());
                let Some(head) = read_head(&mut reader) else { return };
                if head.to_ascii_lowercase().contains("user-agent: tercet-balancer") {
                    let _ = reader
                        .get_mut()
                        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                } else {
                    serve(head, reader);
                }
            });
        }
    });
    address
}

#[test]
fn websockets_are_forwarded() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || {
                // Fails for health checks.
                let Ok(mut socket) = tungstenite::accept(stream.unwrap()) else { return };
                while let Ok(message) = socket.read() {
                    if (message.is_text() || message.is_binary()) && socket.send(message).is_err() {
                        return;
                    }
                }
            });
        }
    });
    let balancer = Running::with(config_for(&[address], "health.interval = \"1h\"\nhealth.timeout = \"1s\""));
    let stream = TcpStream::connect(balancer.address).unwrap();
    let url = format!("ws://{}/chat", balancer.address);
    let (mut socket, response) = tungstenite::client(url, stream).unwrap();
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["x-served-by"], "app-1");
    for size in [0, 1, 125, 70_000, 1_000_000] {
        let message = Message::binary(vec![b'x'; size]);
        socket.send(message.clone()).unwrap();
        assert_eq!(socket.read().unwrap(), message);
    }
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
    drop(socket);
    let log = balancer.stop();
    assert!(log.contains("\"GET /chat HTTP/1.1\" 101 "), "{log}");
}

#[test]
fn events_arrive_one_by_one() {
    let (next, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let server = raw_server(move |_, mut reader| {
        let stream = reader.get_mut();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").unwrap();
        for number in 0..3 {
            stream.write_all(format!("data: {number}\n\n").as_bytes()).unwrap();
            wait.lock().unwrap().recv().unwrap();
        }
    });
    let balancer = Running::with(config_for(&[server], ""));
    let mut client = Client::connect(balancer.address);
    client.send(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.head().unwrap();
    assert!(head.contains("Content-Type: text/event-stream"), "{head}");
    for number in 0..3 {
        // The server sends the next event only after this one has arrived.
        assert_eq!(client.chunk(), Some(Some(format!("data: {number}\n\n").into_bytes())));
        next.send(()).unwrap();
    }
    assert_eq!(client.chunk(), Some(None));
}

#[test]
fn a_body_is_sent_only_after_100_continue() {
    let server = raw_server(|head, mut reader| {
        assert!(head.to_ascii_lowercase().contains("\r\nexpect: 100-continue\r\n"), "{head}");
        if head.starts_with("POST /unwanted") {
            reader.get_mut().write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").unwrap();
            return;
        }
        reader.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        let mut body = [0; 5];
        reader.read_exact(&mut body).unwrap();
        reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").unwrap();
        reader.get_mut().write_all(&body).unwrap();
    });
    let balancer = Running::with(config_for(&[server], ""));
    let mut client = Client::connect(balancer.address);
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.answer().status, 100);
    let answer = client.send(b"hello").answer();
    assert_eq!((answer.status, answer.text()), (200, "hello"));

    let mut client = Client::connect(balancer.address);
    client.send(b"POST /unwanted HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.answer().status, 403);
    // The client may still send the body, so the connection is not kept.
    assert!(client.is_closed());
}

#[test]
fn early_hints_precede_the_response() {
    let server = Backend::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n").unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_ok()
    });
    let balancer = Running::start(&[&server], "");
    let mut client = Client::connect(balancer.address);
    let hints = client.get("/");
    assert_eq!((hints.status, hints.header("link")), (103, Some("</a.css>")));
    assert_eq!(client.answer().text(), "ok");
    // HTTP/1.0 has no interim responses.
    let answer = Client::connect(balancer.address).send(b"GET / HTTP/1.0\r\n\r\n").answer();
    assert_eq!((answer.status, answer.text()), (200, "ok"));
}

#[test]
fn bodies_are_streamed_in_both_directions_and_trailers_are_forwarded() {
    let server = raw_server(|_, mut reader| {
        let start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Back\r\n\r\n";
        reader.get_mut().write_all(start).unwrap();
        let mut chunk = [0; 8];
        loop {
            reader.read_exact(&mut chunk[..3]).unwrap();
            if chunk.starts_with(b"0") {
                break;
            }
            reader.read_exact(&mut chunk[3..]).unwrap();
            reader.get_mut().write_all(&chunk).unwrap();
        }
        let mut trailers = [0; 14];
        reader.read_exact(&mut trailers).unwrap();
        assert_eq!(&trailers, b"X-There: 1\r\n\r\n");
        reader.get_mut().write_all(b"0\r\nX-Back: 2\r\n\r\n").unwrap();
    });
    let balancer = Running::with(config_for(&[server], ""));
    let mut client = Client::connect(balancer.address);
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n");
    assert!(client.head().unwrap().contains("Trailer: X-Back"));
    for word in ["one", "two", "six"] {
        // Each chunk comes back before the next is sent.
        client.send(format!("3\r\n{word}\r\n").as_bytes());
        assert_eq!(client.chunk(), Some(Some(word.as_bytes().to_vec())));
    }
    client.send(b"0\r\nX-There: 1\r\n\r\n");
    assert_eq!(client.bytes(16), b"0\r\nX-Back: 2\r\n\r\n"[..16]);
}

#[test]
fn back_pressure_of_a_client_that_stops_reading_reaches_the_server() {
    let (report, written) = mpsc::channel();
    let server = raw_server(move |_, mut reader| {
        let stream = reader.get_mut();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").unwrap();
        stream.set_write_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
        let mut total = 0_usize;
        while let Ok(count) = stream.write(&[0; 16_384]) {
            total += count;
        }
        report.send(total).unwrap();
    });
    let balancer = Running::with(config_for(&[server], ""));
    let mut client = Client::connect(balancer.address);
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head().unwrap();
    // The kernel's socket buffers take some, but not a gigabyte.
    let total = written.recv().unwrap();
    assert!(total < 100 << 20, "{total} bytes were read from the server for a client that does not read");
}

/// A server of idle event streams, and a receiver that is notified when the balancer closes its connection.
fn idle_events() -> (std::net::SocketAddr, mpsc::Receiver<()>) {
    let (report, closed) = mpsc::channel();
    let server = raw_server(move |_, mut reader| {
        let start = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: first\n\n";
        reader.get_mut().write_all(start).unwrap();
        assert!(matches!(reader.read(&mut [0]), Ok(0) | Err(_)));
        let _ = report.send(());
    });
    (server, closed)
}

/// The limit for "at once" on a busy machine: far less than any timeout.
const AT_ONCE: std::time::Duration = std::time::Duration::from_secs(3);

#[test]
fn the_disconnect_of_a_client_from_an_idle_event_stream_frees_the_server_at_once() {
    let (server, closed) = idle_events();
    let balancer = Running::with(config_for(&[server], ""));
    let mut client = Client::connect(balancer.address);
    client.send(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head().unwrap();
    assert_eq!(client.chunk(), Some(Some(b"data: first\n\n".to_vec())));
    drop(client);
    closed.recv_timeout(AT_ONCE).unwrap();
}

#[test]
fn the_disconnect_of_an_http2_client_from_an_idle_event_stream_frees_the_server_at_once() {
    let (server, closed) = idle_events();
    let balancer = Running::with(config_for(&[server], ""));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for resets in [true, false] {
        let stream = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(balancer.address).await.unwrap();
            let (client, connection) = h2::client::handshake(stream).await.unwrap();
            let connection = tokio::spawn(connection);
            let mut client = client.ready().await.unwrap();
            let request = http::Request::get("http://a/events").body(()).unwrap();
            let (answer, _) = client.send_request(request, true).unwrap();
            let mut body = answer.await.unwrap().into_body();
            assert_eq!(body.data().await.unwrap().unwrap(), "data: first\n\n");
            if !resets {
                connection.abort();
                return None;
            }
            // Dropping it resets the stream; the connection stays usable.
            drop(body);
            let request = http::Request::get("http://a/events").body(()).unwrap();
            let (answer, _) = client.send_request(request, true).unwrap();
            Some((answer.await.unwrap(), client))
        });
        closed.recv_timeout(AT_ONCE).unwrap_or_else(|error| panic!("resets: {resets}: {error}"));
        drop(stream);
    }
}

#[test]
fn a_websocket_to_a_removed_server_ends_after_the_drain_time() {
    let server = raw_server(|_, mut reader| {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        reader.get_mut().write_all(head).unwrap();
        while reader.read(&mut [0]).is_ok_and(|count| count > 0) {}
    });
    let other = Backend::responding("other");
    let balancer = Running::with(config_for(&[server], ""));
    let upgrade = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut client = Client::connect(balancer.address);
    assert_eq!(client.send(upgrade).answer().status, 101);
    let began = std::time::Instant::now();
    balancer.balancer().reload(config_for(&[other.address], ""), Vec::new()).unwrap();
    assert!(client.is_closed());
    let after = began.elapsed();
    assert!(after >= std::time::Duration::from_secs(1), "before the drain time: {after:?}");
}
