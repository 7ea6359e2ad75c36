//! The latest requests, for `GET /requests` on the admin socket.
//!
//! Each worker writes to its own ring buffer, under a lock that only that request contends for. Entries are
//! overwritten in place, so recording allocates nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::Serialize;
use tercet_observe::AccessRecord;

/// Requests kept per worker.
const CAPACITY: usize = 64;
/// Bytes kept of a request target.
const MAX_TARGET: usize = 512;

/// The latest requests of all workers.
#[derive(Debug)]
pub(crate) struct Recent(Vec<Mutex<VecDeque<Entry>>>);

/// One request in the list.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    unix_seconds: f64,
    request_id: String,
    client: String,
    method: String,
    target: String,
    status: u16,
    bytes: u64,
    seconds: f64,
    server: String,
    /// As in the log line of the request.
    #[serde(flatten)]
    stages: StageSeconds,
}

/// The durations of a request's stages; those that it did not reach are missing.
#[derive(Clone, Debug, Default, Serialize)]
struct StageSeconds {
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_seconds: Option<f64>,
    #[serde(flatten)]
    api: BTreeMap<&'static str, f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<u32>,
}

impl Recent {
    pub(crate) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Mutex::default()).collect())
    }

    /// Adds a request of this worker.
    pub(crate) fn push(&self, worker: usize, record: &AccessRecord<'_>) {
        let mut ring = lock(&self.0[worker]);
        let mut entry =
            if ring.len() == CAPACITY { ring.pop_front().unwrap_or_default() } else { Entry::default() };
        entry.write(record);
        ring.push_back(entry);
    }

    /// The latest requests of all workers, newest first.
    pub(crate) fn newest_first(&self) -> Vec<Entry> {
        let mut all: Vec<Entry> = self.0.iter().flat_map(|ring| lock(ring).clone()).collect();
        all.sort_by(|one, other| other.unix_seconds.total_cmp(&one.unix_seconds));
        all
    }
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            unix_seconds: 0.0,
            request_id: String::new(),
            client: String::new(),
            method: String::new(),
            target: String::new(),
            status: 0,
            bytes: 0,
            seconds: 0.0,
            server: String::new(),
            stages: StageSeconds::default(),
        }
    }
}

impl Entry {
    fn write(&mut self, record: &AccessRecord<'_>) {
        use std::fmt::Write as _;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.unix_seconds = now.as_secs_f64();
        self.client.clear();
        if let Some(client) = record.client {
            // Writing to a String cannot fail.
            let _ = write!(self.client, "{client}");
        }
        let target = &record.target[..record.target.len().min(MAX_TARGET)];
        for (field, value) in [
            (&mut self.request_id, record.request_id),
            (&mut self.method, record.method),
            (&mut self.target, target),
            (&mut self.server, record.upstream.as_bytes()),
        ] {
            field.clear();
            field.push_str(&String::from_utf8_lossy(value));
        }
        self.status = record.status;
        self.bytes = record.bytes;
        self.seconds = record.duration.as_secs_f64();
        self.stages.queue_seconds = record.queue_duration.map(|duration| duration.as_secs_f64());
        self.stages.upstream_seconds = record.upstream_duration.map(|duration| duration.as_secs_f64());
        self.stages.rows = record.stages.map(|stages| stages.rows);
        self.stages.api.clear();
        let durations = record.stages.into_iter().flat_map(|stages| stages.durations());
        self.stages.api.extend(durations.map(|(name, duration)| (name, duration.as_secs_f64())));
    }
}

/// Ignores poisoning: a panic under the lock leaves at worst a half-written entry.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
