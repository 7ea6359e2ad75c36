//! Serialises heads from their parsed form.
//!
//! Names keep their case and lines their order. Hop-by-hop fields are left out; framing is written from the parsed
//! values, not from the received bytes. The caller adds further lines and the empty line.

pub use super::line::push_line;
use super::recoding::Recoding;
use super::target;
use super::{Field, Framing, RequestHead, ResponseHead, Version};

/// Writes the request line and the header lines for a server, as HTTP/1.1, without the empty line. Forwarding fields
/// are left out: [`crate::forwarded`] writes them. `stripped` is the length of the path's prefix that is not sent, `kept` a
/// field that is for the balancer, `expects` whether the server is asked for `100 Continue`, and `fallback_host` the host of an HTTP/1.0 request without one.
pub fn request(
    out: &mut Vec<u8>,
    buffer: &[u8],
    head: &RequestHead,
    stripped: usize,
    kept: Option<Field>,
    expects: bool,
    fallback_host: &[u8],
) {
    out.extend_from_slice(head.method_name.in_buffer(buffer));
    out.push(b' ');
    let form = if stripped == 0 { head.form } else { target::Form::Origin };
    target::push_origin(out, form, &head.path.in_buffer(buffer)[stripped..], head.method);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let host = head.host.map_or(fallback_host, |host| host.in_buffer(buffer));
    let has_host = head.headers.iter().any(|header| header.field == Field::Host);
    if !has_host {
        push_line(out, b"Host", host);
    }
    for header in &head.headers {
        let name = header.name.in_buffer(buffer);
        match header.field {
            Field::Host => push_line(out, name, host),
            Field::ContentLength => push_length(out, name, head.framing),
            Field::TransferEncoding => push_line(out, name, b"chunked"),
            Field::MaxForwards if head.max_forwards.is_some() => {
                let left = head.max_forwards.unwrap_or_default().saturating_sub(1);
                push_line(out, name, itoa::Buffer::new().format(left).as_bytes());
            }
            field if field.is_hop_by_hop() || field.is_forwarding() || header.is_connection_option => {}
            field if kept == Some(field) => {}
            _ => push_line(out, name, header.value.in_buffer(buffer)),
        }
    }
    if expects {
        push_line(out, b"Expect", b"100-continue");
    }
    match (head.upgrade, head.takes_trailers) {
        (Some(protocols), _) => {
            push_line(out, b"Connection", b"Upgrade");
            push_line(out, b"Upgrade", protocols.in_buffer(buffer));
        }
        (None, true) => {
            push_line(out, b"Connection", b"TE");
            push_line(out, b"TE", b"trailers");
        }
        (None, false) => {}
    }
}

/// Writes the status line and the header lines for a client of this version, without the empty line. `framing` is that
/// of the body as it is sent, which may differ from that of the received one; chunked only for HTTP/1.1. `recoding` is how
/// its content differs.
pub fn response(
    out: &mut Vec<u8>,
    buffer: &[u8],
    head: &ResponseHead,
    framing: Framing,
    recoding: Recoding,
    client: Version,
    keep_alive: bool,
) {
    let mut is_varied = false;
    push_status_line(out, head.status, head.reason.in_buffer(buffer));
    for header in &head.headers {
        let name = header.name.in_buffer(buffer);
        match (header.field, head.content_length) {
            // RFC 9110 section 8.6: not in a 1xx or 204; and not with another framing.
            (Field::ContentLength, Some(length))
                if framing == head.framing && recoding.coding.is_none() && may_have_length(head.status) =>
            {
                push_line(out, name, itoa::Buffer::new().format(length).as_bytes());
            }
            (Field::TransferEncoding, _) if framing == head.framing && client == Version::Http11 => {
                push_line(out, name, b"chunked");
            }
            // The balancer writes the request id itself, and reads the stages.
            (
                Field::ContentLength | Field::TransferEncoding | Field::XRequestId | Field::XTercetStages,
                _,
            ) => {}
            (Field::LookAlike, _) if !header.is_connection_option => {
                push_line(out, name, header.value.in_buffer(buffer));
            }
            // RFC 9110 section 15.5.22: a 426 has to have an Upgrade field.
            (Field::Upgrade, _) if head.status == 426 => {
                push_line(out, b"Connection", b"Upgrade");
                push_line(out, name, header.value.in_buffer(buffer));
            }
            (field, _) if field.is_hop_by_hop() || header.is_connection_option => {}
            _ if recoding.changes() => {
                is_varied |= recoding.push(out, name, header.value.in_buffer(buffer), is_varied);
            }
            _ => push_line(out, name, header.value.in_buffer(buffer)),
        }
    }
    recoding.push_rest(out, is_varied);
    if framing != head.framing && framing == Framing::Chunked {
        push_line(out, b"Transfer-Encoding", b"chunked");
    }
    if let Some(protocol) = head.upgrade {
        push_line(out, b"Connection", b"Upgrade");
        push_line(out, b"Upgrade", protocol.in_buffer(buffer));
    } else if !head.is_interim() {
        push_persistence(out, client, keep_alive);
    }
}

