//! Rows of catalogue queries: parses text columns, with interned names.

use std::str::FromStr;
use std::sync::Arc;

use rustc_hash::FxHashSet;
use serde::de::DeserializeOwned;
use tercet_postgres::Row;

use super::QualifiedName;
use super::load_error::LoadError;

/// Interned names.
#[derive(Default)]
pub(super) struct Names(FxHashSet<Arc<str>>);

impl Names {
    pub(super) fn get(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return known.clone();
        }
        let name: Arc<str> = Arc::from(name);
        self.0.insert(name.clone());
        name
    }

    pub(super) fn qualified(&mut self, schema: &str, name: &str) -> QualifiedName {
        QualifiedName { schema: self.get(schema), name: self.get(name) }
    }
}

/// A row of a catalogue query.
pub(super) struct Record {
    pub(super) what: &'static str,
    pub(super) row: Row,
}

impl Record {
    pub(super) fn form(&self, column: usize) -> LoadError {
        LoadError::Form { what: self.what, column }
    }

    pub(super) fn optional(&self, column: usize) -> Result<Option<&str>, LoadError> {
        if column >= self.row.len() {
            return Err(self.form(column));
        }
        Ok(self.row.text(column))
    }

    pub(super) fn text(&self, column: usize) -> Result<&str, LoadError> {
        self.optional(column)?.ok_or_else(|| self.form(column))
    }

    pub(super) fn number<T: FromStr>(&self, column: usize) -> Result<T, LoadError> {
        self.text(column)?.parse().map_err(|_| self.form(column))
    }

    pub(super) fn flag(&self, column: usize) -> Result<bool, LoadError> {
        Ok(self.text(column)? == "t")
    }

    pub(super) fn boxed(&self, column: usize) -> Result<Option<Box<str>>, LoadError> {
        Ok(self.optional(column)?.map(Into::into))
    }

    pub(super) fn json<T: DeserializeOwned>(&self, column: usize) -> Result<T, LoadError> {
        serde_json::from_str(self.text(column)?).map_err(|_| self.form(column))
    }

    pub(super) fn name(&self, column: usize, names: &mut Names) -> Result<QualifiedName, LoadError> {
        Ok(names.qualified(self.text(column)?, self.text(column + 1)?))
    }
}
