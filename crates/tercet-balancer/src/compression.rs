//! Compression of the responses of servers: which are compressed, and with which coding.
//!
//! The request decides the coding, the head of the response whether it is used. This module does not depend on connections.

pub mod encoder;

use crate::accept_encoding::{AcceptEncoding, Coding};
use crate::config::{Compress, Config, ContentCoding};
use crate::files::media_type::is_textual;
use crate::http1::recoding::Recoding;
use crate::http1::{Field, Framing, Method, RequestHead, ResponseHead, Version};

/// Fields of a response that must not be changed, besides the one that says so: digests are of the bytes that the server has
/// sent (RFC 9530), and trailers may have them.
const DIGESTS: [&[u8]; 5] = [b"content-digest", b"repr-digest", b"digest", b"content-md5", b"trailer"];

impl From<ContentCoding> for Coding {
    fn from(coding: ContentCoding) -> Self {
        match coding {
            ContentCoding::Br => Self::Brotli,
            ContentCoding::Zstd => Self::Zstandard,
            ContentCoding::Gzip => Self::Gzip,
        }
    }
}

/// How the response to a request may be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Negotiated {
    /// The coding that the client prefers. `None`: it accepts none, or the request has credentials.
    pub(crate) coding: Option<Coding>,
}

impl Negotiated {
    /// For this request, where `compress` is in force; `None` if its response is never compressed.
    pub(crate) fn new(
        config: &Config,
        compress: Compress,
        head: &RequestHead,
        received: &[u8],
    ) -> Option<Self> {
        if compress == Compress::Off || head.version == Version::Http10 {
            return None;
        }
        let is_credential = |field: Field| matches!(field, Field::Cookie | Field::Authorization);
        let has_credentials = || head.headers.iter().any(|header| is_credential(header.field));
        let may = compress == Compress::WithCredentials || !has_credentials();
        let may = may && !has_no_transform(head.values_named(received, b"cache-control"));
        let accepted = || AcceptEncoding::parse(head.values_named(received, b"accept-encoding"));
        let offered = config.compression.codings.iter().map(|coding| Coding::from(*coding));
        let coding = if may { accepted().best(offered) } else { None };
        Some(Self { coding })
    }

    /// How the response with this head is sent, to a request with this method. `minimum` is the least length of a body that is
    /// compressed, in bytes.
    pub(crate) fn recoding(
        self,
        method: Method,
        head: &ResponseHead,
        buffer: &[u8],
        minimum: u64,
    ) -> Recoding {
        if head.status == 304 {
            // The client has the compressed response, whose validator is weak (RFC 9111 section 4.3.4).
            let is_coded = self.coding.is_some();
            return Recoding { coding: None, varies: is_coded, is_weak: is_coded };
        }
        let has_content = !matches!(head.status, ..200 | 204..=206) && is_long_enough(method, head, minimum);
        if !has_content || !is_compressible(head, buffer) {
            return Recoding::default();
        }
        let coding = self.coding.map(Coding::name);
        Recoding { coding, varies: true, is_weak: coding.is_some() }
    }
}

fn is_long_enough(method: Method, head: &ResponseHead, minimum: u64) -> bool {
    match head.content_length {
        Some(length) => length > 0 && length >= minimum,
        None => method == Method::Head || head.framing != Framing::None,
    }
}

/// Whether a response has a textual type, and nothing that forbids to change its bytes.
fn is_compressible(head: &ResponseHead, buffer: &[u8]) -> bool {
    let mut media_type = None;
    for header in head.headers.iter().filter(|header| header.field == Field::Other) {
        let (name, value) = (header.name.in_buffer(buffer), header.value.in_buffer(buffer));
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        if is(b"content-type") {
            if media_type.replace(value).is_some() {
                return false;
            }
        } else if is(b"content-encoding")
            || is(b"content-range")
            || is(b"cache-control") && has_no_transform([value])
            || DIGESTS.iter().any(|digest| is(digest))
        {
            return false;
        }
    }
    media_type.is_some_and(is_textual) && !head.is_event_stream(buffer)
}

