//! The rules of HTTP/2 in the order of the RFCs: those that h2spec checks, and further ones of RFC 9113. h2spec's
//! sections are those of RFC 7540; where RFC 9113 differs, it applies.
//!
//! Long because it is one table.

use super::frames::{
    ACK, AUTHORITY, CONTINUATION, END_HEADERS, END_STREAM, GET, GOAWAY, PADDED, PATH, PING, POST,
    PRIORITISED, PRIORITY, PUSH_PROMISE, RST_STREAM, SCHEME, SETTINGS, WINDOW_UPDATE, data, field, frame,
    get, headers, open, ping, post, request, setting, settings, window_update,
};

/// One rule, and a connection that follows or violates it.
pub(super) struct Case {
    pub(super) title: &'static str,
    /// The payload of the client's first SETTINGS frame.
    pub(super) settings: Vec<u8>,
    pub(super) steps: Vec<Step>,
    pub(super) expected: Expected,
}

pub(super) enum Step {
    Send(Vec<u8>),
    /// Waits until the server ends a stream.
    AwaitEnd,
}

/// The expected outcome.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expected {
    /// The stream gets a response with status 200.
    Answer(u32),
    /// The first DATA frame has this payload.
    Data(&'static [u8]),
    /// Settings are acknowledged.
    Acknowledgement,
    /// A ping with the payload `pingpong` is acknowledged: the frames before it were accepted.
    Pong,
    /// The stream is reset with one of these codes and the connection stays open, or the connection is closed with one
    /// of them, as RFC 9113 section 5.4.2 permits.
    Reset(&'static [u32]),
    /// The connection is closed after a GOAWAY with one of these codes.
    Goaway(&'static [u32]),
}

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION_ERROR: u32 = 9;

const PROTOCOL: &[u32] = &[PROTOCOL_ERROR];
// `h2` uses the generic code where RFC 9113 has a specific one; either ends the connection (section 7).
const SIZE: &[u32] = &[FRAME_SIZE_ERROR, PROTOCOL_ERROR];
const COMPRESSION: &[u32] = &[COMPRESSION_ERROR];
const FLOW: &[u32] = &[FLOW_CONTROL_ERROR, PROTOCOL_ERROR];
const CLOSED: &[u32] = &[STREAM_CLOSED, PROTOCOL_ERROR];

use Expected::{Acknowledgement, Answer, Data, Goaway, Pong, Reset};

fn case(title: &'static str, frames: &[Vec<u8>], expected: Expected) -> Case {
    let mut bytes = frames.concat();
    if matches!(expected, Pong) {
        bytes.extend(ping(*b"pingpong"));
    }
    Case { title, settings: Vec::new(), steps: vec![Step::Send(bytes)], expected }
}

/// The frames of `then` are sent after the response to `first`.
fn case_after(title: &'static str, first: Vec<u8>, then: &[Vec<u8>], expected: Expected) -> Case {
    let steps = vec![Step::Send(first), Step::AwaitEnd, Step::Send(then.concat())];
    Case { title, settings: Vec::new(), steps, expected }
}

pub(super) fn all() -> Vec<Case> {
    [frame_format(), streams(), frame_types(), flow_control(), continuations(), messages(), compression()]
        .into_iter()
        .flatten()
        .collect()
}

/// RFC 9113 section 4: frames and header blocks.
fn frame_format() -> Vec<Case> {
    let long = vec![b'x'; 16_385];
    vec![
        case("4.1: frames of unknown types are ignored", &[frame(0x16, 0, 0, b"anything")], Pong),
        case("4.1: undefined flags are ignored", &[frame(PING, 0x16, 0, b"pingpong")], Pong),
        case("4.1: the reserved bit is ignored", &[frame(PING, 0, 0x8000_0000, b"pingpong")], Pong),
        case("4.2: DATA of 2^14 bytes", &[open(1), data(1, END_STREAM, &long[..16_384])], Answer(1)),
        case("4.2: DATA over SETTINGS_MAX_FRAME_SIZE", &[open(1), data(1, END_STREAM, &long)], Goaway(SIZE)),
        case("4.2: HEADERS over SETTINGS_MAX_FRAME_SIZE", &[headers(1, END_HEADERS, &long)], Goaway(SIZE)),
        case("4.3: an invalid header block", &[headers(1, 0x5, &[0x40, 0x1, b'a'])], Goaway(COMPRESSION)),
        case(
            "4.3: PRIORITY between the parts of a header block",
            &[headers(1, END_STREAM, &get(&[])), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 15])],
            Goaway(PROTOCOL),
        ),
        case(
            "4.3: HEADERS of another stream between the parts of a header block",
            &[headers(1, END_STREAM, &get(&[])), request(3)],
            Goaway(PROTOCOL),
        ),
        // The second block refers to an entry that the first one would add to the table if it were complete.
        case(
            "4.3: HEADERS of another stream that refer to an incomplete header block",
            &[
                headers(1, 0, &[POST, SCHEME, PATH, &[0x41, 1, b'a']].concat()),
                headers(3, END_STREAM | END_HEADERS, &[GET, SCHEME, PATH, &[0xbe]].concat()),
            ],
            Goaway(PROTOCOL),
        ),
        case(
            "4.3: CONTINUATION of another stream",
            &[headers(1, END_STREAM, &get(&[])), frame(CONTINUATION, END_HEADERS, 3, &[0xff, 0x00])],
            Goaway(PROTOCOL),
        ),
        case(
            "4.3: DATA between the parts of a header block",
            &[headers(1, 0, &post(&[])), data(1, END_STREAM, b"x"), frame(CONTINUATION, END_HEADERS, 1, b"")],
            Goaway(PROTOCOL),
        ),
        case(
            "5.5: unknown frames are ignored on any stream",
            &[frame(0x20, 0xff, 5, b"new"), request(1)],
            Answer(1),
        ),
        case(
            "5.5: an unknown frame between the parts of a header block",
            &[headers(1, END_STREAM, &get(&[])), frame(0x20, 0, 1, b"new")],
            Goaway(PROTOCOL),
        ),
    ]
}

