//! Side effects: which plans execute only PostgreSQL's own code, and no volatile functions. Such statements leave the
//! session unchanged. A plan counts as free of side effects only if that is proved.

use super::{Condition, Handler, Planner, ReadNode, TypedField};
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
    /// Whether reading the tree and building the body is provably free of side effects.
    pub(super) fn is_side_effect_free(self, tree: &ReadNode, handler: &Handler) -> bool {
        let own = match handler {
            Handler::None
            | Handler::Json
            | Handler::JsonStripped
            | Handler::Singular { .. }
            | Handler::Csv => true,
            Handler::GeoJson | Handler::Custom(_) => false,
        };
        own && self.is_node_free(tree)
    }

    fn is_node_free(self, node: &ReadNode) -> bool {
        let Some(relation) = node.relation.as_deref().filter(|relation| relation.side_effect_free) else {
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
            && node.conditions.iter().all(|condition| is_condition_free(relation, condition))
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
                .is_some_and(|relation| relation.side_effect_free),
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

fn is_condition_free(relation: &Relation, condition: &Condition) -> bool {
    match condition {
        Condition::Branch { branches, .. } => {
            branches.iter().all(|branch| is_condition_free(relation, branch))
        }
        Condition::Comparison { field, .. } => is_field_free(relation, field),
        Condition::Embedded { .. } => true,
    }
}
