//! Resolves fields to columns of the schema cache, with their types.

use std::sync::Arc;

use super::Planner;
use crate::request::field::{Field, JsonStep};
use crate::schema::{Column, Relation};

/// A column, or a path into its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypedField {
    /// The column; `*` for all. May also be a computed column.
    pub name: String,
    /// The JSON path.
    pub path: Vec<JsonStep>,
    /// Whether the value must be converted to JSON before the path applies.
    pub to_json: bool,
    /// The conversion to a text search vector, if any.
    pub text_search: Option<TextSearch>,
    /// The column's type, quoted; empty if unknown.
    pub data_type: Arc<str>,
    /// The conversion function, quoted: from a domain to JSON, or from text to a domain.
    pub transform: Option<Arc<str>>,
    /// Whether the column is known to be an array.
    pub is_array: bool,
    /// SQL expression of the column's default.
    pub default: Option<Box<str>>,
    /// Whether the field is the whole row, for counting.
    pub whole_row: bool,
}

/// `to_tsvector`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextSearch {
    /// The text search configuration; the database's default if absent.
    pub language: Option<String>,
}

impl TypedField {
    /// A field about which only the name is known.
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

    /// A field of a relation; unknown for computed columns and columns of a record.
    pub(super) fn of(relation: Option<&Relation>, field: &Field) -> Self {
        let Some(column) = relation.and_then(|relation| relation.column(&field.name)) else {
            return Self::unknown(field);
        };
        Self {
            path: field.json_path.clone(),
            // json needs no conversion: an index on the expression stays usable
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
    /// A field for output.
    pub(super) fn output_field(self, relation: Option<&Relation>, field: &Field) -> TypedField {
        self.shown(TypedField::of(relation, field))
    }

    /// The field in its domain's custom JSON representation, if there is one.
    pub(super) fn shown(self, field: TypedField) -> TypedField {
        let transform = self.cache.representation(&field.data_type, "json").cloned();
        TypedField { transform, ..field }
    }

    /// Whether the column's domain has a custom JSON representation.
    pub(super) fn is_represented(self, column: &Column) -> bool {
        self.cache.representation(&column.nominal_type, "json").is_some()
    }

    /// A field for comparison with a value of the query string.
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

    /// A column for writing a JSON body: a domain with a custom representation is converted from json, and its
    /// default is represented the same way.
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
