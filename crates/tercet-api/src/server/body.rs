//! The bodies of requests: read only when it is known that one is needed, for a time, and within a bound over all that are
//! held at once, as they came and as what they become. What is not read is thrown away, or the connection ends.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::config::Config;
use crate::error::{ApiError, RequestError};
use crate::plan;
use crate::request::payload::{Payload, Reading, Room};
use crate::request::{ApiRequest, BodyUse};
use crate::schema::SchemaCache;

/// How long a client may send nothing of a body that is being read.
const STALL: Duration = Duration::from_secs(15);
/// The names of arguments are looked for in so much of a body when there is no function of that name, to say which names
/// they were.
const NAMES: usize = 64 << 10;
/// A body longer than this is read beside the event loop, so that no other request waits for it.
const LONG: usize = 64 << 10;
/// How much of a body that nobody wants is thrown away, and for how long, before the connection ends instead.
const DISCARD: (usize, Duration) = (1 << 20, Duration::from_secs(5));

/// What the bodies of all requests may take.
#[derive(Debug)]
pub(super) struct Budget {
    /// Bytes that the process holds.
    held: AtomicUsize,
    /// Long bodies are read by so many threads at once.
    readers: Arc<Semaphore>,
}

impl Default for Budget {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, Into::into);
        Self { held: AtomicUsize::new(0), readers: Arc::new(Semaphore::new(threads)) }
    }
}

impl Budget {
    /// How many bytes there are.
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

/// A part of the budget, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    size: usize,
    /// What all together may take.
    limit: usize,
}

impl Share {
    /// Gives back what is not needed any more.
    fn shrink(&mut self, size: usize) {
        let less = self.size.saturating_sub(size);
        self.budget.held.fetch_sub(less, Ordering::Relaxed);
        self.size -= less;
    }

    /// Reads a body within the share.
    fn read(mut self, reading: &Reading, body: Bytes) -> Result<(Payload, Self), RequestError> {
        let payload = reading.read(body, &mut self)?;
        self.shrink(payload.size());
        Ok((payload, self))
    }
}

impl Room for Share {
    fn take(&mut self, bytes: usize) -> Result<(), RequestError> {
        let taken = self.budget.held.fetch_add(bytes, Ordering::Relaxed);
        self.size += bytes;
        if self.size > self.limit {
            Err(RequestError::BodyTooLong(self.limit))
        } else if taken + bytes > self.limit {
            Err(RequestError::BodiesFull)
        } else {
            Ok(())
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.size, Ordering::Relaxed);
    }
}

/// A body that is there and not yet read.
#[derive(Debug)]
pub(super) struct Received {
    reading: Option<Reading>,
    bytes: Bytes,
    share: Share,
}

impl Received {
    /// Completes the request with what the body says. The share is for as long as the request is.
    ///
    /// # Errors
    /// The body is not what it should be, or becomes too long.
    pub(super) async fn complete(self, request: ApiRequest) -> Result<(ApiRequest, Share), ApiError> {
        let Self { reading, bytes, share } = self;
        let Some(reading) = reading else { return Ok((request, share)) };
        let (payload, share) = if bytes.len() <= LONG {
            share.read(&reading, bytes)?
        } else {
            read_beside(share, reading, bytes).await?
        };
        Ok((request.with_payload(payload), share))
    }
}

/// A body that nobody has received yet. Dropping it throws the body away.
#[derive(Debug)]
pub(super) struct Unread {
    body: Option<Incoming>,
    /// Whether the client waits to be told to send it.
    expected: bool,
}

impl Unread {
    pub(super) fn new(parts: &Parts, body: Incoming) -> Self {
        let expected = parts.headers.contains_key(http::header::EXPECT);
        Self { body: Some(body).filter(|body| !body.is_end_stream()), expected }
    }

    /// Receives as much as the request needs. What can be found wrong without the body is, first.
    ///
    /// # Errors
    /// The target is not there or not written to, or the body is too long, too slow, or one too many.
    pub(super) async fn receive(
        mut self,
        request: &ApiRequest,
        cache: &SchemaCache,
        config: &Config,
        budget: &Arc<Budget>,
    ) -> Result<Received, ApiError> {
        let limit = config.server_max_body_memory;
        let mut share = Share { budget: Arc::clone(budget), size: 0, limit };
        plan::check(request, cache)?;
        let Some(reading) = request.reading() else {
            return Ok(Received { reading: None, bytes: Bytes::new(), share });
        };
        let limit = match request.body_use(cache) {
            BodyUse::Names => NAMES,
            BodyUse::None | BodyUse::Rows | BodyUse::Arguments => config.server_max_body,
        };
        let bytes = match self.collect(limit, config, &mut share).await {
            Err(ApiError::Request(RequestError::BodyTooLong(NAMES))) if limit == NAMES => Bytes::new(),
            collected => collected?,
        };
        Ok(Received { reading: Some(reading), bytes, share })
    }

    async fn collect(&mut self, limit: usize, config: &Config, share: &mut Share) -> Result<Bytes, ApiError> {
        let Some(body) = &mut self.body else { return Ok(Bytes::new()) };
        let too_long = || ApiError::from(RequestError::BodyTooLong(limit));
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if announced > limit {
            return Err(too_long());
        }
        let deadline = Instant::now() + config.server_body_timeout;
        // What comes in one piece is not copied.
        let mut first = Bytes::new();
        let mut whole = BytesMut::new();
        loop {
            let until = deadline.min(Instant::now() + STALL);
            let Ok(frame) = tokio::time::timeout_at(until, body.frame()).await else {
                self.body = None;
                return Err(RequestError::BodyTimeout.into());
            };
            let data = match frame {
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Err(RequestError::Body(error.to_string()).into()),
                None => break,
            };
            if share.size + data.len() > limit {
                return Err(too_long());
            }
            share.take(data.len())?;
            if first.is_empty() {
                first = data;
            } else {
                if whole.is_empty() {
                    whole.reserve(announced);
                    whole.extend_from_slice(&first);
                }
                whole.extend_from_slice(&data);
            }
        }
        self.body = None;
        Ok(if whole.is_empty() { first } else { whole.freeze() })
    }
}

/// Reads a body on a thread of its own. It is read to its end although the client may be gone, and its share is taken as long.
async fn read_beside(share: Share, reading: Reading, body: Bytes) -> Result<(Payload, Share), RequestError> {
    let readers = Arc::clone(&share.budget.readers);
    let permit = readers.acquire_owned().await.map_err(|_| RequestError::BodiesFull)?;
    let read = tokio::task::spawn_blocking(move || {
        let read = share.read(&reading, body);
        drop(permit);
        read
    });
    match read.await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(read) => read,
        Err(Ok(panic)) => resume_unwind(panic),
        // The process ends.
        Err(Err(_)) => Err(RequestError::BodiesFull),
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // To read what the client has not sent yet is to ask for it.
        if let Some(body) = self.body.take().filter(|_| !self.expected) {
            tokio::task::spawn_local(discard(body));
        }
    }
}

/// Throws away what is short and comes soon, so that the connection can go on.
async fn discard(mut body: Incoming) {
    let (mut left, time) = DISCARD;
    let all = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(time, all).await;
}
