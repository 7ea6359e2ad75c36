//! PGRST1xx: the request itself is wrong, or its result is not what it asked for.

use http::StatusCode;

use crate::response::sendable::Unsendable;

/// A request that cannot be carried out as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// A parameter of the query string cannot be parsed; `details` says what was found and what was expected.
    #[error("{message}")]
    Parameter {
        /// Which parameter, and where in it.
        message: String,
        /// What is wrong there.
        details: String,
    },
    /// Text that PostgreSQL has none of: bytes that are not UTF-8, or NUL.
    #[error("invalid byte sequence for encoding \"UTF8\": {bytes}")]
    Encoding {
        /// The bytes, as PostgreSQL prints them.
        bytes: String,
        /// Where they stand.
        place: String,
    },
    /// A percent sign that no two hexadecimal digits follow, and where it stands.
    #[error("invalid percent-encoding")]
    PercentEncoding(String),
    /// The body is encoded in a way that is not understood: this header says how.
    #[error("The body is encoded in a way that is not supported: {0}")]
    BodyEncoding(String),
    /// Another number of rows than the request can use.
    #[error("{purpose}, and the body has {rows}")]
    Rows {
        /// What they are for.
        purpose: &'static str,
        /// How many there are.
        rows: usize,
    },
    /// A column or an argument is given twice.
    #[error("{0:?} is given twice, and only one can count")]
    Repeated(String),
    /// The bodies of other requests take all the memory there is for bodies.
    #[error("Too many bodies of requests are being read")]
    BodiesFull,
    /// What came is no request of HTTP/1.1.
    #[error("The request cannot be read")]
    Http {
        /// Status of the response.
        status: StatusCode,
        /// What is wrong.
        reason: &'static str,
    },
    /// A routine was asked for with another method than GET, HEAD, POST or OPTIONS.
    #[error("Cannot use the {0} method on RPC")]
    RoutineMethod(String),
    /// The body does not fit its media type.
    #[error("{0}")]
    Body(String),
    /// A record of a CSV body has another number of fields than its header.
    #[error("All lines must have same number of fields")]
    Fields {
        /// Where it starts.
        line: usize,
        /// How many fields it has.
        fields: usize,
        /// How many the header has.
        header: usize,
    },
    /// The body has more bytes than this.
    #[error("The request's body takes more than {0} bytes")]
    BodyTooLong(usize),
    /// The body did not come in time.
    #[error("The request's body did not arrive in time")]
    BodyTimeout,
    /// The rows asked for cannot be had.
    #[error("Requested range not satisfiable")]
    Range(RangeError),
    /// PUT without exactly the primary key as its filters.
    #[error("Filters must include all and only primary key columns with 'eq' operators")]
    PutFilters,
    /// The schema asked for is not exposed.
    #[error("Invalid schema: {schema}")]
    Schema {
        /// What was asked for.
        schema: String,
        /// What there is.
        exposed: Vec<String>,
    },
    /// No media type the client accepts can be made.
    #[error("None of these media types are available: {}", .0.join(", "))]
    MediaType(Vec<String>),
    /// A filter, order or range names an embedded relation that `select` does not.
    #[error("'{0}' is not an embedded resource in this request")]
    NotEmbedded(String),
    /// The same, and the relation is embedded under an alias.
    #[error("'{name}' is not an embedded resource in this request")]
    EmbeddedUnderAlias {
        /// The relation.
        name: String,
        /// What it is called in the request.
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
    /// The response that SQL asked for cannot be sent.
    #[error("The response that was asked for cannot be sent")]
    Unsendable(Unsendable),
    /// PUT with `limit` or `offset`.
    #[error("limit/offset querystring parameters are not allowed for PUT")]
    PutRange,
    /// The row of a PUT is not the one its filters name.
    #[error("Payload values do not match URL in primary key column(s)")]
    PutPayload,
    /// One row was asked for and there are this many.
    #[error("Cannot coerce the result to a single JSON object")]
    NotSingular(i64),
    /// A method that means nothing here.
    #[error("Unsupported HTTP method: {0}")]
    Method(String),
    /// An order by a relation that may have several rows.
    #[error("A related order on '{target}' is not possible")]
    RelatedOrder {
        /// The relation that is ordered.
        origin: String,
        /// The embedded one.
        target: String,
    },
    /// Another operator than `is.null` on an embedded relation.
    #[error("Bad operator on the '{0}' embedded resource")]
    EmbeddedFilter(String),
    /// Preferences that are not understood, under `handling=strict`.
    #[error("Invalid preferences given with handling=strict")]
    Preferences(Vec<String>),
    /// Aggregates where the configuration forbids them.
    #[error("Use of aggregate functions is not allowed")]
    Aggregates,
    /// More rows were affected than the client allowed: this many.
    #[error("Query result exceeds max-affected preference constraint")]
    MaxAffected(i64),
    /// A path of more segments than there are kinds of resources.
    #[error("Invalid path specified in request URL")]
    Path,
    /// The description of the schema was asked for and is switched off.
    #[error("Root endpoint metadata is disabled")]
    DescriptionDisabled,
    /// Something that is allowed by the grammar and not done yet.
    #[error("Feature not implemented")]
    NotImplemented(String),
    /// `max-affected` on a routine that returns no set.
    #[error("Function must return SETOF or TABLE when max-affected preference is used with handling=strict")]
    MaxAffectedRoutine,
}

/// Why rows cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeError {
    /// A limit below zero.
    NegativeLimit,
    /// An offset below zero, with a limit.
    NegativeOffset,
    /// A `Range` header whose ends are the wrong way round.
    Inverted,
    /// An offset behind the last row.
    OutOfBounds {
        /// What was asked for.
        offset: i64,
        /// Rows there are.
        total: i64,
    },
}

impl RequestError {
    /// PostgREST's code.
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
            Self::ResponseStatusSetting | Self::Unsendable(_) => "PGRST112",
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

    /// Status of the response.
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
            Self::ResponseHeadersSetting | Self::ResponseStatusSetting | Self::Unsendable(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::Path | Self::DescriptionDisabled => StatusCode::NOT_FOUND,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// More about it.
    pub fn details(&self) -> Option<String> {
        Some(match self {
            Self::Parameter { details, .. } | Self::NotImplemented(details) => details.clone(),
            Self::Encoding { place, .. } | Self::PercentEncoding(place) => place.clone(),
            Self::Http { reason, .. } => (*reason).to_owned(),
            Self::Unsendable(reason) => reason.to_string(),
            // PostgREST says no more of the others
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

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotEmbedded(resource) => {
                Some(format!("Verify that '{resource}' is included in the 'select' query parameter."))
            }
            Self::EmbeddedUnderAlias { name, alias } => {
                Some(format!("Change '{name}' to '{alias}' in filters, orders or limits."))
            }
            Self::PercentEncoding(_) => Some("Write a percent sign that encodes nothing as %25.".into()),
            Self::BodyEncoding(_) => Some("Send the body as it is, in UTF-8.".into()),
            Self::BodiesFull => Some("Send the request again later.".into()),
            Self::Schema { exposed, .. } => {
                Some(format!("Only the following schemas are exposed: {}", exposed.join(", ")))
            }
            _ => None,
        }
    }
}
