//! Planning writes: the columns to write, conflict resolution, and the columns to return.

use bytes::Bytes;

use super::{Condition, Planner, ReadNode, TypedField};
use crate::error::{ApiError, RequestError, SchemaError};
use crate::request::Mutation;
use crate::request::filter::{Operation, QuantifiedOperator};
use crate::request::payload::{Payload, Rows};
use crate::request::preferences::{Missing, Representation, Resolution};
use crate::schema::{QualifiedName, Relation};

/// A write to a relation.
#[derive(Debug)]
pub struct WritePlan {
    /// The relation.
    pub relation: QualifiedName,
    /// The command.
    pub kind: WriteKind,
    /// The columns to return from each written row; empty if none are needed.
    pub returning: Vec<String>,
    /// The primary key, for the `Location` of a new row.
    pub primary_key: Vec<String>,
    /// Whether the response contains the rows.
    pub returns_rows: bool,
    /// Whether the response has the new row's `Location`.
    pub returns_location: bool,
    /// The mutation of the request.
    pub mutation: Mutation,
}

/// The command of a write.
#[derive(Debug)]
pub enum WriteKind {
    /// Inserts the body's rows.
    Insert {
        /// The columns to write.
        columns: Vec<TypedField>,
        /// The JSON text.
        body: Bytes,
        /// Conflict resolution for existing rows.
        conflict: Option<Conflict>,
        /// Conditions that the body's row must satisfy (PUT).
        conditions: Vec<Condition>,
        /// Whether a missing key means the column's default instead of null.
        defaults: bool,
    },
    /// Updates rows with the body's values.
    Update {
        /// The columns to write.
        columns: Vec<TypedField>,
        /// The JSON text.
        body: Bytes,
        /// The rows to update.
        conditions: Vec<Condition>,
        /// Whether a missing key means the column's default instead of null.
        defaults: bool,
    },
    /// Deletes rows.
    Delete {
        /// The rows to delete.
        conditions: Vec<Condition>,
    },
}

/// Conflict resolution for existing rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Update or ignore.
    pub resolution: Resolution,
    /// The conflict target: unique columns.
    pub columns: Vec<String>,
}

impl Planner<'_> {
    pub(super) fn write_plan(
        self,
        relation: &Relation,
        mutation: Mutation,
        tree: &ReadNode,
    ) -> Result<WritePlan, ApiError> {
        let request = self.request;
        let primary_key: Vec<String> = relation.primary_key.iter().map(ToString::to_string).collect();
        let defaults = request.preferences.missing == Some(Missing::Default);
        let rows = request.payload.as_ref().and_then(Payload::rows).map_or(1, |rows| rows.count);
        let one_row_at_most = |purpose| {
            if rows > 1 { Err(RequestError::Rows { purpose, rows }) } else { Ok(()) }
        };
        let kind = match mutation {
            Mutation::Create => WriteKind::Insert {
                columns: self.written_columns(relation)?,
                body: self.body(),
                conflict: request.preferences.resolution.map(|resolution| Conflict {
                    resolution,
                    columns: request.parameters.on_conflict.clone().unwrap_or_else(|| primary_key.clone()),
                }),
                conditions: Vec::new(),
                defaults,
            },
            Mutation::Update => {
                one_row_at_most("PATCH takes the new values from a single row")?;
                WriteKind::Update {
                    columns: self.written_columns(relation)?,
                    body: self.body(),
                    conditions: self.row_conditions(relation),
                    defaults,
                }
            }
            Mutation::SingleUpsert => {
                if !self.names_one_row(&primary_key) {
                    return Err(RequestError::PutFilters.into());
                }
                one_row_at_most("PUT takes a single row")?;
                WriteKind::Insert {
                    columns: self.written_columns(relation)?,
                    body: self.body(),
                    conflict: Some(Conflict {
                        resolution: Resolution::MergeDuplicates,
                        columns: primary_key.clone(),
                    }),
                    conditions: self.row_conditions(relation),
                    defaults: false,
                }
            }
            Mutation::Delete => WriteKind::Delete { conditions: self.row_conditions(relation) },
        };
        let representation = request.preferences.representation;
        let returning = match representation {
            None | Some(Representation::Minimal) => Vec::new(),
            Some(Representation::Full | Representation::HeadersOnly) => needed_columns(tree, &primary_key),
        };
        Ok(WritePlan {
            relation: QualifiedName { schema: relation.schema.clone(), name: relation.name.clone() },
            kind,
            returning,
            returns_rows: representation == Some(Representation::Full),
            returns_location: mutation == Mutation::Create
                && representation == Some(Representation::HeadersOnly),
            primary_key,
            mutation,
        })
    }

    fn written_columns(self, relation: &Relation) -> Result<Vec<TypedField>, ApiError> {
        let column = |name: &String| {
            relation.column(name).map(|column| self.written_field(column)).ok_or_else(|| {
                SchemaError::NoColumn { relation: relation.name.to_string(), column: name.clone() }.into()
            })
        };
        self.request.columns.iter().map(column).collect()
    }

    fn row_conditions(self, relation: &Relation) -> Vec<Condition> {
        let parameters = &self.request.parameters;
        let filters = parameters.filters.iter().map(|filter| self.condition(Some(relation), filter));
        let trees = parameters.logic.iter().filter(|(path, _)| path.is_empty());
        filters.chain(trees.map(|(_, tree)| self.logic(Some(relation), tree))).collect()
    }

    /// Whether the filters are exactly `eq` on each column of the primary key.
    fn names_one_row(self, primary_key: &[String]) -> bool {
        let parameters = &self.request.parameters;
        !primary_key.is_empty()
            && parameters.logic.is_empty()
            && parameters.filter_names.iter().all(|name| primary_key.contains(name))
            && primary_key.iter().all(|column| parameters.filter_names.contains(column))
            && parameters.filters.iter().all(|filter| {
                !filter.negated
                    && matches!(filter.operation, Operation::Quantified(QuantifiedOperator::Equal, None, _))
            })
    }

    /// The JSON text of the body.
    pub(super) fn body(self) -> Bytes {
        match &self.request.payload {
            Some(
                Payload::Json { rows: Rows { body, .. }, .. }
                | Payload::JsonValue(body)
                | Payload::RawJson(Rows { body, .. })
                | Payload::Raw(body),
            ) => body.clone(),
            Some(Payload::Form(_)) | None => Bytes::new(),
        }
    }
}

/// The columns of written or returned rows needed by the selection and its embeddings, without duplicates. `*` if all
/// are needed, or the columns are unknown.
pub(super) fn needed_columns(tree: &ReadNode, primary_key: &[String]) -> Vec<String> {
    let everything = || vec!["*".to_owned()];
    let mut columns: Vec<String> = tree.select.iter().map(|selected| selected.field.name.clone()).collect();
    if columns.iter().any(|column| column == "*") {
        return everything();
    }
    for embed in tree.children.iter().filter_map(|child| child.embed.as_ref()) {
        match embed.relationship.source_columns() {
            Some(own) => columns.extend(own.iter().map(ToString::to_string)),
            None => return everything(),
        }
    }
    columns.extend(primary_key.iter().cloned());
    columns.sort_unstable();
    columns.dedup();
    columns
}
