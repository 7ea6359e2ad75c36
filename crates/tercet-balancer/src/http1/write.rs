//! Heads written anew from their parsed form, into a buffer that is used again.
//!
//! Names keep their case and lines their order. What belongs to one connection stays behind; framing is written
//! from what was understood, not from what was read. The caller adds its own lines and the empty line.

use super::target;
use super::{Field, Framing, RequestHead, ResponseHead, Version};

/// Writes the request line and the header lines a server gets, as HTTP/1.1, without the empty line. Lines about
/// where the request came from are left out: [`crate::forwarded`] writes them. `fallback_host` stands in
/// for the `Host` an HTTP/1.0 request lacks.
pub fn request(out: &mut Vec<u8>, buffer: &[u8], head: &RequestHead, fallback_host: &[u8]) {
    out.extend_from_slice(head.method_name.in_buffer(buffer));
    out.push(b' ');
    target::push_origin(out, head.form, head.path.in_buffer(buffer), head.method);
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
            _ => push_line(out, name, header.value.in_buffer(buffer)),
        }
    }
    if head.expect_continue {
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

/// Writes the status line and the header lines a client of this version gets, without the empty line.
/// `framing` is how the body is sent on, which may differ from how it came: chunked only to HTTP/1.1.
pub fn response(
    out: &mut Vec<u8>,
    buffer: &[u8],
    head: &ResponseHead,
    framing: Framing,
    client: Version,
    keep_alive: bool,
) {
    push_status_line(out, head.status, head.reason.in_buffer(buffer));
    for header in &head.headers {
        let name = header.name.in_buffer(buffer);
        match (header.field, head.content_length) {
            // RFC 9110 section 8.6: not in a 1xx or 204; and not beside a framing it does not belong to.
            (Field::ContentLength, Some(length))
                if framing == head.framing && may_have_length(head.status) =>
            {
                push_line(out, name, itoa::Buffer::new().format(length).as_bytes());
            }
            (Field::TransferEncoding, _) if framing == head.framing && client == Version::Http11 => {
                push_line(out, name, b"chunked");
            }
            (Field::ContentLength | Field::TransferEncoding, _) => {}
            (Field::LookAlike, _) if !header.is_connection_option => {
                push_line(out, name, header.value.in_buffer(buffer));
            }
            (field, _) if field.is_hop_by_hop() || header.is_connection_option => {}
            _ => push_line(out, name, header.value.in_buffer(buffer)),
        }
    }
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

/// Writes whether the connection to a client of this version is kept, where that is not what it assumes
/// (RFC 9112 section 9.3).
pub fn push_persistence(out: &mut Vec<u8>, client: Version, keep_alive: bool) {
    match (client, keep_alive) {
        (Version::Http11, false) => push_line(out, b"Connection", b"close"),
        (Version::Http10, true) => push_line(out, b"Connection", b"keep-alive"),
        (Version::Http11, true) | (Version::Http10, false) => {}
    }
}

/// Writes one header line.
pub fn push_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn push_length(out: &mut Vec<u8>, name: &[u8], framing: Framing) {
    let length = match framing {
        Framing::Length(length) => length,
        Framing::None | Framing::Chunked | Framing::UntilClose => 0,
    };
    push_line(out, name, itoa::Buffer::new().format(length).as_bytes());
}
