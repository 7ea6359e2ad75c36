//! Property tests of the parsers with generated messages. `fuzz/` runs the same properties longer.

use proptest::collection::vec;
use proptest::prelude::*;

pub(crate) mod front;
pub(crate) mod wire;

/// Messages composed of valid and hostile parts and random bytes.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        8 => proptest::sample::select(vec![
            &b"GET "[..], b"POST ", b"OPTIONS ", b"/ ", b"* ", b"http://a/ ", b"/a?b ", b"HTTP/1.1", b"HTTP/1.0",
            b"HTTP/1.1 200 OK", b"HTTP/1.1 204 \r\n", b"\r\n", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b" ", b"\t", b"Host: a\r\n",
            b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close, x\r\n", b"X: y\r\n",
            b"Upgrade: x\r\n", b"Connection: upgrade\r\n", b"Expect: 100-continue\r\n", b"TE: trailers\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n", b"0\r\n", b";a=b", b"\"", b"f", b"abc",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c",
        ].into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>()),
        1 => vec(any::<u8>(), 0..20),
    ];
    vec(part, 0..12).prop_map(|parts| parts.concat())
}

/// Targets and values composed of valid and hostile parts.
fn targets() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        8 => proptest::sample::select(vec![
            &b"/"[..], b"/api", b"/%61pi", b"/v1", b".", b"..", b"%2e", b"%2F", b"%5c", b"%00", b";a", b"?", b"*", b"a", b"%",
            b"shop.example.com\n", b"a.example.com:80\n", b"bytes=", b"-", b"0", b"99", b",", b"gzip", b"br", b";q=", b"0.5",
        ].into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>()),
        1 => vec(any::<u8>(), 0..4),
    ];
    vec(part, 0..10).prop_map(|parts| parts.concat())
}

/// Configuration files with backend pools and routes that fit together or not.
fn configurations() -> impl Strategy<Value = String> {
    let line = proptest::sample::select(vec![
        "servers = ['127.0.0.1:1']",
        "servers = ['app:1', { name = 'a', address = '127.0.0.1:2' }]",
        "[pool.api]",
        "[pool.application]",
        "[pool.Api]",
        "[pool.api.health]",
        "path = '/a'",
        "path = '/'",
        "policy = 'hash'",
        "hash-on = 'x-tenant'",
        "interval = '2s'",
        "interval = 2",
        "[[route]]",
        "to = 'api'",
        "to = 'apu'",
        "to = 'application'",
        "files = 'public'",
        "pool = 'api'",
    ]);
    vec(line, 0..10).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn configuration_files(text in configurations()) {
        front::configuration(&text);
    }

    #[test]
    fn routes(bytes in targets()) {
        front::route(&bytes);
        front::negotiation(&bytes);
    }

    #[test]
    fn compressed_bodies(bytes in vec(any::<u8>(), 0..500)) {
        front::compression(&bytes);
    }

    #[test]
    fn request_heads(bytes in messages()) {
        wire::request_head(&bytes);
    }

    #[test]
    fn response_heads(bytes in messages()) {
        wire::response_head(&bytes);
    }

    #[test]
    fn chunked_bodies(bytes in messages()) {
        wire::chunked_body(&bytes);
    }

    #[test]
    fn proxy_headers(bytes in messages()) {
        wire::proxy_header(&bytes);
    }

    #[test]
    fn chunks_are_decoded_with_any_read_sizes(
        chunks in vec(vec(any::<u8>(), 1..50), 0..8),
        reads in vec(1_usize..40, 1..200),
    ) {
        wire::chunks(&chunks, &reads);
    }
}
