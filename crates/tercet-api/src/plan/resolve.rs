//! Fields with their types: what the schema cache knows about a column that a request names.

use std::sync::Arc;

use super::Planner;
use crate::request::field::{Field, JsonStep};
use crate::schema::{Column, Relation};

/// A column, or a place inside its value, as it will be read, compared or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypedField {
    /// The column; `*` for all of them. A computed one looks the same.
    pub name: String,
    /// Steps into its value.
    pub path: Vec<JsonStep>,
    /// Whether its value must become JSON before the steps can be taken.
    pub to_json: bool,
    /// How it becomes a text search vector, if it does.
    pub text_search: Option<TextSearch>,
    /// Its type, quoted; empty where the schema cache does not know it.
    pub data_type: Arc<str>,
    /// The function, quoted, that the value goes through: from a domain to JSON, or from text to a domain.
    pub transform: Option<Arc<str>>,
    /// Whether its values are arrays, as far as the schema cache knows.
    pub is_array: bool,
    /// SQL expression of the column's default.
    pub default: Option<Box<str>>,
    /// Whether the whole row stands in its place, to be counted.
    pub whole_row: bool,
}

/// `to_tsvector`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextSearch {
    /// In which configuration; the database's when absent.
    pub language: Option<String>,
}

impl TypedField {
    /// A field of which nothing is known but its name.
    pub fn unknown(field: &Field) -> Self {
        Self {
            name: field.name.clone(),
            path: field.json_path.clone(),
            to_json: true,
            text_search: None,
            data_type: Arc::from(""),
            transform: None,
            is_array: false,
            default: None,
            whole_row: false,
        }
    }

    /// A field of a relation, or one of which nothing is known: a computed column, a column of a record.
    pub(super) fn of(relation: Option<&Relation>, field: &Field) -> Self {
        let Some(column) = relation.and_then(|relation| relation.column(&field.name)) else {
            return Self::unknown(field);
        };
        Self {
            path: field.json_path.clone(),
            // json itself needs no conversion: an index on the expression stays usable
            to_json: !matches!(&*column.nominal_type, "json" | "jsonb"),
            ..Self::column(column)
        }
    }

    pub(super) fn column(column: &Column) -> Self {
        Self {
            name: column.name.to_string(),
            path: Vec::new(),
            to_json: true,
            text_search: None,
            data_type: column.nominal_type.clone(),
            transform: None,
            is_array: column.data_type.ends_with("[]"),
            default: column.default.clone(),
            whole_row: false,
        }
    }
}

impl Planner<'_> {
    /// A field as it goes into the answer.
    pub(super) fn output_field(self, relation: Option<&Relation>, field: &Field) -> TypedField {
        self.shown(TypedField::of(relation, field))
    }

    /// The same field, shown as JSON the way a person said its domain is shown.
    pub(super) fn shown(self, field: TypedField) -> TypedField {
        let transform = self.cache.representation(&field.data_type, "json").cloned();
        TypedField { transform, ..field }
    }

    /// Whether a person said how a column's domain is shown as JSON.
    pub(super) fn is_represented(self, column: &Column) -> bool {
        self.cache.representation(&column.nominal_type, "json").is_some()
    }

    /// A field as a query string's value is compared with it.
    pub(super) fn compared_field(
        self,
        relation: Option<&Relation>,
        field: &Field,
        text_search: Option<TextSearch>,
    ) -> TypedField {
        let column = relation.and_then(|relation| relation.column(&field.name));
        let is_vector = column.is_some_and(|column| &*column.data_type == "tsvector");
        let found = TypedField::of(relation, field);
        let transform = self.cache.representation("text", &found.data_type).cloned();
        TypedField { text_search: text_search.filter(|_| column.is_some() && !is_vector), transform, ..found }
    }

    /// A column as a body's JSON is written to it: a domain with a cast from json takes json, and its
    /// default is given the way it would be shown.
    pub(super) fn written_field(self, column: &Column) -> TypedField {
        let field = TypedField::column(column);
        let Some(transform) = self.cache.representation("json", &field.data_type).cloned() else {
            return TypedField { data_type: column.argument_type.clone(), ..field };
        };
        let shown = self.cache.representation(&field.data_type, "json");
        let default = match (field.default, shown) {
            (Some(default), Some(shown)) => Some(format!("{shown}(({default})::{})", field.data_type).into()),
            (default, _) => default,
        };
        TypedField { data_type: Arc::from("json"), transform: Some(transform), default, ..field }
    }
}
