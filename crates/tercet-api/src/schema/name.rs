//! Names of database objects, unquoted, as the catalogue holds them.

use std::fmt;
use std::sync::Arc;

use rustc_hash::FxHashMap;

/// Bytes of the longest name: PostgreSQL cuts longer ones short without an error, which could make two of them one
/// (<https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS>).
pub(crate) const LONGEST_NAME: usize = 63;

/// A name within a schema. An empty schema means: not qualified.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QualifiedName {
    /// The schema, or empty.
    pub schema: Arc<str>,
    /// The name itself.
    pub name: Arc<str>,
}

impl QualifiedName {
    /// A name in a schema.
    pub fn new(schema: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { schema: schema.into(), name: name.into() }
    }

    /// A name without a schema.
    pub fn local(name: impl Into<Arc<str>>) -> Self {
        Self { schema: Arc::from(""), name: name.into() }
    }
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// Things found by schema and name, without an allocation for the lookup.
#[derive(Debug)]
pub struct ByName<T>(FxHashMap<Arc<str>, FxHashMap<Arc<str>, T>>);

impl<T> Default for ByName<T> {
    fn default() -> Self {
        Self(FxHashMap::default())
    }
}

impl<T> ByName<T> {
    /// The thing of that name.
    pub fn get(&self, schema: &str, name: &str) -> Option<&T> {
        self.0.get(schema)?.get(name)
    }

    /// Everything in one schema, in no order.
    pub fn of_schema(&self, schema: &str) -> impl Iterator<Item = (&Arc<str>, &T)> {
        self.0.get(schema).into_iter().flatten()
    }

    /// Everything, in no order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.0.values().flat_map(FxHashMap::values)
    }

    /// How many there are in all schemas.
    pub fn len(&self) -> usize {
        self.0.values().map(FxHashMap::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn insert(&mut self, name: &QualifiedName, value: T) {
        self.0.entry(name.schema.clone()).or_default().insert(name.name.clone(), value);
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.values_mut().flat_map(FxHashMap::values_mut)
    }
}

impl<T: Default> ByName<T> {
    pub(super) fn entry(&mut self, name: &QualifiedName) -> &mut T {
        self.0.entry(name.schema.clone()).or_default().entry(name.name.clone()).or_default()
    }
}
