//! Checks the parsers against the tables of rules, with complete and partial messages.

use tercet_balancer::config::Limits;
use tercet_balancer::http1::response::RequestInfo;
use tercet_balancer::http1::{Decoder, Framing, HeadLimits, Method, Refusal, request, response};

use crate::rules::{BODIES, REQUESTS, RESPONSE_BODIES, RESPONSES, Rule, Verdict};

/// Reads one request to its end; `None` when it is incomplete.
fn read_request(bytes: &[u8]) -> Result<Option<usize>, Refusal> {
    let Some(head) = request::parse(bytes, &HeadLimits::of_requests(&Limits::default()))? else {
        return Ok(None);
    };
    read_body(&bytes[head.length..], head.framing, head.length)
}

/// Reads a response to GET, with its interim responses, to its end.
fn read_response(bytes: &[u8]) -> Result<Option<usize>, Refusal> {
    let request_info = RequestInfo { method: Method::Get, upgrade: false };
    let Some(head) = response::parse(bytes, &HeadLimits::of_responses(&Limits::default()), request_info)?
    else {
        return Ok(None);
    };
    if head.is_interim() {
        return Ok(read_response(&bytes[head.length..])?.map(|length| head.length + length));
    }
    read_body(&bytes[head.length..], head.framing, head.length)
        .map_err(|refusal| Refusal { status: 502, ..refusal })
}

fn read_body(bytes: &[u8], framing: Framing, before: usize) -> Result<Option<usize>, Refusal> {
    let mut decoder = Decoder::new(framing, 64 << 20);
    let progress = decoder.advance(bytes)?;
    Ok((progress.done || decoder.may_end_by_close()).then_some(before + progress.consumed))
}

fn check(rules: &[Rule], read: fn(&[u8]) -> Result<Option<usize>, Refusal>) {
    let mut wrong = Vec::new();
    for rule in rules {
        for (bytes, verdict) in rule.cases {
            let outcome = read(bytes);
            let is_right = match (verdict, &outcome) {
                (Verdict::Accepted, Ok(Some(length))) => *length == bytes.len(),
                (Verdict::Refused(status), Err(refusal)) => refusal.status == *status,
                _ => false,
            };
            if !is_right {
                wrong.push(format!(
                    "{}\n  {} → {outcome:?}, not {verdict:?}",
                    rule.title,
                    bytes.escape_ascii()
                ));
            }
            // A prefix is incomplete, or has the same result.
            for end in 0..bytes.len() {
                let prefix = read(&bytes[..end]);
                if prefix.is_err() && prefix != outcome {
                    wrong.push(format!(
                        "{end} bytes of {} → {prefix:?}, later {outcome:?}",
                        bytes.escape_ascii()
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn request_heads_follow_the_rules() {
    check(REQUESTS, read_request);
}

#[test]
fn request_bodies_follow_the_rules() {
    check(BODIES, read_request);
}

#[test]
fn responses_follow_the_rules() {
    check(RESPONSES, read_response);
    check(RESPONSE_BODIES, read_response);
}

/// Parses a request with small limits, and compares the status with which it is refused.
#[track_caller]
fn check_limit(bytes: &[u8], status: Option<u16>) {
    let limits = HeadLimits { head_bytes: 200, headers: 4, target_bytes: 16, body_bytes: 10 };
    let outcome = request::parse(bytes, &limits).map(|head| head.is_some());
    assert_eq!(outcome.err().map(|refusal| refusal.status), status, "{}", bytes.escape_ascii());
}

#[test]
fn limits_apply_to_incomplete_heads() {
    check_limit(b"GET /23456789abcdef0 HTTP/1.1\r\nHost: a\r\n\r\n", None);
    check_limit(b"GET /23456789abcdef01 HTTP/1.1\r\nHost: a\r\n\r\n", Some(414));
    check_limit(b"GET /23456789abcdef01", Some(414));
    check_limit(b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nC: d\r\nE: f\r\n\r\n", None);
    check_limit(b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nC: d\r\nE: f\r\nG: h\r\n", Some(431));
    let padded = |length: usize| {
        let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        format!("{start}{}\r\n\r\n", "x".repeat(length - start.len() - 4)).into_bytes()
    };
    check_limit(&padded(200), None);
    check_limit(&padded(201), Some(431));
    check_limit(&padded(400)[..199], None);
    check_limit(&padded(400)[..200], Some(431));
    check_limit(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n", None);
    check_limit(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n", Some(413));
}

#[test]
fn limits_apply_to_chunked_bodies() {
    let refused =
        |bytes: &[u8]| Decoder::new(Framing::Chunked, 10).advance(bytes).err().map(|refusal| refusal.status);
    assert_eq!(refused(b"a\r\n0123456789\r\n0\r\n\r\n"), None);
    assert_eq!(refused(b"5\r\n01234\r\n6\r\n012345"), Some(413));
    let long_line = [b"1;", "a".repeat(2000).as_bytes()].concat();
    assert_eq!(refused(&long_line), Some(400));
    let extended = format!("1;{}\r\nx\r\n", "a".repeat(1000)).repeat(9);
    assert_eq!(refused(extended.as_bytes()), Some(400));
    let many = format!("0\r\n{}", "a: b\r\n".repeat(33));
    assert_eq!(refused(many.as_bytes()), Some(400));
    let long = format!("0\r\na: {}", "b".repeat(9000));
    assert_eq!(refused(long.as_bytes()), Some(400));
}