/// RFC 9113 section 5: streams.
fn streams() -> Vec<Case> {
    let reset = |stream| frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    let self_dependent = [&[0, 0, 0, 1, 15][..], &get(&[])].concat();
    let mut over_the_limit: Vec<Vec<u8>> = (0..128).map(|index| open(2 * index + 1)).collect();
    over_the_limit.push(open(257));
    vec![
        case("5.1: idle: DATA", &[data(1, END_STREAM, b"x")], Goaway(PROTOCOL)),
        case("5.1: idle: RST_STREAM", &[reset(1)], Goaway(PROTOCOL)),
        case("5.1: idle: WINDOW_UPDATE", &[window_update(1, 100)], Goaway(PROTOCOL)),
        case("5.1: idle: CONTINUATION", &[frame(CONTINUATION, END_HEADERS, 1, &get(&[]))], Goaway(PROTOCOL)),
        case("5.1: idle: PRIORITY", &[frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 15]), request(1)], Answer(1)),
        case("5.1: half-closed (remote): DATA", &[request(1), data(1, END_STREAM, b"x")], Reset(CLOSED)),
        case("5.1: half-closed (remote): HEADERS", &[request(1), request(1)], Goaway(CLOSED)),
        case(
            "5.1: half-closed (remote): CONTINUATION",
            &[request(1), frame(CONTINUATION, END_HEADERS, 1, &get(&[]))],
            Goaway(PROTOCOL),
        ),
        case("5.1: half-closed (remote): WINDOW_UPDATE", &[request(1), window_update(1, 100)], Answer(1)),
        case(
            "5.1: half-closed (remote): PRIORITY",
            &[request(1), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])],
            Answer(1),
        ),
        case("5.1: half-closed (remote): RST_STREAM", &[request(1), reset(1)], Pong),
        case(
            "5.1: closed by RST_STREAM: DATA",
            &[open(1), reset(1), data(1, END_STREAM, b"x")],
            Reset(CLOSED),
        ),
        case("5.1: closed by RST_STREAM: HEADERS", &[open(1), reset(1), request(1)], Reset(CLOSED)),
        case(
            "5.1: closed by RST_STREAM: CONTINUATION",
            &[open(1), reset(1), frame(CONTINUATION, END_HEADERS, 1, &get(&[]))],
            Goaway(PROTOCOL),
        ),
        case_after("5.1: closed: DATA", request(1), &[data(1, END_STREAM, b"x")], Reset(CLOSED)),
        case_after("5.1: closed: HEADERS", request(1), &[request(1)], Goaway(CLOSED)),
        case_after(
            "5.1: closed: CONTINUATION",
            request(1),
            &[frame(CONTINUATION, END_HEADERS, 1, &get(&[]))],
            Goaway(PROTOCOL),
        ),
        case_after(
            "5.1: closed: WINDOW_UPDATE and PRIORITY are ignored",
            request(1),
            &[window_update(1, 1), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]), ping(*b"pingpong")],
            Pong,
        ),
        case(
            "5.1: closed by RST_STREAM: PRIORITY",
            &[open(1), reset(1), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])],
            Pong,
        ),
        case(
            "5.1.1: PRIORITY of an idle stream leaves those before it idle",
            &[frame(PRIORITY, 0, 5, &[0, 0, 0, 0, 15]), request(1)],
            Answer(1),
        ),
        case("5.1.1: an even stream identifier", &[request(2)], Goaway(PROTOCOL)),
        case("5.1.1: a stream identifier lower than one before", &[open(5), request(3)], Goaway(PROTOCOL)),
        case("5.1.2: more streams than allowed", &over_the_limit, Reset(&[PROTOCOL_ERROR, REFUSED_STREAM])),
        case(
            "5.3.1 (7540): HEADERS that depend on their own stream",
            &[headers(1, END_STREAM | END_HEADERS | PRIORITISED, &self_dependent)],
            Reset(PROTOCOL),
        ),
        case(
            "5.3.1 (7540): PRIORITY that depends on its own stream",
            &[frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 15])],
            Reset(PROTOCOL),
        ),
        case(
            "5.4.1: a connection error sends GOAWAY and closes the connection",
            &[frame(PING, 0, 0, b"short")],
            Goaway(SIZE),
        ),
    ]
}

