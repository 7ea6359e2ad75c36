//! The schema cache: an immutable copy of the exposed schemas' catalogue that requests are planned against. Knows
//! nothing of requests.

mod dump;
mod load;
mod load_error;
mod media;
mod name;
mod record;
mod reference;
mod relation;
mod relationship;
mod routine;
mod view;
mod view_key;

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

pub use load_error::LoadError;
pub use media::{MediaHandler, MediaTarget};
pub(crate) use name::LONGEST_NAME;
pub use name::{ByName, QualifiedName};
pub use relation::{Column, Relation, RelationKind, SideEffectFree};
pub use relationship::{Cardinality, ForeignKey, Junction, Link, Relationship};
pub use routine::{Parameter, Routine, RoutineResult, Volatility};

/// The objects of the exposed schemas. Built by [`SchemaCache::load`] and immutable.
#[derive(Debug, Default)]
pub struct SchemaCache {
    relations: ByName<Arc<Relation>>,
    relationships: ByName<Vec<Arc<Relationship>>>,
    routines: ByName<Vec<Arc<Routine>>>,
    procedures: FxHashSet<QualifiedName>,
    /// By source type, then by target type.
    representations: FxHashMap<Arc<str>, FxHashMap<Arc<str>, Arc<str>>>,
    media_handlers: FxHashMap<(MediaTarget, Arc<str>), MediaHandler>,
    schema_comments: FxHashMap<Arc<str>, Box<str>>,
    server_version: u32,
}

impl SchemaCache {
    /// The relation with this name.
    pub fn relation(&self, schema: &str, name: &str) -> Option<&Arc<Relation>> {
        self.relations.get(schema, name)
    }

    /// The relations of an exposed schema, by name.
    pub fn relations(&self, schema: &str) -> impl Iterator<Item = &Arc<Relation>> {
        let mut all: Vec<_> = self.relations.of_schema(schema).map(|(_, relation)| relation).collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all.into_iter()
    }

    /// The relationships from a relation, in a stable order.
    pub fn relationships(&self, schema: &str, name: &str) -> &[Arc<Relationship>] {
        self.relationships.get(schema, name).map_or(&[], Vec::as_slice)
    }

    /// The names of a schema's relations with any relationship, including one to a schema that is not exposed.
    pub fn related(&self, schema: &str) -> impl Iterator<Item = &Arc<str>> {
        self.relationships.of_schema(schema).map(|(name, _)| name)
    }

    /// The overloads of a function, fewest parameters first.
    pub fn routines(&self, schema: &str, name: &str) -> &[Arc<Routine>] {
        self.routines.get(schema, name).map_or(&[], Vec::as_slice)
    }

    /// The functions of an exposed schema, by name, overloads adjacent.
    pub fn all_routines(&self, schema: &str) -> impl Iterator<Item = &Arc<Routine>> {
        let mut all: Vec<_> = self.routines.of_schema(schema).collect();
        all.sort_unstable_by(|a, b| a.0.cmp(b.0));
        all.into_iter().flat_map(|(_, overloads)| overloads)
    }

    /// The names of a schema's functions, in no order.
    pub fn routine_names(&self, schema: &str) -> impl Iterator<Item = &Arc<str>> {
        self.routines.of_schema(schema).map(|(name, _)| name)
    }

    /// Whether a procedure has this name; requests cannot call procedures.
    pub fn is_procedure(&self, schema: &str, name: &str) -> bool {
        !self.procedures.is_empty() && self.procedures.contains(&QualifiedName::new(schema, name))
    }

    /// The function, quoted, of a custom representation: an implicit cast between a domain and json or text.
    pub fn representation(&self, source: &str, target: &str) -> Option<&Arc<str>> {
        self.representations.get(source)?.get(target)
    }

    /// The custom handler for a media type (`type/subtype`, lower case) and target.
    pub fn media_handler(&self, target: &MediaTarget, media_type: &str) -> Option<&MediaHandler> {
        if self.media_handlers.is_empty() {
            return None;
        }
        self.media_handlers.get(&(target.clone(), Arc::from(media_type)))
    }

    /// The custom media types of a relation or function.
    pub fn media_types<'a>(&'a self, target: &'a MediaTarget) -> impl Iterator<Item = &'a str> {
        self.media_handlers.keys().filter(move |key| key.0 == *target).map(|key| &*key.1)
    }

    /// The schema's comment.
    pub fn schema_comment(&self, schema: &str) -> Option<&str> {
        self.schema_comments.get(schema).map(AsRef::as_ref)
    }

    /// PostgreSQL's `server_version_num`, 150004 for 15.4.
    pub fn server_version(&self) -> u32 {
        self.server_version
    }

    /// The number of relations, relationships and functions, for the log.
    pub fn counts(&self) -> (usize, usize, usize) {
        (
            self.relations.len(),
            self.relationships.values().map(Vec::len).sum(),
            self.routines.values().map(Vec::len).sum(),
        )
    }
}
