//! Errors of loading the schema cache.

use tercet_postgres::DatabaseError;

/// Why the catalogue could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// PostgreSQL reported an error, or the connection was lost.
    #[error("cannot read the catalogue: {0}")]
    Database(#[from] DatabaseError),
    /// A catalogue query returned a value of an unexpected form.
    #[error("the catalogue's {what} have an unexpected form in column {column}")]
    Form {
        /// The kind of object.
        what: &'static str,
        /// The column of the query's result, from 0.
        column: usize,
    },
}