/// RFC 9113 sections 6.1 to 6.8: frame by frame.
fn frame_types() -> Vec<Case> {
    let padded = [&[3][..], b"content", &[0; 3]].concat();
    let padded_headers = [&[2][..], &get(&[]), &[0; 2]].concat();
    let priority_headers = [&[0, 0, 0, 0, 255][..], &get(&[])].concat();
    let every_kind = [(1, 4096), (2, 1), (3, 100), (4, 65_535), (5, 16_384), (6, 100)];
    let every_kind = every_kind.map(|(identifier, value)| setting(identifier, value)).concat();
    vec![
        case(
            "6.1: DATA, several",
            &[open(1), data(1, 0, b"x"), data(1, 0, b""), data(1, END_STREAM, b"y")],
            Answer(1),
        ),
        case("6.1: DATA with padding", &[open(1), data(1, END_STREAM | PADDED, &padded)], Answer(1)),
        case("6.1: DATA on stream 0", &[data(0, END_STREAM, b"x")], Goaway(PROTOCOL)),
        case(
            "6.1: more padding than payload",
            &[open(1), data(1, END_STREAM | PADDED, &[9, 0, 0])],
            Goaway(PROTOCOL),
        ),
        case(
            "6.1: no byte for the padding's length",
            &[open(1), data(1, END_STREAM | PADDED, &[])],
            Goaway(SIZE),
        ),
        case(
            "6.2: HEADERS with padding",
            &[headers(1, END_STREAM | END_HEADERS | PADDED, &padded_headers)],
            Answer(1),
        ),
        case(
            "6.2: HEADERS with priority",
            &[headers(1, END_STREAM | END_HEADERS | PRIORITISED, &priority_headers)],
            Answer(1),
        ),
        case(
            "6.2: HEADERS on stream 0",
            &[headers(0, END_STREAM | END_HEADERS, &get(&[]))],
            Goaway(PROTOCOL),
        ),
        case(
            "6.2: more padding than payload",
            &[headers(1, END_STREAM | END_HEADERS | PADDED, &[200, 0x82])],
            Goaway(PROTOCOL),
        ),
        case("6.3: PRIORITY of the least weight", &[frame(PRIORITY, 0, 1, &[0; 5]), request(1)], Answer(1)),
        case(
            "6.3: PRIORITY of the greatest weight",
            &[frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 255]), request(1)],
            Answer(1),
        ),
        case(
            "6.3: PRIORITY that depends on another stream",
            &[frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 15]), request(3)],
            Answer(3),
        ),
        case(
            "6.3: PRIORITY that depends on another stream alone",
            &[frame(PRIORITY, 0, 3, &[0x80, 0, 0, 1, 15]), request(3)],
            Answer(3),
        ),
        case("6.3: PRIORITY on stream 0", &[frame(PRIORITY, 0, 0, &[0, 0, 0, 1, 1])], Goaway(PROTOCOL)),
        case("6.3: PRIORITY of another length", &[frame(PRIORITY, 0, 1, &[0; 4])], Reset(SIZE)),
        case("6.4: RST_STREAM of an open stream", &[open(1), frame(RST_STREAM, 0, 1, &[0; 4])], Pong),
        case("6.4: RST_STREAM on stream 0", &[frame(RST_STREAM, 0, 0, &[0; 4])], Goaway(PROTOCOL)),
        case("6.4: RST_STREAM of another length", &[open(1), frame(RST_STREAM, 0, 1, &[0; 3])], Goaway(SIZE)),
        case("6.5: SETTINGS ACK with a payload", &[frame(SETTINGS, ACK, 0, &setting(3, 1))], Goaway(SIZE)),
        case("6.5: SETTINGS on a stream", &[frame(SETTINGS, 0, 1, &setting(3, 1))], Goaway(PROTOCOL)),
        case("6.5: SETTINGS of another length", &[settings(&[0, 3, 0])], Goaway(SIZE)),
        case("6.5.2: ENABLE_PUSH neither 0 nor 1", &[settings(&setting(2, 2))], Goaway(PROTOCOL)),
        case("6.5.2: INITIAL_WINDOW_SIZE over 2^31-1", &[settings(&setting(4, 1 << 31))], Goaway(FLOW)),
        case("6.5.2: MAX_FRAME_SIZE below 2^14", &[settings(&setting(5, 16_383))], Goaway(PROTOCOL)),
        case("6.5.2: MAX_FRAME_SIZE over 2^24-1", &[settings(&setting(5, 1 << 24))], Goaway(PROTOCOL)),
        case("6.5.2: unknown settings are ignored", &[settings(&setting(0xff, 1))], Pong),
        case("6.5: SETTINGS without a setting", &[settings(&[]), request(1)], Answer(1)),
        case("6.5.3: settings of every kind are acknowledged", &[settings(&every_kind)], Acknowledgement),
        case(
            "6.5.3: settings are applied in order",
            &[settings(&[setting(4, 100), setting(4, 1)].concat()), request(1)],
            Data(b"o"),
        ),
        case(
            "6.6: PUSH_PROMISE from a client",
            &[frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82])],
            Goaway(PROTOCOL),
        ),
        case("6.7: PING is acknowledged with its payload", &[], Pong),
        case("6.7: an unsolicited PING ACK is ignored", &[frame(PING, ACK, 0, b"anything")], Pong),
        case("6.7: PING on a stream", &[frame(PING, 0, 1, b"pingpong")], Goaway(PROTOCOL)),
        case("6.7: PING of another length", &[frame(PING, 0, 0, b"pingpon")], Goaway(SIZE)),
        case("6.8: GOAWAY", &[frame(GOAWAY, 0, 0, &[0; 8])], Pong),
        case("6.8: GOAWAY on a stream", &[frame(GOAWAY, 0, 1, &[0; 8])], Goaway(PROTOCOL)),
        case(
            "7: a RST_STREAM with an unknown code",
            &[open(1), frame(RST_STREAM, 0, 1, &[0, 0, 0, 0xff])],
            Pong,
        ),
        case(
            "7: a GOAWAY with an unknown code",
            &[frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 0xff]), ping(*b"pingpong")],
            Pong,
        ),
    ]
}

