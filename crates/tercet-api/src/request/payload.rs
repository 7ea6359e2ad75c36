//! Bodies: what a client wants written, or passed to a routine.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::json::{self, Shape};
use super::media_type::MediaType;
use super::{csv, form};
use crate::error::RequestError;

/// A body that fits its media type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// JSON objects that all have the same keys: an array of them, or one alone. CSV and forms written to a relation become this.
    Json {
        /// Valid JSON text.
        body: Bytes,
        /// The keys; empty for an empty array.
        keys: BTreeSet<String>,
    },
    /// JSON that was not looked at, because `columns=` says which keys count.
    RawJson(Bytes),
    /// A form whose fields are the arguments of a routine, in their order, repeated ones kept.
    Form(Vec<(String, String)>),
    /// Text, XML or bytes for a routine with one unnamed parameter.
    Raw(Bytes),
}

/// What a body is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Rows of a relation.
    Rows,
    /// Arguments of a routine.
    Arguments,
}

impl Payload {
    /// Reads a body; `columns_given` when the client says which keys count.
    pub(super) fn parse(
        body: Bytes,
        content_type: &MediaType,
        purpose: Purpose,
        columns_given: bool,
    ) -> Result<Self, RequestError> {
        match (content_type, purpose) {
            (MediaType::Json, _) if columns_given => Ok(Self::RawJson(body)),
            (MediaType::Json, Purpose::Arguments) if body.is_empty() => {
                Ok(Self::Json { body: Bytes::from_static(b"{}"), keys: BTreeSet::new() })
            }
            (MediaType::Json, _) => json(body),
            (MediaType::Csv, _) => csv_rows(&body),
            (MediaType::Form, Purpose::Arguments) => {
                let fields = form::decode(&body);
                Ok(Self::Form(
                    fields.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect(),
                ))
            }
            (MediaType::Form, Purpose::Rows) => {
                let object: BTreeMap<_, _> = form::decode(&body)
                    .into_iter()
                    .map(|(name, value)| (name, value.unwrap_or_default()))
                    .collect();
                let body = serde_json::to_vec(&object).expect("texts always serialise").into();
                Ok(Self::Json { body, keys: object.into_keys().collect() })
            }
            (MediaType::PlainText | MediaType::Xml | MediaType::OctetStream, Purpose::Arguments) => {
                Ok(Self::Raw(body))
            }
            (other, _) => Err(RequestError::Body(format!("Content-Type not acceptable: {other}"))),
        }
    }

    /// Names of the columns or arguments the body carries, where it says them itself.
    pub(super) fn keys(&self) -> Option<BTreeSet<String>> {
        match self {
            Self::Json { keys, .. } => Some(keys.clone()),
            Self::Form(fields) => Some(fields.iter().map(|(name, _)| name.clone()).collect()),
            Self::RawJson(_) | Self::Raw(_) => None,
        }
    }
}

fn json(body: Bytes) -> Result<Payload, RequestError> {
    match json::shape(&body) {
        None => Err(RequestError::Body("Empty or invalid json".into())),
        Some(Shape::Mixed) => Err(RequestError::Body("All object keys must match".into())),
        Some(Shape::Objects(keys)) => Ok(Payload::Json { body, keys }),
        Some(Shape::Nothing) => Ok(Payload::Json { body: Bytes::from_static(b"[]"), keys: BTreeSet::new() }),
    }
}

