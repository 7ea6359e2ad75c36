//! HTTP/2 with raw frames on a real socket, checked against the rules of h2spec (RFC 9113, RFC 7541).

pub(crate) mod frames;
mod refusals;
mod rules;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use tercet_balancer::Config;

use self::frames::{DATA, Frame, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, ping, settings};
use self::rules::{Case, Expected, Step};
use crate::backend::Backend;
use crate::running::{PIPELINES, Running, config, config_for, with_pipeline};
use crate::streaming::raw_server;

/// The timeout for expected events: far longer than they take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The client's side of an HTTP/2 connection.
pub(crate) struct Peer {
    stream: TcpStream,
    received: Vec<u8>,
    /// Whether a read timed out.
    has_timed_out: bool,
}

impl Peer {
    /// Connects and sends the preface with these settings.
    pub(crate) fn connect(address: SocketAddr, own_settings: &[u8]) -> Self {
        let mut peer = Self::without_preface(address);
        peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        peer.send(&settings(own_settings));
        let first = peer.read().expect("the server's preface");
        assert_eq!((first.kind, first.flags), (SETTINGS, 0));
        peer.send(&frames::frame(SETTINGS, frames::ACK, 0, &[]));
        let acknowledgement = peer.read_until(|frame| frame.kind == SETTINGS).expect("an acknowledgement");
        assert_eq!(acknowledgement.flags, frames::ACK);
        peer
    }

    fn without_preface(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, received: Vec::new(), has_timed_out: false }
    }

    /// Ignores errors: if the connection was closed, the next read returns that.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Reads the next frame; `None` when the connection is closed. Acknowledges pings.
    fn read(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, length)) = Frame::parse(&self.received) {
                self.received.drain(..length);
                if frame.kind == PING && frame.flags == 0 {
                    self.send(&frames::frame(PING, frames::ACK, 0, &frame.payload));
                }
                return Some(frame);
            }
            let mut more = [0; 16 * 1024];
            match self.stream.read(&mut more) {
                Ok(count) if count > 0 => self.received.extend_from_slice(&more[..count]),
                Ok(_) => return None,
                Err(error) => {
                    self.has_timed_out |= error.kind() != std::io::ErrorKind::ConnectionReset;
                    return None;
                }
            }
        }
    }

    pub(crate) fn read_until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.read()?;
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    /// Checks the first frame that decides a case, and the state of the connection after it.
    fn outcome(&mut self, expected: Expected) -> Result<(), String> {
        let decides = |frame: &Frame| match expected {
            // A stream that is reset with another code decides as well.
            Expected::Answer(stream) => {
                matches!(frame.kind, GOAWAY | RST_STREAM) || (frame.kind == HEADERS && frame.stream == stream)
            }
            Expected::Data(_) => matches!(frame.kind, GOAWAY | RST_STREAM | DATA),
            Expected::Acknowledgement => matches!(frame.kind, GOAWAY | SETTINGS),
            Expected::Pong => frame.kind == GOAWAY || (frame.kind == PING && frame.flags == frames::ACK),
            _ => matches!(frame.kind, GOAWAY | RST_STREAM),
        };
        let Some(frame) = self.read_until(decides) else {
            return Err(if self.has_timed_out { "timed out" } else { "closed without a frame" }.to_owned());
        };
        match expected {
            Expected::Goaway(codes) | Expected::Reset(codes)
                if frame.kind == GOAWAY && codes.contains(&frame.code()) =>
            {
                self.read_until(|_| false);
                if self.has_timed_out { Err("not closed".to_owned()) } else { Ok(()) }
            }
            Expected::Reset(codes) if frame.kind == RST_STREAM && codes.contains(&frame.code()) => {
                self.send(&ping(*b"stillon?"));
                match self.read_until(|frame| matches!(frame.kind, PING | GOAWAY)) {
                    Some(frame) if frame.kind == PING => Ok(()),
                    other => Err(format!("the stream was reset as expected, but then {other:?}")),
                }
            }
            Expected::Answer(_) if frame.kind == HEADERS && frame.payload[0] == frames::STATUS_200 => Ok(()),
            Expected::Data(payload) if frame.kind == DATA && frame.payload == payload => Ok(()),
            Expected::Acknowledgement if frame.kind == SETTINGS && frame.flags == frames::ACK => Ok(()),
            Expected::Pong if frame.kind == PING && frame.payload == *b"pingpong" => Ok(()),
            _ => Err(format!("{frame:?}")),
        }
    }
}

