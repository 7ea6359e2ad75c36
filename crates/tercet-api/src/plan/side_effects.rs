//! Side effects: which plans execute only PostgreSQL's own code, and no volatile functions but those of proved
//! defaults. Such statements leave the session unchanged. A plan counts as free of side effects only if that is proved.

use super::{Condition, Handler, Planner, ReadNode, TypedField, WriteKind, WritePlan};
use crate::request::preferences::Resolution;
use crate::schema::{Cardinality, Link, Relation};

/// Types a cast may use without executing user-defined code: PostgreSQL's own, by their usual names.
const BUILT_IN: [&str; 22] = [
    "bigint",
    "bool",
    "boolean",
    "date",
    "double precision",
    "float",
    "float4",
    "float8",
    "int",
    "int2",
    "int4",
    "int8",
    "integer",
    "json",
    "jsonb",
    "numeric",
    "real",
    "smallint",
    "text",
    "timestamptz",
    "uuid",
    "varchar",
];

impl Planner<'_> {
    /// Whether a write, with reading the tree from the written rows, is provably free of side effects.
    pub(super) fn is_write_free(
        self,
        relation: &Relation,
        write: &WritePlan,
        tree: &ReadNode,
        handler: &Handler,
    ) -> bool {
        let free = relation.side_effect_free;
        let is_command_free = match &write.kind {
            // The text of a default is evaluated with the search path of the request.
            WriteKind::Insert { defaults: true, .. } | WriteKind::Update { defaults: true, .. } => false,
            WriteKind::Insert { columns, conflict, conditions, defaults: false, .. } => {
                let updates =
                    conflict.as_ref().is_some_and(|it| it.resolution == Resolution::MergeDuplicates);
                (if updates { free.changes } else { free.inserts })
                    && are_columns_free(columns)
                    && are_conditions_free(relation, conditions)
            }
            WriteKind::Update { columns, conditions, defaults: false, .. } => {
                free.changes && are_columns_free(columns) && are_conditions_free(relation, conditions)
            }
            WriteKind::Delete { conditions } => free.changes && are_conditions_free(relation, conditions),
        };
        is_command_free && self.is_read_free(tree, handler)
    }

    /// Whether reading the tree and building the body is provably free of side effects.
    pub(super) fn is_read_free(self, tree: &ReadNode, handler: &Handler) -> bool {
        let own = match handler {
            Handler::None
            | Handler::Json
            | Handler::JsonStripped
            | Handler::Singular { .. }
            | Handler::Csv => true,
            Handler::GeoJson | Handler::Custom(_) => false,
        };
        own && !self.policy.pre_request && self.is_node_free(tree)
    }

    fn is_node_free(self, node: &ReadNode) -> bool {
        let Some(relation) = node.relation.as_deref().filter(|relation| relation.side_effect_free.reads)
        else {
            return false;
        };
        let joined = |name: &String| {
            let named =
                |child: &&ReadNode| child.embed.as_ref().is_some_and(|embed| embed.join_alias == *name);
            node.children.iter().find(named).and_then(|child| child.relation.as_deref())
        };
        node.embed.as_ref().is_none_or(|embed| self.is_link_free(&embed.relationship.link))
            && node.select.iter().all(|selected| {
                let casts = selected.cast.iter().chain(selected.aggregate.iter().flat_map(|it| &it.cast));
                is_field_free(relation, &selected.field)
                    && casts.into_iter().all(|cast| BUILT_IN.contains(&cast.as_str()))
            })
            && are_conditions_free(relation, &node.conditions)
            && node.order.iter().all(|key| match &key.joined {
                None => is_field_free(relation, &key.field),
                Some(name) => joined(name).is_some_and(|relation| is_field_free(relation, &key.field)),
            })
            && node.children.iter().all(|child| self.is_node_free(child))
    }

    fn is_link_free(self, link: &Link) -> bool {
        match link {
            Link::Key { cardinality: Cardinality::ManyToMany(junction), .. } => self
                .cache
                .relation(&junction.relation.schema, &junction.relation.name)
                .is_some_and(|relation| relation.side_effect_free.reads),
            Link::Key { .. } => true,
            Link::Computed { .. } => false,
        }
    }
}

/// Whether a field is a column without user-defined code; a name that is no column is a function of the row.
fn is_field_free(relation: &Relation, field: &TypedField) -> bool {
    let known = field.whole_row || field.name == "*" || relation.column(&field.name).is_some();
    known && field.transform.is_none()
}

/// Whether the values are written without a representation's function.
fn are_columns_free(columns: &[TypedField]) -> bool {
    columns.iter().all(|column| column.transform.is_none())
}

fn are_conditions_free(relation: &Relation, conditions: &[Condition]) -> bool {
    conditions.iter().all(|condition| is_condition_free(relation, condition))
}

fn is_condition_free(relation: &Relation, condition: &Condition) -> bool {
    match condition {
        Condition::Branch { branches, .. } => are_conditions_free(relation, branches),
        Condition::Comparison { field, .. } => is_field_free(relation, field),
        Condition::Embedded { .. } => true,
    }
}
