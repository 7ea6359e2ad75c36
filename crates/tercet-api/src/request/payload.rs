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
    /// Other JSON, as it came: a routine with one unnamed parameter takes it whole, nothing else takes it.
    JsonValue(Bytes),
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
            (MediaType::Json, _) => json(body, purpose),
            (MediaType::Csv, _) => csv_rows(&body),
            (MediaType::Form, Purpose::Arguments) => {
                let fields = form::decode(&body)?;
                Ok(Self::Form(
                    fields.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect(),
                ))
            }
            (MediaType::Form, Purpose::Rows) => {
                let mut object = BTreeMap::new();
                for (name, value) in form::decode(&body)? {
                    if object.contains_key(&name) {
                        return Err(RequestError::Body(format!("The field {name:?} is given twice")));
                    }
                    object.insert(name, value.unwrap_or_default());
                }
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
            Self::RawJson(_) | Self::JsonValue(_) | Self::Raw(_) => None,
        }
    }
}

fn json(body: Bytes, purpose: Purpose) -> Result<Payload, RequestError> {
    match (json::shape(&body), purpose) {
        (None, _) => Err(RequestError::Body("Empty or invalid json".into())),
        (Some(Shape::Objects(keys)), _) => Ok(Payload::Json { body, keys }),
        (Some(Shape::Nothing), _) => Ok(Payload::Json { body, keys: BTreeSet::new() }),
        (Some(Shape::Mixed | Shape::Scalar), Purpose::Arguments) => Ok(Payload::JsonValue(body)),
        (Some(Shape::Mixed), Purpose::Rows) => Err(RequestError::Body("All object keys must match".into())),
        (Some(Shape::Scalar), Purpose::Rows) => {
            Err(RequestError::Body("Rows are a JSON object or an array of objects".into()))
        }
    }
}

/// Rows under a header line, as an array of objects whose values are texts, or null where a field is empty or `NULL` without quotes:
/// what [`COPY`](https://www.postgresql.org/docs/current/sql-copy.html) and PostgREST take for a null.
fn csv_rows(body: &[u8]) -> Result<Payload, RequestError> {
    let text = form::text(body).map_err(|(before, bytes)| RequestError::Encoding {
        bytes,
        place: format!("failed to read the body (line {})", before.matches('\n').count() + 1),
    })?;
    let mut records = csv::records(text);
    let header = records
        .next()
        .unwrap_or_else(|| Err("parse error (not enough input) at \"\"".into()))
        .map_err(RequestError::Body)?
        .fields;
    let mut keys = BTreeSet::new();
    for name in &header {
        if !keys.insert(name.text.clone().into_owned()) {
            return Err(RequestError::Body(format!("The header names the column {:?} twice", name.text)));
        }
    }
    let mut rows = Vec::new();
    for record in records {
        let record = record.map_err(RequestError::Body)?;
        if record.fields.len() != header.len() {
            return Err(RequestError::Fields {
                line: record.line,
                fields: record.fields.len(),
                header: header.len(),
            });
        }
        let row: BTreeMap<&str, Option<&str>> = header
            .iter()
            .zip(&record.fields)
            .map(|(name, field)| {
                let is_null = !field.quoted && matches!(&*field.text, "" | "NULL");
                (&*name.text, (!is_null).then_some(&*field.text))
            })
            .collect();
        rows.push(serde_json::to_string(&row).expect("texts always serialise"));
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
            Err(error) => match error.details() {
                Some(details) => format!("{error}: {details}"),
                None => error.to_string(),
            },
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
        rows(" [ ] ", &expect![" [ ]  {}"]);
        rows("\"text\"", &expect!["Rows are a JSON object or an array of objects"]);
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
            "a,b\nNULL,\"x,\"\"y\"\"\"\r\n\"NULL\",\n,\"\"",
            &expect![[r#"[{"a":null,"b":"x,\"y\""},{"a":"NULL","b":null},{"a":null,"b":""}] {"a", "b"}"#]],
        );
        rows("a,b\n1", &expect!["All lines must have same number of fields"]);
        rows(
            "a,b\n1,2,3\n\n4,5",
            &expect!["All lines must have same number of fields: Line 2 has 3 fields and the header has 2"],
        );
        rows(
            "\"a\nb\",c\r\n\"1\r\n\",2\r3,4\n\n5,6,7",
            &expect!["All lines must have same number of fields: Line 7 has 3 fields and the header has 2"],
        );
        rows("a,b\n\n4,5\n", &expect![[r#"[{"a":"4","b":"5"}] {"a", "b"}"#]]);
        rows("a,a\n1,2", &expect![[r#"The header names the column "a" twice"#]]);
        rows("a,b", &expect![[r#"[] {"a", "b"}"#]]);
        rows("", &expect![[r#"parse error (not enough input) at """#]]);
        rows("a\n\"x", &expect!["parse error on line 2: a quoted CSV field has no end"]);
        rows("a\n\"x\"y", &expect!["parse error on line 2: 'y' after the closing quote of a CSV field"]);
        rows("a,b\n1,x\"y", &expect!["parse error on line 2: a quote inside of a CSV field without quotes"]);
        rows(
            "a\nx\0y",
            &expect![[
                r#"invalid byte sequence for encoding "UTF8": 0x00: failed to read the body (line 2)"#
            ]],
        );
    }

    #[test]
    fn reads_forms_and_raw_bodies() {
        let form = "application/x-www-form-urlencoded";
        check(form, Purpose::Rows, "b=1&a=x+y", &expect![[r#"{"a":"x y","b":"1"} {"a", "b"}"#]]);
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
        check(
            form,
            Purpose::Rows,
            "a=%00",
            &expect![[
                r#"invalid byte sequence for encoding "UTF8": 0x00: failed to decode "%00" (line 1, column 1)"#
            ]],
        );
        check(form, Purpose::Rows, "a=1&b=2&a=3", &expect![[r#"The field "a" is given twice"#]]);
    }

    #[test]
    fn keeps_json_that_is_a_whole_argument() {
        let json = "application/json";
        for whole in ["5", "\"text\"", "null", "true", "[1,2]", "[{\"a\":1},{\"b\":2}]", " [ 7 ] "] {
            let body = Bytes::copy_from_slice(whole.as_bytes());
            let payload = Payload::parse(body.clone(), &MediaType::Json, Purpose::Arguments, false);
            assert_eq!(payload, Ok(Payload::JsonValue(body)), "{whole}");
        }
        check(json, Purpose::Arguments, "[ ]", &expect!["[ ] {}"]);
        check(json, Purpose::Arguments, "[5", &expect!["Empty or invalid json"]);
    }
}
