//! Request buffering: a server gets a request when its body is complete.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::backend::Backend;
use crate::client::Client;
use crate::http2::Peer;
use crate::http2::frames;
use crate::running::{Running, config_for};
use crate::streaming::raw_server;

const BUFFERED: &str = "[[route]]\npath = \"/\"\nbuffer-requests = true\n";

/// A body of this many bytes, of which no two parts are the same.
fn body(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index / 251 + index) as u8).collect()
}

fn post(body: &[u8]) -> Vec<u8> {
    let mut request =
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    request.extend_from_slice(body);
    request
}

#[test]
fn a_slow_client_holds_no_server() {
    for length in [5, 10_000, 16_384, 300_000, 1_500_000] {
        let server = Backend::responding("stored");
        let balancer = Running::start(&[&server], BUFFERED);
        let body = body(length);
        let request = post(&body);
        let mut slow = Client::connect(balancer.address);
        let (last, most) = request.split_last().unwrap();
        slow.send(most);
        // The only worker has seen the first client's bytes before it answers the second one's request.
        assert_eq!(Client::connect(balancer.address).get("/quick").text(), "stored");
        assert_eq!(server.only_request().line(), "GET /quick HTTP/1.1", "{length}");
        // The next request, behind the body, is not lost.
        let answer = slow.send(&[&[*last], &b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"[..]].concat()).answer();
        assert_eq!((answer.status, answer.text()), (200, "stored"));
        assert_eq!(slow.answer().text(), "stored");
        let [_, received, next] = &server.requests()[..] else { panic!("three requests") };
        assert!(received.body == body, "{length}: {} bytes", received.body.len());
        assert_eq!(next.line(), "GET /next HTTP/1.1");
    }
}

#[test]
fn chunks_are_sent_as_they_came() {
    let server = Backend::responding("stored");
    let balancer = Running::start(&[&server], BUFFERED);
    let body = body(200_000);
    let mut request = b"PUT /file HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.chunks(7_001) {
        write!(request, "{:x};note=1\r\n", chunk.len()).unwrap();
        request.extend_from_slice(chunk);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    assert_eq!(Client::connect(balancer.address).send(&request).answer().status, 200);
    assert!(server.only_request().body == body);
}

#[test]
fn a_buffered_body_is_sent_again_to_another_server_unless_the_method_forbids_it() {
    // Reads the body and closes.
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&attempts);
    let broken = raw_server(move |_, mut reader| {
        counted.fetch_add(1, Ordering::SeqCst);
        reader.read_exact(&mut vec![0; 400_000]).unwrap();
    });
    let server = Backend::responding("stored");
    let more = format!("[health]\nejection-failures = 100\n{BUFFERED}");
    let balancer = Running::with(config_for(&[broken, server.address], &more));
    let body = body(400_000);
    let put = [b"PUT".as_slice(), &post(&body)[4..]].concat();
    let statuses = [(); 2].map(|()| Client::connect(balancer.address).send(&put).answer().status);
    assert_eq!(statuses, [200; 2]);
    assert!(attempts.load(Ordering::SeqCst) > 0);
    assert!(server.requests().iter().all(|received| received.body == body));
    let mut statuses = [(); 2].map(|()| Client::connect(balancer.address).send(&post(&body)).answer().status);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 502], "a POST is not sent twice");
}

#[test]
fn the_balancer_itself_answers_100_continue() {
    let server = Backend::responding("stored");
    let balancer = Running::start(&[&server], BUFFERED);
    let mut client = Client::connect(balancer.address);
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.answer().status, 100);
    assert_eq!(client.send(b"hello").answer().text(), "stored");
    let received = server.only_request();
    assert_eq!((received.header("expect"), &received.body[..]), (None, &b"hello"[..]));
}

#[test]
fn a_body_that_does_not_come_reaches_no_server() {
    let server = Backend::responding("stored");
    let more = format!("[limits]\nbody = \"100KiB\"\n[timeouts]\nbody = \"200ms\"\n{BUFFERED}");
    let balancer = Running::start(&[&server], &more);
    let ask = |request: &[u8]| Client::connect(balancer.address).send(request).answer().status;
    assert_eq!(ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell"), 408);
    let chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice();
    assert_eq!(ask(&[chunked, b"5\r\nhello\r\nx\r\n"].concat()), 400);
    assert_eq!(ask(&[chunked, b"20000\r\n", &body(0x2_0000)].concat()), 413);
    // This one disconnects.
    Client::connect(balancer.address).send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell");
    assert!(server.requests().is_empty());
}

#[test]
fn an_http2_request_is_buffered_too() {
    let server = Backend::responding("stored");
    let balancer = Running::start(&[&server], BUFFERED);
    let mut peer = Peer::connect(balancer.address, &[]);
    let body = body(50_000);
    peer.send(&frames::headers(1, frames::END_HEADERS, &frames::post(&[])));
    for part in body.chunks(10_000) {
        peer.send(&frames::data(1, 0, part));
    }
    assert_eq!(Client::connect(balancer.address).get("/quick").text(), "stored");
    assert_eq!(server.only_request().line(), "GET /quick HTTP/1.1");
    peer.send(&frames::data(1, frames::END_STREAM, b""));
    assert!(peer.read_until(|frame| frame.stream == 1 && frame.ends_stream()).is_some());
    assert!(server.requests()[1].body == body);
}

#[test]
fn a_server_that_reads_steadily_has_the_time_it_takes() {
    const PIECE: usize = 640 << 10;
    let server = raw_server(|_, mut reader| {
        let mut piece = vec![0; PIECE];
        // Longer than `response` in all, and far shorter for each piece.
        for _ in 0..50 {
            std::thread::park_timeout(Duration::from_millis(50));
            reader.read_exact(&mut piece).unwrap();
        }
        reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    let more = format!("[timeouts]\nresponse = \"1500ms\"\n{BUFFERED}");
    let balancer = Running::with(config_for(&[server], &more));
    let answer = Client::connect(balancer.address).send(&post(&body(50 * PIECE))).answer();
    assert_eq!(answer.status, 200);
}

#[test]
fn a_client_whose_whole_request_was_received_is_kept() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let balancer = Running::with(config_for(&[gone], BUFFERED));
    let mut client = Client::connect(balancer.address);
    let request = post(&body(100_000));
    for _ in 0..2 {
        assert_eq!(client.send(&request).answer().status, 503);
    }
}
