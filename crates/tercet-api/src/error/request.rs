//! PGRST1xx: the request is invalid, or its result violates one of its constraints.

use http::StatusCode;

use crate::response_headers::InvalidResponse;

/// An invalid request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// A query parameter cannot be parsed.
    #[error("{message}")]
    Parameter {
        /// The parameter and the position of the error.
        message: String,
        /// What was found and what was expected.
        details: String,
    },
    /// Text PostgreSQL cannot store: bytes that are not UTF-8, or NUL.
    #[error("invalid byte sequence for encoding \"UTF8\": {bytes}")]
    Encoding {
        /// The bytes, in PostgreSQL's notation.
        bytes: String,
        /// Their position.
        position: String,
    },
    /// A percent sign that is not followed by two hexadecimal digits, with its position.
    #[error("invalid percent-encoding")]
    PercentEncoding(String),
    /// An unsupported charset or content encoding: the header.
    #[error("The body is encoded in a way that is not supported: {0}")]
    BodyEncoding(String),
    /// The body has an unsupported number of rows.
    #[error("{purpose}, and the body has {rows}")]
    Rows {
        /// What the request does with rows, and how many it can take.
        purpose: &'static str,
        /// The number of rows in the body.
        rows: usize,
    },
    /// A column or an argument is given twice.
    #[error("{0:?} is given twice, and only one can count")]
    Repeated(String),
    /// The memory budget for request bodies is used up.
    #[error("Too many bodies of requests are being read")]
    BodiesFull,
    /// Not an HTTP/1.1 request.
    #[error("The request cannot be read")]
    Http {
        /// The response status.
        status: StatusCode,
        /// The reason.
        reason: &'static str,
    },
    /// A routine was called with a method other than GET, HEAD, POST or OPTIONS.
    #[error("Cannot use the {0} method on RPC")]
    RoutineMethod(String),
    /// The body does not match its media type.
    #[error("{0}")]
    Body(String),
    /// A CSV record has a different number of fields than the header.
    #[error("All lines must have same number of fields")]
    Fields {
        /// The record's line.
        line: usize,
        /// The number of its fields.
        fields: usize,
        /// The number of fields in the header.
        header: usize,
    },
    /// The body is longer than this number of bytes.
    #[error("The request's body takes more than {0} bytes")]
    BodyTooLong(usize),
    /// The body was not received in time.
    #[error("The request's body did not arrive in time")]
    BodyTimeout,
    /// The requested range of rows is not satisfiable.
    #[error("Requested range not satisfiable")]
    Range(RangeError),
    /// PUT whose filters are not exactly `eq` on the primary key.
    #[error("Filters must include all and only primary key columns with 'eq' operators")]
    PutFilters,
    /// The requested schema is not exposed.
    #[error("Invalid schema: {schema}")]
    Schema {
        /// The requested schema.
        schema: String,
        /// The exposed schemas.
        exposed: Vec<String>,
    },
    /// None of the accepted media types can be produced.
    #[error("None of these media types are available: {}", .0.join(", "))]
    MediaType(Vec<String>),
    /// A filter, order or range names an embedded relation that `select` does not.
    #[error("'{0}' is not an embedded resource in this request")]
    NotEmbedded(String),
    /// The same, where the relation is embedded under an alias.
    #[error("'{name}' is not an embedded resource in this request")]
    EmbeddedUnderAlias {
        /// The relation.
        name: String,
        /// Its alias in the request.
        alias: String,
    },
    /// The `response.headers` setting is not an array of one-key objects.
    #[error(
        "response.headers guc must be a JSON array composed of objects with a single key and a string value"
    )]
    ResponseHeadersSetting,
    /// The `response.status` setting is not a status.
    #[error("response.status guc must be a valid status code")]
    ResponseStatusSetting,
    /// The response set by SQL is not valid HTTP.
    #[error("The response that was asked for cannot be sent")]
    InvalidResponse(InvalidResponse),
    /// PUT with `limit` or `offset`.
    #[error("limit/offset querystring parameters are not allowed for PUT")]
    PutRange,
    /// The row of a PUT does not match its filters.
    #[error("Payload values do not match URL in primary key column(s)")]
    PutPayload,
    /// A single row was requested and this number of rows was found.
    #[error("Cannot coerce the result to a single JSON object")]
    NotSingular(i64),
    /// A method that is not supported for the resource.
    #[error("Unsupported HTTP method: {0}")]
    Method(String),
    /// An order by an embedded relation with several rows.
    #[error("A related order on '{target}' is not possible")]
    RelatedOrder {
        /// The ordered relation.
        origin: String,
        /// The embedded relation.
        target: String,
    },
    /// A filter on an embedded relation other than `is.null`.
    #[error("Bad operator on the '{0}' embedded resource")]
    EmbeddedFilter(String),
    /// Unknown preferences under `handling=strict`.
    #[error("Invalid preferences given with handling=strict")]
    Preferences(Vec<String>),
    /// Aggregates, while `db-aggregates-enabled` is off.
    #[error("Use of aggregate functions is not allowed")]
    Aggregates,
    /// More rows were affected than `max-affected`: this many.
    #[error("Query result exceeds max-affected preference constraint")]
    MaxAffected(i64),
    /// A path that is no resource.
    #[error("Invalid path specified in request URL")]
    Path,
    /// The description of the schema was requested and is disabled.
    #[error("Root endpoint metadata is disabled")]
    DescriptionDisabled,
    /// A feature that is not implemented.
    #[error("Feature not implemented")]
    NotImplemented(String),
    /// `max-affected` on a routine that does not return a set.
    #[error("Function must return SETOF or TABLE when max-affected preference is used with handling=strict")]
    MaxAffectedRoutine,
}

