//! Request bodies: rows to write, or arguments of a routine.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::form::StrayPercent;
use super::json::{self, Kind, Shape};
use super::{csv, form};
use crate::error::RequestError;
use crate::media_type::MediaType;

/// The maximum number of fields in a form.
const FIELDS: usize = 1 << 15;

/// A body parsed by its media type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// JSON objects with the same keys: an array, or a single object. CSV and forms written to a relation are
    /// converted to this.
    Json {
        /// Valid JSON text.
        rows: Rows,
        /// The keys; empty for an empty array.
        keys: BTreeSet<String>,
    },
    /// Other JSON, unchanged: only for a routine with a single unnamed parameter.
    JsonValue(Bytes),
    /// JSON of which only the keys in `columns=` are used.
    RawJson(Rows),
    /// A form with the arguments of a routine, in order, including repeated ones.
    Form(Vec<(String, String)>),
    /// Text, XML or bytes for a routine with a single unnamed parameter.
    Raw(Bytes),
}

/// JSON with rows or arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    /// The text.
    pub body: Bytes,
    /// The number of objects; 1 if there are none that PostgreSQL accepts.
    pub count: usize,
    /// A key that occurs twice in an object: an error, unless the text is the single argument of a routine.
    pub repeated: Option<String>,
}

/// The use of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Rows of a relation.
    Rows,
    /// Arguments of a routine.
    Arguments,
}

/// A memory reservation for the parsed form of a body.
pub trait Reserve {
    /// Reserves more bytes.
    ///
    /// # Errors
    /// The limit is exceeded.
    fn reserve(&mut self, bytes: usize) -> Result<(), RequestError>;
}

/// No limit, for short bodies.
#[derive(Debug, Clone, Copy)]
pub struct Unlimited;

impl Reserve for Unlimited {
    fn reserve(&mut self, _: usize) -> Result<(), RequestError> {
        Ok(())
    }
}

/// How a body is parsed, from the request's head.
#[derive(Debug, Clone)]
pub struct Reading {
    pub(super) content_type: MediaType,
    pub(super) purpose: Purpose,
    /// The keys to use, if the client names them.
    pub(super) columns: Option<BTreeSet<String>>,
}

impl Reading {
    /// Parses a body; may take long.
    ///
    /// # Errors
    /// The body does not match its media type or use, or exceeds the memory limit.
    pub fn read(&self, body: Bytes, memory: &mut dyn Reserve) -> Result<Payload, RequestError> {
        match (&self.content_type, self.purpose) {
            (MediaType::Json, Purpose::Arguments) if body.is_empty() && self.columns.is_none() => {
                let rows = Rows { body: Bytes::from_static(b"{}"), count: 1, repeated: None };
                Ok(Payload::Json { rows, keys: BTreeSet::new() })
            }
            (MediaType::Json, _) => self.json(body),
            (MediaType::Csv, _) => csv_rows(&body, memory),
            (MediaType::Form, Purpose::Arguments) => form_fields(&body, memory).map(Payload::Form),
            (MediaType::Form, Purpose::Rows) => form_row(&body, memory),
            (MediaType::PlainText | MediaType::Xml | MediaType::OctetStream, Purpose::Arguments) => {
                Ok(Payload::Raw(body))
            }
            (other, _) => Err(RequestError::Body(format!("Content-Type not acceptable: {other}"))),
        }
    }

    fn json(&self, body: Bytes) -> Result<Payload, RequestError> {
        if json::is_too_deep(&body) {
            return Err(RequestError::Body("The JSON is nested too deep".into()));
        }
        let shape = json::shape(&body, self.columns.as_ref());
        if self.columns.is_some() {
            // PostgreSQL reports what is wrong with it.
            let (count, repeated) = shape.map_or((1, None), |shape| match shape.kind {
                Kind::Objects(_) => (shape.rows, shape.repeated),
                _ => (1, shape.repeated),
            });
            return self.unrepeated(Rows { body, count, repeated }).map(Payload::RawJson);
        }
        let Some(Shape { kind, rows: count, repeated }) = shape else {
            return Err(RequestError::Body("Empty or invalid json".into()));
        };
        let mistake = match (kind, self.purpose) {
            (Kind::Objects(keys), _) => {
                let rows = self.unrepeated(Rows { body, count, repeated })?;
                return Ok(Payload::Json { rows, keys });
            }
            (_, Purpose::Arguments) => return Ok(Payload::JsonValue(body)),
            (Kind::Wide, Purpose::Rows) => "An object has more keys than any relation has columns",
            (Kind::Mixed, Purpose::Rows) => "All object keys must match",
            (Kind::Scalar, Purpose::Rows) => "Rows are a JSON object or an array of objects",
        };
        Err(RequestError::Body(mistake.into()))
    }

