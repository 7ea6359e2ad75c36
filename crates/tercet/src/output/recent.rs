//! The last lines of all parts, for the dashboard: requests, requests that failed or were slow, and all other lines.
//!
//! A line is copied as it is, into memory that an older line leaves, and parsed when it is shown.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::SystemTime;

/// The requests that are kept.
const REQUESTS: usize = 60;
/// The failed or slow requests that are kept.
const NOTABLE: usize = 40;
/// The other lines that are kept.
const LINES: usize = 400;
/// The most bytes of a line.
const LONGEST: usize = 16 << 10;

/// What a JSON line about a request has after its time.
const REQUEST: &[u8] = br#","level":"info","event":"request","#;
/// The position of that: after `{"time":"2026-11-30T10:00:00.000Z"`.
const AFTER_TIME: usize = 34;
/// The part whose requests are shown.
const BALANCER: &str = "balancer";
/// What the line of a failed request has.
const FAILED: &[u8] = br#","status":5"#;
/// What the event of a slow request has.
const SLOW: &[u8] = br#""event":"slow_request""#;

/// A line of a part.
#[derive(Clone, Debug)]
pub(crate) struct RecentLine {
    /// The number of the line, from 1.
    pub(crate) number: u64,
    /// The part.
    pub(crate) part: Rc<str>,
    /// When it was printed.
    pub(crate) at: SystemTime,
    /// The line as the part printed it.
    pub(crate) text: Vec<u8>,
}

/// The last lines.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    number: u64,
    /// The requests so far, and those of them that failed.
    counts: (u64, u64),
    /// Requests at the balancer.
    pub(crate) requests: VecDeque<RecentLine>,
    /// Those that failed, and slow ones at the data API.
    pub(crate) notable: VecDeque<RecentLine>,
    /// All other lines.
    pub(crate) lines: VecDeque<RecentLine>,
}

impl Recent {
    /// The number of requests so far, and of those that failed.
    pub(crate) fn counts(&self) -> (u64, u64) {
        self.counts
    }

    /// The number of the last line.
    pub(crate) fn last(&self) -> u64 {
        self.number
    }

    /// Adds a line of a part.
    pub(crate) fn push(&mut self, part: &Rc<str>, text: &[u8]) {
        self.number += 1;
        let is_request = text.get(AFTER_TIME..).is_some_and(|text| text.starts_with(REQUEST));
        if !is_request {
            if contains(text, SLOW) {
                push(&mut self.notable, NOTABLE, self.number, part, text);
            }
            return push(&mut self.lines, LINES, self.number, part, text);
        }
        if &**part != BALANCER {
            // The balancer's line has the same request.
            return;
        }
        self.counts.0 += 1;
        if contains(text, FAILED) {
            self.counts.1 += 1;
            push(&mut self.notable, NOTABLE, self.number, part, text);
        }
        push(&mut self.requests, REQUESTS, self.number, part, text);
    }
}

fn push(ring: &mut VecDeque<RecentLine>, limit: usize, number: u64, part: &Rc<str>, text: &[u8]) {
    let mut line = if ring.len() == limit { ring.pop_front() } else { None }.unwrap_or_else(|| RecentLine {
        number,
        part: Rc::clone(part),
        at: SystemTime::UNIX_EPOCH,
        text: Vec::new(),
    });
    line.number = number;
    line.at = SystemTime::now();
    line.part.clone_from(part);
    line.text.clear();
    line.text.extend_from_slice(&text[..text.len().min(LONGEST)]);
    ring.push_back(line);
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    memchr::memmem::find(text, wanted).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_failures_and_other_lines_are_kept_apart_and_bounded() {
        let mut recent = Recent::default();
        let part: Rc<str> = "balancer".into();
        let request = |status: u16| {
            format!(
                r#"{{"time":"2026-11-30T10:00:00.000Z","level":"info","event":"request","bytes":1,"status":{status}}}"#
            )
        };
        for number in 0..1000_u16 {
            recent.push(&part, request(if number == 500 { 503 } else { 200 }).as_bytes());
            recent.push(&part, b"a line");
        }
        recent.push(&part, br#"{"event":"slow_request"}"#);
        recent.push(&part, &vec![b'x'; 100_000]);
        assert_eq!((recent.requests.len(), recent.lines.len(), recent.notable.len()), (REQUESTS, LINES, 2));
        let last = recent.lines.back().unwrap();
        assert_eq!((last.number, last.text.len()), (2002, LONGEST));
        recent.push(&"app-1".into(), request(500).as_bytes());
        assert_eq!((recent.counts(), recent.last()), ((1000, 1), 2003));
    }
}