/// Fields about the content of a response (RFC 9110 sections 8 and 14), besides those that frame it.
const OF_CONTENT: [&[u8]; 15] = [
    b"content-type",
    b"content-encoding",
    b"content-language",
    b"content-location",
    b"content-disposition",
    b"content-range",
    b"content-md5",
    b"content-digest",
    b"repr-digest",
    b"digest",
    b"etag",
    b"last-modified",
    b"accept-ranges",
    b"trailer",
    b"link",
];

/// As [`response`], with another content: a page of HTML of this length. The fields about the received content are left out.
pub fn replaced(
    out: &mut Vec<u8>,
    buffer: &[u8],
    head: &ResponseHead,
    page: &[u8],
    client: Version,
    keep_alive: bool,
) {
    push_status_line(out, head.status, head.reason.in_buffer(buffer));
    for header in &head.headers {
        let name = header.name.in_buffer(buffer);
        let is_kept = match header.field {
            Field::ContentLength | Field::TransferEncoding | Field::XRequestId | Field::XTercetStages => {
                false
            }
            field => !field.is_hop_by_hop() && !header.is_connection_option,
        };
        if is_kept && !OF_CONTENT.iter().any(|other| name.eq_ignore_ascii_case(other)) {
            push_line(out, name, header.value.in_buffer(buffer));
        }
    }
    push_line(out, b"Content-Type", b"text/html; charset=utf-8");
    push_line(out, b"Content-Length", itoa::Buffer::new().format(page.len()).as_bytes());
    push_line(out, b"Vary", b"Accept");
    push_persistence(out, client, keep_alive);
}

fn may_have_length(status: u16) -> bool {
    status >= 200 && status != 204
}

/// Writes a status line.
pub fn push_status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

/// Writes a `Connection` line if the persistence of the connection differs from the version's default (RFC 9112
/// section 9.3).
pub fn push_persistence(out: &mut Vec<u8>, client: Version, keep_alive: bool) {
    match (client, keep_alive) {
        (Version::Http11, false) => push_line(out, b"Connection", b"close"),
        (Version::Http10, true) => push_line(out, b"Connection", b"keep-alive"),
        (Version::Http11, true) | (Version::Http10, false) => {}
    }
}

