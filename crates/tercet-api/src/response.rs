//! The response: status, headers and body, built from the main statement's answer.
//!
//! Knows no SQL and no sockets. Connection headers are the server's.

pub mod cors;
pub(crate) mod settings;
pub mod timing;
pub mod validation;

use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_TYPE,
    HeaderName, HeaderValue, LOCATION, VARY, WARNING,
};
use http::{HeaderMap, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::error::{ApiError, RangeError, RequestError, Verbosity};
use crate::media_type::MediaType;
use crate::plan::{Command, StatementPlan, WritePlan};
use crate::query::Answer;
use crate::request::preferences::{Count, Preferences, Representation, Resolution};
use crate::request::{ApiRequest, Mutation};
use crate::schema::{Relation, Routine, Volatility};

const CONTENT_PROFILE: HeaderName = HeaderName::from_static("content-profile");
/// The request headers besides the target that the response depends on.
const VARIES: HeaderValue = HeaderValue::from_static("Accept, Prefer, Range");
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Everything in a query string component that must be percent-encoded: all but letters, digits and `-_.~`.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// An HTTP response.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The reason phrase; the status' default if absent.
    pub reason: Option<String>,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, empty for HEAD.
    pub body: Bytes,
}

impl Response {
    /// The response to a planned statement.
    ///
    /// # Errors
    ///
    /// PGRST111 or PGRST112 if SQL set `response.headers` or `response.status` to an invalid value.
    pub fn new(
        request: &ApiRequest,
        plan: &StatementPlan,
        answer: Answer,
        verbosity: Verbosity,
    ) -> Result<Self, ApiError> {
        let settings = settings::Settings::of(&answer)?;
        let mut response = match &plan.command {
            _ if plan.explains() => {
                let mut response = Self::empty(StatusCode::OK);
                response.content(request, &plan.media_type, answer.body);
                response
            }
            Command::Read => read(request, plan, answer, verbosity),
            Command::Call(call) => self::call(request, plan, &call.routine, answer, verbosity),
            Command::Write(write) => self::write(request, plan, write, answer),
        };
        for (relation, alias) in &plan.deprecated_targets {
            response.warn(&format!(
                "Embedded resource was referenced by relation name even though it has an alias. This is deprecated and will \
                 stop working in a future release. Update `{relation}` to `{alias}` in query string filters, orders or limits."
            ));
        }
        response.headers.insert(VARY, VARIES);
        settings.apply(&mut response);
        Ok(response)
    }

    /// The response to `OPTIONS` on a relation.
    pub fn of_relation_info(relation: &Relation) -> Self {
        Self::info(&relation_methods(relation))
    }

    /// The response to `OPTIONS` on a routine.
    pub fn of_routine_info(routine: &Routine) -> Self {
        Self::info(routine_methods([routine]))
    }

    /// Sets `Allow`.
    pub(crate) fn allow(&mut self, methods: &str) {
        self.insert(ALLOW, methods);
    }

    /// The response to `OPTIONS /`.
    pub fn of_schema_info() -> Self {
        Self::info("OPTIONS,GET,HEAD")
    }

    /// The description of the schema; without a body for `HEAD`.
    pub fn of_description(
        request: &ApiRequest,
        media_type: &MediaType,
        description: Bytes,
        head: bool,
    ) -> Self {
        let mut response = Self::empty(StatusCode::OK);
        response.content(request, media_type, description);
        if head {
            response.drop_body();
        }
        response.headers.insert(VARY, VARIES);
        response
    }

    /// The response to a failed request.
    pub fn of_error(error: &ApiError, verbosity: Verbosity) -> Self {
        let mut response =
            Self { reason: error.reason(), headers: error.headers(), ..Self::empty(error.status()) };
        let own_type = response.headers.get(CONTENT_TYPE).cloned();
        response.set_body(error.json(verbosity).into());
        response.headers.insert(CONTENT_TYPE, own_type.unwrap_or(JSON));
        response
    }