/// RFC 9113 section 6.9: flow control.
fn flow_control() -> Vec<Case> {
    let most = 0x7fff_ffff;
    let mut cases = vec![
        case("6.9: WINDOW_UPDATE for the connection", &[window_update(0, 1), request(1)], Answer(1)),
        case(
            "6.9: WINDOW_UPDATE for a stream",
            &[open(1), window_update(1, 1), data(1, END_STREAM, b"x")],
            Answer(1),
        ),
        case("6.9: WINDOW_UPDATE of 0 for the connection", &[window_update(0, 0)], Goaway(PROTOCOL)),
        case("6.9: WINDOW_UPDATE of 0 for a stream", &[open(1), window_update(1, 0)], Reset(PROTOCOL)),
        case("6.9: WINDOW_UPDATE of another length", &[frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1])], Goaway(SIZE)),
        case(
            "6.9.1: the connection's window over 2^31-1",
            &[window_update(0, most), window_update(0, most)],
            Goaway(FLOW),
        ),
        case(
            "6.9.1: a stream's window over 2^31-1",
            &[open(1), window_update(1, most), window_update(1, most)],
            Reset(FLOW),
        ),
        case(
            "6.9.1: the first DATA frame is limited by the window",
            &[settings(&setting(4, 1)), request(1)],
            Data(b"o"),
        ),
        case(
            "6.9.1: WINDOW_UPDATE is accepted after a complete request",
            &[
                settings(&setting(4, 0)),
                request(1),
                frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 255]),
                window_update(1, 1),
            ],
            Data(b"o"),
        ),
        case(
            "6.9.2: a setting opens the window of an open stream by the difference",
            &[settings(&setting(4, 0)), request(1), settings(&setting(4, 1))],
            Data(b"o"),
        ),
        case(
            "6.9.2: INITIAL_WINDOW_SIZE over 2^31-1 while streams are open",
            &[open(1), settings(&setting(4, 1 << 31))],
            Goaway(FLOW),
        ),
    ];
    // A body is sent byte by byte with a window of one byte, and not at all with a window of 0 until it is opened.
    for (title, start, more) in [
        ("6.9.1: no more is sent than the window allows", 1, vec![window_update(1, 1)]),
        ("6.9.2: a setting opens the windows of open streams", 0, vec![settings(&setting(4, 2))]),
    ] {
        let mut case = case_after_headers(title, start, &more);
        case.settings = setting(4, start);
        cases.push(case);
    }
    cases
}

