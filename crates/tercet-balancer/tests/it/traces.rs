//! Traces of requests, received by a collector of the test.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpListener;
use std::time::Instant;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use crate::backend::Backend;
use crate::client::{Client, TIMEOUT};
use crate::running::{Running, config, config_for};

/// A collector that accepts everything.
fn collector() -> Backend {
    Backend::responding("")
}

fn traced(collector: &Backend, sample: &str) -> String {
    format!(
        "otlp = {{ endpoint = \"http://{}/\", sample = \"{sample}\", slow = \"10s\" }}",
        collector.address
    )
}

/// The spans that were received; each request to the collector is checked.
fn spans(collector: &Backend) -> Vec<Span> {
    let mut spans = Vec::new();
    for request in collector.requests() {
        assert_eq!(request.line(), "POST /v1/traces HTTP/1.1");
        assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
        let export = ExportTraceServiceRequest::decode(&request.body[..]).unwrap();
        for of_resource in export.resource_spans {
            let resource = of_resource.resource.unwrap();
            let resource = attributes(&resource.attributes);
            assert_eq!(resource["service.name"], "tercet-balancer");
            assert_eq!(resource["service.instance.id"], "balancer");
            spans.extend(of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans));
        }
    }
    spans
}

fn attributes(attributes: &[KeyValue]) -> BTreeMap<&str, String> {
    attributes.iter().map(|it| (&*it.key, it.value.as_ref().map_or_else(String::new, text))).collect()
}

fn text(value: &AnyValue) -> String {
    match value.value.as_ref() {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::ArrayValue(list)) => list.values.iter().map(text).collect::<Vec<_>>().join(","),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";

#[test]
fn a_request_is_a_span_with_the_wait_and_the_servers_response_in_the_clients_trace() {
    let (server, collector) = (Backend::responding("hello"), collector());
    let balancer = Running::start(&[&server], &traced(&collector, "0%"));
    let mut client = Client::connect(balancer.address);
    let head = format!(
        "GET /a?secret=b HTTP/1.1\r\nHost: shop.example:8080\r\nUser-Agent: test\r\nTraceparent: {PARENT}-01\r\nTracestate: a=1\r\n\r\n"
    );
    let answer = client.send(head.as_bytes()).answer();
    let id = answer.header("x-request-id").unwrap().to_owned();
    let log = balancer.stop();

    let spans = spans(&collector);
    let names: Vec<_> = spans.iter().map(|span| &*span.name).collect();
    assert_eq!(names, ["GET", "queue", "upstream"]);
    let [request, queue, upstream] = &spans[..] else { unreachable!() };
    assert_eq!(
        (hex(&request.trace_id), hex(&request.parent_span_id)),
        (PARENT[3..35].into(), PARENT[36..].into())
    );
    assert_eq!(request.trace_state, "a=1");
    for child in [queue, upstream] {
        assert_eq!((&child.trace_id, &child.parent_span_id), (&request.trace_id, &request.span_id));
        assert!(child.start_time_unix_nano >= request.start_time_unix_nano);
        assert!(child.end_time_unix_nano <= request.end_time_unix_nano);
    }
    assert_eq!(queue.end_time_unix_nano, upstream.start_time_unix_nano);
    let received = server.only_request();
    let expected = format!("00-{}-{}-01", hex(&request.trace_id), hex(&request.span_id));
    assert_eq!(received.header("traceparent"), Some(&*expected), "the server continues the balancer's span");
    assert_eq!(received.header("tracestate"), Some("a=1"));

    let of_request = attributes(&request.attributes);
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("url.path", "/a"),
        ("url.scheme", "http"),
        ("server.address", "shop.example"),
        ("server.port", "8080"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("user_agent.original", "test"),
        ("http.response.body.size", "5"),
        ("http.request.header.x-request-id", &id),
    ] {
        assert_eq!(of_request.get(name).map(String::as_str), Some(value), "{name}");
    }
    let address = server.address;
    assert_eq!(attributes(&upstream.attributes)["server.port"], address.port().to_string());
    assert_eq!(attributes(&upstream.attributes)["peer.service"], "app-1");
    assert!(!format!("{spans:?}").contains("secret") && log.contains("secret"), "no query is in a span");
}

#[test]
fn the_client_decides_and_else_the_share_but_failures_are_always_traced() {
    let server = Backend::start(|request, stream| {
        let status = if request.line().contains("/fail") { "500 Failed" } else { "200 OK" };
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").is_ok()
    });
    let collector = collector();
    let balancer = Running::start(&[&server], &traced(&collector, "0%"));
    let mut client = Client::connect(balancer.address);
    let mut get = |path: &str, more: &str| {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{more}\r\n").as_bytes()).answer().status
    };
    assert_eq!(get("/none", ""), 200);
    assert_eq!(get("/unsampled", &format!("traceparent: {PARENT}-00\r\n")), 200);
    assert_eq!(get("/malformed", "traceparent: 00-0-0-01\r\n"), 200);
    assert_eq!(get("/twice", &format!("traceparent: {PARENT}-01\r\n").repeat(2)), 200);
    assert_eq!(get("/sampled", &format!("traceparent: {PARENT}-01\r\n")), 200);
    assert_eq!(get("/fail", &format!("traceparent: {PARENT}-00\r\n")), 500);
    drop(balancer);
    let spans = spans(&collector);
    let paths = |span: &Span| attributes(&span.attributes).get("url.path").cloned();
    assert_eq!(spans.iter().filter_map(paths).collect::<Vec<_>>(), ["/sampled", "/fail"]);
    let failed = spans.iter().find(|span| paths(span).as_deref() == Some("/fail")).unwrap();
    assert_eq!(failed.status.as_ref().unwrap().code, 2);
    assert_eq!(attributes(&failed.attributes)["error.type"], "500");

    let forwarded: Vec<_> =
        server.requests().iter().map(|it| it.header("traceparent").unwrap().to_owned()).collect();
    let (trace, flags) = (&PARENT[..35], |at: usize| &forwarded[at][53..]);
    for (at, continued, sampled) in [
        (0, false, "00"),
        (1, true, "00"),
        (2, false, "00"),
        (3, false, "00"),
        (4, true, "01"),
        (5, true, "00"),
    ] {
        assert_eq!(
            (forwarded[at].starts_with(trace), flags(at)),
            (continued, sampled),
            "{at}: {}",
            forwarded[at]
        );
    }
}

#[test]
fn a_request_over_http2_is_traced_like_any_other() {
    let (server, collector) = (Backend::responding("hello"), collector());
    let balancer = Running::start(&[&server], &traced(&collector, "100%"));
    let traceparent = format!("traceparent: {PARENT}-01");
    let output = std::process::Command::new("curl")
        .args([
            "-s",
            "--http2-prior-knowledge",
            "-H",
            &traceparent,
            &format!("http://{}/b", balancer.address),
        ])
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"hello");
    drop(balancer);
    let spans = spans(&collector);
    assert_eq!(spans.len(), 3);
    let request = attributes(&spans[0].attributes);
    assert_eq!((&*request["url.path"], &*request["network.protocol.version"]), ("/b", "2"));
    assert_eq!(
        (hex(&spans[0].trace_id), hex(&spans[0].parent_span_id)),
        (PARENT[3..35].into(), PARENT[36..].into())
    );
    let expected = format!("00-{}-{}-01", hex(&spans[0].trace_id), hex(&spans[0].span_id));
    assert_eq!(server.only_request().header("traceparent"), Some(&*expected));
}

