//! The shape of a JSON body: the keys and the number of its rows.
//!
//! Values are validated, not kept: PostgreSQL receives the original text. Memory is bounded, whatever the body.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The maximum nesting of JSON: PostgreSQL parses recursively, and reports a stack overflow as a server error.
const DEPTH: usize = 1000;
/// The maximum number of keys, and of their bytes: above the number of columns of any relation
/// (<https://www.postgresql.org/docs/current/limits.html>).
const KEYS: (usize, usize) = (2000, 256 << 10);

/// The shape of a JSON text, for rows and arguments.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) kind: Kind,
    /// The number of objects; one for a single object.
    pub(super) rows: usize,
    /// A key that occurs twice in an object.
    pub(super) repeated: Option<String>,
}

/// The kind of a JSON text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An object, or an array of objects with the same keys; empty for an empty array.
    Objects(BTreeSet<String>),
    /// An object or objects with more keys than any relation has columns.
    Wide,
    /// An array of values of different kinds, or of objects with different keys.
    Mixed,
    /// Neither array nor object.
    Scalar,
}

/// The shape of a text; `None` if it is not JSON. With `wanted`, other keys are ignored.
pub(super) fn shape(body: &[u8], wanted: Option<&BTreeSet<String>>) -> Option<Shape> {
    let mut deserializer = serde_json::Deserializer::from_str(std::str::from_utf8(body).ok()?);
    let mut rows = Rows::new(wanted);
    let uniform = deserializer.deserialize_any(Document(&mut rows)).ok()?;
    deserializer.end().ok()?;
    let kind = match uniform {
        None => Kind::Scalar,
        Some(false) => Kind::Mixed,
        Some(true) if rows.wide => Kind::Wide,
        Some(true) => Kind::Objects(rows.keys.unwrap_or_default().into_iter().collect()),
    };
    Some(Shape { kind, rows: rows.count, repeated: rows.repeated })
}

/// Whether arrays and objects are nested deeper than PostgreSQL can parse; unspecified for invalid JSON.
pub(super) fn is_too_deep(body: &[u8]) -> bool {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(byte) = body.get(at) {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => at = end_of_string(body, at + 1),
            _ => {}
        }
        if depth > DEPTH {
            return true;
        }
        at += 1;
    }
    false
}

/// The position of a string's closing quote.
fn end_of_string(body: &[u8], mut at: usize) -> usize {
    while let Some(found) = memchr::memchr2(b'"', b'\\', body.get(at..).unwrap_or_default()) {
        at += found;
        if body[at] == b'"' {
            return at;
        }
        at += 2;
    }
    body.len()
}

/// Returns `$value` for all scalars.
macro_rules! scalars {
    ($value:expr) => {
        scalars!($value; visit_bool bool, visit_i64 i64, visit_u64 u64, visit_f64 f64, visit_str &str);

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("JSON")
        }
    };
    ($value:expr; $($visit:ident $type:ty),*) => {
        $(fn $visit<E: Error>(self, _: $type) -> Result<Self::Value, E> {
            Ok($value)
        })*
    };
}

/// The document: whether it has rows with the same keys; `None` for a scalar.
struct Document<'r>(&'r mut Rows);

impl<'de> Visitor<'de> for Document<'_> {
    type Value = Option<bool>;

    scalars!(None);

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        self.0.visit_map(map).map(Some)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut uniform = true;
        while let Some(fits) = sequence.next_element_seed(&mut *self.0)? {
            uniform &= fits;
        }
        Ok(Some(uniform))
    }
}

/// The rows so far. A row matches if it is an object with the keys of the first; with chosen keys, any object does.
struct Rows {
    /// Sorted.
    keys: Option<Vec<String>>,
    /// Whether the keys were chosen by `columns`, so that others are ignored.
    chosen: bool,
    /// Which of the keys the current row has.
    seen: Vec<bool>,
    count: usize,
    wide: bool,
    repeated: Option<String>,
}

impl Rows {
    fn new(wanted: Option<&BTreeSet<String>>) -> Self {
        let keys = wanted.map(|wanted| wanted.iter().cloned().collect::<Vec<_>>());
        Self {
            seen: vec![false; keys.as_ref().map_or(0, Vec::len)],
            chosen: keys.is_some(),
            keys,
            count: 0,
            wide: false,
            repeated: None,
        }
    }

    /// Records the keys of the first row.
    fn learn<'de, A: MapAccess<'de>>(&mut self, mut map: A) -> Result<bool, A::Error> {
        let mut keys = BTreeSet::new();
        let (most, mut room) = KEYS;
        while let Some((key, IgnoredAny)) = map.next_entry::<Cow<'de, str>, _>()? {
            if keys.contains(&*key) {
                self.repeated.get_or_insert_with(|| key.into_owned());
            } else if keys.len() < most && key.len() <= room {
                room -= key.len();
                keys.insert(key.into_owned());
            } else {
                self.wide = true;
            }
        }
        self.seen.resize(keys.len(), false);
        self.keys = Some(keys.into_iter().collect());
        Ok(true)
    }
}

impl<'de> DeserializeSeed<'de> for &mut Rows {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Rows {
    type Value = bool;

    scalars!(false);

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<bool, A::Error> {
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(false)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        self.count += 1;
        let Some(keys) = &self.keys else { return self.learn(map) };
        let mut fits = true;
        self.seen.fill(false);
        while let Some((key, IgnoredAny)) = map.next_entry::<Cow<'de, str>, _>()? {
            match keys.binary_search_by(|known| known.as_str().cmp(&key)) {
                Ok(index) if self.seen[index] => {
                    self.repeated.get_or_insert_with(|| key.into_owned());
                }
                Ok(index) => self.seen[index] = true,
                Err(_) => fits = false,
            }
        }
        Ok(self.chosen || fits && self.seen.iter().all(|seen| *seen))
    }
}
