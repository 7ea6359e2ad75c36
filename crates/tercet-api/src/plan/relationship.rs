//! Resolves an embedding to a relationship: by the target's name, a foreign key or its column, or a hint; and reports
//! none or several.

use std::sync::Arc;

use super::{Planner, SUGGESTION_LIMIT};
use crate::error::schema::Suggestion;
use crate::error::{ApiError, RelationshipCandidate, SchemaError, suggestion};
use crate::schema::{Cardinality, ForeignKey, Link, QualifiedName, Relationship};

impl Planner<'_> {
    pub(super) fn relationship(
        self,
        source: &QualifiedName,
        target: &str,
        hint: Option<&str>,
    ) -> Result<Arc<Relationship>, ApiError> {
        let schema = self.request.schema.as_str();
        let candidates = self.cache.relationships(&source.schema, &source.name);
        let mut found = candidates.iter().filter(|relationship| {
            let leads_to = match &relationship.link {
                Link::Computed { function, .. } => &function.schema,
                Link::Key { .. } => &relationship.target.schema,
            };
            &**leads_to == schema && is_meant(relationship, target, hint)
        });
        match (found.next(), found.next()) {
            (Some(only), None) => Ok(only.clone()),
            (None, _) => Err(SchemaError::NoRelationship {
                parent: source.name.to_string(),
                child: target.to_owned(),
                hint: hint.map(str::to_owned),
                schema: schema.to_owned(),
                suggestion: self.suggest(source, target),
            }
            .into()),
            (Some(first), Some(second)) => Err(SchemaError::AmbiguousRelationship {
                parent: source.name.to_string(),
                child: target.to_owned(),
                candidates: [first, second].into_iter().chain(found).filter_map(|it| describe(it)).collect(),
            }
            .into()),
        }
    }

    /// A relation with a similar name: for the source if it has no relationships, otherwise for the target. `None` if
    /// both exist, since then the hint is wrong.
    fn suggest(self, source: &QualifiedName, target: &str) -> Option<Suggestion> {
        let from_source = self.cache.relationships(&source.schema, &source.name);
        let related: Vec<&str> = self.cache.related(&source.schema).map(AsRef::as_ref).collect();
        let (instead_of, names): (&str, Vec<&str>) = if related.contains(&&*source.name) {
            (target, from_source.iter().map(|relationship| &*relationship.target.name).collect())
        } else {
            (&source.name, related)
        };
        if names.len() > SUGGESTION_LIMIT || names.contains(&instead_of) {
            return None;
        }
        suggestion::closest(instead_of, &names.iter().copied(), suggestion::RELATED)
            .map(|(_, name)| Suggestion { instead_of: instead_of.to_owned(), name: name.to_owned() })
    }
}

fn is_meant(relationship: &Relationship, target: &str, hint: Option<&str>) -> bool {
    let (cardinality, target_is_view) = match &relationship.link {
        Link::Computed { function, .. } => return target == &*function.name,
        Link::Key { cardinality, target_is_view, .. } => (cardinality, *target_is_view),
    };
    let key = relationship.key();
    let by_relation = target == &*relationship.target.name;
    if relationship.is_self {
        // A self-referencing foreign key has two relationships: the relation's name selects to-many, the column
        // to-one.
        let to_many = matches!(cardinality, Cardinality::OneToMany(_));
        let to_one = matches!(cardinality, Cardinality::ManyToOne(_));
        return match hint {
            None => {
                by_relation && to_many || to_one && key.is_some_and(|key| source_column(key) == Some(target))
            }
            Some(hint) => by_relation && to_many && key.is_some_and(|key| target_column(key) == Some(hint)),
        };
    }
    match hint {
        None => {
            by_relation
                || !target_is_view
                    && key.is_some_and(|key| *key.constraint == *target || source_column(key) == Some(target))
        }
        Some(hint) => {
            by_relation
                && match cardinality {
                    Cardinality::ManyToMany(junction) => *junction.relation.name == *hint,
                    _ => key.is_some_and(|key| {
                        *key.constraint == *hint
                            || source_column(key) == Some(hint)
                            || target_column(key) == Some(hint)
                    }),
                }
        }
    }
}

fn source_column(key: &ForeignKey) -> Option<&str> {
    match &*key.columns {
        [(column, _)] => Some(column),
        _ => None,
    }
}

fn target_column(key: &ForeignKey) -> Option<&str> {
    match &*key.columns {
        [(_, column)] => Some(column),
        _ => None,
    }
}

/// Describes a candidate for the error that lists them.
fn describe(relationship: &Relationship) -> Option<RelationshipCandidate> {
    let (source, target) = (&relationship.source.name, &relationship.target.name);
    let Link::Key { cardinality, .. } = &relationship.link else { return None };
    let list = |columns: Vec<&str>| format!("({})", columns.join(", "));
    let by_key = |key: &ForeignKey| {
        let own = list(key.columns.iter().map(|pair| &*pair.0).collect());
        let other = list(key.columns.iter().map(|pair| &*pair.1).collect());
        (
            format!("{} using {source}{own} and {target}{other}", key.constraint),
            format!("{target}!{}", key.constraint),
        )
    };
    let (cardinality, (relationship, hint)) = match cardinality {
        Cardinality::OneToMany(key) => ("one-to-many", by_key(key)),
        Cardinality::ManyToOne(key) => ("many-to-one", by_key(key)),
        Cardinality::OneToOne { key, .. } => ("one-to-one", by_key(key)),
        Cardinality::ManyToMany(junction) => {
            let middle = &junction.relation.name;
            let one = list(junction.source_columns.iter().map(|pair| &*pair.1).collect());
            let other = list(junction.target_columns.iter().map(|pair| &*pair.1).collect());
            let text = format!(
                "{middle} using {}{one} and {}{other}",
                junction.source_constraint, junction.target_constraint
            );
            ("many-to-many", (text, format!("{target}!{middle}")))
        }
    };
    Some(RelationshipCandidate {
        cardinality,
        embedding: format!("{source} with {target}"),
        relationship,
        hint,
    })
}
