//! What servers are told about where a request came from: `x-forwarded-for/proto/host`, `forwarded` (RFC 7239),
//! `x-request-id`, `traceparent` (W3C Trace Context).
//!
//! What a trusted proxy says is kept and added to; what anybody else says is replaced. Who is trusted is
//! the configuration's matter.

use std::net::IpAddr;

use ipnet::IpNet;
use tercet_observe::{request_id, trace_context};
use uuid::Uuid;

use crate::http1::write::push_line;
use crate::http1::{self, Field, RequestHead, Span};

/// The connection a request came on.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The address at its other end; `None` on a Unix socket.
    pub address: Option<IpAddr>,
    /// Whether it belongs to a trusted proxy.
    pub is_trusted: bool,
    /// Whether the request came over TLS.
    pub is_secure: bool,
}

impl Peer {
    /// The peer at `address`, trusted when one of these networks holds it.
    pub fn new(address: Option<IpAddr>, trusted: &[IpNet], is_secure: bool) -> Self {
        let address = address.map(|address| address.to_canonical());
        let is_trusted = address.is_some_and(|address| is_in(trusted, address));
        Self { address, is_trusted, is_secure }
    }

    /// Who asked, as far as can be believed: of the addresses in `X-Forwarded-For`, from the last to the first, the
    /// first that no trusted proxy has; what is no address ends the search.
    pub fn client(&self, buffer: &[u8], head: &RequestHead, trusted: &[IpNet]) -> Option<IpAddr> {
        let mut client = self.address?;
        if !self.is_trusted {
            return Some(client);
        }
        let lines = head.headers.iter().rev().filter(|header| header.field == Field::XForwardedFor);
        let addresses = lines.flat_map(|line| line.value.in_buffer(buffer).rsplit(|byte| *byte == b','));
        for address in addresses {
            let Some(address) = parse_address(address.trim_ascii()) else { break };
            client = address;
            if !is_in(trusted, client) {
                break;
            }
        }
        Some(client)
    }
}

fn is_in(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// An address, as some proxies write it also in brackets or with a port.
fn parse_address(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?;
    let address =
        text.parse::<IpAddr>().ok().or_else(|| Some(text.parse::<std::net::SocketAddr>().ok()?.ip()));
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    Some(address.or_else(bracketed)?.to_canonical())
}

/// The id of a request, as logs and servers get it.
#[derive(Clone, Copy, Debug)]
pub enum RequestId {
    /// Made here.
    Fresh(Uuid),
    /// Given by a trusted proxy.
    Kept(Span),
}

impl RequestId {
    /// The id a trusted proxy gave the request, or a fresh one.
    pub fn of(buffer: &[u8], head: &RequestHead, peer: &Peer) -> Self {
        let given = head.headers.iter().find(|header| peer.is_trusted && header.field == Field::XRequestId);
        match given {
            Some(header) if request_id::is_acceptable(header.value.in_buffer(buffer)) => {
                Self::Kept(header.value)
            }
            _ => Self::Fresh(request_id::fresh()),
        }
    }

    /// Its text; `buffers` is where a fresh one is written to.
    pub fn text<'a>(&self, buffer: &'a [u8], buffers: &'a mut [u8; 36]) -> &'a [u8] {
        match self {
            Self::Fresh(id) => id.as_hyphenated().encode_lower(buffers).as_bytes(),
            Self::Kept(span) => span.in_buffer(buffer),
        }
    }
}

/// Appends the lines that tell a server where the request came from.
pub fn push(out: &mut Vec<u8>, buffer: &[u8], head: &RequestHead, peer: &Peer, id: &RequestId) {
    push_line(out, b"x-request-id", id.text(buffer, &mut [0; 36]));
    push_trace(out, buffer, head, peer, id);

    let proto: &[u8] = if peer.is_secure { b"https" } else { b"http" };
    let host = head.host.map(|host| host.in_buffer(buffer));
    let given = Given { buffer, head, is_trusted: peer.is_trusted };

    out.extend_from_slice(b"x-forwarded-for: ");
    given.push_list(out, Field::XForwardedFor);
    push_address(out, peer.address);
    out.extend_from_slice(b"\r\n");
    let known_proto =
        given.value(Field::XForwardedProto).filter(|proto| matches!(*proto, b"http" | b"https"));
    push_line(out, b"x-forwarded-proto", known_proto.unwrap_or(proto));
    if let Some(host) = given.value(Field::XForwardedHost).or(host) {
        push_line(out, b"x-forwarded-host", host);
    }
    out.extend_from_slice(b"forwarded: ");
    if !given.push_list(out, Field::Forwarded) {
        given.push_elements(out, known_proto);
    }
    push_element(out, &Node::Address(peer.address), host, Some(proto));
    out.extend_from_slice(b"\r\n");
    if peer.is_trusted {
        for header in head.headers.iter().filter(|header| header.field == Field::XForwardedOther) {
            push_line(out, header.name.in_buffer(buffer), header.value.in_buffer(buffer));
        }
    }
}

/// A trusted proxy's trace goes on; any other starts here, under the request's id.
fn push_trace(out: &mut Vec<u8>, buffer: &[u8], head: &RequestHead, peer: &Peer, id: &RequestId) {
    let given = head.value(buffer, Field::Traceparent).filter(|_| peer.is_trusted);
    if let Some(given) = given.filter(|given| trace_context::is_valid(given)) {
        push_line(out, trace_context::HEADER.as_bytes(), given);
        for header in head.headers.iter().filter(|header| header.field == Field::Tracestate) {
            push_line(out, b"tracestate", header.value.in_buffer(buffer));
        }
        return;
    }
    let trace = match id {
        RequestId::Fresh(id) => *id,
        RequestId::Kept(_) => request_id::fresh(),
    };
    push_line(out, trace_context::HEADER.as_bytes(), &trace_context::from_request_id(trace));
}

/// What the peer says, if it may.
struct Given<'a> {
    buffer: &'a [u8],
    head: &'a RequestHead,
    is_trusted: bool,
}

