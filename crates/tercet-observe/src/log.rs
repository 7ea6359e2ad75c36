//! Log lines on their way to a file or a terminal, without ever making a request wait.
//!
//! Every worker has a [`LogHandle`] with a buffer of its own; one thread collects the buffers in batches
//! and writes them. A full buffer drops the line, counts it, and the count is logged as soon as there is
//! room again, so a slow disk costs log lines, never latency.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::access::AccessRecord;
use crate::event::Event;
use crate::format::{Format, push_display};

/// Bytes a worker may have waiting before lines are dropped: 1 MiB.
const BUFFER_LIMIT: usize = 1 << 20;
/// How long lines are collected before they are written.
const BATCH: Duration = Duration::from_millis(20);

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Nowhere.
    Discard,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, appended to, made with mode 0640 when missing.
    File(PathBuf),
}

/// A log: a destination, a format, and the thread that writes. Dropping it writes what is still waiting.
#[derive(Debug)]
pub struct Log {
    shared: Arc<Shared>,
    part: Arc<str>,
    format: Format,
    writer: Option<JoinHandle<()>>,
}

/// One worker's way into the log. Cheap to write to; not meant to be shared between busy threads.
#[derive(Clone, Debug)]
pub struct LogHandle {
    buffer: Arc<Buffer>,
    shared: Arc<Shared>,
    part: Arc<str>,
    format: Format,
}

#[derive(Debug, Default)]
struct Buffer {
    lines: Mutex<Vec<u8>>,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Shared {
    buffers: Mutex<Vec<Arc<Buffer>>>,
    waiting: Mutex<bool>,
    wake: Condvar,
    stop: AtomicBool,
    reopen: AtomicBool,
    dropped: AtomicU64,
}

impl Log {
    /// Opens `destination` and starts the writer thread; `part` is who speaks: `balancer`, `app-1`, …
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub fn open(part: &str, destination: Destination, format: Format) -> io::Result<Self> {
        let sink = Sink::open(&destination)?;
        let shared = Arc::new(Shared::default());
        let writer = std::thread::Builder::new().name("log".into()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.write_until_stopped(sink, &destination)
        })?;
        Ok(Self { shared, part: part.into(), format, writer: Some(writer) })
    }

    /// A handle with a buffer of its own.
    pub fn handle(&self) -> LogHandle {
        let buffer = Arc::new(Buffer::default());
        lock(&self.shared.buffers).push(Arc::clone(&buffer));
        LogHandle {
            buffer,
            shared: Arc::clone(&self.shared),
            part: Arc::clone(&self.part),
            format: self.format,
        }
    }

    /// Opens the file anew before the next batch, for log rotation (SIGUSR1).
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        self.shared.notify();
    }

    /// Lines dropped so far because a buffer was full.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.notify();
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has nothing left to flush.
            let _ = writer.join();
        }
    }
}

impl LogHandle {
    /// Appends one line; `fill` writes it without the line end. Drops and counts it when the buffer is full.
    pub fn line(&self, fill: impl FnOnce(&mut Vec<u8>)) {
        let was_empty = {
            let mut lines = lock(&self.buffer.lines);
            if lines.len() >= BUFFER_LIMIT {
                self.buffer.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            let was_empty = lines.is_empty();
            fill(&mut lines);
            lines.push(b'\n');
            was_empty
        };
        if was_empty {
            self.shared.notify();
        }
    }

    /// Appends an event in this log's format.
    pub fn event<'a>(&self, event: impl Into<Event<'a>>) {
        let event = event.into();
        self.line(|line| event.push(line, &self.part, self.format));
    }

    /// Appends a request in this log's format.
    pub fn request(&self, record: &AccessRecord<'_>) {
        self.line(|line| record.push(line, &self.part, self.format));
    }
}

impl Shared {
    fn notify(&self) {
        let mut waiting = lock(&self.waiting);
        if !*waiting {
            *waiting = true;
            self.wake.notify_one();
        }
    }

