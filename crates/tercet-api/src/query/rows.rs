//! Builds JSON from plain result rows, those of a read or those a write returns: `json_agg` over 100 small rows costs
//! PostgreSQL more than finding, ordering and sending them.
//!
//! The JSON is identical byte for byte. For some types it can be built from the value's text; PostgreSQL converts all
//! others to JSON value by value.

use smallvec::SmallVec;
use tercet_postgres::{Row, Rows};

use super::count::Total;
use super::fragment::Sql;
use super::{Answer, BODY_ROWS, node};
use crate::error::StatementError;
use crate::plan::{Handler, ReadNode, Shape, StatementPlan};
use crate::schema::{Column, LONGEST_NAME, QualifiedName, Relation};

/// How a value's text is converted to JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `t` or `f`.
    Boolean,
    /// Unchanged, unless it is no JSON number: `NaN`, `Infinity`.
    Number,
    /// As a JSON string.
    Text,
    /// Unchanged: it is JSON.
    Json,
}

impl Kind {
    /// The conversion for a type id from the row description
    /// (<https://github.com/postgres/postgres/blob/REL_18_STABLE/src/include/catalog/pg_type.dat>); `None` if
    /// PostgreSQL must convert it.
    fn of(type_id: u32) -> Option<Self> {
        match type_id {
            16 => Some(Self::Boolean),
            // int8, int2, int4, float4, float8, numeric
            20 | 21 | 23 | 700 | 701 | 1700 => Some(Self::Number),
            // name, text, bpchar, varchar, uuid
            19 | 25 | 1042 | 1043 | 2950 => Some(Self::Text),
            // json, jsonb
            114 | 3802 => Some(Self::Json),
            _ => None,
        }
    }

    /// `NaN` and the like become strings.
    fn write(self, value: &[u8], body: &mut Vec<u8>) {
        match (self, value) {
            (Self::Boolean, b"t") => body.extend(b"true"),
            (Self::Boolean, b"f") => body.extend(b"false"),
            (Self::Number, _) if is_number(value) => body.extend(value),
            (Self::Json, _) => body.extend(value),
            (Self::Boolean | Self::Number | Self::Text, _) => string(&String::from_utf8_lossy(value), body),
        }
    }
}

/// How a column is selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Selected {
    /// As it is: its JSON form is known, if its type still matches the schema cache.
    Plain,
    /// Converted to JSON by PostgreSQL.
    AsJson,
}

impl Selected {
    /// By the column's type as printed by the catalogue.
    fn of(data_type: &str) -> Self {
        match data_type {
            "boolean" | "smallint" | "integer" | "bigint" | "numeric" | "real" | "double precision"
            | "text" | "character varying" | "character" | "name" | "uuid" => Self::Plain,
            _ => Self::AsJson,
        }
    }
}

/// The columns of the result rows, in order.
#[derive(Debug)]
pub(super) struct Columns {
    /// The text before each value, concatenated: `{"id":`, `,"name":`.
    keys: Vec<u8>,
    /// The end of each key in `keys`.
    ends: Vec<usize>,
    /// Whether the body is a single row instead of an array.
    single: bool,
    total: Total,
}

/// The statement that returns the rows of a plan; `None`, with `sql` unchanged, if their columns are unknown, or body
/// or total need more than these rows.
///
/// Types are converted outside the subquery, after its limit.
pub(super) fn statement(sql: &mut Sql, plan: &StatementPlan) -> Option<Columns> {
    let single = is_single(&plan.handler)?;
    let total = Total::of(plan);
    if matches!(total, Total::Counted { .. }) {
        return None;
    }
    let columns = columns(&plan.tree)?;
    let of_row = QualifiedName::local(BODY_ROWS);
    sql.push("SELECT ").list(&columns, ", ", |sql, column| column.add(sql, &of_row, column.name));
    sql.push(" FROM (");
    node::rows(sql, &plan.tree);
    sql.push(") ").push(BODY_ROWS);
    if let Some(relation) = plan.tree.relation.as_deref().filter(|_| selects_all(&plan.tree)) {
        expect_columns(sql, relation);
    }
    Some(Columns::new(&columns, single, total))
}

/// The columns that a write can return by itself; `None` if the body needs more than the written rows' own columns.
pub(super) fn returned(plan: &StatementPlan) -> Option<Returned<'_>> {
    let tree = &plan.tree;
    let single = is_single(&plan.handler)?;
    let columns = columns(tree)?;
    let as_written = tree.children.is_empty()
        && tree.conditions.is_empty()
        && tree.order.is_empty()
        && tree.range.is_all();
    let are_own = columns.iter().all(|column| column.own.is_some());
    let all = tree.relation.as_deref().filter(|_| selects_all(tree));
    (as_written && are_own).then_some(Returned { columns, single, all })
}

/// The columns of the rows that a write returns.
pub(super) struct Returned<'p> {
    columns: Vec<Shown<'p>>,
    single: bool,
    /// The relation, if all its columns are returned.
    all: Option<&'p Relation>,
}