    /// A response without body and headers.
    pub(crate) fn empty(status: StatusCode) -> Self {
        Self { status, reason: None, headers: HeaderMap::new(), body: Bytes::new() }
    }

    fn info(methods: &str) -> Self {
        let mut response = Self::empty(StatusCode::OK);
        response.set_body(Bytes::new());
        response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, "*");
        response.insert(ALLOW, methods);
        response.headers.insert(VARY, VARIES);
        response
    }

    /// Sets the body with its length and type, and the schema where several are exposed.
    fn content(&mut self, request: &ApiRequest, media_type: &MediaType, body: Bytes) {
        self.set_body(body);
        if *media_type == MediaType::Json {
            self.headers.insert(CONTENT_TYPE, JSON);
        } else {
            self.insert(CONTENT_TYPE, &media_type.content_type());
        }
        if request.negotiated_by_profile {
            self.insert(CONTENT_PROFILE, &request.schema);
        }
    }

    pub(crate) fn set_body(&mut self, body: Bytes) {
        self.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        self.body = body;
    }

    /// HEAD: the same headers, without a length if it is unknown.
    pub(crate) fn drop_body(&mut self) {
        self.headers.remove(CONTENT_LENGTH);
        self.body = Bytes::new();
    }

    fn prefer(&mut self, applied: &Preferences) {
        let applied = applied.to_string();
        if !applied.is_empty() {
            self.insert(PREFERENCE_APPLIED, &applied);
        }
    }

    fn warn(&mut self, text: &str) {
        let value = format!("299 tercet/{} \"{text}\"", env!("CARGO_PKG_VERSION"));
        self.insert(WARNING, &value);
    }

    /// Sets a header unless its value is invalid: database names may contain control characters.
    fn insert(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            self.headers.insert(name, value);
        }
    }
}

fn read(request: &ApiRequest, plan: &StatementPlan, answer: Answer, verbosity: Verbosity) -> Response {
    let mut response = Response::empty(StatusCode::OK);
    let body = response.rows(request, &answer, verbosity).unwrap_or(answer.body);
    let mut location = path(&plan.target.name);
    if !request.parameters.canonical.is_empty() {
        location.push('?');
        location.push_str(&request.parameters.canonical);
    }
    response.insert(CONTENT_LOCATION, &location);
    response.content(request, &plan.media_type, body);
    if plan.head {
        response.drop_body();
    }
    response.prefer(&Preferences {
        resolution: None,
        representation: None,
        missing: None,
        max_affected: None,
        ..request.preferences.clone()
    });
    response
}

fn call(
    request: &ApiRequest,
    plan: &StatementPlan,
    routine: &Routine,
    answer: Answer,
    verbosity: Verbosity,
) -> Response {
    let mut response = Response::empty(StatusCode::OK);
    let body = response.rows(request, &answer, verbosity).unwrap_or(answer.body);
    if routine.returns_void() {
        response.status = StatusCode::NO_CONTENT;
    } else {
        response.content(request, &plan.media_type, body);
        if plan.head {
            response.drop_body();
        }
    }
    response.prefer(&Preferences {
        resolution: None,
        representation: None,
        missing: None,
        ..request.preferences.clone()
    });
    response
}

