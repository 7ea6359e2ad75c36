//! The spans of a request at one tier, named and described by OpenTelemetry's semantic conventions for HTTP.
//!
//! No query string is in them: in the data API's it has values of columns.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{Array, InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator, SpanData, SpanEvents, SpanLinks};

use crate::access::AccessRecord;
use crate::trace_context::TraceContext;

/// The methods that the conventions know.
const METHODS: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];
/// The longest text of an attribute, in bytes.
const TEXT: usize = 1024;

/// The spans of a request: one of its own, and those of its stages.
#[derive(Debug)]
pub struct Request {
    trace_id: TraceId,
    flags: TraceFlags,
    state: TraceState,
    started: SystemTime,
    span_id: SpanId,
    spans: Vec<SpanData>,
}

/// A stage of a request.
#[derive(Debug)]
pub struct Child {
    /// Its name.
    pub name: &'static str,
    /// Whether it is work of this process or a request to another.
    pub kind: SpanKind,
    /// When it began, since the request did.
    pub offset: Duration,
    /// How long it took.
    pub duration: Duration,
    /// Whether it failed.
    pub failed: bool,
    /// Its attributes.
    pub attributes: Vec<KeyValue>,
}

impl Request {
    /// The span of a request that has ended now. `route` is the path without what differs between requests, if it is known; `state` the value
    /// of `tracestate`.
    pub fn new(
        context: &TraceContext,
        record: &AccessRecord<'_>,
        route: Option<&str>,
        state: &str,
        attributes: impl IntoIterator<Item = KeyValue>,
    ) -> Self {
        let now = SystemTime::now();
        let started = now.checked_sub(record.duration).unwrap_or(now);
        let mut request = Self {
            trace_id: TraceId::from_bytes(context.trace_id.to_be_bytes()),
            flags: if context.is_sampled { TraceFlags::SAMPLED } else { TraceFlags::default() },
            state: state.parse().unwrap_or_default(),
            started,
            span_id: SpanId::from_bytes(context.span_id.to_be_bytes()),
            spans: Vec::with_capacity(6),
        };
        let method = text(record.method);
        let method = METHODS.into_iter().find(|known| *known == method);
        let mut all = of_record(record);
        all.push(KeyValue::new("http.request.method", method.unwrap_or("_OTHER")));
        if method.is_none() {
            all.push(KeyValue::new("http.request.method_original", text(record.method)));
        }
        all.extend(route.map(|route| KeyValue::new("http.route", route.to_owned())));
        all.extend(attributes);
        let name = method.unwrap_or("HTTP");
        let name = route.map_or_else(|| name.to_owned(), |route| format!("{name} {route}"));
        let parent =
            context.parent.map_or(SpanId::INVALID, |parent| SpanId::from_bytes(parent.to_be_bytes()));
        let span = Span {
            id: request.span_id,
            parent,
            is_parent_remote: context.parent.is_some(),
            kind: SpanKind::Server,
            name: name.into(),
            offset: Duration::ZERO,
            duration: record.duration,
            failed: record.status >= 500,
            attributes: all,
        };
        request.push(span);
        request
    }

    /// Adds the span of a stage.
    pub fn add(&mut self, child: Child) {
        let Child { name, kind, offset, duration, failed, attributes } = child;
        let span = Span {
            id: RandomIdGenerator::default().new_span_id(),
            parent: self.span_id,
            is_parent_remote: false,
            kind,
            name: name.into(),
            offset,
            duration,
            failed,
            attributes,
        };
        self.push(span);
    }

    pub(super) fn into_spans(self) -> Vec<SpanData> {
        self.spans
    }

    fn push(&mut self, span: Span) {
        let Span { id, parent, is_parent_remote, kind, name, offset, duration, failed, attributes } = span;
        let start_time = self.started + offset;
        self.spans.push(SpanData {
            span_context: SpanContext::new(self.trace_id, id, self.flags, false, self.state.clone()),
            parent_span_id: parent,
            parent_span_is_remote: is_parent_remote,
            span_kind: kind,
            name,
            start_time,
            end_time: start_time + duration,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: if failed { Status::error("") } else { Status::Unset },
            instrumentation_scope: InstrumentationScope::builder("tercet")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        });
    }
}

struct Span {
    id: SpanId,
    parent: SpanId,
    is_parent_remote: bool,
    kind: SpanKind,
    name: std::borrow::Cow<'static, str>,
    offset: Duration,
    duration: Duration,
    failed: bool,
    attributes: Vec<KeyValue>,
}

/// The attributes that the log line has, too.
fn of_record(record: &AccessRecord<'_>) -> Vec<KeyValue> {
    let path = record.target.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
    let id = Value::Array(Array::String(vec![text(record.request_id).into()]));
    let mut attributes = vec![
        KeyValue::new("url.path", text(path)),
        KeyValue::new("network.protocol.version", version(record.version)),
        KeyValue::new("http.response.body.size", record.bytes.cast_signed()),
        KeyValue::new("http.request.header.x-request-id", id),
    ];
    if record.status > 0 {
        attributes.push(KeyValue::new("http.response.status_code", i64::from(record.status)));
    }
    if record.status >= 500 {
        attributes.push(KeyValue::new("error.type", record.status.to_string()));
    }
    attributes.extend(record.client.map(|client| KeyValue::new("client.address", client.to_string())));
    attributes.extend(record.user_agent.map(|agent| KeyValue::new("user_agent.original", text(agent))));
    attributes
}

/// The version of `HTTP/1.1` or `HTTP/2.0`.
fn version(text: &'static str) -> &'static str {
    match text {
        "HTTP/2.0" => "2",
        other => other.strip_prefix("HTTP/").unwrap_or(other),
    }
}

/// A text of the network as an attribute.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(TEXT)]).into_owned()
}
