//! Traces of requests for an OpenTelemetry collector (OTLP, protobuf over HTTP).
//!
//! The spans of a request are made once it has ended, from the times that its log line has. They wait in a queue of bounded length
//! for a thread of their own, which sends them: a request never waits for the collector. What the queue does not hold is dropped and counted.

mod collector;
mod exporter;
mod spans;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use opentelemetry::KeyValue;
pub use opentelemetry::trace::SpanKind;
use opentelemetry_sdk::trace::SpanData;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use uuid::Uuid;

pub use self::spans::{Child, Request};
use crate::log::LogHandle;
use crate::trace_context::{Parent, TraceContext};

/// The most requests whose spans wait to be sent.
const QUEUE: usize = 2048;
/// How long the spans that wait may take to be sent when the process stops.
const FLUSH: Duration = Duration::from_secs(2);

/// Where traces are sent to, and of which requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The URL of the collector, without `/v1/traces`.
    pub endpoint: String,
    /// The share of requests that are traced, from 0 to 1, besides failed and slow ones.
    pub share: f64,
    /// Requests that take at least this long are always traced.
    pub slow: Duration,
    /// What the process is for: `service.name`.
    pub service: &'static str,
}

/// A message to the thread that sends spans.
enum Message {
    /// The spans of a request.
    Spans(Vec<SpanData>),
    /// Send what there is, and say so.
    Flush(std::sync::mpsc::Sender<()>),
}

/// How many spans were sent, and how many not.
#[derive(Debug, Default)]
pub struct Counts {
    sent: AtomicU64,
    dropped: AtomicU64,
}

impl Counts {
    /// The spans that the collector has accepted.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// The spans that were dropped: the queue was full, or the collector did not accept them.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// The only one of these values of `traceparent`.
fn parent<'a>(mut given: impl Iterator<Item = &'a [u8]>) -> Option<Parent> {
    let (first, second) = (given.next(), given.next());
    first.filter(|_| second.is_none()).and_then(Parent::parse)
}

/// Traces requests. Dropping it ends the thread that sends the spans.
#[derive(Debug)]
pub struct Tracer {
    options: Options,
    queue: mpsc::Sender<Message>,
    /// Notified when what the queue has is to be sent without delay.
    due: Arc<Notify>,
    counts: Arc<Counts>,
}

impl Tracer {
    /// Starts the thread that sends spans, for the part of `log`. That gets an event when the collector refuses spans, and when it accepts
    /// them again.
    ///
    /// # Errors
    /// The endpoint is no URL, the system has no certificates to trust, or the thread cannot be started.
    pub fn start(options: Options, log: LogHandle) -> io::Result<Self> {
        let counts = Arc::<Counts>::default();
        let (queue, messages) = mpsc::channel(QUEUE);
        let due = Arc::<Notify>::default();
        exporter::start(&options, messages, Arc::clone(&due), Arc::clone(&counts), log)?;
        Ok(Self { options, queue, due, counts })
    }

    /// Its options.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// How many spans were sent, and how many not.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Whether a trace that begins here is sampled. The ids of traces are random, so all tiers would decide alike.
    fn samples(&self, trace_id: u128) -> bool {
        let random = f64::from(trace_id as u32) / (f64::from(u32::MAX) + 1.0);
        random < self.options.share
    }

    /// The context of a request with these values of `traceparent`: the trace of its client, or one that begins here and has the id `id`.
    /// Of two values neither is used (W3C Trace Context, section 3.2).
    pub fn context<'a>(&self, given: impl Iterator<Item = &'a [u8]>, id: Uuid) -> TraceContext {
        self.within(parent(given), id)
    }

    fn within(&self, parent: Option<Parent>, id: Uuid) -> TraceContext {
        match parent {
            Some(parent) => TraceContext::continued(parent, id),
            None => TraceContext::begun(id, self.samples(id.as_u128())),
        }
    }

    /// Whether the spans of a request are sent: it is sampled, has failed, or was slow.
    pub fn wants(&self, context: &TraceContext, status: u16, duration: Duration) -> bool {
        context.is_sampled || self.is_remarkable(status, duration)
    }

    /// As [`context`](Self::context), for a request that has ended and whose spans are sent; `None` for most requests, which need no
    /// `id` then.
    pub fn wanted<'a>(
        &self,
        given: impl Iterator<Item = &'a [u8]>,
        id: impl FnOnce() -> Uuid,
        status: u16,
        duration: Duration,
    ) -> Option<TraceContext> {
        let parent = parent(given);
        if parent.is_some_and(|parent| !parent.is_sampled()) && !self.is_remarkable(status, duration) {
            return None;
        }
        let context = self.within(parent, id());
        self.wants(&context, status, duration).then_some(context)
    }

    fn is_remarkable(&self, status: u16, duration: Duration) -> bool {
        status >= 500 || duration >= self.options.slow
    }

    /// Queues the spans of a request; drops them if the queue is full.
    pub fn send(&self, request: Request) {
        let spans = request.into_spans();
        if let Err(TrySendError::Full(Message::Spans(spans)) | TrySendError::Closed(Message::Spans(spans))) =
            self.queue.try_send(Message::Spans(spans))
        {
            self.counts.dropped.fetch_add(spans.len() as u64, Ordering::Relaxed);
        }
        if self.queue.capacity() < QUEUE / 2 {
            self.due.notify_one();
        }
    }

    /// Waits until the spans in the queue were sent, for two seconds at most. Blocks the thread.
    pub fn flush(&self) {
        let (sender, flushed) = std::sync::mpsc::channel();
        if self.queue.try_send(Message::Flush(sender)).is_ok() {
            self.due.notify_one();
            // Without an answer, they are dropped with the process.
            let _ = flushed.recv_timeout(FLUSH);
        }
    }
}
