//! Writes log lines to a file or a terminal without blocking requests.
//!
//! Each worker has a [`LogHandle`] with a private buffer; one thread collects the buffers in batches
//! and writes them. The first line wakes that thread, and no other line does until the batch is written,
//! with any number of workers: a busy log costs one wake-up per batch. A full buffer drops the line and
//! counts it, and the count is logged with the next batch, so a slow disk costs log lines,
//! never latency. A discarded log has no buffers and no thread, and formats nothing.

use std::fs::OpenOptions;
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

/// The size of a worker's buffer, beyond which lines are dropped: 1 MiB.
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

/// A log: a destination, a format, and the writer thread. Dropping it flushes the buffers.
#[derive(Debug)]
pub struct Log {
    shared: Arc<Shared>,
    part: Arc<str>,
    format: Format,
    writer: Option<JoinHandle<()>>,
}

/// A worker's handle to the log. Cheap to write to; not meant to be shared between busy threads.
#[derive(Clone, Debug)]
pub struct LogHandle {
    /// None when the log is discarded.
    buffer: Option<Arc<Buffer>>,
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
    /// Set when the writer thread was woken and has not collected the batch yet.
    pending: AtomicBool,
    /// The mutex of `wake`; the conditions are the atomics.
    gate: Mutex<()>,
    wake: Condvar,
    stop: AtomicBool,
    reopen: AtomicBool,
    /// Lines that were not written: a buffer was full, or the destination.
    lost: AtomicU64,
    /// How often the writer thread woke up to collect a batch.
    #[cfg(test)]
    batches: AtomicU64,
}

impl Log {
    /// Opens `destination` and starts the writer thread; `part` is the process: `balancer`, `app-1`, …
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub fn open(part: &str, destination: Destination, format: Format) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let writer = match Sink::open(&destination)? {
            None => None,
            Some(sink) => Some(std::thread::Builder::new().name("log".into()).spawn({
                let shared = Arc::clone(&shared);
                move || shared.write_until_stopped(sink, &destination)
            })?),
        };
        Ok(Self { shared, part: part.into(), format, writer })
    }

    /// A new handle, with its buffer.
    pub fn handle(&self) -> LogHandle {
        let buffer = self.writer.as_ref().map(|_| Arc::<Buffer>::default());
        lock(&self.shared.buffers).extend(buffer.clone());
        LogHandle {
            buffer,
            shared: Arc::clone(&self.shared),
            part: Arc::clone(&self.part),
            format: self.format,
        }
    }

    /// Reopens the file before the next batch, for log rotation (SIGUSR1).
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        self.shared.notify();
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        {
            // Under the lock, so that the writer is either waiting and woken, or sees it before it waits.
            let _gate = lock(&self.shared.gate);
            self.shared.stop.store(true, Ordering::Release);
            self.shared.wake.notify_one();
        }
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has nothing left to flush.
            let _ = writer.join();
        }
    }
}