impl Returned<'_> {
    /// The columns whose values are sent as they are.
    pub(super) fn plain(&self) -> impl Iterator<Item = &Column> {
        self.columns
            .iter()
            .filter(|column| column.selected == Selected::Plain)
            .filter_map(|column| column.own)
    }

    /// Whether all these columns are returned; `*` is all.
    pub(super) fn includes(&self, columns: &[String]) -> bool {
        let is_returned = |name: &String| {
            name == "*" || self.columns.iter().any(|column| column.own.is_some_and(|own| *own.name == **name))
        };
        columns.iter().all(is_returned)
    }

    /// The relation, if all its columns are returned.
    pub(super) fn all(&self) -> Option<&Relation> {
        self.all
    }

    /// Adds ` RETURNING …`.
    pub(super) fn add(&self, sql: &mut Sql, relation: &QualifiedName) -> Columns {
        sql.push(" RETURNING ").list(&self.columns, ", ", |sql, column| {
            column.add(sql, relation, column.own.map_or(column.name, |own| &own.name));
        });
        Columns::new(&self.columns, self.single, Total::Unknown)
    }
}

/// Whether the body is a single row instead of an array; `None` if it is not made of rows.
fn is_single(handler: &Handler) -> Option<bool> {
    match handler {
        Handler::Json => Some(false),
        Handler::Singular { nulls_stripped: false } => Some(true),
        _ => None,
    }
}

/// Whether all columns of the relation are selected with `*`.
fn selects_all(node: &ReadNode) -> bool {
    node.select.iter().any(|selected| selected.field.name == "*")
}

/// A condition that is always true, and an error if the relation's number of columns differs from the schema cache.
/// PostgreSQL evaluates it when it parses the statement, or a prepared one for the first time after the change, and
/// removes it before planning.
fn expect_columns(sql: &mut Sql, relation: &Relation) {
    sql.push(" WHERE TRUE OR EXISTS (").all_columns(relation).push(")");
}

impl Columns {
    fn new(columns: &[Shown<'_>], single: bool, total: Total) -> Self {
        let mut keys = Vec::with_capacity(16 * columns.len());
        let mut with_key = |(index, column): (usize, &Shown<'_>)| {
            keys.push(if index == 0 { b'{' } else { b',' });
            string(column.name, &mut keys);
            keys.push(b':');
            keys.len()
        };
        let ends = columns.iter().enumerate().map(&mut with_key).collect();
        Self { keys, ends, single, total }
    }

    /// Builds the body and counts the rows, by the types in the row description.
    ///
    /// # Errors
    /// [`StatementError::ColumnTypes`] if only PostgreSQL can convert one of them.
    pub(super) fn answer(&self, rows: &Rows) -> Result<Answer, StatementError> {
        let types = rows.types().filter(|types| types.len() == self.ends.len());
        let kinds = types.and_then(|types| types.iter().map(|id| Kind::of(*id)).collect());
        let kinds: SmallVec<[Kind; 32]> = kinds.ok_or(StatementError::ColumnTypes)?;
        let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let size = rows.iter().map(|row| row.size() + self.keys.len() + 8).sum::<usize>() + 8;
        let mut body = Vec::with_capacity(size);
        if self.single {
            match rows.first() {
                Some(row) => self.object(row, &kinds, &mut body),
                None => body.extend(b"null"),
            }
        } else {
            body.push(b'[');
            for (index, row) in rows.iter().enumerate() {
                if index > 0 {
                    body.extend(b", \n ");
                }
                self.object(row, &kinds, &mut body);
            }
            body.push(b']');
        }
        let total = (self.total == Total::Page).then_some(count);
        Ok(Answer { total, rows: count, body: body.into(), ..Answer::default() })
    }

    fn object(&self, row: &Row, kinds: &[Kind], body: &mut Vec<u8>) {
        let mut start = 0;
        for ((end, kind), value) in self.ends.iter().zip(kinds).zip(row.columns()) {
            body.extend(&self.keys[start..*end]);
            start = *end;
            match value {
                Some(value) => kind.write(value, body),
                None => body.extend(b"null"),
            }
        }
        body.push(b'}');
    }
}

/// A column of the body's rows.
struct Shown<'p> {
    /// Its key.
    name: &'p str,
    selected: Selected,
    /// The relation's column, if the value is nothing else.
    own: Option<&'p Column>,
}

impl<'p> Shown<'p> {
    fn own(name: &'p str, column: &'p Column) -> Self {
        Self { name, selected: Selected::of(&column.data_type), own: Some(column) }
    }

    fn other(name: &'p str, selected: Selected) -> Self {
        Self { name, selected, own: None }
    }

    /// Adds the value of the column `name` of `relation`.
    fn add(&self, sql: &mut Sql, relation: &QualifiedName, name: &str) {
        match self.selected {
            Selected::AsJson => sql.push("to_json(").column(relation, name).push(")"),
            Selected::Plain => sql.column(relation, name),
        };
    }
}

