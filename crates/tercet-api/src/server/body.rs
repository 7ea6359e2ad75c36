//! The bodies of requests: read only when it is known that one is needed, for a time, and within a bound over all that are
//! held at once. What is not read is thrown away, or the connection ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::time::Instant;

use crate::config::Config;
use crate::error::{ApiError, RequestError};
use crate::plan;
use crate::request::{ApiRequest, BodyUse, Rules};

/// How long a client may send nothing of a body that is being read.
const STALL: Duration = Duration::from_secs(15);
/// The names of arguments are looked for in so much of a body when there is no function of that name, to say which names
/// they were.
const NAMES: usize = 64 << 10;
/// How much of a body that nobody wants is thrown away, and for how long, before the connection ends instead.
const DISCARD: (usize, Duration) = (1 << 20, Duration::from_secs(5));

/// Bytes of bodies that the process holds.
#[derive(Debug, Default)]
pub(super) struct Budget(AtomicUsize);

impl Budget {
    /// How many there are.
    pub(super) fn held(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A part of the budget, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    size: usize,
}

impl Share {
    /// Takes more, unless that is too much for all together.
    fn grow(&mut self, by: usize, limit: usize) -> Result<(), ApiError> {
        let taken = self.budget.0.fetch_add(by, Ordering::Relaxed);
        self.size += by;
        if taken + by > limit { Err(ApiError::BodiesFull) } else { Ok(()) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.size, Ordering::Relaxed);
    }
}

/// A body that was read, and its share of the budget.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bytes: Bytes,
    _share: Share,
}

/// A body that nobody has read yet. Dropping it throws the body away.
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

    /// Reads as much as the request needs. What can be found wrong without the body is, first.
    ///
    /// # Errors
    /// The target is not there, or the body is too long, too slow, or one too many.
    pub(super) async fn read(
        mut self,
        parts: &Parts,
        rules: Rules<'_>,
        config: &Config,
        budget: &Arc<Budget>,
    ) -> Result<Held, ApiError> {
        let mut share = Share { budget: Arc::clone(budget), size: 0 };
        if self.body.is_none() {
            return Ok(Held { bytes: Bytes::new(), _share: share });
        }
        let limit = match ApiRequest::body_use(parts, rules)? {
            BodyUse::None => return Ok(Held { bytes: Bytes::new(), _share: share }),
            BodyUse::Rows { schema, relation } => {
                plan::relation(rules.cache, &schema, &relation)?;
                config.server_max_body
            }
            BodyUse::Arguments => config.server_max_body,
            BodyUse::Names => NAMES,
        };
        match self.collect(limit, config, &mut share).await {
            Err(ApiError::Request(RequestError::BodyTooLong(NAMES))) if limit == NAMES => {
                Ok(Held { bytes: Bytes::new(), _share: share })
            }
            collected => Ok(Held { bytes: collected?, _share: share }),
        }
    }

    async fn collect(&mut self, limit: usize, config: &Config, share: &mut Share) -> Result<Bytes, ApiError> {
        let Some(body) = &mut self.body else { return Ok(Bytes::new()) };
        let too_long = || ApiError::from(RequestError::BodyTooLong(limit));
        let announced = body.size_hint().lower();
        if announced > limit as u64 {
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
            share.grow(data.len(), config.server_max_body_memory)?;
            if first.is_empty() {
                first = data;
            } else {
                if whole.is_empty() {
                    whole.extend_from_slice(&first);
                }
                whole.extend_from_slice(&data);
            }
        }
        self.body = None;
        Ok(if whole.is_empty() { first } else { whole.freeze() })
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