impl LogHandle {
    /// Appends one line; `fill` writes it without the line end. Drops and counts it when the buffer is full.
    pub fn line(&self, fill: impl FnOnce(&mut Vec<u8>)) {
        let Some(buffer) = &self.buffer else { return };
        let was_empty = {
            let mut lines = lock(&buffer.lines);
            if lines.len() >= BUFFER_LIMIT {
                buffer.dropped.fetch_add(1, Ordering::Relaxed);
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

    /// The process that writes it.
    pub(crate) fn part(&self) -> &str {
        &self.part
    }

    /// Lines of this log lost so far: a buffer was full, or the destination could not be written.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
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
    /// Wakes the writer thread, unless a batch is being collected already.
    fn notify(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            let _gate = lock(&self.gate);
            self.wake.notify_one();
        }
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn write_until_stopped(&self, mut sink: Sink, destination: &Destination) {
        let mut batch = Vec::new();
        loop {
            let mut gate = lock(&self.gate);
            while !self.pending.load(Ordering::Acquire) && !self.stops() {
                gate = self.wake.wait(gate).unwrap_or_else(PoisonError::into_inner);
            }
            // While `pending` is set only `stop` wakes this thread, so the batch lasts for BATCH.
            drop(self.wake.wait_timeout_while(gate, BATCH, |()| !self.stops()));
            let stopping = self.stops();
            // Before the buffers are emptied: a later line starts the next batch.
            self.pending.store(false, Ordering::Release);
            #[cfg(test)]
            self.batches.fetch_add(1, Ordering::Relaxed);
            if self.reopen.swap(false, Ordering::AcqRel)
                && let Ok(Some(reopened)) = Sink::open(destination)
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
        // The buffer of a dropped handle goes once it is empty.
        buffers.retain(|buffer| Arc::strong_count(buffer) > 1 || !lock(&buffer.lines).is_empty());
        let buffers = buffers.clone();
        for buffer in buffers {
            batch.clear();
            std::mem::swap(&mut *lock(&buffer.lines), batch);
            let dropped = buffer.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                self.lost.fetch_add(dropped, Ordering::Relaxed);
                push_display(
                    batch,
                    format_args!("# {dropped} log lines dropped: the log could not keep up\n"),
                );
            }
            self.lost.fetch_add(sink.lines(batch), Ordering::Relaxed);
            if batch.capacity() > BUFFER_LIMIT / 4 {
                *batch = Vec::new();
            }
        }
    }
}

/// Where lines go. After a write that failed, on a full disk, the next line begins a new one.
struct Sink {
    file: Box<dyn Write + Send>,
    /// Whether the last line that was written has no end.
    is_cut: bool,
    /// Lines that could not be written and are not reported yet.
    lost: u64,
}

impl Sink {
    /// None for [`Destination::Discard`].
    fn open(destination: &Destination) -> io::Result<Option<Self>> {
        Ok(Some(Self::of(match destination {
            Destination::Discard => return Ok(None),
            Destination::Stdout => Box::new(io::stdout()),
            Destination::Stderr => Box::new(io::stderr()),
            Destination::File(path) => {
                Box::new(OpenOptions::new().append(true).create(true).mode(0o640).open(path)?)
            }
        })))
    }

    fn of(file: Box<dyn Write + Send>) -> Self {
        Self { file, is_cut: false, lost: 0 }
    }

    /// Writes lines, and before them how many were lost since the last ones. Returns how many of these are lost.
    fn lines(&mut self, lines: &[u8]) -> u64 {
        if lines.is_empty() {
            return 0;
        }
        if self.is_cut {
            self.is_cut = self.bytes(b"\n") == 0;
        }
        if self.lost > 0 && !self.is_cut {
            let note = format!("# {} log lines lost: the log could not be written\n", self.lost);
            let written = self.bytes(note.as_bytes());
            self.is_cut = (1..note.len()).contains(&written);
            self.lost = if written == note.len() { 0 } else { self.lost };
        }
        let written = if self.is_cut || self.lost > 0 { 0 } else { self.bytes(lines) };
        let (written, lost) = lines.split_at(written);
        self.is_cut |= written.last().is_some_and(|byte| *byte != b'\n');
        let lost = lost.iter().map(|byte| u64::from(*byte == b'\n')).sum();
        self.lost += lost;
        lost
    }

    /// Writes bytes as far as it goes, and returns how many.
    fn bytes(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match self.file.write(&bytes[written..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
                Ok(more) => written += more,
            }
        }
        // Standard output has a buffer; what it cannot write stays there for the next time.
        let _ = self.file.flush();
        written
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
    fn every_line_arrives_in_order_and_a_rotated_file_is_reopened() {
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
        let handle = LogHandle {
            buffer: Some(buffer),
            shared: Arc::clone(&shared),
            part: "test".into(),
            format: Format::Text,
        };
        handle.line(|line| line.resize(BUFFER_LIMIT, b'x'));
        handle.line(|line| line.push(b'y'));
        let mut sink = Sink::of(Box::new(tempfile::tempfile().unwrap()));
        let mut batch = Vec::new();
        shared.drain(&mut sink, &mut batch);
        assert_eq!(handle.lost(), 1);
    }

    /// A disk with room for some bytes.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (written, size) = &mut *lock(&self.0);
            let fits = bytes.len().min(*size - written.len());
            written.extend_from_slice(&bytes[..fits]);
            if fits == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(fits) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn after_a_full_disk_lines_are_whole_and_the_lost_ones_counted() {
        let disk = Disk::default();
        let mut sink = Sink::of(Box::new(disk.clone()));
        let mut lost = 0;
        let mut write = |size: usize, lines: &[u8]| {
            lock(&disk.0).1 = size;
            lost += sink.lines(lines);
            String::from_utf8(lock(&disk.0).0.clone()).unwrap()
        };
        assert_eq!(write(10, b"one\ntwo\nthree\nfour\n"), "one\ntwo\nth");
        assert_eq!(write(10, b"five\n"), "one\ntwo\nth");
        assert_eq!(write(11, b"six\n"), "one\ntwo\nth\n");
        assert_eq!(write(14, b"seven\n"), "one\ntwo\nth\n# 4");
        let note = "# 5 log lines lost: the log could not be written";
        assert_eq!(write(1000, b"eight\n"), format!("one\ntwo\nth\n# 4\n{note}\neight\n"));
        assert_eq!(write(1000, b"nine\n"), format!("one\ntwo\nth\n# 4\n{note}\neight\nnine\n"));
        assert_eq!(lost, 5);
    }

    #[test]
    fn a_batch_is_written_by_one_wake_up_however_many_workers_fill_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let log = Log::open("test", Destination::File(path.clone()), Format::Text).unwrap();
        let shared = Arc::clone(&log.shared);
        let started = std::time::Instant::now();
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let handle = log.handle();
                std::thread::spawn(move || {
                    let mut lines = 0;
                    while started.elapsed() < 5 * BATCH {
                        handle.line(|line| push_display(line, lines));
                        lines += 1;
                        std::thread::yield_now();
                    }
                    lines
                })
            })
            .collect();
        let lines: usize = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
        // One wake-up each BATCH at most, and one for the beginning of a batch that was not over.
        let most = started.elapsed().as_millis() / BATCH.as_millis() + 1;
        let batches = u128::from(shared.batches.load(Ordering::Relaxed));
        assert!(batches <= most, "{batches} batches in the time of {most}");
        drop(log);
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), lines);
    }

    #[test]
    fn a_discarded_log_formats_nothing_and_has_no_thread() {
        let log = Log::open("test", Destination::Discard, Format::Text).unwrap();
        assert!(log.writer.is_none());
        log.handle().line(|_| unreachable!("a discarded log formats nothing"));
        log.reopen();
    }
}