/// A request whose response can only end after `more` was sent.
fn case_after_headers(title: &'static str, window: u32, more: &[Vec<u8>]) -> Case {
    assert!(window < 2, "less than the body has");
    let steps = vec![
        Step::Send(request(1)),
        Step::Send(more.concat()),
        Step::AwaitEnd,
        Step::Send(ping(*b"pingpong")),
    ];
    Case { title, settings: Vec::new(), steps, expected: Pong }
}

/// RFC 9113 section 6.10: CONTINUATION.
fn continuations() -> Vec<Case> {
    let block = get(&[field("x-long", "y")]);
    let (one, rest) = block.split_at(2);
    let (two, three) = rest.split_at(3);
    let ended = || frame(CONTINUATION, END_HEADERS, 1, three);
    vec![
        case(
            "6.10: CONTINUATION, one",
            &[headers(1, END_STREAM, one), frame(CONTINUATION, END_HEADERS, 1, rest)],
            Answer(1),
        ),
        case(
            "6.10: CONTINUATION, several",
            &[headers(1, END_STREAM, one), frame(CONTINUATION, 0, 1, two), ended()],
            Answer(1),
        ),
        case(
            "6.10: another frame before the last CONTINUATION",
            &[headers(1, 0, one), frame(CONTINUATION, 0, 1, two), data(1, END_STREAM, b"x")],
            Goaway(PROTOCOL),
        ),
        case(
            "6.10: CONTINUATION on stream 0",
            &[headers(1, END_STREAM, one), frame(CONTINUATION, END_HEADERS, 0, rest)],
            Goaway(PROTOCOL),
        ),
        case("6.10: CONTINUATION after whole HEADERS", &[open(1), ended()], Goaway(PROTOCOL)),
        case(
            "6.10: CONTINUATION after the last one",
            &[headers(1, 0, one), frame(CONTINUATION, END_HEADERS, 1, rest), ended()],
            Goaway(PROTOCOL),
        ),
        case("6.10: CONTINUATION after DATA", &[open(1), data(1, 0, b"x"), ended()], Goaway(PROTOCOL)),
        case(
            "10.5.1: endless CONTINUATION",
            &std::iter::once(headers(1, END_STREAM, one))
                .chain((0..100).map(|_| frame(CONTINUATION, 0, 1, &field("a", &"b".repeat(120)).repeat(100))))
                .collect::<Vec<_>>(),
            Goaway(&[PROTOCOL_ERROR, COMPRESSION_ERROR, 11]),
        ),
    ]
}

