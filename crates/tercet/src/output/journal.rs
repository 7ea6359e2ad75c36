//! The log file of one part: at most two files of a bounded size, the older one ending in `.1`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tercet_observe::log::Destination;
use tercet_observe::{Format, Log, LogHandle};

/// The size at which a file becomes the older one: 10 MiB.
const LIMIT: u64 = 10 << 20;

/// Characters of the last line that are remembered.
const LAST_LIMIT: usize = 300;

/// A log file that is appended to.
pub(super) struct Journal {
    log: Log,
    handle: LogHandle,
    path: PathBuf,
    written: u64,
    limit: u64,
    last: String,
}

impl Journal {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Self::limited(path, LIMIT)
    }

    fn limited(path: &Path, limit: u64) -> io::Result<Self> {
        let log = Log::open("", Destination::File(path.to_owned()), Format::Text)?;
        let handle = log.handle();
        let written = fs::metadata(path)?.len();
        Ok(Self { log, handle, path: path.to_owned(), written, limit, last: String::new() })
    }

    pub(super) fn line(&mut self, said: &[u8]) {
        if self.written >= self.limit {
            self.turn_over();
        }
        self.handle.line(|line| line.extend_from_slice(said));
        if !said.trim_ascii().is_empty() {
            self.last = String::from_utf8_lossy(said).chars().take(LAST_LIMIT).collect();
        }
        self.written += said.len() as u64 + 1;
    }

    /// The last line that was not empty, cut to a readable length.
    pub(super) fn last(&self) -> &str {
        self.last.trim()
    }

    /// The present file becomes the older one. What is still on its way to it goes to either.
    fn turn_over(&mut self) {
        let older = self.path.with_added_extension("1");
        if fs::rename(&self.path, older).is_ok() {
            self.log.reopen();
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_talks_forever_fills_no_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app-1.log");
        let size = |name: &str| fs::metadata(folder.path().join(name)).unwrap().len();
        for round in 0..5 {
            // Opened anew, so that each round is on disk before the next.
            let mut journal = Journal::limited(&path, 1000).unwrap();
            for number in 0..100 {
                journal.line(format!("round {round} line {number:3}").as_bytes());
            }
        }
        assert!(size("app-1.log") <= 4000, "{}", size("app-1.log"));
        assert!(size("app-1.log.1") <= 4000, "{}", size("app-1.log.1"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        let log = fs::read_to_string(&path).unwrap();
        assert_eq!(log.lines().last(), Some("round 4 line  99"));
    }

    #[test]
    fn the_last_words_are_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(&folder.path().join("app-1.log")).unwrap();
        for said in ["the beginning", " the end", "  "] {
            journal.line(said.as_bytes());
        }
        assert_eq!(journal.last(), "the end");
    }
}