/// Rows under a header line, as an array of objects whose values are texts, or null where a field is `NULL`.
fn csv_rows(body: &[u8]) -> Result<Payload, RequestError> {
    let text = std::str::from_utf8(body).map_err(|_| RequestError::Body("CSV must be UTF-8".into()))?;
    let mut records = csv::records(text);
    let header = records
        .next()
        .unwrap_or_else(|| Err("parse error (not enough input) at \"\"".into()))
        .map_err(RequestError::Body)?;
    let keys: BTreeSet<String> = header.iter().map(|name| name.clone().into_owned()).collect();
    let mut rows = Vec::new();
    for record in records {
        let record = record.map_err(RequestError::Body)?;
        if record.len() < header.len() {
            return Err(RequestError::Body("All lines must have same number of fields".into()));
        }
        let row: BTreeMap<&str, Option<&str>> = header
            .iter()
            .zip(&record)
            .map(|(name, value)| (name.as_ref(), Some(value.as_ref()).filter(|value| *value != "NULL")))
            .collect();
        rows.push(serde_json::to_string(&row).expect("texts always serialise"));
    }
    if rows.is_empty() {
        return Ok(Payload::Json { body: Bytes::from_static(b"[]"), keys: BTreeSet::new() });
    }
    Ok(Payload::Json { body: format!("[{}]", rows.join(",")).into(), keys })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(content_type: &str, purpose: Purpose, body: &str, expect: &Expect) {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let actual = match Payload::parse(body, &MediaType::parse(content_type), purpose, false) {
            Ok(Payload::Json { body, keys }) => format!("{} {keys:?}", String::from_utf8_lossy(&body)),
            Ok(other) => format!("{other:?}"),
            Err(error) => error.to_string(),
        };
        expect.assert_eq(&actual);
    }

    #[test]
    fn reads_json_rows() {
        let rows =
            |body, expect: &Expect| check("application/json; charset=utf-8", Purpose::Rows, body, expect);
        rows(r#"{"b":1,"a":{"c":[]}}"#, &expect![[r#"{"b":1,"a":{"c":[]}} {"a", "b"}"#]]);
        rows(
            r#"[{"a":1,"b":2},{"b":1,"a":null}]"#,
            &expect![[r#"[{"a":1,"b":2},{"b":1,"a":null}] {"a", "b"}"#]],
        );
        rows(r#"[{"a":1},{"b":2}]"#, &expect!["All object keys must match"]);
        rows(r#"[{"a":1},{"a":2,"b":2}]"#, &expect!["All object keys must match"]);
        rows(r#"[{"a":1,"b":2},{"a":1,"a":2}]"#, &expect!["All object keys must match"]);
        rows(r#"[{"a":1},7]"#, &expect!["All object keys must match"]);
        rows("[7]", &expect!["All object keys must match"]);
        rows(r#"[[{"a":1}]]"#, &expect!["All object keys must match"]);
        rows(" [ ] ", &expect!["[] {}"]);
        rows("\"text\"", &expect!["[] {}"]);
        rows("1e400", &expect!["Empty or invalid json"]);
        rows("", &expect!["Empty or invalid json"]);
        rows("{} {}", &expect!["Empty or invalid json"]);
        rows(r#"[{"a":1}"#, &expect!["Empty or invalid json"]);
        rows(&"[".repeat(100_000), &expect!["Empty or invalid json"]);
    }

    #[test]
    fn reads_csv_rows() {
        let rows = |body, expect: &Expect| check("text/csv", Purpose::Rows, body, expect);
        rows(
            "a,b\nNULL,\"x,\"\"y\"\"\"\r\n\"NULL\",",
            &expect![[r#"[{"a":null,"b":"x,\"y\""},{"a":null,"b":""}] {"a", "b"}"#]],
        );
        rows("a,b\n1", &expect!["All lines must have same number of fields"]);
        rows("a,b\n1,2,3\n\n4,5", &expect![[r#"[{"a":"1","b":"2"},{"a":"4","b":"5"}] {"a", "b"}"#]]);
        rows("a,b", &expect!["[] {}"]);
        rows("", &expect![[r#"parse error (not enough input) at """#]]);
        rows("a\n\"x", &expect!["parse error: a quoted CSV field has no end"]);
        rows("a\n\"x\"y", &expect!["parse error: 'y' after the closing quote of a CSV field"]);
    }

    #[test]
    fn reads_forms_and_raw_bodies() {
        let form = "application/x-www-form-urlencoded";
        check(form, Purpose::Rows, "b=1&a=x+y&b=2", &expect![[r#"{"a":"x y","b":"2"} {"a", "b"}"#]]);
        check(
            form,
            Purpose::Arguments,
            "b=1&a=x+y&b=2",
            &expect![[r#"Form([("b", "1"), ("a", "x y"), ("b", "2")])"#]],
        );
        check("text/plain", Purpose::Arguments, "any", &expect![[r#"Raw(b"any")"#]]);
        check("text/plain", Purpose::Rows, "any", &expect!["Content-Type not acceptable: text/plain"]);
        check("image/png", Purpose::Arguments, "any", &expect!["Content-Type not acceptable: image/png"]);
        check("application/json", Purpose::Arguments, "", &expect!["{} {}"]);
    }
}