    /// Rejects a repeated key, except where the text may be the single argument of a routine.
    fn unrepeated(&self, rows: Rows) -> Result<Rows, RequestError> {
        match &rows.repeated {
            Some(key) if self.purpose == Purpose::Rows => Err(RequestError::Repeated(key.clone())),
            _ => Ok(rows),
        }
    }
}

impl Payload {
    /// The columns or arguments in the body, if it names them.
    pub(super) fn keys(&self) -> Option<BTreeSet<String>> {
        match self {
            Self::Json { keys, .. } => Some(keys.clone()),
            Self::Form(fields) => Some(fields.iter().map(|(name, _)| name.clone()).collect()),
            Self::RawJson(_) | Self::JsonValue(_) | Self::Raw(_) => None,
        }
    }

    /// Its size in memory, in bytes.
    pub fn size(&self) -> usize {
        match self {
            Self::Json { rows, .. } | Self::RawJson(rows) => rows.body.len(),
            Self::JsonValue(body) | Self::Raw(body) => body.len(),
            Self::Form(fields) => fields.iter().map(field_size).sum(),
        }
    }

    /// The rows, if there are any.
    pub fn rows(&self) -> Option<&Rows> {
        match self {
            Self::Json { rows, .. } | Self::RawJson(rows) => Some(rows),
            Self::JsonValue(_) | Self::Form(_) | Self::Raw(_) => None,
        }
    }
}

fn field_size((name, value): &(String, String)) -> usize {
    name.len() + value.len() + size_of::<(String, String)>()
}

/// The fields of a form, in order.
fn form_fields(body: &[u8], memory: &mut dyn Reserve) -> Result<Vec<(String, String)>, RequestError> {
    let mut fields = Vec::new();
    for field in form::decode(body, StrayPercent::Rejected) {
        let (name, value) = field?;
        let field = (name, value.unwrap_or_default());
        memory.reserve(field_size(&field))?;
        if fields.len() == FIELDS {
            return Err(RequestError::Body(format!("The form has more than {FIELDS} fields")));
        }
        fields.push(field);
    }
    Ok(fields)
}

/// A form as a single row.
fn form_row(body: &[u8], memory: &mut dyn Reserve) -> Result<Payload, RequestError> {
    let mut keys = BTreeSet::new();
    let mut json = Json::new(memory);
    json.push(b"{")?;
    for (name, value) in form_fields(body, json.memory)? {
        if keys.contains(&name) {
            return Err(RequestError::Body(format!("The field {name:?} is given twice")));
        }
        if !keys.is_empty() {
            json.push(b",")?;
        }
        json.text(&name)?;
        json.push(b":")?;
        json.text(&value)?;
        keys.insert(name);
    }
    json.push(b"}")?;
    Ok(Payload::Json { rows: Rows { body: json.bytes.into(), count: 1, repeated: None }, keys })
}

/// CSV records after a header, as an array of objects with text values; null for an empty or unquoted `NULL` field,
/// as in [`COPY`](https://www.postgresql.org/docs/current/sql-copy.html) and PostgREST.
fn csv_rows(body: &[u8], memory: &mut dyn Reserve) -> Result<Payload, RequestError> {
    let text = form::text(body).map_err(|(before, bytes)| RequestError::Encoding {
        bytes,
        position: format!("failed to read the body (line {})", before.matches('\n').count() + 1),
    })?;
    let mut records = csv::records(text);
    let header = records
        .next()
        .unwrap_or_else(|| Err("parse error (not enough input) at \"\"".into()))
        .map_err(RequestError::Body)?
        .fields;
    let mut keys = BTreeSet::new();
    let mut names = Vec::new();
    for field in header {
        memory.reserve(2 * field.text.len() + size_of::<(String, Vec<u8>)>())?;
        let mut name = Json::new(memory);
        name.text(&field.text)?;
        name.push(b":")?;
        names.push(name.bytes);
        if let Some(twice) = keys.replace(field.text.into_owned()) {
            return Err(RequestError::Body(format!("The header names the column {twice:?} twice")));
        }
    }
    let mut json = Json::new(memory);
    let mut count = 0;
    for record in records {
        let record = record.map_err(RequestError::Body)?;
        if record.fields.len() != names.len() {
            return Err(RequestError::Fields {
                line: csv::line(text, record.from),
                fields: record.fields.len(),
                header: names.len(),
            });
        }
        json.push(if count == 0 { b"[{" } else { b",{" })?;
        count += 1;
        for (index, (name, field)) in names.iter().zip(&record.fields).enumerate() {
            if index > 0 {
                json.push(b",")?;
            }
            json.push(name)?;
            if !field.quoted && matches!(&*field.text, "" | "NULL") {
                json.push(b"null")?;
            } else {
                json.text(&field.text)?;
            }
        }
        json.push(b"}")?;
    }
    json.push(if count == 0 { b"[]" } else { b"]" })?;
    Ok(Payload::Json { rows: Rows { body: json.bytes.into(), count, repeated: None }, keys })
}