/// RFC 9113 section 8: requests.
fn messages() -> Vec<Case> {
    let with = |name: &str, value: &str| headers(1, END_STREAM | END_HEADERS, &get(&[field(name, value)]));
    let only = |parts: &[&[u8]]| headers(1, END_STREAM | END_HEADERS, &parts.concat());
    let trailers = |flags, block: &[u8]| vec![open(1), data(1, 0, b"x"), headers(1, flags, block)];
    let length = |length: &str| headers(1, END_HEADERS, &post(&[field("content-length", length)]));
    let path = |path: &str| [&[0x04, path.len() as u8][..], path.as_bytes()].concat();
    vec![
        case("8.1: a GET request", &[request(1)], Answer(1)),
        case("8.1: a HEAD request", &[only(&[b"\x02\x04HEAD", SCHEME, PATH, AUTHORITY])], Answer(1)),
        case("8.1: a POST request", &[open(1), data(1, END_STREAM, b"x")], Answer(1)),
        case("8.1: trailers", &trailers(END_STREAM | END_HEADERS, &field("x-sum", "1")), Answer(1)),
        case(
            "8.1: HEADERS after DATA without END_STREAM",
            &trailers(END_HEADERS, &field("x-sum", "1")),
            Reset(PROTOCOL),
        ),
        case("8.1: a pseudo-header in trailers", &trailers(END_STREAM | END_HEADERS, GET), Reset(PROTOCOL)),
        case(
            "8.1: a pseudo-header in trailers, from the dynamic table",
            &[
                headers(1, END_HEADERS, &[POST, SCHEME, PATH, &[0x41, 1, b'a']].concat()),
                data(1, 0, b"x"),
                headers(1, END_STREAM | END_HEADERS, &[0xbe]),
            ],
            Reset(PROTOCOL),
        ),
        case("8.2.1: a name in upper case", &[with("X-Upper", "1")], Reset(PROTOCOL)),
        case("8.2.1: a name with a space", &[with("x y", "1")], Reset(PROTOCOL)),
        case("8.2.1: an empty name", &[with("", "1")], Reset(PROTOCOL)),
        case("8.2.1: a line feed in a value", &[with("x", "a\nb")], Reset(PROTOCOL)),
        case("8.2.1: a NUL in a value", &[with("x", "a\0b")], Reset(PROTOCOL)),
        case("8.2.1: white space before a value", &[with("x", " a")], Reset(PROTOCOL)),
        case("8.2.1: white space after a value", &[with("x", "a\t")], Reset(PROTOCOL)),
        case("8.2.2: connection", &[with("connection", "keep-alive")], Reset(PROTOCOL)),
        case("8.2.2: proxy-connection", &[with("proxy-connection", "keep-alive")], Reset(PROTOCOL)),
        case("8.2.2: keep-alive", &[with("keep-alive", "5")], Reset(PROTOCOL)),
        case("8.2.2: transfer-encoding", &[with("transfer-encoding", "chunked")], Reset(PROTOCOL)),
        case("8.2.2: upgrade", &[with("upgrade", "websocket")], Reset(PROTOCOL)),
        case("8.2.2: te other than trailers", &[with("te", "trailers, deflate")], Reset(PROTOCOL)),
        case("8.2.2: te: trailers", &[with("te", "trailers")], Answer(1)),
        case(
            "8.3: an unknown pseudo-header",
            &[only(&[GET, SCHEME, PATH, AUTHORITY, &field(":test", "1")])],
            Reset(PROTOCOL),
        ),
        case(
            "8.3: a pseudo-header of responses",
            &[only(&[GET, SCHEME, PATH, AUTHORITY, &[0x88]])],
            Reset(PROTOCOL),
        ),
        case(
            "8.3: a pseudo-header after others",
            &[only(&[SCHEME, PATH, AUTHORITY, &field("x", "1"), GET])],
            Reset(PROTOCOL),
        ),
        case("8.3.1: an empty :path", &[only(&[GET, SCHEME, &path(""), AUTHORITY])], Reset(PROTOCOL)),
        case("8.3.1: no :method", &[only(&[SCHEME, PATH, AUTHORITY])], Reset(PROTOCOL)),
        case("8.3.1: no :scheme", &[only(&[GET, PATH, AUTHORITY])], Reset(PROTOCOL)),
        case("8.3.1: no :path", &[only(&[GET, SCHEME, AUTHORITY])], Reset(PROTOCOL)),
        case(
            "8.3.1: no :path and no :authority",
            &[only(&[GET, SCHEME, &field("host", "a")])],
            Reset(PROTOCOL),
        ),
        case("8.3.1: :method twice", &[only(&[GET, GET, SCHEME, PATH, AUTHORITY])], Reset(PROTOCOL)),
        case("8.3.1: :scheme twice", &[only(&[GET, SCHEME, SCHEME, PATH, AUTHORITY])], Reset(PROTOCOL)),
        case("8.3.1: :path twice", &[only(&[GET, SCHEME, PATH, PATH, AUTHORITY])], Reset(PROTOCOL)),
        case("8.3.1: :authority twice", &[only(&[GET, SCHEME, PATH, AUTHORITY, AUTHORITY])], Reset(PROTOCOL)),
        case(
            "8.3.1: Host in place of :authority",
            &[only(&[GET, SCHEME, PATH, &field("host", "a")])],
            Answer(1),
        ),
        case(
            "8.1.1: content-length over the content",
            &[length("2"), data(1, END_STREAM, b"x")],
            Reset(PROTOCOL),
        ),
        case(
            "8.1.1: content-length under the content",
            &[length("2"), data(1, 0, b"x"), data(1, END_STREAM, b"yz")],
            Reset(PROTOCOL),
        ),
        case(
            "8.1.1: content-length without content",
            &[headers(1, END_STREAM | END_HEADERS, &post(&[field("content-length", "2")]))],
            Reset(PROTOCOL),
        ),
        case(
            "8.1.1: content-length that is no number",
            &[length("+1"), data(1, END_STREAM, b"x")],
            Reset(PROTOCOL),
        ),
        case(
            "8.1.1: two content-lengths",
            &[headers(1, END_HEADERS, &post(&[field("content-length", "1"), field("content-length", "2")]))],
            Reset(PROTOCOL),
        ),
        case(
            "8.1.1: a content-length that matches the content",
            &[length("2"), data(1, 0, b"x"), data(1, END_STREAM, b"y")],
            Answer(1),
        ),
        case(
            "10.3: a line end in :path",
            &[only(&[GET, SCHEME, &path("/ HTTP/1.1\r\nx: y"), AUTHORITY])],
            Reset(PROTOCOL),
        ),
        case("10.3: a space in :path", &[only(&[GET, SCHEME, &path("/a b"), AUTHORITY])], Reset(PROTOCOL)),
        case(
            "10.3: a space in :method",
            &[only(&[b"\x02\x07GET / a", SCHEME, PATH, AUTHORITY])],
            Reset(PROTOCOL),
        ),
        case(
            "10.3: a line end in :method",
            &[only(&[b"\x02\x05GET\r\n", SCHEME, PATH, AUTHORITY])],
            Reset(PROTOCOL),
        ),
        case(
            "10.3: a line end in :authority",
            &[only(&[GET, SCHEME, PATH, b"\x01\x05a\r\nb:"])],
            Reset(PROTOCOL),
        ),
        case("10.3: a colon in a name", &[with("x:y", "1")], Reset(PROTOCOL)),
        case("8: several requests at once", &[request(1), request(3), request(5)], Answer(5)),
    ]
}

