//! The shape of a JSON body: which keys its rows have.
//!
//! Values are checked for being JSON and not kept: PostgreSQL gets the text as it came.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What a JSON text is made of, as far as it matters for rows and arguments.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One object, or an array of some with the same keys.
    Objects(BTreeSet<String>),
    /// An empty array.
    Nothing,
    /// An array of different things.
    Mixed,
    /// Neither array nor object.
    Scalar,
}

/// The shape of a text, `None` when it is not JSON.
pub(super) fn shape(body: &[u8]) -> Option<Shape> {
    let mut deserializer = serde_json::Deserializer::from_str(std::str::from_utf8(body).ok()?);
    let shape = deserializer.deserialize_any(Document).ok()?;
    deserializer.end().ok()?;
    Some(shape)
}

/// Answers `$value` for everything that is neither array nor object.
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

struct Document;

impl<'de> Visitor<'de> for Document {
    type Value = Shape;

    scalars!(Shape::Scalar);

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        let mut keys = BTreeSet::new();
        while let Some((key, IgnoredAny)) = map.next_entry()? {
            keys.insert(key);
        }
        Ok(Shape::Objects(keys))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Shape, A::Error> {
        let mut rows = Rows::default();
        let mut uniform = true;
        while let Some(fits) = sequence.next_element_seed(&mut rows)? {
            uniform &= fits;
        }
        Ok(match rows.keys {
            _ if !uniform => Shape::Mixed,
            Some(keys) => Shape::Objects(keys.into_iter().collect()),
            None => Shape::Nothing,
        })
    }
}

/// The rows of an array so far; the next one fits if it is an object with the keys of the first.
#[derive(Default)]
struct Rows {
    /// Sorted.
    keys: Option<Vec<String>>,
    /// Which of the keys the row at hand has.
    seen: Vec<bool>,
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
        let Some(keys) = &self.keys else {
            let mut keys = BTreeSet::new();
            while let Some((key, IgnoredAny)) = map.next_entry()? {
                keys.insert(key);
            }
            self.seen.resize(keys.len(), false);
            self.keys = Some(keys.into_iter().collect());
            return Ok(true);
        };
        let mut fits = true;
        self.seen.fill(false);
        while let Some((key, IgnoredAny)) = map.next_entry::<Cow<'de, str>, _>()? {
            match keys.binary_search_by(|known| known.as_str().cmp(&key)) {
                Ok(index) => self.seen[index] = true,
                Err(_) => fits = false,
            }
        }
        Ok(fits && self.seen.iter().all(|seen| *seen))
    }
}
