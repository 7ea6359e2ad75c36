//! Malformed HTTP/2 requests: each gets a response and a line in the access log.

use super::frames::{
    AUTHORITY, DATA, END_HEADERS, END_STREAM, GET, GOAWAY, HEADERS, PATH, POST, RST_STREAM, SCHEME, data,
    field, get, headers, post,
};
use super::{Frame, Peer};
use crate::backend::Backend;
use crate::running::{PIPELINES, Running, config, with_pipeline};

/// `:status: 400` from the static table.
const STATUS_400: u8 = 0x8c;
const PROTOCOL_ERROR: u32 = 1;

fn path(path: &str) -> Vec<u8> {
    [&[0x04, path.len() as u8][..], path.as_bytes()].concat()
}

/// Header blocks of requests without a body, and the status and message of the response.
fn malformed() -> Vec<(Vec<u8>, u16, &'static str)> {
    let to = |target: &str| [GET, SCHEME, &path(target), AUTHORITY].concat();
    let with = |name: &str, value: &str| get(&[field(name, value)]);
    vec![
        (to("/plain?t=eq.a b"), 400, "a space in :path"),
        (to("/\u{1}"), 400, "a control character"),
        (to("/\u{7f}"), 400, "a control character"),
        (to(""), 400, "does not begin with /"),
        (to("plain"), 400, "does not begin with /"),
        (to("http://a/"), 400, "does not begin with /"),
        (to("/ HTTP/1.1\r\nx: y"), 400, "a control character"),
        ([GET, SCHEME, PATH, PATH, AUTHORITY].concat(), 400, "a duplicate pseudo-header"),
        ([GET, SCHEME, PATH, AUTHORITY, AUTHORITY].concat(), 400, "a duplicate pseudo-header"),
        ([GET, SCHEME, AUTHORITY].concat(), 400, "no :path"),
        ([SCHEME, PATH, AUTHORITY].concat(), 400, "no :method"),
        ([GET, PATH, AUTHORITY].concat(), 400, "no :scheme"),
        ([GET, SCHEME, PATH, b"\x01\x03a b"].concat(), 400, "an invalid :authority"),
        ([b"\x02\x05GET /", SCHEME, PATH, AUTHORITY].concat(), 400, "an invalid :method"),
        ([b"\x02\x07CONNECT", AUTHORITY].concat(), 501, "CONNECT"),
        (
            [b"\x02\x07CONNECT", SCHEME, PATH, AUTHORITY, &field(":protocol", "websocket")].concat(),
            400,
            "pseudo-header",
        ),
        (with("te", "gzip"), 400, "a TE other than trailers"),
        (with("connection", "close"), 400, "connection-specific"),
        (with("transfer-encoding", "chunked"), 400, "connection-specific"),
        (with("content-length", "5"), 400, "without a body"),
        (with("content-length", "+0"), 400, "an invalid Content-Length"),
        (with("x", " a"), 400, "white space around"),
        (with("x", "a\t"), 400, "white space around"),
        (with("X-Upper", "a"), 400, "an invalid header name"),
        (with("x y", "a"), 400, "an invalid header name"),
        (with("", "a"), 400, "an invalid header name"),
        (with("x", "a\0b"), 400, "a control character"),
        (with("x", "a\nb"), 400, "a control character"),
        (with("x", "a\rb"), 400, "a control character"),
        (with(":status", "200"), 400, "pseudo-header"),
        ([GET, SCHEME, PATH, &field("x", "1"), AUTHORITY].concat(), 400, "after other headers"),
        // a field of 1,000 bytes, a hundred times
        (
            get(&[b"\x40\x01x\x7f\xe9\x06".to_vec(), vec![b'a'; 1000], vec![0xbe; 100]]),
            431,
            "longer than allowed",
        ),
    ]
}

/// Reads the body of a refusal on a stream, and the reset after it. If the request has ended, the response ends the
/// stream as well.
fn refused(peer: &mut Peer, stream: u32, has_ended: bool) -> String {
    let mut body = Vec::new();
    loop {
        let frame =
            peer.read_until(|frame| frame.stream == stream || frame.kind == GOAWAY).expect("a response");
        match frame.kind {
            HEADERS => assert!(!frame.ends_stream(), "{frame:?}"),
            DATA => {
                assert_eq!(frame.ends_stream(), has_ended, "{frame:?}");
                body = frame.payload;
            }
            RST_STREAM if frame.code() == PROTOCOL_ERROR => break,
            _ => panic!("{frame:?}"),
        }
    }
    String::from_utf8(body).unwrap()
}

