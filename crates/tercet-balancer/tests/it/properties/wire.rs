//! Properties of the parsers for arbitrary bytes; shared with the fuzz targets.

use tercet_balancer::http1::recoding::Recoding;
use tercet_balancer::http1::response::RequestInfo;
use tercet_balancer::http1::{Decoder, Framing, HeadLimits, Method, RequestHead, request, response, write};
use tercet_balancer::proxy_protocol;

const LIMITS: HeadLimits =
    HeadLimits { head_bytes: 4096, headers: 20, target_bytes: 256, body_bytes: 1 << 30 };

/// The result for all bytes equals the first conclusive result for a prefix, and a parsed request is unchanged by
/// serialising and parsing it again.
pub(crate) fn request_head(bytes: &[u8]) {
    let whole = request::parse(bytes, &LIMITS);
    for end in 0..bytes.len() {
        match request::parse(&bytes[..end], &LIMITS) {
            Ok(None) => {}
            Ok(Some(head)) => {
                let length = whole.as_ref().map(|whole| whole.as_ref().map(|whole| whole.length));
                assert_eq!(length, Ok(Some(head.length)), "{end} bytes");
                break;
            }
            Err(refusal) => assert_eq!(whole.as_ref().err(), Some(&refusal), "{end} bytes"),
        }
    }
    if let Ok(Some(head)) = whole {
        let mut written = Vec::new();
        write::request(&mut written, bytes, &head, 0, None, head.expect_continue, b"fallback");
        written.extend_from_slice(b"\r\n");
        let limits = HeadLimits { headers: 30, head_bytes: 8192, ..LIMITS };
        let again = request::parse(&written, &limits).expect("it is valid").expect("it is complete");
        assert_eq!(again.length, written.len(), "nothing is left over");
        assert_eq!(again.method_name.in_buffer(&written), head.method_name.in_buffer(bytes));
        assert_eq!(again.framing, head.framing);
        assert_eq!(again.expect_continue, head.expect_continue);
        assert_eq!(again.upgrade.is_some(), head.upgrade.is_some());
        let mut twice = Vec::new();
        write::request(&mut twice, &written, &again, 0, None, again.expect_continue, b"fallback");
        twice.extend_from_slice(b"\r\n");
        assert!(is_same_except_max_forwards(&again, &written, &twice), "serialising again changes it");
    }
}

/// Serialising decrements `Max-Forwards`.
fn is_same_except_max_forwards(head: &RequestHead, once: &[u8], twice: &[u8]) -> bool {
    once == twice || head.max_forwards.is_some()
}

/// The result for all bytes equals the first conclusive result for a prefix, for any request.
pub(crate) fn response_head(bytes: &[u8]) {
    for (method, upgrade) in [(Method::Get, false), (Method::Head, false), (Method::Get, true)] {
        let request_info = RequestInfo { method, upgrade };
        let whole = response::parse(bytes, &LIMITS, request_info);
        for end in 0..bytes.len() {
            match response::parse(&bytes[..end], &LIMITS, request_info) {
                Ok(None) => {}
                Ok(Some(head)) => {
                    let length = whole.as_ref().map(|whole| whole.as_ref().map(|whole| whole.length));
                    assert_eq!(length, Ok(Some(head.length)), "{end} bytes");
                    break;
                }
                Err(refusal) => {
                    assert_eq!(refusal.status, 502);
                    assert_eq!(whole.as_ref().err(), Some(&refusal), "{end} bytes");
                }
            }
        }
        if let Ok(Some(head)) = whole {
            let same = (Recoding::default(), head.framing);
            let coded = Recoding { coding: Some("gzip"), varies: true, is_weak: true };
            let has_body = head.framing != Framing::None;
            for (recoding, framing) in [same].into_iter().chain(has_body.then_some((coded, Framing::Chunked)))
            {
                let mut written = Vec::new();
                let client = tercet_balancer::http1::Version::Http11;
                write::response(&mut written, bytes, &head, framing, recoding, client, true);
                written.extend_from_slice(b"\r\n");
                let again = response::parse(
                    &written,
                    &HeadLimits { headers: 30, head_bytes: 8192, ..LIMITS },
                    request_info,
                )
                .expect("it is valid")
                .expect("it is complete");
                assert_eq!(again.length, written.len(), "nothing is left over");
                assert_eq!((again.status, again.framing), (head.status, framing));
            }
        }
    }
}

/// A body has the same content, end and result, decoded at once or byte by byte.
pub(crate) fn chunked_body(bytes: &[u8]) {
    let mut at_once = Decoder::new(Framing::Chunked, 1 << 20);
    let expected = at_once.advance(bytes);
    let mut decoder = Decoder::new(Framing::Chunked, 1 << 20);
    let (mut start, mut content) = (0, 0);
    for end in 1..=bytes.len() {
        match decoder.advance(&bytes[start..end]) {
            Ok(progress) => {
                start += progress.consumed;
                content += progress.content;
                if progress.done {
                    let expected = expected.expect("the same result");
                    assert_eq!((start, content, true), (expected.consumed, expected.content, expected.done));
                    return;
                }
            }
            Err(refusal) => {
                assert_eq!(expected, Err(refusal));
                return;
            }
        }
    }
    let expected = expected.expect("the same result");
    assert_eq!((content, false), (expected.content, expected.done));
}

/// The result for all bytes equals the first conclusive result for a prefix.
pub(crate) fn proxy_header(bytes: &[u8]) {
    let whole = proxy_protocol::parse(bytes);
    for end in 0..bytes.len() {
        let prefix = proxy_protocol::parse(&bytes[..end]);
        assert!(prefix == Ok(None) || prefix == whole, "{end} bytes: {prefix:?}, all: {whole:?}");
    }
}

/// Content that is encoded in these chunks and read in parts of these sizes is decoded unchanged.
pub(crate) fn chunks(chunks: &[Vec<u8>], reads: &[usize]) {
    let mut encoded = Vec::new();
    for chunk in chunks {
        encoded.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
        encoded.extend_from_slice(chunk);
        encoded.extend_from_slice(b"\r\n");
    }
    encoded.extend_from_slice(b"0\r\nX: y\r\n\r\nnext");

    let mut decoder = Decoder::new(Framing::Chunked, u64::MAX);
    let (mut start, mut end, mut content) = (0, 0, Vec::new());
    let mut reads = reads.iter().cycle();
    loop {
        let piece = decoder.decode(&encoded[start..end]).expect("it is valid");
        let bytes = &encoded[start..end];
        content.extend_from_slice(&bytes[piece.content.clone()]);
        start += piece.consumed;
        if piece.done {
            assert_eq!(&bytes[piece.trailers], b"X: y\r\n");
            break;
        }
        if piece.consumed == 0 {
            end = (end + reads.next().copied().unwrap_or(1)).min(encoded.len());
        }
    }
    assert_eq!(content, chunks.concat());
    assert_eq!(&encoded[start..], b"next");
}