fn push_length(out: &mut Vec<u8>, name: &[u8], framing: Framing) {
    let length = match framing {
        Framing::Length(length) => length,
        Framing::None | Framing::Chunked | Framing::UntilClose => 0,
    };
    push_line(out, name, itoa::Buffer::new().format(length).as_bytes());
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::config::Limits;
    use crate::http1::HeadLimits;
    use crate::http1::response::RequestInfo;
    use crate::http1::{Method, request as parser, response as response_parser};

    #[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
    fn check_request(bytes: &str, expected: Expect) {
        let buffer = format!("{bytes}\r\n").into_bytes();
        let head = parser::parse(&buffer, &HeadLimits::of_requests(&Limits::default())).unwrap().unwrap();
        let mut out = Vec::new();
        request(&mut out, &buffer, &head, 0, None, head.expect_continue, b"fallback");
        expected.assert_eq(&String::from_utf8(out).unwrap().replace("\r\n", "\n"));
    }

    #[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
    fn check_response(
        request_info: RequestInfo,
        bytes: &str,
        framing: Option<Framing>,
        client: Version,
        keep_alive: bool,
        expected: Expect,
    ) {
        let buffer = format!("{bytes}\r\n").into_bytes();
        let head =
            response_parser::parse(&buffer, &HeadLimits::of_responses(&Limits::default()), request_info)
                .unwrap()
                .unwrap();
        let mut out = Vec::new();
        let framing = framing.unwrap_or(head.framing);
        response(&mut out, &buffer, &head, framing, Recoding::default(), client, keep_alive);
        expected.assert_eq(&String::from_utf8(out).unwrap().replace("\r\n", "\n"));
    }

    #[test]
    fn names_keep_their_case_and_lines_their_order() {
        check_request(
            "POST /a HTTP/1.1\r\nhOsT: shop.example\r\nX-ONE:  1 \r\ncontent-LENGTH: 005\r\nx-two:\r\n",
            expect![[r#"
                POST /a HTTP/1.1
                hOsT: shop.example
                X-ONE: 1
                content-LENGTH: 5
                x-two: 
            "#]],
        );
    }

    #[test]
    fn hop_by_hop_and_spoofed_forwarding_fields_are_removed() {
        check_request(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Secret, Host\r\nKeep-Alive: timeout=5\r\n\
             Proxy-Connection: close\r\nProxy-Authorization: Basic YTpi\r\nTE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\nProxy: evil\r\n\
             X-Secret: 1\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nX-Request-Id: a\r\n\
             Content_Length: 7\r\nX_Forwarded_For: 1.2.3.4\r\nTrailer: x\r\nX-Kept: 1\r\n",
            expect![[r#"
                GET / HTTP/1.1
                Host: a
                Trailer: x
                X-Kept: 1
            "#]],
        );
    }

    #[test]
    fn targets_are_forwarded_in_origin_form() {
        check_request(
            "GET http://b:80?c=d HTTP/1.1\r\nX: 1\r\nHost: b\r\n",
            expect![[r#"
            GET /?c=d HTTP/1.1
            X: 1
            Host: b:80
        "#]],
        );
        check_request(
            "OPTIONS http://b HTTP/1.1\r\nHost: b\r\n",
            expect![[r#"
            OPTIONS * HTTP/1.1
            Host: b
        "#]],
        );
        check_request(
            "OPTIONS * HTTP/1.1\r\nHost: b\r\nMax-Forwards: 3\r\n",
            expect![[r#"
            OPTIONS * HTTP/1.1
            Host: b
            Max-Forwards: 2
        "#]],
        );
        check_request(
            "GET /a HTTP/1.0\r\n",
            expect![[r#"
            GET /a HTTP/1.1
            Host: fallback
        "#]],
        );
    }

    #[test]
    fn upgrade_te_and_expect_are_written_from_their_parsed_values() {
        check_request(
            "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n",
            expect![[r#"
                GET /chat HTTP/1.1
                Host: a
                Sec-WebSocket-Key: x
                Connection: Upgrade
                Upgrade: websocket
            "#]],
        );
        check_request(
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n",
            expect![[r#"
            GET / HTTP/1.1
            Host: a
        "#]],
        );
        check_request(
            "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-encoding: CHUNKED\r\nExpect: 100-Continue\r\n",
            expect![[r#"
                POST / HTTP/1.1
                Host: a
                Transfer-encoding: chunked
                Expect: 100-continue
                Connection: TE
                TE: trailers
            "#]],
        );
    }

    const GET: RequestInfo = RequestInfo { method: Method::Get, upgrade: false };

    #[test]
    fn hop_by_hop_fields_of_a_response_are_removed() {
        check_response(
            GET,
            "HTTP/1.0 200 Fine\r\nSERVER: x\r\nConnection: X-Secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\n\
             Content-Length: 002\r\nx_forwarded_for: kept\r\n",
            None,
            Version::Http11,
            true,
            expect![[r#"
                HTTP/1.1 200 Fine
                SERVER: x
                Content-Length: 2
                x_forwarded_for: kept
            "#]],
        );
    }

    #[test]
    fn the_framing_suits_the_clients_version() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nX: 1\r\n";
        check_response(
            GET,
            chunked,
            None,
            Version::Http11,
            true,
            expect![[r#"
            HTTP/1.1 200 OK
            Transfer-Encoding: chunked
            X: 1
        "#]],
        );
        check_response(
            GET,
            chunked,
            Some(Framing::UntilClose),
            Version::Http10,
            false,
            expect![[r#"
            HTTP/1.1 200 OK
            X: 1
        "#]],
        );
        let until_close = "HTTP/1.0 200 OK\r\nX: 1\r\n";
        check_response(
            GET,
            until_close,
            Some(Framing::Chunked),
            Version::Http11,
            true,
            expect![[r#"
            HTTP/1.1 200 OK
            X: 1
            Transfer-Encoding: chunked
        "#]],
        );
        let head = RequestInfo { method: Method::Head, upgrade: false };
        check_response(
            head,
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n",
            None,
            Version::Http10,
            true,
            expect![[r#"
                HTTP/1.1 200 OK
                Content-Length: 7
                Connection: keep-alive
            "#]],
        );
        check_response(
            head,
            chunked,
            None,
            Version::Http10,
            false,
            expect![[r#"
            HTTP/1.1 200 OK
            X: 1
        "#]],
        );
        check_response(
            GET,
            "HTTP/1.1 204 None\r\nContent-Length: 0\r\n",
            None,
            Version::Http11,
            false,
            expect![[r#"
                HTTP/1.1 204 None
                Connection: close
            "#]],
        );
        check_response(
            GET,
            "HTTP/1.1 304 Same\r\nContent-Length: 9\r\n",
            None,
            Version::Http11,
            true,
            expect![[r#"
                HTTP/1.1 304 Same
                Content-Length: 9
            "#]],
        );
        check_response(
            GET,
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n",
            None,
            Version::Http11,
            false,
            expect![[r#"
                HTTP/1.1 103 Early Hints
                Link: </a>
            "#]],
        );
    }

    #[test]
    fn a_426_response_keeps_its_upgrade_field() {
        for (keep_alive, expected) in [
            (
                true,
                expect![[r#"
                    HTTP/1.1 426 Upgrade Required
                    Connection: Upgrade
                    Upgrade: HTTP/3.0
                    Content-Length: 0
                "#]],
            ),
            (
                false,
                expect![[r#"
                    HTTP/1.1 426 Upgrade Required
                    Connection: Upgrade
                    Upgrade: HTTP/3.0
                    Content-Length: 0
                    Connection: close
                "#]],
            ),
        ] {
            check_response(
                GET,
                "HTTP/1.1 426 Upgrade Required\r\nUpgrade: HTTP/3.0\r\nConnection: Upgrade\r\nContent-Length: 0\r\n",
                None,
                Version::Http11,
                keep_alive,
                expected,
            );
        }
    }

    #[test]
    fn a_protocol_switch_is_forwarded() {
        check_response(
            RequestInfo { method: Method::Get, upgrade: true },
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nX: 1\r\n",
            None,
            Version::Http11,
            true,
            expect![[r#"
                HTTP/1.1 101 Switching Protocols
                X: 1
                Connection: Upgrade
                Upgrade: websocket
            "#]],
        );
    }
    #[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
    fn check_recoded(recoding: Recoding, lines: &str, expected: Expect) {
        let buffer = format!("HTTP/1.1 200 OK\r\n{lines}\r\n").into_bytes();
        let limits = HeadLimits::of_responses(&Limits::default());
        let head = response_parser::parse(&buffer, &limits, GET).unwrap().unwrap();
        let mut out = Vec::new();
        response(&mut out, &buffer, &head, Framing::Chunked, recoding, Version::Http11, true);
        expected.assert_eq(&String::from_utf8(out).unwrap().replace("\r\n", "\n"));
    }

    #[test]
    fn a_recoded_response_has_a_weak_validator_and_varies() {
        let coded = Recoding { coding: Some("gzip"), varies: true, is_weak: true };
        check_recoded(
            coded,
            "Content-Type: text/html\r\nContent-Length: 5000\r\nETag: \"a\"\r\nAccept-Ranges: bytes\r\n",
            expect![[r#"
                HTTP/1.1 200 OK
                Content-Type: text/html
                ETag: W/"a"
                Content-Encoding: gzip
                Vary: Accept-Encoding
                Transfer-Encoding: chunked
            "#]],
        );
        check_recoded(
            coded,
            "vary: Origin\r\nTransfer-Encoding: chunked\r\nvary: Cookie\r\netag: W/\"a\"\r\n",
            expect![[r#"
                HTTP/1.1 200 OK
                vary: Origin, Accept-Encoding
                Transfer-Encoding: chunked
                vary: Cookie
                etag: W/"a"
                Content-Encoding: gzip
            "#]],
        );
        let varies = Recoding { varies: true, ..Recoding::default() };
        for (line, sent) in [
            ("Vary: *", "Vary: *"),
            ("Vary: accept-encoding, origin", "Vary: accept-encoding, origin"),
            ("Vary:", "Vary: Accept-Encoding"),
            ("Vary: Accept", "Vary: Accept, Accept-Encoding"),
            ("Accept-Ranges: bytes", "Accept-Ranges: bytes\nVary: Accept-Encoding"),
            ("ETag: \"a\"", "ETag: \"a\"\nVary: Accept-Encoding"),
        ] {
            let mut out = Vec::new();
            let buffer = format!("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n{line}\r\n\r\n").into_bytes();
            let limits = HeadLimits::of_responses(&Limits::default());
            let head = response_parser::parse(&buffer, &limits, GET).unwrap().unwrap();
            response(&mut out, &buffer, &head, head.framing, varies, Version::Http11, true);
            let out = String::from_utf8(out).unwrap().replace("\r\n", "\n");
            assert_eq!(out, format!("HTTP/1.1 200 OK\nContent-Length: 9\n{sent}\n"), "{line}");
        }
    }
}