#[test]
fn http2_rules() {
    for pipeline in PIPELINES {
        check_rules(pipeline);
    }
}

fn check_rules(pipeline: u16) {
    let server = Backend::responding("ok");
    let balancer = Running::with(with_pipeline(config(&[&server], ""), pipeline));
    let mut wrong = Vec::new();
    let cases = rules::all();
    for Case { title, settings, steps, expected } in &cases {
        let mut peer = Peer::connect(balancer.address, settings);
        for step in steps {
            match step {
                Step::Send(bytes) => peer.send(bytes),
                Step::AwaitEnd => {
                    if peer.read_until(Frame::ends_stream).is_none() {
                        wrong.push(format!("{title}: no response to the first request"));
                    }
                }
            }
        }
        if let Err(outcome) = peer.outcome(*expected) {
            wrong.push(format!("{title}\n  {expected:?}, but {outcome}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn a_connection_without_the_preface_is_served_as_http1() {
    let server = Backend::responding("ok");
    let balancer = Running::start(&[&server], "");
    for (start, answer) in [
        (&b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"[..], &b"HTTP/1.1 505"[..]),
        (b"INVALID\r\n\r\n", b"HTTP/1.1 400"),
    ] {
        let mut peer = Peer::without_preface(balancer.address);
        peer.send(start);
        let mut received = vec![0; answer.len()];
        peer.stream.read_exact(&mut received).unwrap();
        assert_eq!(received, answer);
    }
}

#[test]
fn rapid_reset_ends_the_connection_with_enhance_your_calm() {
    // Never responds, so that each request is in flight when its stream is reset.
    let server = Backend::start(|_, stream| stream.read(&mut [0]).is_ok_and(|count| count > 0));
    let balancer = Running::start(&[&server], "");
    let mut peer = Peer::connect(balancer.address, &[]);
    for index in 0..10_000 {
        let stream = 2 * index + 1;
        peer.send(&frames::request(stream));
        peer.send(&frames::frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    let goaway = peer.read_until(|frame| frame.kind == GOAWAY).expect("a GOAWAY");
    assert_eq!(goaway.code(), 11, "ENHANCE_YOUR_CALM");
    assert!(server.requests().len() < 1000, "{} requests reached the server", server.requests().len());
}

#[test]
fn http2_requests_are_logged_and_forwarded() {
    let server = Backend::responding("ok");
    let balancer = Running::start(&[&server], "");
    let mut peer = Peer::connect(balancer.address, &[]);
    let block = frames::get(&[
        frames::field("cookie", "a=1"),
        frames::field("x-own", "1"),
        frames::field("cookie", "b=2"),
    ]);
    peer.send(&frames::headers(1, frames::END_STREAM | frames::END_HEADERS, &block));
    peer.read_until(Frame::ends_stream).expect("a response");
    let request = server.only_request();
    assert_eq!(request.line(), "GET / HTTP/1.1");
    assert_eq!(request.header("host"), Some("a"));
    assert_eq!(request.header("cookie"), Some("a=1; b=2"));
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.header("x-forwarded-proto"), Some("http"));
    let log = balancer.stop();
    assert!(log.contains("\"GET / HTTP/2.0\" 200 2 "), "{log}");
}

#[test]
fn http1_rules_apply_to_http2_requests() {
    let server = Backend::responding("ok");
    let balancer = Running::start(&[&server], "");
    for (block, status) in [
        (frames::get(&[frames::field("host", "b")]), 0x8c),
        ([frames::GET, frames::SCHEME, frames::PATH, b"\x01\x03u@a"].concat(), 0x8c),
        ([frames::GET, frames::SCHEME, b"\x04\x01*", frames::AUTHORITY].concat(), 0x8c),
        (frames::get(&[frames::field("content_length", "1")]), frames::STATUS_200),
    ] {
        let mut peer = Peer::connect(balancer.address, &[]);
        peer.send(&frames::headers(1, frames::END_STREAM | frames::END_HEADERS, &block));
        let answer = peer.read_until(|frame| frame.kind == HEADERS).expect("an answer");
        assert_eq!(answer.payload[0], status);
    }
    assert_eq!(server.only_request().header("content_length"), None);
}

#[test]
fn events_arrive_one_by_one_over_http2() {
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
    let mut peer = Peer::connect(balancer.address, &[]);
    peer.send(&frames::request(1));
    for number in 0..3 {
        // The server sends the next event only after this one has arrived.
        let event = peer.read_until(|frame| frame.kind == DATA).unwrap();
        assert_eq!(event.payload, format!("data: {number}\n\n").as_bytes());
        next.send(()).unwrap();
    }
    let end = peer.read_until(Frame::ends_stream).unwrap();
    assert!(end.payload.is_empty());
}

#[test]
fn back_pressure_of_a_closed_window_reaches_the_server_and_not_other_streams() {
    let (report, written) = mpsc::channel();
    let server = raw_server(move |head, mut reader| {
        let stream = reader.get_mut();
        if head.starts_with("POST") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
            return;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut total = 0_usize;
        while let Ok(count) = stream.write(&[0; 16_384]) {
            total += count;
        }
        report.send(total).unwrap();
    });
    let balancer = Running::with(config_for(&[server], ""));
    let mut peer = Peer::connect(balancer.address, &[]);
    // Opens the window of the connection; that of the stream stays at 64 KiB.
    peer.send(&frames::window_update(0, 1 << 30));
    peer.send(&frames::request(1));
    let total = written.recv().unwrap();
    assert!(total < 100 << 20, "{total} bytes were read from the server for a stream with a closed window");
    peer.send(&frames::headers(3, frames::END_STREAM | frames::END_HEADERS, &frames::post(&[])));
    let end = peer.read_until(|frame| frame.stream == 3 && frame.ends_stream());
    assert!(end.is_some(), "the other stream gets its response");
}

#[test]
fn no_data_is_sent_while_a_window_is_not_positive() {
    let server = Backend::responding("ok");
    let balancer = Running::start(&[&server], "");
    let mut peer = Peer::connect(balancer.address, &frames::setting(4, 1));
    let is_data = |frame: &Frame| frame.kind == DATA;
    peer.send(&frames::request(1));
    assert_eq!(peer.read_until(is_data).unwrap().payload, b"o");
    // RFC 9113 section 6.9.2: one byte was sent, so the window becomes -1, and 0 after an increment of one byte.
    peer.send(&settings(&frames::setting(4, 0)));
    peer.send(&frames::window_update(1, 1));
    peer.send(&ping(*b"pingpong"));
    let next = peer.read_until(|frame| is_data(frame) || frame.kind == PING).unwrap();
    assert_eq!(next.payload, b"pingpong");
    peer.send(&frames::window_update(1, 1));
    assert_eq!(peer.read_until(is_data).unwrap().payload, b"k");
}

#[test]
fn a_truncated_response_resets_its_stream() {
    for message in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let server = Backend::start(move |_, stream| {
            stream.write_all(message).unwrap();
            false
        });
        let balancer = Running::start(&[&server], "retries.attempts = 0");
        let mut peer = Peer::connect(balancer.address, &[]);
        peer.send(&frames::request(1));
        let end = peer.read_until(|frame| frame.kind == RST_STREAM || frame.ends_stream()).unwrap();
        assert_eq!((end.kind, end.code()), (RST_STREAM, 2), "INTERNAL_ERROR, not a complete response");
    }
}

#[test]
fn resetting_a_stream_closes_the_connection_to_its_server() {
    let (report, closed) = mpsc::channel();
    let (arrived, wait) = mpsc::channel();
    let server = raw_server(move |_, mut reader| {
        arrived.send(()).unwrap();
        report.send(reader.read(&mut [0]).unwrap_or(0)).unwrap();
    });
    let balancer = Running::with(config_for(&[server], ""));
    let mut peer = Peer::connect(balancer.address, &[]);
    peer.send(&frames::request(1));
    wait.recv().unwrap();
    peer.send(&frames::frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes()));
    assert_eq!(closed.recv_timeout(TIMEOUT), Ok(0), "the connection to the server is closed");
    let log = balancer.stop();
    assert!(log.contains("\"GET / HTTP/2.0\" 499 0 "), "{log}");
}

#[test]
fn an_http2_body_is_sent_only_after_100_continue() {
    let server = raw_server(|head, mut reader| {
        assert!(head.to_ascii_lowercase().contains("\r\nexpect: 100-continue\r\n"), "{head}");
        reader.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        let mut body = [0; 5];
        reader.read_exact(&mut body).unwrap();
        reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").unwrap();
        reader.get_mut().write_all(&body).unwrap();
    });
    let balancer = Running::with(config_for(&[server], ""));
    let mut peer = Peer::connect(balancer.address, &[]);
    let expecting = [frames::field("expect", "100-continue"), frames::field("content-length", "5")];
    peer.send(&frames::headers(1, frames::END_HEADERS, &frames::post(&expecting)));
    let interim = peer.read_until(|frame| frame.kind == HEADERS).unwrap();
    // `:status: 100`, Huffman-coded.
    assert_eq!(interim.payload, [0x48, 0x82, 0x08, 0x01]);
    assert_eq!(interim.flags & frames::END_STREAM, 0);
    peer.send(&frames::data(1, frames::END_STREAM, b"hello"));
    let answer = peer.read_until(|frame| frame.kind == HEADERS).unwrap();
    assert_eq!(answer.payload[0], frames::STATUS_200);
    assert_eq!(peer.read_until(|frame| frame.kind == DATA).unwrap().payload, b"hello");
}

/// Clients such as curl 7.88 report a reset while they send their request as a failure.
#[test]
fn a_short_request_may_end_after_its_response_and_a_long_one_is_reset() {
    let server = raw_server(|_, mut reader| {
        reader.get_mut().write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").unwrap();
        let _ = reader.read(&mut [0]);
    });
    let balancer = Running::with(config_for(&[server], ""));
    let mut peer = Peer::connect(balancer.address, &[]);
    for stream in [1, 3] {
        peer.send(&frames::headers(stream, frames::END_HEADERS, &frames::post(&[])));
        assert!(peer.read_until(|frame| frame.stream == stream && frame.ends_stream()).is_some());
    }
    peer.send(&frames::data(1, frames::END_STREAM, b"short"));
    for _ in 0..3 {
        peer.send(&frames::data(3, 0, &[0; 16_384]));
    }
    let next = peer.read_until(|frame| frame.kind == RST_STREAM).unwrap();
    assert_eq!((next.stream, next.code()), (3, 0), "NO_ERROR");
    peer.send(&ping(*b"pingpong"));
    assert_eq!(peer.read_until(|frame| [PING, RST_STREAM].contains(&frame.kind)).unwrap().kind, PING);
}

#[test]
fn idle_http2_connections_are_closed() {
    let server = Backend::responding("ok");
    let balancer = Running::start(&[&server], "[timeouts]\nhead = \"100ms\"\nidle = \"100ms\"");
    // Before its first request, and after it.
    for requests in 0..2 {
        let mut peer = Peer::connect(balancer.address, &[]);
        for _ in 0..requests {
            peer.send(&frames::request(1));
            peer.read_until(Frame::ends_stream).expect("a response");
        }
        let goaway = peer.read_until(|frame| frame.kind == GOAWAY).expect("a GOAWAY");
        assert_eq!(goaway.code(), 0, "NO_ERROR");
        peer.read_until(|_| false);
        assert!(!peer.has_timed_out, "closed");
    }
}

#[test]
fn a_stopping_balancer_finishes_http2_requests_in_flight() {
    let (arrived, wait) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let server = raw_server(move |_, mut reader| {
        arrived.send(()).unwrap();
        released.lock().unwrap().recv().unwrap();
        reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    });
    let balancer = Running::with(Config { drain: TIMEOUT.into(), ..config_for(&[server], "") });
    let mut peer = Peer::connect(balancer.address, &[]);
    peer.send(&frames::request(1));
    wait.recv().unwrap();
    let stopping = std::thread::spawn(move || balancer.stop());
    let goaway = peer.read_until(|frame| frame.kind == GOAWAY).expect("a GOAWAY");
    assert_eq!(goaway.code(), 0, "NO_ERROR");
    release.send(()).unwrap();
    let end = peer.read_until(Frame::ends_stream).expect("a response");
    assert_eq!(end.payload, b"ok");
    let log = stopping.join().unwrap();
    assert!(log.contains("\"GET / HTTP/2.0\" 200 2 "), "{log}");
}