#[test]
fn no_request_waits_for_a_collector() {
    let server = Backend::responding("hello");
    // It accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    // Nothing listens there any more.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [silent.local_addr().unwrap(), gone] {
        let mut config =
            config(&[&server], &format!("otlp = {{ endpoint = \"http://{address}\", sample = \"100%\" }}"));
        let metrics = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        config.admin.metrics = Some(metrics);
        let balancer = Running::with(config);
        let mut client = Client::connect(balancer.address);
        let started = Instant::now();
        for _ in 0..3000 {
            assert_eq!(client.get("/").status, 200);
        }
        // Each request makes three spans, of which 2048 requests' wait: the rest are dropped at once.
        let dropped = |text: &str| {
            let line =
                text.lines().find_map(|line| line.strip_prefix("tercet_balancer_trace_spans_dropped_total "));
            line.map_or(0, |count| count.parse::<u64>().unwrap())
        };
        while address != gone && dropped(Client::connect(metrics).get("/metrics").text()) == 0 {
            assert!(started.elapsed() < TIMEOUT, "no span was dropped");
            assert_eq!(client.get("/").status, 200);
        }
    }
}

#[test]
fn a_reload_turns_traces_on_and_off() {
    let (server, collector) = (Backend::responding("hello"), collector());
    let balancer = Running::start(&[&server], "");
    let with = |more: &str| {
        let mut config = config_for(&[server.address], more);
        config.listen[0].address = balancer.address;
        config
    };
    let mut client = Client::connect(balancer.address);
    assert_eq!(client.get("/before").status, 200);
    balancer.balancer().reload(with(&traced(&collector, "100%")), Vec::new()).unwrap();
    assert_eq!(client.get("/traced").status, 200);
    let started = Instant::now();
    while collector.requests().is_empty() {
        assert!(started.elapsed() < TIMEOUT, "no span was received");
        std::thread::yield_now();
    }
    balancer.balancer().reload(with(""), Vec::new()).unwrap();
    assert_eq!(client.get("/after").status, 200);
    drop(balancer);
    let paths: Vec<_> = spans(&collector)
        .iter()
        .filter_map(|it| attributes(&it.attributes).get("url.path").cloned())
        .collect();
    assert_eq!(paths, ["/traced"]);
}

#[test]
fn a_slow_request_is_traced() {
    let (server, collector) = (Backend::responding("hello"), collector());
    // Every request takes that long.
    let otlp = traced(&collector, "0%").replace("10s", "0s");
    let balancer = Running::start(&[&server], &otlp);
    assert_eq!(Client::connect(balancer.address).get("/slow").status, 200);
    drop(balancer);
    assert_eq!(spans(&collector).len(), 3);
}
