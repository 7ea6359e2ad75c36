//! Relationships between relations: detected from foreign keys, projected through views, or defined by functions.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::reference::Reference;
use super::view_key::{KeyRole, ViewKey};
use super::{ByName, QualifiedName, Relation};

/// A directed relationship between two relations.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Relationship {
    /// The relation it starts from.
    pub source: QualifiedName,
    /// The relation it leads to.
    pub target: QualifiedName,
    /// Whether both are the same relation.
    pub is_self: bool,
    /// How rows are related.
    pub link: Link,
}

/// How the rows of a relationship are related.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// By foreign keys.
    Key {
        /// The cardinality, with the columns.
        cardinality: Cardinality,
        /// Whether the source is a view.
        source_is_view: bool,
        /// Whether the target is a view.
        target_is_view: bool,
    },
    /// A function from the source's row to the target's rows.
    Computed {
        /// The function.
        function: QualifiedName,
        /// Whether it returns at most one row.
        to_one: bool,
    },
}

/// The cardinality of a relationship, with its columns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cardinality {
    /// The target has the foreign key.
    OneToMany(ForeignKey),
    /// The source has the foreign key.
    ManyToOne(ForeignKey),
    /// By a unique foreign key; `owner` is whether the source has it.
    OneToOne {
        /// The key.
        key: ForeignKey,
        /// Whether the source has the foreign key.
        owner: bool,
    },
    /// Through a junction with foreign keys to both.
    ManyToMany(Arc<Junction>),
}

/// A foreign key's columns, as seen from a relationship's source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForeignKey {
    /// The constraint's name.
    pub constraint: Arc<str>,
    /// Pairs: the source's column, the target's column.
    pub columns: Arc<[(Arc<str>, Arc<str>)]>,
}

/// The junction of a many-to-many relationship.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Junction {
    /// The relation.
    pub relation: QualifiedName,
    /// Its foreign key to the source.
    pub source_constraint: Arc<str>,
    /// Its foreign key to the target.
    pub target_constraint: Arc<str>,
    /// Pairs: the source's column, the junction's column.
    pub source_columns: Vec<(Arc<str>, Arc<str>)>,
    /// Pairs: the target's column, the junction's column.
    pub target_columns: Vec<(Arc<str>, Arc<str>)>,
}

impl Relationship {
    /// Whether it leads to at most one row.
    pub fn is_to_one(&self) -> bool {
        match &self.link {
            Link::Key { cardinality, .. } => {
                matches!(cardinality, Cardinality::ManyToOne(_) | Cardinality::OneToOne { .. })
            }
            Link::Computed { to_one, .. } => *to_one,
        }
    }

    /// The column pairs of a relationship by a single foreign key.
    pub fn key(&self) -> Option<&ForeignKey> {
        match &self.link {
            Link::Key {
                cardinality:
                    Cardinality::OneToMany(key) | Cardinality::ManyToOne(key) | Cardinality::OneToOne { key, .. },
                ..
            } => Some(key),
            _ => None,
        }
    }

    /// The source's columns in the join condition; `None` for a computed relationship.
    pub fn source_columns(&self) -> Option<Vec<&Arc<str>>> {
        match &self.link {
            Link::Key { cardinality: Cardinality::ManyToMany(junction), .. } => {
                Some(junction.source_columns.iter().map(|pair| &pair.0).collect())
            }
            Link::Key { .. } => Some(self.key()?.columns.iter().map(|pair| &pair.0).collect()),
            Link::Computed { .. } => None,
        }
    }
}

/// The relationships between exposed relations, by source.
pub(super) fn infer(
    references: Vec<Reference>,
    view_keys: &[ViewKey],
    computed: Vec<Relationship>,
    relations: &ByName<Arc<Relation>>,
) -> ByName<Vec<Arc<Relationship>>> {
    let references = through_views(references, view_keys);
    let exposed = |name: &QualifiedName| relations.get(&name.schema, &name.name).is_some();
    let mut found: Vec<Relationship> = Vec::new();
    for reference in &references {
        if exposed(&reference.source) && exposed(&reference.target) {
            found.extend(both_ways(reference));
        }
    }
    found.extend(over_junctions(&references, relations));

    // A computed relationship replaces all others to a target of the same name.
    let overridden: FxHashSet<(&QualifiedName, &QualifiedName)> = computed
        .iter()
        .filter_map(|relationship| match &relationship.link {
            Link::Computed { function, .. } => Some((&relationship.source, function)),
            Link::Key { .. } => None,
        })
        .collect();
    found.retain(|relationship| !overridden.contains(&(&relationship.source, &relationship.target)));
    found.extend(computed);

    let mut by_source: ByName<Vec<Arc<Relationship>>> = ByName::default();
    // Relations whose targets are all outside the exposed schemas are kept, for error messages.
    for name in references.iter().flat_map(|reference| [&reference.source, &reference.target]) {
        if exposed(name) {
            by_source.entry(name);
        }
    }
    for relationship in found {
        by_source.entry(&relationship.source.clone()).push(Arc::new(relationship));
    }
    for relationships in by_source.values_mut() {
        relationships.sort_unstable();
        relationships.shrink_to_fit();
    }
    by_source
}

