//! Projects tables' keys through views: a view with all columns of a key has the key too.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::reference::CatalogueReference;
use super::view::{self, Origins};
use super::{QualifiedName, Relation};

/// The role of a key's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum KeyRole {
    Primary,
    Foreign,
    Referenced,
}

/// A table's key all of whose columns are in a view.
#[derive(Debug)]
pub(super) struct ViewKey {
    pub(super) table: QualifiedName,
    pub(super) view: QualifiedName,
    /// Empty for a primary key.
    pub(super) constraint: Arc<str>,
    pub(super) role: KeyRole,
    /// For each column of the key, the view's columns that originate from it, at least one.
    pub(super) columns: Vec<Vec<Arc<str>>>,
}

impl ViewKey {
    /// All combinations of view columns for the key.
    pub(super) fn variants(&self) -> Vec<(&QualifiedName, Vec<Arc<str>>)> {
        let mut variants: Vec<Vec<Arc<str>>> = vec![Vec::new()];
        for choices in &self.columns {
            variants = variants
                .iter()
                .flat_map(|chosen| {
                    choices.iter().map(|choice| {
                        let mut longer = chosen.clone();
                        longer.push(choice.clone());
                        longer
                    })
                })
                .collect();
        }
        variants.into_iter().map(|columns| (&self.view, columns)).collect()
    }
}

/// A table's primary key.
pub(super) struct PrimaryKey {
    pub(super) numbers: Vec<i16>,
    pub(super) columns: Vec<Arc<str>>,
}

/// The keys of tables that each exposed view has in full.
pub(super) fn view_keys(
    relations: &[(u32, Relation)],
    primary_keys: &FxHashMap<u32, PrimaryKey>,
    references: &[CatalogueReference],
    definitions: &FxHashMap<u32, Origins>,
) -> Vec<ViewKey> {
    let mut by_table: FxHashMap<u32, Vec<(KeyRole, &CatalogueReference)>> = FxHashMap::default();
    for reference in references {
        by_table.entry(reference.source).or_default().push((KeyRole::Foreign, reference));
        by_table.entry(reference.target).or_default().push((KeyRole::Referenced, reference));
    }
    let mut found = Vec::new();
    for (oid, relation) in relations.iter().filter(|(_, relation)| relation.kind.is_view()) {
        let traced = view::trace(*oid, definitions);
        let name_of: FxHashMap<i16, &Arc<str>> =
            relation.columns.iter().map(|column| (column.number, &column.name)).collect();
        let shown = |table: u32, numbers: &[i16]| -> Option<Vec<Vec<Arc<str>>>> {
            numbers
                .iter()
                .map(|number| {
                    let columns: Vec<_> = traced
                        .get(&(table, *number))?
                        .iter()
                        .filter_map(|number| name_of.get(number).map(|name| Arc::clone(name)))
                        .collect();
                    (!columns.is_empty()).then_some(columns)
                })
                .collect()
        };
        let view = QualifiedName { schema: relation.schema.clone(), name: relation.name.clone() };
        let mut tables: Vec<u32> = traced.keys().map(|column| column.0).collect();
        tables.sort_unstable();
        tables.dedup();
        for table in tables {
            if let Some(columns) = primary_keys.get(&table).and_then(|key| shown(table, &key.numbers)) {
                found.push(ViewKey {
                    table: QualifiedName::local(""),
                    view: view.clone(),
                    constraint: Arc::from(""),
                    role: KeyRole::Primary,
                    columns,
                });
            }
            for (role, reference) in by_table.get(&table).into_iter().flatten() {
                let (numbers, table_name) = match role {
                    KeyRole::Foreign => (&reference.source_numbers, &reference.reference.source),
                    _ => (&reference.target_numbers, &reference.reference.target),
                };
                if let Some(columns) = shown(table, numbers) {
                    found.push(ViewKey {
                        table: table_name.clone(),
                        view: view.clone(),
                        constraint: reference.reference.constraint.clone(),
                        role: *role,
                        columns,
                    });
                }
            }
        }
    }
    found
}

/// Adds the tables' primary keys to views; of several view columns for a key column the first is used.
pub(super) fn add_view_primary_keys(relations: &mut [(u32, Relation)], view_keys: &[ViewKey]) {
    let mut by_view: FxHashMap<&QualifiedName, Vec<&ViewKey>> = FxHashMap::default();
    for key in view_keys.iter().filter(|key| key.role == KeyRole::Primary) {
        by_view.entry(&key.view).or_default().push(key);
    }
    for (_, relation) in relations.iter_mut().filter(|(_, relation)| relation.kind.is_view()) {
        let view = QualifiedName { schema: relation.schema.clone(), name: relation.name.clone() };
        relation.primary_key = by_view
            .get(&view)
            .into_iter()
            .flatten()
            .flat_map(|key| key.columns.iter().filter_map(|columns| columns.first().cloned()))
            .collect();
    }
}
