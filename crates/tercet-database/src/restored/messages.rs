//! Reads the messages of a recovering server. Their texts are those of PostgreSQL 13 to 18 in English (`lc_messages = C`).

use std::str::FromStr as _;

use jiff::Timestamp;

use crate::wal::Segment;

/// The longest error that is kept, in bytes: the first lines say what happened.
const LONGEST: usize = 2000;

/// What a server has logged so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Messages {
    /// It accepts connections.
    pub(super) ready: bool,
    /// The last segment that was restored from the archive.
    pub(super) restored: Option<Segment>,
    /// The location of the last record that was replayed.
    pub(super) end: Option<String>,
    /// The commit time of the last transaction that was replayed.
    pub(super) last_commit: Option<Timestamp>,
    /// Whether the target was reached.
    pub(super) reached_target: bool,
    /// Why the last record that was read is invalid.
    pub(super) invalid: Option<String>,
    /// The first fatal error, with its details.
    pub(super) fatal: Option<String>,
    /// The last line, for an end without a fatal error.
    pub(super) last: String,
}

impl Messages {
    pub(super) fn push(&mut self, line: &str) {
        line.clone_into(&mut self.last);
        let Some((severity, text)) = line.split_once(": ") else { return };
        let text = text.trim_start();
        match severity {
            "FATAL" | "PANIC" if self.fatal.is_none() => self.fatal = Some(text.to_owned()),
            "DETAIL" | "HINT" => {
                if let Some(fatal) = self.fatal.as_mut().filter(|fatal| fatal.len() < LONGEST) {
                    fatal.push_str("; ");
                    fatal.push_str(text);
                }
            }
            "LOG" => self.log(text),
            _ => {}
        }
    }

    fn log(&mut self, text: &str) {
        if text == "database system is ready to accept connections" {
            self.ready = true;
        } else if let Some(rest) = text.strip_prefix("restored log file \"") {
            if let Some(segment) = rest.split('"').next().and_then(|name| name.parse().ok()) {
                // PostgreSQL restores a segment again when a record in it is invalid.
                if self.restored != Some(segment) {
                    self.invalid = None;
                }
                self.restored = Some(segment);
            }
        } else if let Some(rest) = text.strip_prefix("redo done at ") {
            self.end = rest.split(' ').next().map(str::to_owned);
        } else if let Some(time) = text.strip_prefix("last completed transaction was at log time ") {
            self.last_commit = Timestamp::from_str(time).ok();
        } else if text.starts_with("recovery stopping ") {
            self.reached_target = true;
        } else if is_invalid_record(text) {
            self.invalid = Some(text.to_owned());
        }
    }
}

/// Whether it is a message of the WAL reader about a record or page that it cannot read (`xlogreader.c`).
fn is_invalid_record(text: &str) -> bool {
    const BEGINNINGS: [&str; 8] = [
        "invalid ",
        "incorrect ",
        "unexpected ",
        "record with ",
        "there is no contrecord",
        "contrecord ",
        "could not read ",
        "out-of-sequence ",
    ];
    BEGINNINGS.iter().any(|beginning| text.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(log: &str) -> Messages {
        let mut messages = Messages::default();
        log.lines().for_each(|line| messages.push(line));
        messages
    }

    #[test]
    fn the_end_of_a_recovery_is_read_from_the_log() {
        let messages = read(
            "\
LOG:  starting point-in-time recovery to 2026-11-29 21:30:00+00
LOG:  restored log file \"00000002.history\" from archive
LOG:  restored log file \"000000010000000000000003\" from archive
LOG:  invalid record length at 0/3000110: wanted 24, got 0
LOG:  redo done at 0/30000E8 system usage: CPU: user: 0.00 s, system: 0.00 s, elapsed: 0.01 s
LOG:  last completed transaction was at log time 2026-11-29 21:29:59.123456+00
FATAL:  recovery ended before configured recovery target was reached
DETAIL:  more
FATAL:  another
",
        );
        assert_eq!(messages.restored.unwrap().to_string(), "000000010000000000000003");
        assert_eq!(messages.end.as_deref(), Some("0/30000E8"));
        assert_eq!(messages.last_commit.unwrap().to_string(), "2026-11-29T21:29:59.123456Z");
        assert_eq!(messages.invalid.as_deref(), Some("invalid record length at 0/3000110: wanted 24, got 0"));
        assert_eq!(
            messages.fatal.as_deref(),
            Some("recovery ended before configured recovery target was reached; more")
        );
        assert!(!messages.ready && !messages.reached_target);
    }
}
