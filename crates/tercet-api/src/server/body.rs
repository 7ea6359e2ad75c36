//! Request bodies: received only if the request needs one, within a time limit and within a memory budget for all
//! bodies, received and parsed. The rest of an unread body is discarded, or the connection is closed.

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
use crate::request::payload::{Payload, Reading, Reserve};
use crate::request::{ApiRequest, BodyUse};
use crate::schema::SchemaCache;

/// The idle timeout while receiving a body.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// The body limit where no function matches the path: enough to name the arguments in the error.
const NAMES_LIMIT: usize = 64 << 10;
/// A longer body is parsed on a blocking thread, so that it does not delay the event loop.
const BLOCKING_SIZE: usize = 64 << 10;
/// How many bytes of an unread body are discarded, and for how long, before the connection is closed instead.
const DISCARD_LIMIT: (usize, Duration) = (1 << 20, Duration::from_secs(5));

/// The memory budget for the bodies of all requests.
#[derive(Debug)]
pub(super) struct Budget {
    /// Bytes in use.
    used: AtomicUsize,
    /// Limits the number of long bodies that are parsed at the same time.
    readers: Arc<Semaphore>,
}

impl Default for Budget {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, Into::into);
        Self { used: AtomicUsize::new(0), readers: Arc::new(Semaphore::new(threads)) }
    }
}

impl Budget {
    /// Bytes in use.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// Memory reserved from the budget; released on drop.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Arc<Budget>,
    size: usize,
    /// The size of the whole budget.
    limit: usize,
}

impl Reservation {
    /// Releases all but `size` bytes.
    fn shrink(&mut self, size: usize) {
        let released = self.size.saturating_sub(size);
        self.budget.used.fetch_sub(released, Ordering::Relaxed);
        self.size -= released;
    }

    /// Parses a body within the reservation.
    fn read(mut self, reading: &Reading, body: Bytes) -> Result<(Payload, Self), RequestError> {
        let payload = reading.read(body, &mut self)?;
        self.shrink(payload.size());
        Ok((payload, self))
    }
}

impl Reserve for Reservation {
    fn reserve(&mut self, bytes: usize) -> Result<(), RequestError> {
        let before = self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        self.size += bytes;
        if self.size > self.limit {
            Err(RequestError::BodyTooLong(self.limit))
        } else if before + bytes > self.limit {
            Err(RequestError::BodiesFull)
        } else {
            Ok(())
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.size, Ordering::Relaxed);
    }
}

/// A received body that is not parsed yet.
#[derive(Debug)]
pub(super) struct ReceivedBody {
    reading: Option<Reading>,
    bytes: Bytes,
    reservation: Reservation,
}

impl ReceivedBody {
    /// Parses the body and returns the request with its payload. Keep the reservation as long as the request.
    ///
    /// # Errors
    /// The body is malformed, or too long once parsed.
    pub(super) async fn complete(self, request: ApiRequest) -> Result<(ApiRequest, Reservation), ApiError> {
        let Self { reading, bytes, reservation } = self;
        let Some(reading) = reading else { return Ok((request, reservation)) };
        let (payload, reservation) = if bytes.len() <= BLOCKING_SIZE {
            reservation.read(&reading, bytes)?
        } else {
            read_blocking(reservation, reading, bytes).await?
        };
        Ok((request.with_payload(payload), reservation))
    }
}

/// A body that has not been received. Dropping it discards the body.
#[derive(Debug)]
pub(super) struct UnreadBody {
    body: Option<Incoming>,
    /// Whether the request has an `Expect` header: the client sends the body only when it is read.
    expected: bool,
}

impl UnreadBody {
    pub(super) fn new(parts: &Parts, body: Incoming) -> Self {
        let expected = parts.headers.contains_key(http::header::EXPECT);
        Self { body: Some(body).filter(|body| !body.is_end_stream()), expected }
    }

    /// Receives the body if the request needs one. Checks that do not need the body come first.
    ///
    /// # Errors
    /// The target does not exist or cannot be written to; the body is too long or too slow; the budget is used up.
    pub(super) async fn receive(
        mut self,
        request: &ApiRequest,
        cache: &SchemaCache,
        config: &Config,
        budget: &Arc<Budget>,
    ) -> Result<ReceivedBody, ApiError> {
        let limit = config.server_max_body_memory;
        let mut reservation = Reservation { budget: Arc::clone(budget), size: 0, limit };
        plan::check(request, cache)?;
        let Some(reading) = request.reading() else {
            return Ok(ReceivedBody { reading: None, bytes: Bytes::new(), reservation });
        };
        let limit = match request.body_use(cache) {
            BodyUse::Names => NAMES_LIMIT,
            BodyUse::None | BodyUse::Rows | BodyUse::Arguments => config.server_max_body,
        };
        let bytes = match self.collect(limit, config, &mut reservation).await {
            Err(ApiError::Request(RequestError::BodyTooLong(NAMES_LIMIT))) if limit == NAMES_LIMIT => {
                Bytes::new()
            }
            collected => collected?,
        };
        Ok(ReceivedBody { reading: Some(reading), bytes, reservation })
    }

    async fn collect(
        &mut self,
        limit: usize,
        config: &Config,
        reservation: &mut Reservation,
    ) -> Result<Bytes, ApiError> {
        let Some(body) = &mut self.body else { return Ok(Bytes::new()) };
        let too_long = || ApiError::from(RequestError::BodyTooLong(limit));
        let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if declared > limit {
            return Err(too_long());
        }
        let deadline = Instant::now() + *config.server_body_timeout;
        // A body of one frame is not copied.
        let mut first = Bytes::new();
        let mut whole = BytesMut::new();
        loop {
            let until = deadline.min(Instant::now() + IDLE_TIMEOUT);
            let Ok(frame) = tokio::time::timeout_at(until, body.frame()).await else {
                self.body = None;
                return Err(RequestError::BodyTimeout.into());
            };
            let data = match frame {
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Err(RequestError::Body(error.to_string()).into()),
                None => break,
            };
            if reservation.size + data.len() > limit {
                return Err(too_long());
            }
            reservation.reserve(data.len())?;
            if first.is_empty() {
                first = data;
            } else {
                if whole.is_empty() {
                    whole.reserve(declared);
                    whole.extend_from_slice(&first);
                }
                whole.extend_from_slice(&data);
            }
        }
        self.body = None;
        Ok(if whole.is_empty() { first } else { whole.freeze() })
    }
}

/// Parses a body on a blocking thread. It runs to its end, with its reservation, even if the client disconnects.
async fn read_blocking(
    reservation: Reservation,
    reading: Reading,
    body: Bytes,
) -> Result<(Payload, Reservation), RequestError> {
    let readers = Arc::clone(&reservation.budget.readers);
    let permit = readers.acquire_owned().await.map_err(|_| RequestError::BodiesFull)?;
    let read = tokio::task::spawn_blocking(move || {
        let read = reservation.read(&reading, body);
        drop(permit);
        read
    });
    match read.await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(read) => read,
        Err(Ok(panic)) => resume_unwind(panic),
        // The runtime is shutting down.
        Err(Err(_)) => Err(RequestError::BodiesFull),
    }
}

impl Drop for UnreadBody {
    fn drop(&mut self) {
        // Reading would send `100 Continue`.
        if let Some(body) = self.body.take().filter(|_| !self.expected) {
            tokio::task::spawn_local(discard(body));
        }
    }
}

/// Discards a short body, so that the connection can be kept alive.
async fn discard(mut body: Incoming) {
    let (mut left, time) = DISCARD_LIMIT;
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
