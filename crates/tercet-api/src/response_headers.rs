//! Response headers set by SQL. Headers beyond the size limit are counted but not kept, since `HeaderMap` has a
//! maximum.

use std::borrow::Cow;
use std::fmt;

use http::HeaderMap;
use http::header::{CONTENT_LOCATION, HeaderName, HeaderValue, LOCATION};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The maximum size of the head, in bytes; half of the balancer's default limit.
pub(crate) const HEAD_BYTES: usize = 32 << 10;
/// The maximum number of header lines.
pub(crate) const LINES: usize = 80;
/// The maximum size of an optional header, in bytes.
pub(crate) const OPTIONAL_BYTES: usize = 8 << 10;
/// Informative headers that may be omitted: `Location` of a row with a very long key.
pub(crate) const OPTIONAL: [HeaderName; 3] =
    [CONTENT_LOCATION, LOCATION, HeaderName::from_static("proxy-status")];

/// Why a response is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidResponse {
    /// The status is not a final one.
    #[error("status {0} is not one of 200 to 599")]
    Status(u16),
    /// A header name or value is invalid in HTTP.
    #[error("the header {0:?} has an invalid name or value")]
    Header(String),
    /// The head is larger than proxies accept.
    #[error("the head has {bytes} bytes in {lines} lines; at most {HEAD_BYTES} in {LINES} can be sent")]
    Head {
        /// Its size.
        bytes: usize,
        /// Its number of headers.
        lines: usize,
    },
}

/// Headers from an object of names and values, or from an array of objects with one member each.
#[derive(Debug, Default)]
pub struct Headers {
    kept: Vec<(HeaderName, HeaderValue)>,
    bytes: usize,
    lines: usize,
    /// The first invalid header.
    wrong: Option<String>,
}

impl Headers {
    fn push(&mut self, name: &str, value: &str) {
        self.lines += 1;
        self.bytes = self.bytes.saturating_add(name.len() + value.len() + 4);
        let header =
            HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_bytes(value.as_bytes()).ok());
        let Some((name, value)) = header else {
            self.wrong.get_or_insert_with(|| name.to_owned());
            return;
        };
        if OPTIONAL.contains(&name) && value.len() > OPTIONAL_BYTES {
            self.bytes -= value.len();
        }
        if self.is_sendable() {
            self.kept.push((name, value));
        }
    }

    fn is_sendable(&self) -> bool {
        self.lines <= LINES && self.bytes <= HEAD_BYTES
    }

    /// Why the headers are invalid, if they are.
    pub fn fault(&self) -> Option<InvalidResponse> {
        let wrong = self.wrong.clone().map(InvalidResponse::Header);
        wrong.or_else(|| {
            (!self.is_sendable()).then_some(InvalidResponse::Head { bytes: self.bytes, lines: self.lines })
        })
    }

    /// The names of the kept headers.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.kept.iter().map(|(name, _)| name)
    }

    /// Adds the kept headers.
    pub fn add_to(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.kept {
            // Their limit is far below the map's maximum.
            let _ = headers.try_append(name, value.clone());
        }
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

/// [`Headers`] parsed from an array of objects with one member each.
#[derive(Debug)]
pub struct Listed(pub Headers);

impl<'de> Deserialize<'de> for Listed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Items).map(Self)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Headers;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Headers, A::Error> {
        let mut headers = Headers::default();
        while let Some((Text(name), Text(value))) = members.next_entry()? {
            headers.push(&name, &value);
        }
        Ok(headers)
    }
}

struct Items;

impl<'de> Visitor<'de> for Items {
    type Value = Headers;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array of objects with one text each")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Headers, A::Error> {
        let mut headers = Headers::default();
        while let Some(Pair(Text(name), Text(value))) = items.next_element()? {
            headers.push(&name, &value);
        }
        Ok(headers)
    }
}

/// The single member of an object.
struct Pair<'a>(Text<'a>, Text<'a>);

impl<'de> Deserialize<'de> for Pair<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OneMember)
    }
}

struct OneMember;

impl<'de> Visitor<'de> for OneMember {
    type Value = Pair<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with one text")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let (name, value) = members.next_entry()?.ok_or_else(|| A::Error::invalid_length(0, &self))?;
        match members.next_key::<Text<'_>>()? {
            None => Ok(Pair(name, value)),
            Some(_) => Err(A::Error::invalid_length(2, &self)),
        }
    }
}

/// A text, borrowed from the document unless it has escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` headers with different names.
    fn object(count: usize, value: &str) -> String {
        let members: Vec<_> = (0..count).map(|number| format!("\"x-{number}\":\"{value}\"")).collect();
        format!("{{{}}}", members.join(","))
    }

    fn read(text: &str) -> Headers {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn headers_beyond_the_limit_are_counted_and_not_kept() {
        for (count, value) in [(LINES, "a"), (30_000, "a"), (100_000, "a"), (40, &"a".repeat(1 << 20))] {
            let headers = read(&object(count, value));
            assert_eq!((headers.lines, headers.fault().is_some()), (count, count != LINES), "{count}");
            assert!(headers.kept.len() <= LINES);
            let kept: usize = headers.kept.iter().map(|(_, value)| value.len()).sum();
            assert!(kept <= HEAD_BYTES);
            let mut map = HeaderMap::new();
            headers.add_to(&mut map);
            assert_eq!(map.len(), headers.kept.len());
        }
    }

    #[test]
    fn parses_texts_with_escapes() {
        let headers = read(r#"{"x-\u0061":"\"b\""}"#);
        assert_eq!(headers.kept[0], (HeaderName::from_static("x-a"), HeaderValue::from_static("\"b\"")));
        assert!(serde_json::from_str::<Headers>(r#"{"a":1}"#).is_err());
    }

    #[test]
    fn names_the_invalid_header() {
        assert_eq!(
            read(r#"{"a":"1","b c":"2","d":"\n"}"#).fault(),
            Some(InvalidResponse::Header("b c".into()))
        );
    }
}
