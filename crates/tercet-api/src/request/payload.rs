//! Bodies: what a client wants written, or passed to a routine.

use std::collections::BTreeSet;

use bytes::Bytes;

/// A body that fits its media type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// JSON objects that all have the same keys: an array of them, or one alone. CSV and forms written to a relation become this.
    Json {
        /// Valid JSON text.
        body: Bytes,
        /// The keys; empty for an empty array.
        keys: BTreeSet<String>,
    },
    /// JSON that was not looked at, because `columns=` says which keys count.
    RawJson(Bytes),
    /// A form whose fields are the arguments of a routine, in their order, repeated ones kept.
    Form(Vec<(String, String)>),
    /// Text, XML or bytes for a routine with one unnamed parameter.
    Raw(Bytes),
}
