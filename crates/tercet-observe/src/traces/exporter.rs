//! The thread that sends spans: batch by batch, each with a few retries.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Uri;
use opentelemetry::KeyValue;
use opentelemetry_otlp::{Protocol, RetryPolicy, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use super::collector::{Collector, TIMEOUT};
use super::{Counts, Message, Options};
use crate::event::ProcessEvent;
use crate::log::LogHandle;

/// The path that is appended to the endpoint (OTLP specification, section "OTLP/HTTP Request").
const PATH: &str = "/v1/traces";
/// The most spans of one request to the collector, but for those of one request more.
const BATCH: usize = 512;
/// How long spans are collected before they are sent. Meanwhile the thread sleeps: one that each request wakes costs more than
/// all that it does.
const DELAY: Duration = Duration::from_secs(1);

/// Retries of one batch, within [`TIMEOUT`]: the queue holds what comes meanwhile.
fn retries() -> RetryPolicy {
    RetryPolicy::recommended()
        .with_max_retries(4)
        .with_initial_delay(Duration::from_millis(250))
        .with_max_delay(Duration::from_secs(4))
}

struct Exporter {
    sender: SpanExporter,
    collector: Collector,
    due: Arc<Notify>,
    counts: Arc<Counts>,
    log: LogHandle,
    /// Whether the last batch was not accepted.
    fails: bool,
}

/// Starts the thread, which ends when the other end of `messages` is dropped.
pub(super) fn start(
    options: &Options,
    messages: mpsc::Receiver<Message>,
    due: Arc<Notify>,
    counts: Arc<Counts>,
    log: LogHandle,
) -> io::Result<()> {
    let endpoint = format!("{}{PATH}", options.endpoint.trim_end_matches('/'));
    let url: Uri = endpoint.parse().map_err(io::Error::other)?;
    let collector = Collector::new(&url)?;
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(collector.clone())
        .with_endpoint(endpoint)
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(TIMEOUT)
        .with_retry_policy(retries())
        .build()
        .map_err(io::Error::other)?;
    let resource = Resource::builder_empty().with_attributes([
        KeyValue::new("service.name", options.service),
        KeyValue::new("service.instance.id", log.part().to_owned()),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("process.pid", i64::from(std::process::id())),
    ]);
    exporter.set_resource(&resource.build());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let exporter = Exporter { sender: exporter, collector, due, counts, log, fails: false };
    std::thread::Builder::new()
        .name("traces".into())
        .spawn(move || runtime.block_on(exporter.run(messages)))?;
    Ok(())
}

impl Exporter {
    async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        while let Some(message) = messages.recv().await {
            if let Message::Spans(_) = message {
                let _ = timeout(DELAY, self.due.notified()).await;
            }
            let (mut spans, mut next) = (Vec::new(), Some(message));
            while let Some(message) = next {
                match message {
                    Message::Spans(more) => spans.extend(more),
                    Message::Flush(sender) => {
                        self.export(std::mem::take(&mut spans)).await;
                        // The process may no longer wait.
                        let _ = sender.send(());
                    }
                }
                if spans.len() >= BATCH {
                    self.export(std::mem::take(&mut spans)).await;
                }
                next = messages.try_recv().ok();
            }
            self.export(spans).await;
        }
    }

    async fn export(&mut self, spans: Vec<SpanData>) {
        if spans.is_empty() {
            return;
        }
        let count = spans.len() as u64;
        let exported = self.sender.export(spans).await;
        let outcome = self.collector.outcome();
        let dropped = if exported.is_ok() { outcome.rejected.min(count) } else { count };
        self.counts.sent.fetch_add(count - dropped, Ordering::Relaxed);
        self.counts.dropped.fetch_add(dropped, Ordering::Relaxed);
        let fails = dropped > 0;
        if fails && !self.fails {
            let error = || exported.err().map(|error| error.to_string()).unwrap_or_default();
            let reason = outcome.reason.unwrap_or_else(error);
            self.log.event(ProcessEvent::TracesRefused { reason: &reason });
        } else if self.fails && !fails {
            self.log.event(ProcessEvent::TracesAccepted);
        }
        self.fails = fails;
    }
}
