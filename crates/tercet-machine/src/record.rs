//! The inventory's entry for the resources of one kind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The state before tercet created a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Before {
    /// Nothing.
    Absent,
    /// The same resource, not created by tercet: it is never removed.
    Present,
    /// Another file; this is its copy.
    Kept(PathBuf),
}

impl Before {
    /// `Present` for a resource that exists and does not carry tercet's name.
    pub(crate) fn of(exists: bool, path: &Path) -> Self {
        if exists && !is_named_by_tercet(path) { Self::Present } else { Self::Absent }
    }
}

/// Whether a path carries tercet's name: then it is tercet's, also where an earlier version made no record of it.
pub(crate) fn is_named_by_tercet(path: &Path) -> bool {
    path.to_string_lossy().contains("tercet")
}

/// The inventory's entry for one kind; the empty value where tercet created nothing of that kind.
pub trait Record: Default + PartialEq {
    /// The part of it that is not in `other`.
    #[must_use]
    fn without(&self, other: &Self) -> Self;

    /// Whether there is nothing in it.
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The kinds that are never removed.
impl Record for () {
    fn without(&self, (): &Self) -> Self {}
}

impl Record for bool {
    fn without(&self, other: &Self) -> Self {
        *self && !other
    }
}

impl<T: Copy + PartialEq> Record for Option<T> {
    fn without(&self, other: &Self) -> Self {
        self.filter(|_| other.is_none())
    }
}

impl<K: Ord + Clone, V: Clone + PartialEq> Record for BTreeMap<K, V> {
    fn without(&self, other: &Self) -> Self {
        self.iter().filter(|(key, _)| !other.contains_key(key)).map(|(k, v)| (k.clone(), v.clone())).collect()
    }
}
