//! The traces of requests: the request's span, the wait for a server, and the server's response.

use std::io;
use std::sync::Arc;

use tercet_observe::trace_context::TraceContext;
use tercet_observe::traces::{Child, KeyValue, Options, Request, SpanKind, Tracer};
use tercet_observe::{AccessRecord, LogHandle, request_id};

use crate::config::{Otlp, ServerAddress};
use crate::forwarded::RequestId;
use crate::http1::{Field, RequestHead};
use crate::server::Server;

/// The tracer of these options, which is the one `before` if they are its own; `None` if no collector is named.
///
/// # Errors
/// It cannot be started.
pub(crate) fn tracer(
    otlp: &Otlp,
    before: Option<&Arc<Tracer>>,
    log: &LogHandle,
) -> io::Result<Option<Arc<Tracer>>> {
    let Some(endpoint) = otlp.endpoint.clone() else { return Ok(None) };
    let (share, slow) = (otlp.sample.of_one(), *otlp.slow);
    let options = Options { endpoint, share, slow, service: "tercet-balancer" };
    if let Some(before) = before.filter(|before| *before.options() == options) {
        return Ok(Some(Arc::clone(before)));
    }
    Ok(Some(Arc::new(Tracer::start(options, log.clone())?)))
}

/// The context of a request: its client's trace, or one that begins here and has the request's id.
pub(crate) fn context(tracer: &Tracer, buffer: &[u8], head: &RequestHead, id: &RequestId) -> TraceContext {
    let given = head.headers.iter().filter(|header| header.field == Field::Traceparent);
    let id = match id {
        RequestId::Fresh(id) => *id,
        RequestId::Kept(_) => request_id::fresh(),
    };
    tracer.context(given.map(|header| header.value.in_buffer(buffer)), id)
}

/// The spans of a request that has ended; `host` is its `Host`, `server` the one that it was sent to last.
pub(crate) fn spans(
    context: &TraceContext,
    record: &AccessRecord<'_>,
    state: &str,
    is_secure: bool,
    host: Option<&[u8]>,
    server: Option<&Server>,
) -> Request {
    let mut attributes = vec![KeyValue::new("url.scheme", if is_secure { "https" } else { "http" })];
    if let Some(host) = host.and_then(|host| str::from_utf8(host).ok()) {
        attributes.extend(address_of(host));
    }
    let mut request = Request::new(context, record, None, state, attributes);
    let (Some(queue), Some(server)) = (record.queue_duration, server) else { return request };
    request.add(Child {
        name: "queue",
        kind: SpanKind::Internal,
        offset: std::time::Duration::ZERO,
        duration: queue,
        failed: false,
        attributes: Vec::new(),
    });
    let answered = record.upstream_duration;
    request.add(Child {
        name: "upstream",
        kind: SpanKind::Client,
        offset: queue,
        duration: answered.unwrap_or_else(|| record.duration.saturating_sub(queue)),
        failed: answered.is_none() || record.status >= 500,
        attributes: [KeyValue::new("peer.service", server.name.to_string())]
            .into_iter()
            .chain(of_server(&server.address))
            .collect(),
    });
    request
}

/// The address of a server, as the conventions have it.
fn of_server(address: &ServerAddress) -> Vec<KeyValue> {
    match address {
        ServerAddress::Tcp(address) => vec![
            KeyValue::new("server.address", address.ip().to_string()),
            KeyValue::new("server.port", i64::from(address.port())),
        ],
        ServerAddress::Name(name, port) => vec![
            KeyValue::new("server.address", name.clone()),
            KeyValue::new("server.port", i64::from(*port)),
        ],
        ServerAddress::Unix(path) => vec![
            KeyValue::new("server.address", path.display().to_string()),
            KeyValue::new("network.transport", "unix"),
        ],
    }
}

/// The server's address and port that a client has named.
fn address_of(host: &str) -> impl Iterator<Item = KeyValue> {
    let port = host.rsplit_once(':').and_then(|(name, port)| Some((name, port.parse::<u16>().ok()?)));
    let (name, port) = port.map_or((host, None), |(name, port)| (name, Some(port)));
    let name = KeyValue::new("server.address", name.to_owned());
    [name].into_iter().chain(port.map(|port| KeyValue::new("server.port", i64::from(port))))
}