fn write(request: &ApiRequest, plan: &StatementPlan, write: &WritePlan, answer: Answer) -> Response {
    let preferences = &request.preferences;
    let full = preferences.representation == Some(Representation::Full);
    let mut response = Response::empty(match (write.mutation, full) {
        // every row existed and was updated
        (Mutation::Create, _)
            if preferences.resolution == Some(Resolution::MergeDuplicates)
                && answer.inserted.unwrap_or(0) <= 0 =>
        {
            StatusCode::OK
        }
        (Mutation::Create, _) => StatusCode::CREATED,
        (_, false) => StatusCode::NO_CONTENT,
        (Mutation::SingleUpsert, true) if answer.inserted.is_some_and(|inserted| inserted > 0) => {
            StatusCode::CREATED
        }
        (_, true) => StatusCode::OK,
    });
    let total = matches!(preferences.count, Some(Count::Exact | Count::Estimated)).then_some(answer.rows);
    match write.mutation {
        Mutation::Create | Mutation::Delete => response.insert(CONTENT_RANGE, &content_range(1, 0, total)),
        Mutation::Update => response.insert(CONTENT_RANGE, &content_range(0, answer.rows - 1, total)),
        Mutation::SingleUpsert => {}
    }
    if write.mutation == Mutation::Create && !answer.location.is_empty() {
        response.insert(LOCATION, &location(&write.relation.name, &answer.location));
    }
    if full {
        response.content(request, &plan.media_type, answer.body);
    } else if write.mutation == Mutation::Create {
        response.set_body(Bytes::new());
    }
    let has_conflict = matches!(write.mutation, Mutation::Create)
        && (!write.primary_key.is_empty() || request.parameters.on_conflict.is_some());
    let changes = matches!(write.mutation, Mutation::Update | Mutation::Delete);
    response.prefer(&Preferences {
        resolution: preferences.resolution.filter(|_| has_conflict),
        missing: preferences
            .missing
            .filter(|_| matches!(write.mutation, Mutation::Create | Mutation::Update)),
        max_affected: preferences.max_affected.filter(|_| changes),
        ..preferences.clone()
    });
    response
}

impl Response {
    /// Sets status and `Content-Range`; returns an error body if the offset is beyond the last row.
    fn rows(&mut self, request: &ApiRequest, answer: &Answer, verbosity: Verbosity) -> Option<Bytes> {
        let first = request.range.offset;
        self.insert(CONTENT_RANGE, &content_range(first, first + answer.rows - 1, answer.total));
        let total = answer.total?;
        if first > total {
            let error = RequestError::Range(RangeError::OutOfBounds { offset: first, total });
            self.status = error.status();
            return Some(ApiError::from(error).json(verbosity).into());
        }
        if answer.rows < total {
            self.status = StatusCode::PARTIAL_CONTENT;
        }
        None
    }
}

/// `0-9/100`; `*` for an empty range and for an unknown total.
fn content_range(first: i64, last: i64, total: Option<i64>) -> String {
    let mut range = if total != Some(0) && first <= last { format!("{first}-{last}") } else { "*".into() };
    match total {
        Some(total) => _ = write!(range, "/{total}"),
        None => range.push_str("/*"),
    }
    range
}

/// The methods of a relation, independent of privileges.
pub(crate) fn relation_methods(relation: &Relation) -> String {
    let mut methods = "OPTIONS,GET,HEAD".to_owned();
    let with_key = relation.insertable && relation.updatable && !relation.primary_key.is_empty();
    for (method, possible) in [
        (",POST", relation.insertable),
        (",PUT", with_key),
        (",PATCH", relation.updatable),
        (",DELETE", relation.deletable),
    ] {
        methods.push_str(if possible { method } else { "" });
    }
    methods
}

/// The methods supported by any of a routine's overloads.
pub(crate) fn routine_methods<'r>(overloads: impl IntoIterator<Item = &'r Routine>) -> &'static str {
    let mut overloads = overloads.into_iter();
    if overloads.all(|routine| routine.volatility == Volatility::Volatile) {
        "OPTIONS,POST"
    } else {
        "OPTIONS,GET,HEAD,POST"
    }
}

/// The percent-encoded path of a relation (RFC 3986 section 3.3).
fn path(relation: &str) -> String {
    format!("/{}", utf8_percent_encode(relation, RESERVED))
}

/// The `Location` of a new row: its relation, filtered by the primary key.
fn location(relation: &str, key: &[(String, Option<String>)]) -> String {
    let mut location = path(relation);
    for (index, (column, value)) in key.iter().enumerate() {
        location.push(if index == 0 { '?' } else { '&' });
        location.extend(utf8_percent_encode(column, RESERVED));
        match value {
            Some(value) => {
                location.push_str("=eq.");
                location.extend(utf8_percent_encode(value, RESERVED));
            }
            None => location.push_str("=is.null"),
        }
    }
    location
}
