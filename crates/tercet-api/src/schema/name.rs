//! Names of database objects, unquoted as in the catalogue.

use std::fmt;
use std::sync::Arc;

use rustc_hash::FxHashMap;

/// The longest identifier, in bytes: PostgreSQL truncates longer ones silently, so two could become equal
/// (<https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS>).
pub(crate) const LONGEST_NAME: usize = 63;

/// A qualified name. With an empty schema it is unqualified.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QualifiedName {
    /// The schema, or empty.
    pub schema: Arc<str>,
    /// The unqualified name.
    pub name: Arc<str>,
}

impl QualifiedName {
    /// A qualified name.
    pub fn new(schema: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { schema: schema.into(), name: name.into() }
    }

    /// An unqualified name.
    pub fn local(name: impl Into<Arc<str>>) -> Self {
        Self { schema: Arc::from(""), name: name.into() }
    }
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// A map by schema and name, without allocation on lookup.
#[derive(Debug)]
pub struct ByName<T>(FxHashMap<Arc<str>, FxHashMap<Arc<str>, T>>);

impl<T> Default for ByName<T> {
    fn default() -> Self {
        Self(FxHashMap::default())
    }
}

impl<T> ByName<T> {
    /// The value with this name.
    pub fn get(&self, schema: &str, name: &str) -> Option<&T> {
        self.0.get(schema)?.get(name)
    }

    /// All values of a schema, in no order.
    pub fn of_schema(&self, schema: &str) -> impl Iterator<Item = (&Arc<str>, &T)> {
        self.0.get(schema).into_iter().flatten()
    }

    /// All values, in no order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.0.values().flat_map(FxHashMap::values)
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.0.values().map(FxHashMap::len).sum()
    }

    /// Whether the map is empty.
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
