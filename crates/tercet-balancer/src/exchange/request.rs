//! The request as a server gets it, and what it is hashed by.

use std::net::IpAddr;

use crate::client::Client;
use crate::config::{Config, HashOn, Policy};
use crate::forwarded::{self, Peer, RequestId};
use crate::http1::{self, Decoder, Refusal, RequestHead, write};
use crate::request_buffers::RequestBuffers;
use crate::rotation;

/// A request ready to be sent, in `buffers.request`.
pub(super) struct Composed {
    /// Follows the body from where the first part of it ends.
    pub(super) decoder: Decoder,
    /// Bytes after the head that are in the first part.
    pub(super) body_taken: usize,
    /// The id that ties the tiers together.
    pub(super) id: RequestId,
    /// Who asked, as far as can be believed.
    pub(super) asker: IpAddr,
}

/// Writes the head and what is there of the body. The rest of what the client sent, if the body goes on, is
/// moved to `buffers.body`.
pub(super) fn compose(
    client: &Client,
    config: &Config,
    head: &RequestHead,
    buffers: &mut RequestBuffers,
) -> Result<Composed, Refusal> {
    let received = buffers.client.filled();
    let output = &mut buffers.request;
    output.clear();
    // What an HTTP/1.0 client that names no host has connected to (RFC 9112 section 3.3).
    let here =
        if head.host.is_none() { client.bind_address.listen.address.to_string() } else { String::new() };
    write::request(output, received, head, here.as_bytes());
    let peer = Peer::new(Some(client.address), &config.trusted_proxies, client.socket.is_tls());
    let id = RequestId::of(received, head, &peer);
    let asker = peer.client(received, head, &config.trusted_proxies).unwrap_or(client.address);
    forwarded::push(output, received, head, &peer, &id);
    output.extend_from_slice(b"\r\n");

    let mut decoder = Decoder::new(head.framing, config.limits.body);
    let body = &received[head.length..];
    let first = decoder.advance(body)?;
    output.extend_from_slice(&body[..first.consumed]);
    buffers.body.clear();
    if !first.done {
        buffers.body.extend(&body[first.consumed..]);
    }
    Ok(Composed { decoder, body_taken: first.consumed, id, asker })
}

/// What the hash policy goes by; 0 under any other.
pub(super) fn hash_key(config: &Config, asker: IpAddr, head: &RequestHead, received: &[u8]) -> u64 {
    if config.policy != Policy::Hash {
        return 0;
    }
    let value = match &config.hash_on {
        Some(HashOn::Header(name)) => head.value_named(received, name.as_bytes()),
        Some(HashOn::Client) | None => None,
    };
    match value {
        Some(value) => rotation::hash_key(value),
        None => rotation::hash_key(asker),
    }
}

/// The same URL with https, at its usual port (RFC 9110 section 4.2.2).
pub(super) fn https_location(head: &RequestHead, received: &[u8]) -> Option<String> {
    let host = http1::without_port(head.host?.in_buffer(received));
    let mut location = b"https://".to_vec();
    location.extend_from_slice(host);
    let path = head.path.in_buffer(received);
    if !path.starts_with(b"/") {
        location.push(b'/');
    }
    location.extend_from_slice(path);
    String::from_utf8(location).ok()
}
