//! The traces of requests: the request's span and those of its stages, by OpenTelemetry's semantic conventions for HTTP and databases.
//! Statements are in them, and no values.

use std::io;
use std::time::Duration;

use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use tercet_observe::stages::Stages;
use tercet_observe::trace_context::{self, TraceContext};
use tercet_observe::traces::{Child, KeyValue, Options, Request, SpanKind, Tracer};
use tercet_observe::{AccessRecord, LogHandle, request_id};
use tercet_postgres::Host;

use crate::config::Config;

const TRACEPARENT: HeaderName = HeaderName::from_static(trace_context::HEADER);

/// The tracer of a configuration; `None` if no collector is named.
///
/// # Errors
/// It cannot be started.
pub(super) fn tracer(config: &Config, log: LogHandle) -> io::Result<Option<Tracer>> {
    let otlp = config.otlp();
    let (share, slow) = (otlp.sample.of_one(), *otlp.slow);
    let start = |endpoint| Tracer::start(Options { endpoint, share, slow, service: "tercet-api" }, log);
    otlp.endpoint.map(start).transpose()
}

/// The context of a request whose spans are sent: its client's trace (the balancer's, usually), or one that begins here.
pub(super) fn wanted(
    tracer: &Tracer,
    headers: &HeaderMap,
    status: u16,
    duration: Duration,
) -> Option<TraceContext> {
    let given = headers.get_all(TRACEPARENT).iter().map(HeaderValue::as_bytes);
    tracer.wanted(given, request_id::fresh, status, duration)
}

/// How far a request came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress<'a> {
    /// The durations of its stages.
    pub(super) stages: Stages,
    /// Whether it was planned: its path is that of a table, a view or a function.
    pub(super) is_planned: bool,
    /// The statement that was executed.
    pub(super) sql: Option<&'a str>,
}

/// The spans of a request that has ended.
pub(super) fn spans(
    context: &TraceContext,
    config: &Config,
    parts: &Parts,
    record: &AccessRecord<'_>,
    progress: Progress<'_>,
) -> Request {
    let Progress { stages, is_planned, sql } = progress;
    let states = parts.headers.get_all(trace_context::STATE).iter().filter(|_| context.parent.is_some());
    let state = states.filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(",");
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let server = host.and_then(|host| host.parse::<http::uri::Authority>().ok());
    let server = server.into_iter().flat_map(|server| {
        let port = server.port_u16().map(|port| KeyValue::new("server.port", i64::from(port)));
        [KeyValue::new("server.address", server.host().to_owned())].into_iter().chain(port)
    });
    let scheme = [KeyValue::new("url.scheme", "http")];
    let route = is_planned.then(|| parts.uri.path());
    let mut request = Request::new(context, record, route, &state, scheme.into_iter().chain(server));
    let mut offset = Duration::ZERO;
    let mut add = |name, kind, microseconds: u32, failed, attributes| {
        let duration = Duration::from_micros(microseconds.into());
        request.add(Child { name, kind, offset, duration, failed, attributes });
        offset += duration;
    };
    if is_planned || stages.parse > 0 {
        add("parse", SpanKind::Internal, stages.parse, false, Vec::new());
    }
    if is_planned {
        add("plan", SpanKind::Internal, stages.plan, false, Vec::new());
    }
    if sql.is_some() || stages.database > 0 {
        add("pool", SpanKind::Internal, stages.pool, false, Vec::new());
        let attributes = of_statement(config, sql, stages.rows);
        add("postgresql", SpanKind::Client, stages.database, record.status >= 500, attributes);
    }
    request
}

fn of_statement(config: &Config, sql: Option<&str>, rows: u32) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("db.system.name", "postgresql"),
        KeyValue::new("db.namespace", config.db_uri.database.clone()),
        KeyValue::new("db.response.returned_rows", i64::from(rows)),
    ];
    attributes.extend(sql.map(|sql| KeyValue::new("db.query.text", sql.to_owned())));
    match config.db_uri.hosts.first() {
        Some(Host::Tcp { name, port, .. }) => {
            attributes.push(KeyValue::new("server.address", name.clone()));
            attributes.push(KeyValue::new("server.port", i64::from(*port)));
        }
        Some(Host::Unix(path)) => {
            attributes.push(KeyValue::new("server.address", path.display().to_string()));
        }
        None => {}
    }
    attributes
}
