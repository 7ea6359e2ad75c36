//! The log file of one part, rotated by size: at most two files, the older one ending in `.1`.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use tercet_observe::format::push_now;
use tercet_observe::log::Destination;
use tercet_observe::{Format, Log, LogHandle};

/// The size at which the file is rotated: 10 MiB.
const LIMIT: u64 = 10 << 20;

/// The most lines of [`LogFile::last`], and characters of each.
const LAST_LINES: usize = 20;
const LAST_LIMIT: usize = 500;

/// The bytes of a time in RFC 3339 and the space after it.
const TIME_LENGTH: u64 = 25;

/// A log file that is appended to.
pub(super) struct LogFile {
    log: Log,
    handle: LogHandle,
    path: PathBuf,
    written: u64,
    limit: u64,
    last: VecDeque<String>,
}

impl LogFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Self::limited(path, LIMIT)
    }

    fn limited(path: &Path, limit: u64) -> io::Result<Self> {
        let log = Log::open("", Destination::File(path.to_owned()), Format::Text)?;
        let handle = log.handle();
        let written = fs::metadata(path)?.len();
        if written > 0 && last_byte(path)? != b'\n' {
            // The last run was killed while it wrote; its half line must not be the beginning of the next one.
            handle.line(|_| {});
        }
        Ok(Self { log, handle, path: path.to_owned(), written, limit, last: VecDeque::new() })
    }

    /// Appends a line of output, with the time in front unless it `has_time`.
    pub(super) fn line(&mut self, output: &[u8], has_time: bool) {
        if self.written >= self.limit {
            self.rotate();
        }
        self.handle.line(|line| {
            if !has_time {
                push_now(line);
                line.push(b' ');
            }
            line.extend_from_slice(output);
        });
        if !output.trim_ascii().is_empty() {
            if self.last.len() == LAST_LINES {
                self.last.pop_front();
            }
            self.last
                .push_back(String::from_utf8_lossy(output).trim_end().chars().take(LAST_LIMIT).collect());
        }
        self.written += output.len() as u64 + if has_time { 1 } else { TIME_LENGTH + 1 };
    }

    /// The last lines that were not empty, cut to a readable length, the oldest first.
    pub(super) fn last(&self) -> impl Iterator<Item = &str> {
        self.last.iter().map(String::as_str)
    }

    /// Renames the file to `.1` and opens a new one. Lines that are being written go to either.
    fn rotate(&mut self) {
        let older = self.path.with_added_extension("1");
        if fs::rename(&self.path, older).is_ok() {
            self.log.reopen();
            self.written = 0;
        }
    }
}

/// The last byte of a file that is not empty.
fn last_byte(path: &Path) -> io::Result<u8> {
    let mut file = fs::File::open(path)?;
    file.seek(SeekFrom::End(-1))?;
    let mut byte = [0];
    file.read_exact(&mut byte)?;
    Ok(byte[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_line_of_a_killed_run_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app-1.log");
        fs::write(&path, "whole\nhalf").unwrap();
        let mut file = LogFile::open(&path).unwrap();
        file.line(b"next", true);
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole\nhalf\nnext\n");
    }

    #[test]
    fn log_files_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app-1.log");
        let size = |name: &str| fs::metadata(folder.path().join(name)).unwrap().len();
        for round in 0..5 {
            // Opened anew, so that each round is on disk before the next.
            let mut file = LogFile::limited(&path, 1000).unwrap();
            for number in 0..100 {
                file.line(format!("round {round} line {number:3}").as_bytes(), true);
            }
        }
        assert!(size("app-1.log") <= 4000, "{}", size("app-1.log"));
        assert!(size("app-1.log.1") <= 4000, "{}", size("app-1.log.1"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        let log = fs::read_to_string(&path).unwrap();
        assert_eq!(log.lines().last(), Some("round 4 line  99"));
    }

    #[test]
    fn the_last_lines_that_are_not_empty_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = LogFile::open(&folder.path().join("app-1.log")).unwrap();
        for output in ["the beginning", " the end", "  "] {
            file.line(output.as_bytes(), false);
        }
        assert!(file.last().eq(["the beginning", " the end"]));
        (0..LAST_LINES).for_each(|_| file.line(b"more", false));
        assert!(file.last().eq(["more"; LAST_LINES]));
    }
}
