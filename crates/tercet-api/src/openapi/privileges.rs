//! The request role's privileges on a schema.

use rustc_hash::FxHashMap;
use tercet_postgres::{Row, Statement};

use crate::schema::{Relation, Routine};

/// The operations a role may use on a relation: by its privileges, as far as the relation is writable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Methods {
    pub(super) select: bool,
    pub(super) insert: bool,
    pub(super) update: bool,
    pub(super) delete: bool,
}

/// The accessible relations and routines; or all, without a check.
#[derive(Debug, Default)]
pub struct Privileges {
    /// By name; `None` for all.
    relations: Option<FxHashMap<Box<str>, Methods>>,
    /// By `pg_proc.oid`: the parameter types as the request's search path abbreviates them; `None` for all.
    routines: Option<FxHashMap<u32, Vec<Box<str>>>>,
}

impl Privileges {
    /// The queries for the accessible relations and routines, to run in the request's transaction under its role.
    pub fn statements(schema: &str) -> [Statement; 2] {
        [include_str!("privileges/relations.sql"), include_str!("privileges/routines.sql")]
            .map(|sql| Statement::new(sql, vec![Some(schema.to_owned().into())]))
    }

    /// Parses the results of the queries.
    pub fn from_rows(relations: &[Row], routines: &[Row]) -> Self {
        let routine = |row: &Row| {
            let types: Vec<Box<str>> = serde_json::from_str(row.text(1)?).ok()?;
            Some((row.text(0)?.parse().ok()?, types))
        };
        let relation = |row: &Row| {
            let granted = |column| row.text(column) == Some("t");
            let methods =
                Methods { select: granted(1), insert: granted(2), update: granted(3), delete: granted(4) };
            Some((Box::from(row.text(0)?), methods))
        };
        Self {
            relations: Some(relations.iter().filter_map(relation).collect()),
            routines: Some(routines.iter().filter_map(routine).collect()),
        }
    }

    /// Everything, without a check of privileges.
    pub fn ignored() -> Self {
        Self::default()
    }

    pub(super) fn sees(&self, relation: &Relation) -> bool {
        self.relations.as_ref().is_none_or(|names| names.contains_key(&*relation.name))
    }

    /// The operations the role may use on a relation.
    pub(super) fn methods(&self, relation: &Relation) -> Methods {
        let all = Methods { select: true, insert: true, update: true, delete: true };
        let granted = match &self.relations {
            None => all,
            Some(relations) => relations.get(&*relation.name).copied().unwrap_or_default(),
        };
        Methods {
            select: granted.select,
            insert: granted.insert && relation.insertable,
            update: granted.update && relation.updatable,
            delete: granted.delete && relation.deletable,
        }
    }

    /// The types of a routine's parameters; `None` if the routine is not accessible.
    pub(super) fn parameter_types<'a>(&'a self, routine: &'a Routine) -> Option<Vec<&'a str>> {
        match &self.routines {
            None => Some(routine.parameters.iter().map(|parameter| &*parameter.data_type).collect()),
            Some(routines) => Some(routines.get(&routine.oid)?.iter().map(|name| &**name).collect()),
        }
    }
}