/// JSON under construction, with its memory reserved.
struct Json<'r> {
    bytes: Vec<u8>,
    /// The reserved bytes.
    counted: usize,
    memory: &'r mut dyn Reserve,
}

impl<'r> Json<'r> {
    /// The granularity of reservations.
    const PIECE: usize = 16 << 10;

    fn new(memory: &'r mut dyn Reserve) -> Self {
        Self { bytes: Vec::new(), counted: 0, memory }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), RequestError> {
        self.bytes.extend_from_slice(bytes);
        self.count()
    }

    fn text(&mut self, text: &str) -> Result<(), RequestError> {
        serde_json::to_writer(&mut self.bytes, text).expect("texts always serialise");
        self.count()
    }

    fn count(&mut self) -> Result<(), RequestError> {
        let more = self.bytes.len() - self.counted;
        if more < Self::PIECE {
            return Ok(());
        }
        self.counted = self.bytes.len();
        self.memory.reserve(more)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(content_type: &str, purpose: Purpose, body: &str, expect: &Expect) {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let reading = Reading { content_type: MediaType::parse(content_type), purpose, columns: None };
        let actual = match reading.read(body, &mut Unlimited) {
            Ok(Payload::Json { rows, keys }) => format!("{} {keys:?}", String::from_utf8_lossy(&rows.body)),
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
        rows(r#"{"a":1,"\u0061":2}"#, &expect![[r#""a" is given twice, and only one can count"#]]);
        rows(r#"[{"a":1},{"a":2,"a":2}]"#, &expect![[r#""a" is given twice, and only one can count"#]]);
        rows(r#"{"a":{"b":1,"b":2}}"#, &expect![[r#"{"a":{"b":1,"b":2}} {"a"}"#]]);
        rows(&"[".repeat(100_000), &expect!["The JSON is nested too deep"]);
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
        check(form, Purpose::Rows, "b=1&a=x+y", &expect![[r#"{"b":"1","a":"x y"} {"a", "b"}"#]]);
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
    fn with_columns_other_keys_are_ignored() {
        let wanted = ["a".to_owned()].into_iter().collect();
        let reading =
            Reading { content_type: MediaType::Json, purpose: Purpose::Rows, columns: Some(wanted) };
        let read = |body: &'static str| reading.read(Bytes::from_static(body.as_bytes()), &mut Unlimited);
        for (body, count) in
            [("{}", 1), ("[]", 0), (r#"[{"a":1,"b":1,"b":2},{"c":1}]"#, 2), ("5", 1), ("{", 1)]
        {
            assert_eq!(read(body).unwrap().rows().unwrap().count, count, "{body}");
        }
        assert_eq!(read(r#"[{"b":1},{"a":1,"a":1}]"#), Err(RequestError::Repeated("a".into())));
    }

    #[test]
    fn keeps_json_for_a_single_unnamed_parameter() {
        let json = "application/json";
        for whole in ["5", "\"text\"", "null", "true", "[1,2]", "[{\"a\":1},{\"b\":2}]", " [ 7 ] "] {
            let body = Bytes::copy_from_slice(whole.as_bytes());
            let reading =
                Reading { content_type: MediaType::Json, purpose: Purpose::Arguments, columns: None };
            let payload = reading.read(body.clone(), &mut Unlimited);
            assert_eq!(payload, Ok(Payload::JsonValue(body)), "{whole}");
        }
        check(json, Purpose::Arguments, "[ ]", &expect!["[ ] {}"]);
        check(json, Purpose::Arguments, "[5", &expect!["Empty or invalid json"]);
    }
}