/// Why a range is not satisfiable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeError {
    /// The limit is negative.
    NegativeLimit,
    /// The offset is negative.
    NegativeOffset,
    /// The `Range` header's first position is after its last.
    Inverted,
    /// The offset is beyond the last row.
    OutOfBounds {
        /// The requested offset.
        offset: i64,
        /// The number of rows.
        total: i64,
    },
}

impl RequestError {
    /// PostgREST's error code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Parameter { .. } | Self::PercentEncoding(_) => "PGRST100",
            Self::BodiesFull => "TCT02",
            Self::Encoding { .. } => "22021",
            Self::Http { .. } => "TCT03",
            Self::RoutineMethod(_) => "PGRST101",
            Self::Body(_)
            | Self::Fields { .. }
            | Self::BodyEncoding(_)
            | Self::Rows { .. }
            | Self::Repeated(_)
            | Self::BodyTooLong(_)
            | Self::BodyTimeout => "PGRST102",
            Self::Range(_) => "PGRST103",
            Self::PutFilters => "PGRST105",
            Self::Schema { .. } => "PGRST106",
            Self::MediaType(_) => "PGRST107",
            Self::NotEmbedded(_) | Self::EmbeddedUnderAlias { .. } => "PGRST108",
            Self::ResponseHeadersSetting => "PGRST111",
            Self::ResponseStatusSetting | Self::InvalidResponse(_) => "PGRST112",
            Self::PutRange => "PGRST114",
            Self::PutPayload => "PGRST115",
            Self::NotSingular(_) => "PGRST116",
            Self::Method(_) => "PGRST117",
            Self::RelatedOrder { .. } => "PGRST118",
            Self::EmbeddedFilter(_) => "PGRST120",
            Self::Preferences(_) => "PGRST122",
            Self::Aggregates => "PGRST123",
            Self::MaxAffected(_) => "PGRST124",
            Self::Path => "PGRST125",
            Self::DescriptionDisabled => "PGRST126",
            Self::NotImplemented(_) => "PGRST127",
            Self::MaxAffectedRoutine => "PGRST128",
        }
    }

    /// The response status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Http { status, .. } => *status,
            Self::MediaType(_) | Self::Schema { .. } | Self::NotSingular(_) => StatusCode::NOT_ACCEPTABLE,
            Self::PutFilters | Self::RoutineMethod(_) | Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyEncoding(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::BodiesFull => StatusCode::SERVICE_UNAVAILABLE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Range(_) => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::ResponseHeadersSetting | Self::ResponseStatusSetting | Self::InvalidResponse(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::Path | Self::DescriptionDisabled => StatusCode::NOT_FOUND,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The `details` of the error.
    pub fn details(&self) -> Option<String> {
        Some(match self {
            Self::Parameter { details, .. } | Self::NotImplemented(details) => details.clone(),
            Self::Encoding { position, .. } | Self::PercentEncoding(position) => position.clone(),
            Self::Http { reason, .. } => (*reason).to_owned(),
            Self::InvalidResponse(reason) => reason.to_string(),
            // PostgREST has no details for the others
            Self::Fields { line, fields, header } if fields > header => {
                format!("Line {line} has {fields} fields and the header has {header}")
            }
            Self::Range(RangeError::NegativeLimit) => "Limit should be greater than or equal to zero.".into(),
            Self::Range(RangeError::NegativeOffset) => {
                "Offset should be greater than or equal to zero.".into()
            }
            Self::Range(RangeError::Inverted) => {
                "The lower boundary must be lower than or equal to the upper boundary in the Range header."
                    .into()
            }
            Self::Range(RangeError::OutOfBounds { offset, total }) => {
                format!("An offset of {offset} was requested, but there are only {total} rows.")
            }
            Self::EmbeddedUnderAlias { .. } => {
                "Target names are not allowed in filters if they have an alias".into()
            }
            Self::NotSingular(rows) => format!("The result contains {rows} rows"),
            Self::RelatedOrder { origin, target } => {
                format!("'{origin}' and '{target}' do not form a many-to-one or one-to-one relationship")
            }
            Self::EmbeddedFilter(_) => {
                "Only is null or not is null filters are allowed on embedded resources".into()
            }
            Self::Preferences(invalid) => format!("Invalid preferences: {}", invalid.join(", ")),
            Self::MaxAffected(rows) => format!("The query affects {rows} rows"),
            _ => return None,
        })
    }

    /// The `hint` of the error.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotEmbedded(resource) => {
                Some(format!("Verify that '{resource}' is included in the 'select' query parameter."))
            }
            Self::EmbeddedUnderAlias { name, alias } => {
                Some(format!("Change '{name}' to '{alias}' in filters, orders or limits."))
            }
            Self::PercentEncoding(_) => Some("Encode a literal percent sign as %25.".into()),
            Self::BodyEncoding(_) => Some("Send the body unencoded, in UTF-8.".into()),
            Self::BodiesFull => Some("Retry the request later.".into()),
            Self::Schema { exposed, .. } => {
                Some(format!("Only the following schemas are exposed: {}", exposed.join(", ")))
            }
            _ => None,
        }
    }
}
