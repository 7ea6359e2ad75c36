//! The request as it is sent to a server, and its key for the hash policy.

use std::net::IpAddr;
use std::ops::Range;

use tercet_observe::trace_context::TraceContext;

use crate::access::Access;
use crate::active::Active;
use crate::client::Client;
use crate::config::HashOn;
use crate::forwarded::{self, Peer, RequestId};
use crate::http1::{self, Decoder, Field, Refusal, RequestHead, write};
use crate::request_buffers::RequestBuffers;
use crate::rotation;
use crate::routes::Selected;
use crate::traces;

/// A request ready to be sent, in `buffers.request`.
pub(super) struct Composed {
    /// The body decoder, after the first part of the body.
    pub(super) decoder: Decoder,
    /// Body bytes in the first part.
    pub(super) body_taken: usize,
    /// The request's id in all tiers.
    pub(super) id: RequestId,
    /// The range of its text in `buffers.request`.
    pub(super) id_range: Range<usize>,
    /// The client's address: the peer's, or the one that trusted proxies reported.
    pub(super) client_address: IpAddr,
    /// Where it is in a trace, if requests are traced.
    pub(super) trace: Option<Box<TraceContext>>,
}

/// Writes the head and the part of the body that has arrived to `buffers.request`. If the body continues, the bytes
/// that are not decoded yet are moved to `buffers.body`. The route decides what is not sent.
///
/// # Errors
/// The body is malformed or too long.
pub(super) fn compose(
    client: &Client,
    config: &Active,
    head: &RequestHead,
    selected: Selected<'_>,
    buffers: &mut RequestBuffers,
) -> Result<Composed, Refusal> {
    let received = buffers.client.filled();
    let output = &mut buffers.request;
    output.clear();
    // The default host of an HTTP/1.0 request without one (RFC 9112 section 3.3).
    let default_host =
        if head.host.is_none() { client.bind_address.listen.address.to_string() } else { String::new() };
    let keeps_credentials = selected.access().is_some_and(Access::keeps_credentials);
    let kept = keeps_credentials.then_some(Field::Authorization);
    let expects = head.expect_continue && !selected.buffers_requests();
    write::request(output, received, head, selected.stripped, kept, expects, default_host.as_bytes());
    let peer = Peer::new(Some(client.address), &config.trusted_proxies, client.socket.is_tls());
    let id = RequestId::of(received, head, &peer);
    let client_address = peer.client(received, head, &config.trusted_proxies).unwrap_or(client.address);
    let tracer = config.tracer.as_ref();
    let trace = tracer.map(|tracer| Box::new(traces::context(tracer, received, head, &id)));
    let id_range = forwarded::push(output, received, head, &peer, &id, trace.as_deref());
    output.extend_from_slice(b"\r\n");

    let mut decoder = Decoder::new(head.framing, *config.limits.body);
    let body = &received[head.length..];
    let first = decoder.advance(body)?;
    output.extend_from_slice(&body[..first.consumed]);
    buffers.body.clear();
    if !first.done {
        buffers.body.extend(&body[first.consumed..]);
    }
    Ok(Composed { decoder, body_taken: first.consumed, id, id_range, client_address, trace })
}

/// The request's key for the hash policy; 0 under any other, which hashes nothing.
pub(super) fn hash_key(
    hash_on: Option<&HashOn>,
    client_address: IpAddr,
    head: &RequestHead,
    received: &[u8],
) -> u64 {
    let value = match hash_on {
        None => return 0,
        Some(HashOn::Header(name)) => head.value_named(received, name.as_bytes()),
        Some(HashOn::Client) => None,
    };
    match value {
        Some(value) => rotation::hash_key(value),
        None => rotation::hash_key(client_address),
    }
}

/// The request's URL with the scheme https and its default port (RFC 9110 section 4.2.2).
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
