//! Media types, in `Accept` and `Content-Type` ([RFC 9110 §8.3](https://www.rfc-editor.org/rfc/rfc9110#section-8.3)).

/// A media type the API gives a meaning to, or any other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MediaType {
    /// `application/json`
    Json,
    /// `application/geo+json`
    GeoJson,
    /// `text/csv`
    Csv,
    /// `text/plain`
    PlainText,
    /// `text/xml`
    Xml,
    /// `application/openapi+json`
    OpenApi,
    /// `application/x-www-form-urlencoded`
    Form,
    /// `application/octet-stream`
    OctetStream,
    /// `*/*`
    Any,
    /// `application/vnd.pgrst.array+json;nulls=stripped`
    ArrayStripped,
    /// `application/vnd.pgrst.object+json`
    Singular {
        /// `nulls=stripped`
        nulls_stripped: bool,
    },
    /// `application/vnd.pgrst.plan+…`
    Plan {
        /// What the plan is for.
        of: Box<MediaType>,
        /// How it is written.
        format: PlanFormat,
        /// In PostgreSQL's order.
        options: Vec<PlanOption>,
    },
    /// Any other, as written, parameters included.
    Other(String),
}

/// How an execution plan is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PlanFormat {
    /// `+json`
    Json,
    /// `+text`
    Text,
}

/// What EXPLAIN is asked for ([EXPLAIN](https://www.postgresql.org/docs/current/sql-explain.html)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PlanOption {
    /// `analyze`
    Analyze,
    /// `verbose`
    Verbose,
    /// `settings`
    Settings,
    /// `buffers`
    Buffers,
    /// `wal`
    Wal,
}