/// The node's columns; `None` if they are unknown.
fn columns(node: &ReadNode) -> Option<Vec<Shown<'_>>> {
    let relation = node.relation.as_deref()?;
    let mut columns = Vec::new();
    for selected in &node.select {
        if selected.aggregate.is_some() || selected.field.whole_row {
            return None;
        }
        let column = relation.column(&selected.field.name);
        let plain =
            selected.cast.is_none() && selected.field.path.is_empty() && selected.field.transform.is_none();
        match (&selected.alias, column) {
            (None, None) if plain && selected.field.name == "*" => {
                columns.extend(relation.columns.iter().map(|column| Shown::own(&column.name, column)));
            }
            (alias, Some(column)) if plain => {
                columns.push(Shown::own(alias.as_deref().unwrap_or(&column.name), column));
            }
            (Some(alias), _) => columns.push(Shown::other(alias, Selected::AsJson)),
            // PostgreSQL determines the default name.
            (None, _) => return None,
        }
    }
    for child in &node.children {
        let embed = child.embed.as_ref()?;
        match &embed.shape {
            Shape::Object | Shape::Array if child.selects_nothing() => {}
            Shape::Object | Shape::Array => columns.push(Shown::other(embed.shown_name(), Selected::Plain)),
            Shape::Spread(fields) => {
                for field in fields {
                    if field.aggregate.is_some() {
                        return None;
                    }
                    let name = field.alias.as_ref().unwrap_or(&field.name);
                    columns.push(Shown::other(name, Selected::AsJson));
                }
            }
            Shape::SpreadArrays(fields) => {
                let names = fields.iter().map(|field| field.alias.as_ref().unwrap_or(&field.name));
                columns.extend(names.map(|name| Shown::other(name, Selected::Plain)));
            }
        }
    }
    let mut names: SmallVec<[&str; 16]> = columns.iter().map(|column| column.name).collect();
    names.sort_unstable();
    let distinct = names.windows(2).all(|pair| pair[0] != pair[1]);
    // A spread `*` would be all columns of another relation.
    let known = names.iter().all(|name| *name != "*" && name.len() <= LONGEST_NAME && !name.contains('\0'));
    (!columns.is_empty() && distinct && known).then_some(columns)
}

/// Appends a JSON string. serde_json escapes like PostgreSQL.
fn string(text: &str, body: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _ = serde_json::to_writer(&mut *body, text);
}

/// Whether a text is a JSON number (RFC 8259 section 6).
fn is_number(text: &[u8]) -> bool {
    fn digits(text: &[u8]) -> Option<&[u8]> {
        let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (count > 0).then(|| &text[count..])
    }
    fn rest(text: &[u8]) -> Option<&[u8]> {
        let unsigned = text.strip_prefix(b"-").unwrap_or(text);
        let mut rest = match unsigned.strip_prefix(b"0") {
            Some(rest) => rest,
            None => digits(unsigned)?,
        };
        if let Some(fraction) = rest.strip_prefix(b".") {
            rest = digits(fraction)?;
        }
        if let [b'e' | b'E', exponent @ ..] = rest {
            rest = digits(exponent.strip_prefix(b"+").or(exponent.strip_prefix(b"-")).unwrap_or(exponent))?;
        }
        Some(rest)
    }
    rest(text).is_some_and(<[u8]>::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(kind: Kind, value: &str) -> String {
        let mut body = Vec::new();
        kind.write(value.as_bytes(), &mut body);
        String::from_utf8(body).unwrap()
    }

    #[test]
    fn converts_values_by_kind() {
        for (kind, value, expect) in [
            (Kind::Boolean, "t", "true"),
            (Kind::Boolean, "f", "false"),
            (Kind::Number, "-12.50", "-12.50"),
            (Kind::Number, "1e+100", "1e+100"),
            (Kind::Number, "NaN", r#""NaN""#),
            (Kind::Number, "-Infinity", r#""-Infinity""#),
            (Kind::Number, "2026-01-01", r#""2026-01-01""#),
            (Kind::Text, "a \"b\" \\ \n\u{1}\u{7f} ü", "\"a \\\"b\\\" \\\\ \\n\\u0001\u{7f} ü\""),
            (Kind::Json, "{\"a\": 1}", "{\"a\": 1}"),
        ] {
            assert_eq!(written(kind, value), expect, "{kind:?} {value}");
        }
    }

    #[test]
    fn recognises_json_numbers() {
        for number in ["0", "-0", "10", "0.5", "1e5", "-1.25E-7", "123456789012345678901234567890"] {
            assert!(is_number(number.as_bytes()), "{number}");
        }
        for other in ["", "-", "01", ".5", "5.", "1e", "+1", "1x", "0x1", "Infinity", " 1"] {
            assert!(!is_number(other.as_bytes()), "{other}");
        }
    }
}