impl<'a> Given<'a> {
    fn value(&self, field: Field) -> Option<&'a [u8]> {
        self.head.value(self.buffer, field).filter(|_| self.is_trusted)
    }

    /// Appends all values of a list, each followed by a comma, for ours to come after. Whether there was any.
    fn push_list(&self, out: &mut Vec<u8>, field: Field) -> bool {
        let before = out.len();
        if self.is_trusted {
            for header in self.head.headers.iter().filter(|header| header.field == field) {
                let value = header.value.in_buffer(self.buffer);
                if !value.is_empty() {
                    out.extend_from_slice(value);
                    out.extend_from_slice(b", ");
                }
            }
        }
        out.len() > before
    }

    /// Appends what `X-Forwarded-…` says as `Forwarded` would have (RFC 7239 section 7.4), each element followed by a
    /// comma. The first one is of the proxy the client asked, whose host and protocol the others are about.
    fn push_elements(&self, out: &mut Vec<u8>, proto: Option<&[u8]>) {
        if !self.is_trusted {
            return;
        }
        let host = self.value(Field::XForwardedHost).filter(|host| http1::is_valid_host(host));
        let lines = self.head.headers.iter().filter(|header| header.field == Field::XForwardedFor);
        let addresses = lines.flat_map(|line| line.value.in_buffer(self.buffer).split(|byte| *byte == b','));
        let mut nodes = addresses.map(<[u8]>::trim_ascii).filter(|address| !address.is_empty()).map(Node::of);
        let first = nodes.next();
        if first.is_some() || host.is_some() || proto.is_some() {
            push_element(out, &first.unwrap_or(Node::Address(None)), host, proto);
            out.extend_from_slice(b", ");
        }
        for node in nodes {
            push_element(out, &node, None, None);
            out.extend_from_slice(b", ");
        }
    }
}

/// A `node` (RFC 7239 section 6).
enum Node {
    /// An address, or `unknown`.
    Address(Option<IpAddr>),
    /// An address with its port.
    Socket(std::net::SocketAddr),
}

impl Node {
    /// What an element of `X-Forwarded-For` says.
    fn of(text: &[u8]) -> Self {
        match str::from_utf8(text).ok().and_then(|text| text.parse().ok()) {
            Some(socket) => Self::Socket(socket),
            None => Self::Address(parse_address(text)),
        }
    }
}

