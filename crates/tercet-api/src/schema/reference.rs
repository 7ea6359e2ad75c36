//! Foreign keys read from the system catalogue; the input to relationship detection.

use std::sync::Arc;

use super::QualifiedName;

/// A foreign key of the catalogue, or its projection through views at either end.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    pub(super) constraint: Arc<str>,
    pub(super) source: QualifiedName,
    pub(super) target: QualifiedName,
    pub(super) columns: Vec<(Arc<str>, Arc<str>)>,
    pub(super) one_to_one: bool,
    pub(super) source_is_view: bool,
    pub(super) target_is_view: bool,
}

/// A foreign key with the oids and column numbers by which views are traced.
pub(super) struct CatalogueReference {
    pub(super) source: u32,
    pub(super) target: u32,
    pub(super) source_numbers: Vec<i16>,
    pub(super) target_numbers: Vec<i16>,
    pub(super) reference: Reference,
}