/// The foreign keys, and their projections through views at either or both ends.
fn through_views(references: Vec<Reference>, view_keys: &[ViewKey]) -> Vec<Reference> {
    type Key<'a> = (&'a QualifiedName, &'a str, KeyRole);
    let mut by_key: FxHashMap<Key<'_>, Vec<&ViewKey>> = FxHashMap::default();
    for key in view_keys {
        by_key.entry((&key.table, &*key.constraint, key.role)).or_default().push(key);
    }
    let mut all = Vec::with_capacity(references.len());
    for reference in references {
        let sources = by_key.get(&(&reference.source, &*reference.constraint, KeyRole::Foreign));
        let targets = by_key.get(&(&reference.target, &*reference.constraint, KeyRole::Referenced));
        let sources: Vec<_> = sources.into_iter().flatten().flat_map(|key| key.variants()).collect();
        let targets: Vec<_> = targets.into_iter().flatten().flat_map(|key| key.variants()).collect();
        for (view, columns) in &sources {
            all.push(Reference {
                source: (*view).clone(),
                columns: columns
                    .iter()
                    .cloned()
                    .zip(reference.columns.iter().map(|pair| pair.1.clone()))
                    .collect(),
                source_is_view: true,
                ..reference.clone()
            });
            for (target_view, target_columns) in &targets {
                all.push(Reference {
                    source: (*view).clone(),
                    target: (*target_view).clone(),
                    columns: columns.iter().cloned().zip(target_columns.iter().cloned()).collect(),
                    source_is_view: true,
                    target_is_view: true,
                    ..reference.clone()
                });
            }
        }
        for (view, columns) in &targets {
            all.push(Reference {
                target: (*view).clone(),
                columns: reference
                    .columns
                    .iter()
                    .map(|pair| pair.0.clone())
                    .zip(columns.iter().cloned())
                    .collect(),
                target_is_view: true,
                ..reference.clone()
            });
        }
        all.push(reference);
    }
    all
}

fn both_ways(reference: &Reference) -> [Relationship; 2] {
    let is_self = reference.source == reference.target;
    let key =
        ForeignKey { constraint: reference.constraint.clone(), columns: reference.columns.as_slice().into() };
    let swapped: Vec<_> = reference.columns.iter().map(|(a, b)| (b.clone(), a.clone())).collect();
    let inverse = ForeignKey { constraint: reference.constraint.clone(), columns: swapped.into() };
    let (forward, backward) = if reference.one_to_one {
        (Cardinality::OneToOne { key, owner: true }, Cardinality::OneToOne { key: inverse, owner: false })
    } else {
        (Cardinality::ManyToOne(key), Cardinality::OneToMany(inverse))
    };
    [
        Relationship {
            source: reference.source.clone(),
            target: reference.target.clone(),
            is_self,
            link: Link::Key {
                cardinality: forward,
                source_is_view: reference.source_is_view,
                target_is_view: reference.target_is_view,
            },
        },
        Relationship {
            source: reference.target.clone(),
            target: reference.source.clone(),
            is_self,
            link: Link::Key {
                cardinality: backward,
                source_is_view: reference.target_is_view,
                target_is_view: reference.source_is_view,
            },
        },
    ]
}

/// Many-to-many: two foreign keys of an exposed relation whose columns are all part of its primary key.
fn over_junctions(references: &[Reference], relations: &ByName<Arc<Relation>>) -> Vec<Relationship> {
    let mut by_source: FxHashMap<&QualifiedName, Vec<&Reference>> = FxHashMap::default();
    for reference in references.iter().filter(|reference| !reference.one_to_one) {
        by_source.entry(&reference.source).or_default().push(reference);
    }
    let mut found = Vec::new();
    for (junction, references) in by_source {
        let Some(relation) = relations.get(&junction.schema, &junction.name) else { continue };
        let in_key = |reference: &&&Reference| {
            reference.columns.iter().all(|pair| relation.primary_key.contains(&pair.0))
        };
        let exposed = |reference: &&&Reference| {
            relations.get(&reference.target.schema, &reference.target.name).is_some()
        };
        let keys: Vec<_> = references.iter().filter(in_key).filter(exposed).collect();
        for one in &keys {
            for other in keys.iter().filter(|other| other.constraint != one.constraint) {
                let swap = |reference: &Reference| {
                    reference.columns.iter().map(|(a, b)| (b.clone(), a.clone())).collect()
                };
                found.push(Relationship {
                    source: one.target.clone(),
                    target: other.target.clone(),
                    is_self: one.target == other.target,
                    link: Link::Key {
                        cardinality: Cardinality::ManyToMany(Arc::new(Junction {
                            relation: junction.clone(),
                            source_constraint: one.constraint.clone(),
                            target_constraint: other.constraint.clone(),
                            source_columns: swap(one),
                            target_columns: swap(other),
                        })),
                        source_is_view: one.target_is_view,
                        target_is_view: other.target_is_view,
                    },
                });
            }
        }
    }
    found
}