/// One `forwarded-element` (RFC 7239 section 4).
fn push_element(out: &mut Vec<u8>, node: &Node, host: Option<&[u8]>, proto: Option<&[u8]>) {
    out.extend_from_slice(b"for=");
    match node {
        Node::Address(address @ Some(IpAddr::V6(_))) => {
            out.extend_from_slice(b"\"[");
            push_address(out, *address);
            out.extend_from_slice(b"]\"");
        }
        Node::Address(address) => push_address(out, *address),
        Node::Socket(socket) => out.extend_from_slice(format!("\"{socket}\"").as_bytes()),
    }
    if let Some(host) = host {
        // A valid host holds neither a quote nor a backslash.
        out.extend_from_slice(b";host=\"");
        out.extend_from_slice(host);
        out.push(b'"');
    }
    if let Some(proto) = proto {
        out.extend_from_slice(b";proto=");
        out.extend_from_slice(proto);
    }
}

/// An address, or `unknown` (RFC 7239 section 6.2).
fn push_address(out: &mut Vec<u8>, address: Option<IpAddr>) {
    match address {
        Some(IpAddr::V4(address)) => {
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                out.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
            }
        }
        Some(IpAddr::V6(address)) => out.extend_from_slice(address.to_string().as_bytes()),
        None => out.extend_from_slice(b"unknown"),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::config::Limits;
    use crate::http1::request;

    fn head(lines: &str) -> (Vec<u8>, RequestHead) {
        let buffer = format!("GET / HTTP/1.1\r\nHost: shop.example\r\n{lines}\r\n").into_bytes();
        let head = request::parse(&buffer, &Limits::default().request_head()).unwrap().unwrap();
        (buffer, head)
    }

    #[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
    fn check(peer: &str, lines: &str, expected: Expect) {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let (buffer, head) = head(lines);
        let peer = Peer::new(Some(peer.parse().unwrap()), &trusted, false);
        let id = RequestId::of(&buffer, &head, &peer);
        let mut out = format!("client {}\r\n", peer.client(&buffer, &head, &trusted).unwrap()).into_bytes();
        push(&mut out, &buffer, &head, &peer, &id);
        let mut out = String::from_utf8(out).unwrap().replace("\r\n", "\n");
        if let RequestId::Fresh(id) = id {
            let trace = String::from_utf8(trace_context::from_request_id(id).to_vec()).unwrap();
            out = out.replace(&trace, "TRACE").replace(&id.to_string(), "FRESH");
        }
        expected.assert_eq(&out);
    }

    const LIES: &str = "X-Forwarded-For: 192.0.2.66, 10.9.9.9\r\nX-Forwarded-Proto: https\r\n\
        X-Forwarded-Host: real.example\r\nForwarded: for=192.0.2.66\r\nX-Request-Id: abc-1\r\n\
        X-Real-IP: 192.0.2.66\r\nX-Forwarded-Port: 443\r\n\
        traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\ntracestate: a=1\r\n";

    #[test]
    fn what_an_untrusted_client_says_is_replaced() {
        check(
            "203.0.113.7",
            LIES,
            expect![[r#"
            client 203.0.113.7
            x-request-id: FRESH
            traceparent: TRACE
            x-forwarded-for: 203.0.113.7
            x-forwarded-proto: http
            x-forwarded-host: shop.example
            forwarded: for=203.0.113.7;host="shop.example";proto=http
        "#]],
        );
        check(
            "2001:db8::7",
            "",
            expect![[r#"
            client 2001:db8::7
            x-request-id: FRESH
            traceparent: TRACE
            x-forwarded-for: 2001:db8::7
            x-forwarded-proto: http
            x-forwarded-host: shop.example
            forwarded: for="[2001:db8::7]";host="shop.example";proto=http
        "#]],
        );
        check(
            "::ffff:203.0.113.7",
            "",
            expect![[r#"
            client 203.0.113.7
            x-request-id: FRESH
            traceparent: TRACE
            x-forwarded-for: 203.0.113.7
            x-forwarded-proto: http
            x-forwarded-host: shop.example
            forwarded: for=203.0.113.7;host="shop.example";proto=http
        "#]],
        );
    }

    #[test]
    fn what_a_trusted_proxy_says_is_kept_and_added_to() {
        check(
            "10.0.0.2",
            LIES,
            expect![[r#"
            client 192.0.2.66
            x-request-id: abc-1
            traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
            tracestate: a=1
            x-forwarded-for: 192.0.2.66, 10.9.9.9, 10.0.0.2
            x-forwarded-proto: https
            x-forwarded-host: real.example
            forwarded: for=192.0.2.66, for=10.0.0.2;host="shop.example";proto=http
            X-Real-IP: 192.0.2.66
            X-Forwarded-Port: 443
        "#]],
        );
        check(
            "fd00::2",
            "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: [2001:db8::9]:4711\r\n",
            expect![[r#"
                client 2001:db8::9
                x-request-id: FRESH
                traceparent: TRACE
                x-forwarded-for: 192.0.2.1, [2001:db8::9]:4711, fd00::2
                x-forwarded-proto: http
                x-forwarded-host: shop.example
                forwarded: for=192.0.2.1, for="[2001:db8::9]:4711", for="[fd00::2]";host="shop.example";proto=http
            "#]],
        );
        check(
            "10.0.0.2",
            "X-Forwarded-For: 192.0.2.1, unknown\r\nX-Forwarded-Proto: gopher\r\n",
            expect![[r#"
                client 10.0.0.2
                x-request-id: FRESH
                traceparent: TRACE
                x-forwarded-for: 192.0.2.1, unknown, 10.0.0.2
                x-forwarded-proto: http
                x-forwarded-host: shop.example
                forwarded: for=192.0.2.1, for=unknown, for=10.0.0.2;host="shop.example";proto=http
            "#]],
        );
        check(
            "10.0.0.2",
            "X-Forwarded-For: 10.1.1.1\r\nX-Request-Id: a,b\r\n",
            expect![[r#"
            client 10.1.1.1
            x-request-id: FRESH
            traceparent: TRACE
            x-forwarded-for: 10.1.1.1, 10.0.0.2
            x-forwarded-proto: http
            x-forwarded-host: shop.example
            forwarded: for=10.1.1.1, for=10.0.0.2;host="shop.example";proto=http
        "#]],
        );
    }

    #[test]
    fn what_a_trusted_proxy_says_in_one_form_is_said_in_both() {
        check(
            "10.0.0.2",
            "X-Forwarded-For: 2001:db8::9, 192.0.2.1:80, \"evil\", 10.0.0.9\r\nX-Forwarded-Proto: https\r\n\
             X-Forwarded-Host: real.example\r\n",
            expect![[r#"
                client 10.0.0.9
                x-request-id: FRESH
                traceparent: TRACE
                x-forwarded-for: 2001:db8::9, 192.0.2.1:80, "evil", 10.0.0.9, 10.0.0.2
                x-forwarded-proto: https
                x-forwarded-host: real.example
                forwarded: for="[2001:db8::9]";host="real.example";proto=https, for="192.0.2.1:80", for=unknown, for=10.0.0.9, for=10.0.0.2;host="shop.example";proto=http
            "#]],
        );
        check(
            "10.0.0.2",
            "X-Forwarded-Proto: https\r\nX-Forwarded-Host: a\";for=b\r\n",
            expect![[r#"
                client 10.0.0.2
                x-request-id: FRESH
                traceparent: TRACE
                x-forwarded-for: 10.0.0.2
                x-forwarded-proto: https
                x-forwarded-host: a";for=b
                forwarded: for=unknown;proto=https, for=10.0.0.2;host="shop.example";proto=http
            "#]],
        );
        check(
            "203.0.113.7",
            "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n",
            expect![[r#"
                client 203.0.113.7
                x-request-id: FRESH
                traceparent: TRACE
                x-forwarded-for: 203.0.113.7
                x-forwarded-proto: http
                x-forwarded-host: shop.example
                forwarded: for=203.0.113.7;host="shop.example";proto=http
            "#]],
        );
    }
}