    fn write_until_stopped(&self, mut sink: Sink, destination: &Destination) {
        let mut batch = Vec::new();
        loop {
            let mut waiting = lock(&self.waiting);
            while !*waiting && !self.stop.load(Ordering::Acquire) {
                waiting = self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            *waiting = false;
            if self.stop.load(Ordering::Acquire) {
                drop(waiting);
            } else {
                // Collect a little longer, so that a busy worker costs one write per batch and not per line.
                drop(self.wake.wait_timeout(waiting, BATCH));
            }
            let stopping = self.stop.load(Ordering::Acquire);
            if self.reopen.swap(false, Ordering::AcqRel)
                && let Ok(reopened) = Sink::open(destination)
            {
                sink = reopened;
            }
            self.drain(&mut sink, &mut batch);
            if stopping {
                return;
            }
        }
    }

    fn drain(&self, sink: &mut Sink, batch: &mut Vec<u8>) {
        let mut buffers = lock(&self.buffers);
        // A handle that is gone and has nothing waiting needs no buffer.
        buffers.retain(|buffer| Arc::strong_count(buffer) > 1 || !lock(&buffer.lines).is_empty());
        let buffers = buffers.clone();
        for buffer in buffers {
            batch.clear();
            std::mem::swap(&mut *lock(&buffer.lines), batch);
            let dropped = buffer.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                self.dropped.fetch_add(dropped, Ordering::Relaxed);
                push_display(
                    batch,
                    format_args!("# {dropped} log lines dropped: the log could not keep up\n"),
                );
            }
            // There is nowhere left to report a log that cannot be written.
            let _ = sink.write_all(batch);
            if batch.capacity() > BUFFER_LIMIT / 4 {
                *batch = Vec::new();
            }
        }
    }
}

enum Sink {
    Discard,
    Stdout(io::Stdout),
    Stderr(io::Stderr),
    File(File),
}

impl Sink {
    fn open(destination: &Destination) -> io::Result<Self> {
        Ok(match destination {
            Destination::Discard => Self::Discard,
            Destination::Stdout => Self::Stdout(io::stdout()),
            Destination::Stderr => Self::Stderr(io::stderr()),
            Destination::File(path) => {
                Self::File(OpenOptions::new().append(true).create(true).mode(0o640).open(path)?)
            }
        })
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Discard => Ok(()),
            Self::Stdout(stdout) => stdout.write_all(bytes).and_then(|()| stdout.flush()),
            Self::Stderr(stderr) => stderr.write_all(bytes),
            Self::File(file) => file.write_all(bytes),
        }
    }
}

/// A panic while a line was being filled leaves at worst half a line: the lock stays usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_arrives_in_order_and_a_rotated_file_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let log = Log::open("test", Destination::File(path.clone()), Format::Text).unwrap();
        let handle = log.handle();
        for number in 0..1000 {
            handle.line(|line| push_display(line, number));
        }
        drop((log, handle));
        let written = std::fs::read_to_string(&path).unwrap();
        assert_eq!(written.lines().collect::<Vec<_>>(), (0..1000).map(|n| n.to_string()).collect::<Vec<_>>());

        let log = Log::open("test", Destination::File(path.clone()), Format::Text).unwrap();
        std::fs::rename(&path, folder.path().join("access.log.1")).unwrap();
        log.reopen();
        log.handle().line(|line| line.extend_from_slice(b"after"));
        drop(log);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "after\n");
    }

    #[test]
    fn a_full_buffer_drops_lines_and_says_how_many() {
        let shared = Arc::new(Shared::default());
        let buffer = Arc::new(Buffer::default());
        lock(&shared.buffers).push(Arc::clone(&buffer));
        let handle =
            LogHandle { buffer, shared: Arc::clone(&shared), part: "test".into(), format: Format::Text };
        handle.line(|line| line.resize(BUFFER_LIMIT, b'x'));
        handle.line(|line| line.push(b'y'));
        let mut sink = Sink::Discard;
        let mut batch = Vec::new();
        shared.drain(&mut sink, &mut batch);
        assert_eq!(shared.dropped.load(Ordering::Relaxed), 1);
    }
}