/// RFC 7541: header compression.
fn compression() -> Vec<Case> {
    let block = |field: &[u8]| headers(1, END_STREAM | END_HEADERS, &[&get(&[]), field].concat());
    let update_first = [&[0x20][..], &get(&[])].concat();
    vec![
        case("2.3.3: an index beyond both tables", &[block(&[0xff, 0x00])], Goaway(COMPRESSION)),
        case(
            "2.3.3: a literal whose name's index is beyond",
            &[block(&[0x7f, 0x10, 1, b'a'])],
            Goaway(COMPRESSION),
        ),
        case("4.2: a table size update at the end", &[block(&[0x20])], Goaway(COMPRESSION)),
        case(
            "5.1: an endless integer",
            &[block(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])],
            Goaway(COMPRESSION),
        ),
        case(
            "5.2: Huffman padding of 8 bits and more",
            &[block(&[0x00, 0x81, 0x1f, 0x82, 0x1f, 0xff])],
            Goaway(COMPRESSION),
        ),
        case("5.2: Huffman padding of zeros", &[block(&[0x00, 0x81, 0x1f, 0x81, 0x18])], Goaway(COMPRESSION)),
        case(
            "5.2: Huffman's end of string",
            &[block(&[0x00, 0x81, 0x1f, 0x84, 0xff, 0xff, 0xff, 0xff])],
            Goaway(COMPRESSION),
        ),
        case("6.1: index 0", &[block(&[0x80])], Goaway(COMPRESSION)),
        case("6.1: an indexed field", &[block(&[0x90])], Answer(1)),
        // `user-agent` by its index or `x` as a literal; `a` as a literal or Huffman-coded.
        case("6.2.1: a literal with indexing, its name indexed", &[block(&[0x7a, 1, b'a'])], Answer(1)),
        case("6.2.1: the same, Huffman-coded", &[block(&[0x7a, 0x81, 0x1f])], Answer(1)),
        case(
            "6.2.1: a literal with indexing, and its use",
            &[block(&[0x40, 1, b'x', 1, b'a', 0xbe])],
            Answer(1),
        ),
        case("6.2.1: the same, Huffman-coded", &[block(&[0x40, 0x81, 0xf3, 0x81, 0x1f, 0xbe])], Answer(1)),
        case(
            "6.2.2: a literal without indexing, its name indexed",
            &[block(&[0x0f, 0x2b, 1, b'a'])],
            Answer(1),
        ),
        case("6.2.2: the same, Huffman-coded", &[block(&[0x0f, 0x2b, 0x81, 0x1f])], Answer(1)),
        case("6.2.2: a literal without indexing", &[block(&[0x00, 1, b'x', 1, b'a'])], Answer(1)),
        case("6.2.2: the same, Huffman-coded", &[block(&[0x00, 0x81, 0xf3, 0x81, 0x1f])], Answer(1)),
        case("6.2.3: a literal never indexed, its name indexed", &[block(&[0x1f, 0x2b, 1, b'a'])], Answer(1)),
        case("6.2.3: the same, Huffman-coded", &[block(&[0x1f, 0x2b, 0x81, 0x1f])], Answer(1)),
        case("6.2.3: a literal never indexed", &[block(&[0x10, 1, b'x', 1, b'a'])], Answer(1)),
        case("6.2.3: the same, Huffman-coded", &[block(&[0x10, 0x81, 0xf3, 0x81, 0x1f])], Answer(1)),
        case(
            "6.3: several table size updates",
            &[headers(1, END_STREAM | END_HEADERS, &[&[0x20, 0x3f, 0xe1, 0x1f][..], &get(&[])].concat())],
            Answer(1),
        ),
        case("6.3: a table size update", &[headers(1, END_STREAM | END_HEADERS, &update_first)], Answer(1)),
        case(
            "6.3: a table size over the limit",
            &[headers(1, END_STREAM | END_HEADERS, &[0x3f, 0xe2, 0x1f, 0x82])],
            Goaway(COMPRESSION),
        ),
    ]
}
