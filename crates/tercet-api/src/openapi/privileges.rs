//! What the role of a request may see of a schema.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::postgres::{Row, Statement};
use crate::schema::{Relation, Routine};

/// The relations and routines a role has any privilege on, or all of them.
#[derive(Debug, Default)]
pub struct Privileges {
    /// Names; `None` for all.
    relations: Option<FxHashSet<Box<str>>>,
    /// By `pg_proc.oid`: the types of the parameters, as the search path of the request shortens them; `None` for all.
    routines: Option<FxHashMap<u32, Vec<Box<str>>>>,
}

impl Privileges {
    /// What to ask in the transaction of the request, under its role: for relations, and for routines.
    pub fn statements(schema: &str) -> [Statement; 2] {
        [include_str!("privileges/relations.sql"), include_str!("privileges/routines.sql")]
            .map(|sql| Statement::new(sql, vec![Some(schema.to_owned().into())]))
    }

    /// Reads the answers.
    pub fn from_rows(relations: &[Row], routines: &[Row]) -> Self {
        let routine = |row: &Row| {
            let types: Vec<Box<str>> = serde_json::from_str(row.text(1)?).ok()?;
            Some((row.text(0)?.parse().ok()?, types))
        };
        Self {
            relations: Some(relations.iter().filter_map(|row| row.text(0)).map(Box::from).collect()),
            routines: Some(routines.iter().filter_map(routine).collect()),
        }
    }

    /// No privilege is looked at: everything is seen.
    pub fn ignored() -> Self {
        Self::default()
    }

    pub(super) fn sees(&self, relation: &Relation) -> bool {
        self.relations.as_ref().is_none_or(|names| names.contains(&*relation.name))
    }

    /// The types of a routine's parameters, `None` when it is not seen.
    pub(super) fn parameter_types<'a>(&'a self, routine: &'a Routine) -> Option<Vec<&'a str>> {
        match &self.routines {
            None => Some(routine.parameters.iter().map(|parameter| &*parameter.data_type).collect()),
            Some(routines) => Some(routines.get(&routine.oid)?.iter().map(|name| &**name).collect()),
        }
    }
}