#[test]
fn a_malformed_request_gets_a_response_and_a_line_in_the_log() {
    for pipeline in PIPELINES {
        let server = Backend::responding("ok");
        let balancer = Running::with(with_pipeline(config(&[&server], ""), pipeline));
        let cases = malformed();
        let mut peer = Peer::connect(balancer.address, &[]);
        let mut stream = 1;
        for (block, status, reason) in &cases {
            // On its own connection, and among others.
            let mut own = Peer::connect(balancer.address, &[]);
            own.send(&headers(1, END_STREAM | END_HEADERS, block));
            peer.send(&headers(stream, END_STREAM | END_HEADERS, block));
            for body in [refused(&mut own, 1, true), refused(&mut peer, stream, true)] {
                assert!(
                    body.contains(&format!("\"status\":{status}")) && body.contains(reason),
                    "{reason}: {body}"
                );
            }
            peer.send(&headers(stream + 2, END_STREAM | END_HEADERS, &get(&[])));
            let answer = peer.read_until(|frame| frame.kind == HEADERS).expect("an answer");
            assert_eq!(
                (answer.stream, answer.payload[0]),
                (stream + 2, super::frames::STATUS_200),
                "{reason}"
            );
            stream += 4;
        }
        assert_eq!(server.requests().len(), cases.len());
        let log = balancer.stop();
        let lines = log.lines().filter(|line| {
            line.contains("HTTP/2.0\" 400 ")
                || line.contains("HTTP/2.0\" 501 ")
                || line.contains("HTTP/2.0\" 431 ")
        });
        assert_eq!(lines.count(), 2 * cases.len(), "{log}");
        assert!(log.contains("\"GET /plain?t=eq.a b HTTP/2.0\" 400 "), "{log}");
    }
}

/// Later requests can refer to entries that a malformed request has added to the dynamic table.
#[test]
fn a_malformed_request_does_not_affect_later_ones() {
    let server = Backend::responding("ok");
    let balancer = Running::with(config(&[&server], ""));
    let mut peer = Peer::connect(balancer.address, &[]);
    // Adds x-kept: 1, a path, and x-bad with a NUL to the table.
    let first =
        [GET, SCHEME, b"\x44\x05/?a>b", AUTHORITY, b"\x40\x06x-kept\x011", b"\x40\x05x-bad\x01\0"].concat();
    peer.send(&headers(1, END_STREAM | END_HEADERS, &first));
    assert!(refused(&mut peer, 1, true).contains("control character"));
    // First with the path and x-kept, then with x-bad.
    peer.send(&headers(3, END_STREAM | END_HEADERS, &[GET, SCHEME, &[0xc0], AUTHORITY, &[0xbf]].concat()));
    let answer = peer.read_until(|frame: &Frame| frame.kind == HEADERS).expect("an answer");
    assert_eq!((answer.stream, answer.payload[0]), (3, super::frames::STATUS_200));
    peer.send(&headers(5, END_STREAM | END_HEADERS, &[GET, SCHEME, &[0xc0], AUTHORITY, &[0xbe]].concat()));
    assert!(refused(&mut peer, 5, true).contains("control character"));
    let request = server.only_request();
    assert_eq!((request.line(), request.header("x-kept")), ("GET /?a>b HTTP/1.1", Some("1")));
}

#[test]
fn a_malformed_request_is_refused_before_its_body_arrives() {
    let server = Backend::responding("ok");
    let balancer = Running::with(config(&[&server], ""));
    let mut peer = Peer::connect(balancer.address, &[]);
    peer.send(&headers(1, END_HEADERS, &post(&[field("x", " a")])));
    assert!(refused(&mut peer, 1, false).contains("white space"));
    peer.send(&data(1, END_STREAM, b"body"));
    peer.send(&headers(3, END_HEADERS, &[POST, SCHEME, PATH, AUTHORITY].concat()));
    peer.send(&data(3, END_STREAM, b"body"));
    let answer = peer.read_until(|frame| frame.kind == HEADERS).expect("an answer");
    assert_eq!((answer.stream, answer.payload[0]), (3, super::frames::STATUS_200));
    // A response to HEAD has no body.
    peer.send(&headers(
        5,
        END_STREAM | END_HEADERS,
        &[b"\x02\x04HEAD", SCHEME, &path("/a b"), AUTHORITY].concat(),
    ));
    let answer = peer.read_until(|frame| frame.kind == HEADERS).expect("an answer");
    assert_eq!((answer.stream, answer.payload[0], answer.ends_stream()), (5, STATUS_400, true));
}

#[test]
fn a_connection_error_is_logged() {
    let server = Backend::responding("ok");
    let balancer = Running::with(config(&[&server], ""));
    for frame in [
        data(1, 0, &vec![0; (1 << 14) + 1]),
        headers(1, END_STREAM | END_HEADERS, b"\xff\xff\xff\xff\xff\xff"),
        data(0, 0, b"x"),
    ] {
        let mut peer = Peer::connect(balancer.address, &[]);
        peer.send(&frame);
        assert!(peer.read_until(|frame| frame.kind == GOAWAY).is_some());
        peer.read_until(|_| false);
    }
    let log = balancer.stop_for_events();
    for code in ["FRAME_SIZE_ERROR", "COMPRESSION_ERROR", "PROTOCOL_ERROR"] {
        assert!(log.contains(&format!("closed with {code}")), "{code}: {log}");
    }
}