/// Whether `Cache-Control` has `no-transform` (RFC 9111 sections 5.2.1.6 and 5.2.2.6).
fn has_no_transform<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> bool {
    let mut directives = values.into_iter().flat_map(|value| value.split(|byte| *byte == b','));
    directives.any(|directive| directive.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::response::RequestInfo;
    use crate::http1::{HeadLimits, request, response};

    fn config(more: &str) -> Config {
        Config::parse(&format!("servers = ['127.0.0.1:1']\n{more}"), "a").unwrap()
    }

    fn negotiated(compress: Compress, lines: &str) -> Option<Negotiated> {
        let config = config("compression.codings = ['br', 'gzip']\ncompress = 'on'");
        let received = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n").into_bytes();
        let head = request::parse(&received, &HeadLimits::of_requests(&config.limits)).unwrap().unwrap();
        Negotiated::new(&config, compress, &head, &received)
    }

    #[test]
    fn credentials_exclude_compression_unless_the_route_says_otherwise() {
        use Compress::{Off, On, WithCredentials};
        for (compress, lines, expected) in [
            (Off, "Accept-Encoding: gzip\r\n", None),
            (On, "", Some(None)),
            (On, "Accept-Encoding: gzip\r\n", Some(Some(Coding::Gzip))),
            (On, "Accept-Encoding: zstd\r\n", Some(None)),
            (On, "Accept-Encoding: gzip\r\naccept-encoding: br\r\n", Some(Some(Coding::Brotli))),
            (On, "Accept-Encoding: gzip\r\nCookie: a=b\r\n", Some(None)),
            (On, "Accept-Encoding: gzip\r\nAuthorization: Bearer a\r\n", Some(None)),
            (On, "Accept-Encoding: gzip\r\nCache-Control: max-age=0, no-transform\r\n", Some(None)),
            (WithCredentials, "Accept-Encoding: gzip\r\nCookie: a=b\r\n", Some(Some(Coding::Gzip))),
            (WithCredentials, "Accept-Encoding: gzip\r\nAuthorization: a\r\n", Some(Some(Coding::Gzip))),
            (WithCredentials, "Accept-Encoding: gzip;q=0\r\n", Some(None)),
        ] {
            let found = negotiated(compress, lines).map(|negotiated| negotiated.coding);
            assert_eq!(found, expected, "{compress:?} {lines}");
        }
    }

    /// `compressed`, `varies` or `unchanged`.
    fn outcome(method: Method, response: &str) -> &'static str {
        let negotiated = negotiated(Compress::On, "Accept-Encoding: gzip\r\n").unwrap();
        let buffer = format!("HTTP/1.1 {response}\r\n").into_bytes();
        let limits = HeadLimits::of_responses(&config("").limits);
        let head =
            response::parse(&buffer, &limits, RequestInfo { method, upgrade: false }).unwrap().unwrap();
        match negotiated.recoding(method, &head, &buffer, 1024) {
            Recoding { coding: Some("gzip"), varies: true, is_weak: true } => "compressed",
            Recoding { coding: None, varies: true, is_weak: true } => "weak",
            Recoding { coding: None, varies: false, is_weak: false } => "unchanged",
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_long_texts_that_may_be_changed_are_compressed() {
        let json = "Content-Type: application/json\r\n";
        for (response, expected) in [
            (format!("200 OK\r\n{json}"), "compressed"),
            (format!("200 OK\r\n{json}Content-Length: 1024\r\n"), "compressed"),
            (format!("200 OK\r\n{json}Transfer-Encoding: chunked\r\n"), "compressed"),
            (format!("404 Not Found\r\n{json}"), "compressed"),
            ("200 OK\r\nContent-Type: text/html; charset=utf-8\r\n".to_owned(), "compressed"),
            ("200 OK\r\nContent-Type: TEXT/plain\r\n".to_owned(), "compressed"),
            ("200 OK\r\nContent-Type: application/problem+json\r\n".to_owned(), "compressed"),
            (format!("200 OK\r\n{json}Content-Length: 1023\r\n"), "unchanged"),
            (format!("200 OK\r\n{json}Content-Length: 0\r\n"), "unchanged"),
            (format!("206 Partial\r\n{json}Content-Range: bytes 0-1/5000\r\n"), "unchanged"),
            (format!("200 OK\r\n{json}Content-Range: bytes 0-1/5000\r\n"), "unchanged"),
            (format!("204 None\r\n{json}"), "unchanged"),
            (format!("304 Same\r\n{json}ETag: \"a\"\r\n"), "weak"),
            (format!("200 OK\r\n{json}Content-Encoding: gzip\r\n"), "unchanged"),
            (format!("200 OK\r\n{json}Content-Encoding: identity\r\n"), "unchanged"),
            (format!("200 OK\r\n{json}Cache-Control: public,No-Transform\r\n"), "unchanged"),
            (format!("200 OK\r\n{json}Cache-Control: no-transform-x\r\n"), "compressed"),
            (format!("200 OK\r\n{json}Content-Digest: sha-256=:YQ==:\r\n"), "unchanged"),
            (format!("200 OK\r\n{json}Trailer: Content-Digest\r\n"), "unchanged"),
            (format!("200 OK\r\n{json}{json}"), "unchanged"),
            ("200 OK\r\nContent-Type: image/png\r\n".to_owned(), "unchanged"),
            ("200 OK\r\nContent-Type: text/event-stream\r\n".to_owned(), "unchanged"),
            ("200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n".to_owned(), "unchanged"),
            ("200 OK\r\n".to_owned(), "unchanged"),
        ] {
            for method in [Method::Get, Method::Head] {
                assert_eq!(outcome(method, &response), expected, "{method:?} {response}");
            }
        }
    }
}
