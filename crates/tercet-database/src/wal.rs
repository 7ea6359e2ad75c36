//! Names of WAL segments, and gaps in an archive of them.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

/// The size of the address space that the second part of a segment's name counts.
const LOG_SIZE: u64 = 1 << 32;

/// A WAL segment, as its file name says (PostgreSQL manual, section 30.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    /// The timeline.
    pub timeline: u32,
    log: u32,
    part: u32,
}

/// A file name that is no WAL segment's: a timeline history file, a backup history file, or a foreign file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotASegment;

impl FromStr for Segment {
    type Err = NotASegment;

    fn from_str(name: &str) -> Result<Self, NotASegment> {
        if name.len() != 24 || !name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F')) {
            return Err(NotASegment);
        }
        let part = |range| u32::from_str_radix(&name[range], 16).map_err(|_| NotASegment);
        Ok(Self { timeline: part(0..8)?, log: part(8..16)?, part: part(16..24)? })
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}{:08X}{:08X}", self.timeline, self.log, self.part)
    }
}

impl Segment {
    /// The segment that contains a location like `0/3000110`.
    pub fn of(location: &str, timeline: u32, segment_size: u64) -> Option<Self> {
        let (log, offset) = location.split_once('/')?;
        let offset = u64::from_str_radix(offset, 16).ok()?;
        Some(Self {
            timeline,
            log: u32::from_str_radix(log, 16).ok()?,
            part: u32::try_from(offset / segment_size).ok()?,
        })
    }

    /// The segment after this one on the same timeline.
    #[must_use]
    pub fn next(self, segment_size: u64) -> Self {
        if u64::from(self.part) + 1 < LOG_SIZE / segment_size {
            Self { part: self.part + 1, ..self }
        } else {
            Self { log: self.log + 1, part: 0, ..self }
        }
    }
}

/// Recovery ended although the archive has later WAL: a segment is missing or damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The segment that is missing, or that recovery could not replay.
    pub at: Segment,
    /// Whether the archive has that segment.
    pub damaged: bool,
    /// The last segment of the archive on that timeline.
    pub last: Segment,
    /// PostgreSQL's reason for the end of recovery, if it gave one.
    pub reason: Option<String>,
    /// The commit time of the last transaction before the gap.
    pub reached: Option<Timestamp>,
}

impl Gap {
    /// Finds the gap at which recovery ended, whose last record was in segment `end`; `None` if that was the end of
    /// the archive, which has these `segments`.
    pub fn find(
        end: Segment,
        segments: impl IntoIterator<Item = Segment>,
        segment_size: u64,
    ) -> Option<Self> {
        let later: Vec<_> = segments
            .into_iter()
            .filter(|segment| segment.timeline == end.timeline && *segment > end)
            .collect();
        let last = later.iter().max().copied()?;
        let next = end.next(segment_size);
        let damaged = later.contains(&next);
        // With its successor in the archive, the segment of the last record could not be replayed to its end.
        let at = if damaged { end } else { next };
        Some(Self { at, damaged, last, reason: None, reached: None })
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.damaged {
            write!(f, "WAL segment {} in the archive is damaged", self.at)?;
        } else {
            write!(f, "WAL segment {} is missing from the archive", self.at)?;
        }
        if let Some(reason) = &self.reason {
            write!(f, " ({reason})")?;
        }
        write!(f, ", which goes on to {}", self.last)?;
        match self.reached {
            Some(time) => write!(f, "; the last transaction before the gap was committed at {time}"),
            None => f.write_str("; no transaction was committed before the gap"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 16 << 20;

    fn segment(name: &str) -> Segment {
        name.parse().unwrap()
    }

    #[test]
    fn names_are_read_and_counted() {
        let last = segment("0000000200000003000000FF");
        assert_eq!(last.next(SIZE).to_string(), "000000020000000400000000");
        assert_eq!(Segment::of("3/FF000110", 2, SIZE), Some(last));
        for other in
            ["00000002.history", "000000010000000000000002.00000028.backup", "0000000200000003000000fg"]
        {
            assert_eq!(other.parse::<Segment>(), Err(NotASegment), "{other}");
        }
    }

    #[test]
    fn a_gap_is_a_missing_or_a_damaged_segment() {
        let end = segment("000000010000000000000003");
        let find = |names: &[&str]| {
            Gap::find(end, names.iter().map(|name| segment(name)), SIZE).map(|gap| gap.to_string())
        };
        assert_eq!(find(&["000000010000000000000002", "000000010000000000000003"]), None);
        assert_eq!(find(&["000000020000000000000005"]), None, "another timeline");
        assert_eq!(
            find(&["000000010000000000000003", "000000010000000000000005"]).unwrap(),
            "WAL segment 000000010000000000000004 is missing from the archive, which goes on to \
             000000010000000000000005; no transaction was committed before the gap"
        );
        assert!(
            find(&["000000010000000000000003", "000000010000000000000004"])
                .unwrap()
                .starts_with("WAL segment 000000010000000000000003 in the archive is damaged")
        );
    }
}
