//! What a client asked for: one HTTP request as a plain value.
//!
//! Knows the wire protocol: paths, query strings, headers, bodies. Refuses to know the schema cache, SQL and connections, so it
//! cannot say whether what was asked makes sense; `plan` does.

pub mod field;
pub mod filter;
mod grammar;
pub mod logic;
pub mod media_type;
pub mod order;
pub mod parameters;
pub mod payload;
pub mod preferences;
pub mod range;
pub mod select;

use std::collections::BTreeSet;

use http::{HeaderMap, Method};

use media_type::MediaType;
use parameters::Parameters;
use payload::Payload;
use preferences::Preferences;
use range::RowRange;

/// One request of a client, fully parsed and not yet checked against the schema cache.
#[derive(Debug, Clone)]
pub struct ApiRequest {
    /// What is to be done, and to what.
    pub action: Action,
    /// The exposed schema the target lives in: `Accept-Profile`, `Content-Profile`, or the first one exposed.
    pub schema: String,
    /// Whether several schemas are exposed, so that the response must say `Content-Profile`.
    pub negotiated_by_profile: bool,
    /// The query string.
    pub parameters: Parameters,
    /// Rows of the target that were asked for: `limit`, `offset` and the `Range` header taken together.
    pub range: RowRange,
    /// The `Prefer` headers.
    pub preferences: Preferences,
    /// Media types the client accepts, the most wanted first; `*/*` alone without an `Accept` header.
    pub accept: Vec<MediaType>,
    /// Media type of the body, JSON when the client did not say.
    pub content_type: MediaType,
    /// The body of a request that writes or calls, `None` for all others.
    pub payload: Option<Payload>,
    /// Columns or arguments the body carries: its keys, or what `columns=` says.
    pub columns: BTreeSet<String>,
    /// The method as it was sent.
    pub method: Method,
    /// The path as it was sent, percent-encoded.
    pub path: String,
    /// The headers as they were sent.
    pub headers: HeaderMap,
}

/// What a request wants done. Names are as in the path, decoded, and live in [`ApiRequest::schema`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// `GET` or `HEAD /relation`.
    Read {
        /// Table or view.
        relation: String,
        /// `HEAD`: no body.
        head: bool,
    },
    /// `POST`, `PATCH`, `PUT` or `DELETE /relation`.
    Mutate {
        /// Table or view.
        relation: String,
        /// Which of the four.
        mutation: Mutation,
    },
    /// `/rpc/routine`, or `/` when a root function is configured.
    Call {
        /// Function or procedure.
        routine: String,
        /// How its arguments come.
        invocation: Invocation,
    },
    /// `GET` or `HEAD /`: the description of the schema.
    Describe {
        /// `HEAD`: no body.
        head: bool,
    },
    /// `OPTIONS /relation`.
    RelationInfo {
        /// Table or view.
        relation: String,
    },
    /// `OPTIONS /rpc/routine`.
    RoutineInfo {
        /// Function or procedure.
        routine: String,
    },
    /// `OPTIONS /`.
    SchemaInfo,
}

/// A write to a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// `POST`
    Create,
    /// `PATCH`
    Update,
    /// `PUT`: insert or replace exactly one row, named by its primary key.
    SingleUpsert,
    /// `DELETE`
    Delete,
}

/// How a routine is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invocation {
    /// `POST`: arguments in the body, may write.
    Post,
    /// `GET` or `HEAD`: arguments in the query string, read-only transaction.
    Read {
        /// `HEAD`: no body.
        head: bool,
    },
}
