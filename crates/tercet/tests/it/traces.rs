//! The trace of a request under `tercet up`, received by a collector of the test.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use prost::Message as _;

use crate::folder::Folder;
use crate::http::get;
use crate::system::System;

const TIMEOUT: Duration = Duration::from_secs(30);

const BOOKS: (&str, &str) = (
    "migrations/0001_books.sql",
    "create table book (id int primary key, title text); insert into book values (1, 'hushed'); grant select on book to anon;
     create function fail() returns int language plpgsql stable as 'begin raise sqlstate ''PT500''; end';
     grant execute on function fail to anon;",
);

/// A span with its service and its attributes.
struct Received {
    service: String,
    span: Span,
    attributes: BTreeMap<String, String>,
}

/// An OpenTelemetry collector.
struct Collector {
    address: SocketAddr,
    received: Receiver<Received>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, received) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let sender = sender.clone();
                std::thread::spawn(move || serve(&stream, &sender));
            }
        });
        Self { address, received }
    }

    /// The next spans of a trace, up to the one of this service with this name.
    fn until(&self, trace: &str, mut missing: Vec<(&str, &str)>) -> Vec<Received> {
        let mut spans = Vec::new();
        while !missing.is_empty() {
            let received =
                self.received.recv_timeout(TIMEOUT).unwrap_or_else(|_| panic!("no span {missing:?}"));
            if hex(&received.span.trace_id) == trace {
                missing.retain(|it| *it != (&*received.service, &*received.span.name));
                spans.push(received);
            }
        }
        spans
    }
}

/// Answers the requests of a connection.
fn serve(mut stream: &TcpStream, sender: &Sender<Received>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let (mut length, mut line) = (0, String::new());
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        stream
            .write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n",
            )
            .ok()?;
        for of_resource in ExportTraceServiceRequest::decode(&body[..]).ok()?.resource_spans {
            let resource = attributes(&of_resource.resource?.attributes);
            for span in of_resource.scope_spans.into_iter().flat_map(|it| it.spans) {
                let (service, attributes) = (resource["service.name"].clone(), attributes(&span.attributes));
                sender.send(Received { service, span, attributes }).ok()?;
            }
        }
    }
}

fn attributes(all: &[opentelemetry_proto::tonic::common::v1::KeyValue]) -> BTreeMap<String, String> {
    let text = |value: Option<&Value>| match value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    all.iter().map(|it| (it.key.clone(), text(it.value.as_ref().and_then(|it| it.value.as_ref())))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const ALL: [(&str, &str); 8] = [
    ("tercet-balancer", "GET"),
    ("tercet-balancer", "queue"),
    ("tercet-balancer", "upstream"),
    ("tercet-api", "GET /book"),
    ("tercet-api", "parse"),
    ("tercet-api", "plan"),
    ("tercet-api", "pool"),
    ("tercet-api", "postgresql"),
];

#[test]
fn a_request_is_one_trace_from_its_client_to_postgresql() {
    let collector = Collector::start();
    let settings = format!("[monitoring]\notlp = 'http://{}'\notlp-sample = '0%'\n", collector.address);
    let folder = Folder::with(&[BOOKS, ("tercet.toml", &settings)]);
    let system = System::start(folder.path());

    let (trace, client) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let traceparent = format!("00-{trace}-{client}-01");
    let request =
        get("/book?title=eq.hushed").header("traceparent", &traceparent).header("tracestate", "a=1");
    assert_eq!(system.ask(request).status, 200);
    let spans = collector.until(trace, ALL.to_vec());
    assert_eq!(spans.len(), ALL.len());
    let find = |service: &str, name: &str| {
        let mut all = spans.iter();
        all.find(|it| it.service == service && it.span.name == name).unwrap_or_else(|| panic!("{name}"))
    };
    let balancer = find("tercet-balancer", "GET");
    let api = find("tercet-api", "GET /book");
    assert_eq!(hex(&balancer.span.parent_span_id), client);
    assert_eq!(api.span.parent_span_id, balancer.span.span_id);
    assert!(
        [balancer, api]
            .iter()
            .all(|it| it.span.trace_state == "a=1" && it.span.kind == SpanKind::Server as i32)
    );
    for (service, name) in ALL.iter().filter(|(_, name)| !name.starts_with("GET")) {
        let parent = if *service == "tercet-api" { api } else { balancer };
        let child = find(service, name);
        assert_eq!(child.span.parent_span_id, parent.span.span_id, "{name}");
        assert!(child.span.start_time_unix_nano >= parent.span.start_time_unix_nano, "{name}");
        assert!(child.span.end_time_unix_nano <= parent.span.end_time_unix_nano, "{name}");
    }
    let database = find("tercet-api", "postgresql");
    assert_eq!(database.attributes["db.system.name"], "postgresql");
    assert_eq!(database.attributes["db.response.returned_rows"], "1");
    assert!(database.attributes["db.query.text"].contains("\"book\""), "{:?}", database.attributes);
    assert_eq!(api.attributes["http.route"], "/book");
    let shown: Vec<_> = spans.iter().map(|it| format!("{:?}", it.span)).collect();
    assert!(!shown.concat().contains("hushed"), "no value is in a span: {shown:#?}");

    // A failure is traced in both tiers, although neither the client nor the share wants it.
    let id = system.ask(get("/rpc/fail")).header("x-request-id").unwrap().replace('-', "");
    let spans = collector.until(&id, vec![("tercet-balancer", "GET"), ("tercet-api", "GET /rpc/fail")]);
    let failed = spans.iter().filter(|it| it.span.kind == SpanKind::Server as i32);
    for span in failed {
        assert_eq!(span.span.status.as_ref().unwrap().code, 2);
        assert_eq!(span.attributes["http.response.status_code"], "500");
    }
    // One that succeeds is not.
    assert_eq!(system.ask(get("/book")).status, 200);
    drop(system);
    let rest = collector.received.try_iter().filter(|it| hex(&it.span.trace_id) != id).count();
    assert_eq!(rest, 0);
}
