//! Conditional requests: whether a client already has the file, or insists on the version that it knows (RFC 9110
//! section 13).
//!
//! `If-Modified-Since` is compared for equality, as section 13.1.3 permits: after a rollback, a file is older than the one
//! that the client has.

use std::time::SystemTime;

/// The result of a request's preconditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precondition {
    /// The file is sent.
    Holds,
    /// The client has it: 304.
    NotModified,
    /// The client expects another version: 412.
    Failed,
}

/// The validators of a file.
#[derive(Clone, Debug)]
pub(crate) struct Validators {
    /// Its entity tag, in quotes.
    pub(crate) etag: String,
    /// When it was modified, to the second, if that is known.
    pub(crate) modified: Option<SystemTime>,
}

impl Validators {
    /// Evaluates the preconditions of a GET or HEAD, in the order of section 13.2.2. `value` returns the first value of a
    /// field.
    pub(crate) fn evaluate<'a>(&self, value: impl Fn(&[u8]) -> Option<&'a [u8]>) -> Precondition {
        if let Some(tags) = value(b"if-match") {
            if !self.is_in(tags, Comparison::Strong) {
                return Precondition::Failed;
            }
        } else if self
            .modified
            .zip(date(value(b"if-unmodified-since")))
            .is_some_and(|(modified, date)| modified > date)
        {
            return Precondition::Failed;
        }
        let has_it = match value(b"if-none-match") {
            Some(tags) => self.is_in(tags, Comparison::Weak),
            None => self.was_modified_at(value(b"if-modified-since")),
        };
        if has_it { Precondition::NotModified } else { Precondition::Holds }
    }

    /// Whether a range may be sent, by the value of `If-Range` (section 13.1.5).
    pub(crate) fn permit_range(&self, if_range: Option<&[u8]>) -> bool {
        match if_range {
            None => true,
            Some(tag) if tag.starts_with(b"\"") => tag == self.etag.as_bytes(),
            date_or_weak_tag => self.was_modified_at(date_or_weak_tag),
        }
    }

    fn was_modified_at(&self, value: Option<&[u8]>) -> bool {
        self.modified.is_some_and(|modified| date(value) == Some(modified))
    }

    /// Whether the file's entity tag is in the list; `*` stands for any.
    fn is_in(&self, list: &[u8], comparison: Comparison) -> bool {
        let mut rest = list.trim_ascii();
        if rest == b"*" {
            return true;
        }
        loop {
            let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b',');
            rest = &rest[rest.iter().position(|byte| !is_space(byte)).unwrap_or(rest.len())..];
            let is_weak = rest.starts_with(b"W/");
            let tag = if is_weak { &rest[2..] } else { rest };
            let Some(end) = tag.strip_prefix(b"\"").and_then(|after| memchr::memchr(b'"', after)) else {
                return false;
            };
            let (tag, after) = tag.split_at(end + 2);
            if tag == self.etag.as_bytes() && (!is_weak || comparison == Comparison::Weak) {
                return true;
            }
            rest = after;
        }
    }
}

/// How entity tags are compared (section 8.8.3.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

fn date(value: Option<&[u8]>) -> Option<SystemTime> {
    httpdate::parse_http_date(str::from_utf8(value?).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn validators() -> Validators {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        Validators { etag: "\"abc\"".to_owned(), modified: Some(modified) }
    }

    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    #[test]
    fn preconditions_are_evaluated_in_the_order_of_rfc_9110() {
        use Precondition::{Failed, Holds, NotModified};
        for (fields, expected) in [
            (&[][..], Holds),
            (&[("if-none-match", "\"abc\"")], NotModified),
            (&[("if-none-match", "W/\"abc\"")], NotModified),
            (&[("if-none-match", "\"x\", W/\"y,z\" ,\"abc\"")], NotModified),
            (&[("if-none-match", "*")], NotModified),
            (&[("if-none-match", "\"abcd\"")], Holds),
            (&[("if-none-match", "abc")], Holds),
            (&[("if-none-match", "\"abc")], Holds),
            (&[("if-none-match", "\"x\" abc")], Holds),
            (&[("if-modified-since", SAME)], NotModified),
            (&[("if-modified-since", LATER)], Holds),
            (&[("if-modified-since", EARLIER)], Holds),
            (&[("if-modified-since", "yesterday")], Holds),
            (&[("if-none-match", "\"x\""), ("if-modified-since", SAME)], Holds),
            (&[("if-match", "\"abc\"")], Holds),
            (&[("if-match", "*")], Holds),
            (&[("if-match", "W/\"abc\"")], Failed),
            (&[("if-match", "\"x\"")], Failed),
            (&[("if-match", "\"x\""), ("if-none-match", "\"abc\"")], Failed),
            (&[("if-unmodified-since", SAME)], Holds),
            (&[("if-unmodified-since", EARLIER)], Failed),
            (&[("if-match", "\"abc\""), ("if-unmodified-since", EARLIER)], Holds),
        ] {
            let value =
                |name: &[u8]| fields.iter().find(|it| it.0.as_bytes() == name).map(|it| it.1.as_bytes());
            assert_eq!(validators().evaluate(value), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_range_is_sent_of_the_version_that_the_client_has() {
        for (value, permitted) in [
            ("\"abc\"", true),
            ("\"x\"", false),
            ("W/\"abc\"", false),
            (SAME, true),
            (LATER, false),
            ("", false),
        ] {
            assert_eq!(validators().permit_range(Some(value.as_bytes())), permitted, "{value}");
        }
        assert!(validators().permit_range(None));
    }
}
