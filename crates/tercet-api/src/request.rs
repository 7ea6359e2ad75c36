//! The client's request: one HTTP request as a plain value.
//!
//! Parses paths, query strings, headers and bodies. Knows no SQL and no connections, and looks up only names of
//! relations in the schema cache: `plan` checks whether the request is valid.

mod context;
mod csv;
mod encoding;
pub mod field;
pub mod filter;
mod form;
mod grammar;
mod json;
pub mod logic;
pub mod order;
pub mod parameters;
pub mod payload;
pub mod preferences;
#[cfg(test)]
mod properties;
pub mod range;
mod reader;
pub mod select;

use std::collections::BTreeSet;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, Method, request};

use crate::error::RequestError;
use crate::media_type::MediaType;
use crate::schema::SchemaCache;
use parameters::Parameters;
use payload::{Payload, Purpose, Reading, Unlimited};
use preferences::Preferences;
use range::RowRange;
use reader::Reader;

/// A parsed request, not yet checked against the schema cache.
#[derive(Debug, Clone)]
pub struct ApiRequest {
    /// The operation and its target.
    pub action: Action,
    /// The schema of the target: `Accept-Profile`, `Content-Profile`, or the default schema.
    pub schema: String,
    /// Whether several schemas are exposed, so that the response has `Content-Profile`.
    pub negotiated_by_profile: bool,
    /// The query string.
    pub parameters: Parameters,
    /// The requested rows of the target: `limit`, `offset` and the `Range` header combined.
    pub range: RowRange,
    /// The `Prefer` headers.
    pub preferences: Preferences,
    /// The accepted media types, by preference; `*/*` without an `Accept` header.
    pub accept: Vec<MediaType>,
    /// The media type of the body; JSON by default.
    pub content_type: MediaType,
    /// The body, for requests that write or call.
    pub payload: Option<Payload>,
    /// The columns or arguments in the body: its keys, or those of `columns=`.
    pub columns: BTreeSet<String>,
    /// The method.
    pub method: Method,
    /// The path, percent-encoded as received.
    pub path: String,
    /// The headers as received.
    pub headers: HeaderMap,
}

/// The operation of a request. Names are decoded, in [`ApiRequest::schema`].
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
        /// The kind of write.
        mutation: Mutation,
    },
    /// `/rpc/routine`, or `/` with `db-root-spec`.
    Call {
        /// Function or procedure.
        routine: String,
        /// How the routine is called.
        invocation: Invocation,
    },
    /// `GET` or `HEAD` of `/` or `/openapi.json`: the description of the schema.
    Describe {
        /// The format of the description.
        format: DescriptionFormat,
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

/// The format of a schema description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DescriptionFormat {
    /// Swagger 2.0, at `/`.
    Swagger,
    /// OpenAPI 3.1, at `/openapi.json` unless a relation has that name.
    OpenApi,
}

/// The configuration and names that parsing depends on.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The exposed schemas, default first (`db-schemas`).
    pub schemas: &'a [String],
    /// The routine called at `/` (`db-root-spec`).
    pub root_routine: Option<&'a str>,
    /// Whether the description is enabled (`openapi-mode` is not `disabled`).
    pub describes: bool,
    /// Whether clients may choose how a transaction ends (`db-tx-end` ends in `-allow-override`).
    pub transaction_override: bool,
    /// Whether clients may choose a time zone (`db-timezone-enabled`).
    pub time_zones: bool,
    /// For names of relations.
    pub cache: &'a SchemaCache,
}

/// The use of a request's body, as far as the head determines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyUse {
    /// None.
    None,
    /// Rows of a relation.
    Rows,
    /// Arguments of a routine.
    Arguments,
    /// Arguments of an unknown routine: only their names are used, in the error.
    Names,
}

/// The resource of a path.
enum Resource {
    Relation(String),
    Routine(String),
    Schema,
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

impl ApiRequest {
    /// The use of the body, determined before it is received.
    pub fn body_use(&self, cache: &SchemaCache) -> BodyUse {
        match &self.action {
            Action::Mutate { mutation: Mutation::Delete, .. } => BodyUse::None,
            Action::Mutate { .. } => BodyUse::Rows,
            Action::Call { routine, invocation: Invocation::Post } => {
                let known = !cache.routines(&self.schema, routine).is_empty();
                if known { BodyUse::Arguments } else { BodyUse::Names }
            }
            _ => BodyUse::None,
        }
    }

    /// Parses a request without its body.
    ///
    /// # Errors
    /// The request is malformed, or has a parameter that its operation does not support.
    pub fn head(parts: &request::Parts, rules: Rules<'_>) -> Result<Self, RequestError> {
        let headers = &parts.headers;
        let method = &parts.method;
        let resource = Resource::parse(parts.uri.path(), rules)?;
        let (schema, negotiated_by_profile) = schema(method, headers, rules)?;
        let action = Action::choose(resource, method, &schema, rules)?;
        let preferences = Preferences::from_headers(headers, rules.transaction_override, rules.time_zones);
        let reader = Reader::new(&action, &preferences);
        let (parameters, own_range) = parameters::parse(parts.uri.query().unwrap_or_default(), reader)?;
        let range = range::requested(own_range, method, headers)?;
        let content_type =
            text(headers, &CONTENT_TYPE).map_or(MediaType::Json, |text| MediaType::parse(&text));
        let request = Self {
            action,
            schema,
            negotiated_by_profile,
            parameters,
            range,
            preferences,
            accept: accepted(headers),
            content_type,
            payload: None,
            columns: BTreeSet::new(),
            method: method.clone(),
            path: parts.uri.path().to_owned(),
            headers: headers.clone(),
        };
        if request.reading().is_some() {
            encoding::check(headers)?;
        }
        Ok(request)
    }

    /// How the body is to be parsed; `None` if the request has none.
    pub fn reading(&self) -> Option<Reading> {
        let (purpose, columns) = match &self.action {
            Action::Mutate { mutation: Mutation::Create | Mutation::Update, .. } => {
                (Purpose::Rows, self.parameters.columns.clone())
            }
            Action::Mutate { mutation: Mutation::SingleUpsert, .. } => (Purpose::Rows, None),
            Action::Call { invocation: Invocation::Post, .. } => {
                (Purpose::Arguments, self.parameters.columns.clone())
            }
            _ => return None,
        };
        Some(Reading { content_type: self.content_type.clone(), purpose, columns })
    }

    /// Adds the parsed body.
    #[must_use]
    pub fn with_payload(mut self, payload: Payload) -> Self {
        // the client's `columns` apply, whatever the media type
        let keys = self.parameters.columns.clone().or_else(|| payload.keys());
        self.columns = keys.unwrap_or_default();
        self.payload = Some(payload);
        self
    }

    /// Parses a request with a short body.
    ///
    /// # Errors
    /// The request is malformed, or has a parameter that its operation does not support.
    pub fn parse(parts: &request::Parts, body: Bytes, rules: Rules<'_>) -> Result<Self, RequestError> {
        let request = Self::head(parts, rules)?;
        match request.reading() {
            Some(reading) => Ok(request.with_payload(reading.read(body, &mut Unlimited)?)),
            None => Ok(request),
        }
    }

    /// The setting `request.headers`: a JSON object, without cookies.
    pub fn headers_json(&self) -> String {
        context::headers(&self.headers)
    }

    /// The setting `request.cookies`: a JSON object.
    pub fn cookies_json(&self) -> String {
        context::cookies(&self.headers)
    }
}

/// The prefix of Supabase's clients, beside paths without one. No other resource has a path like this.
const SUPABASE: &str = "/rest/v1";

impl Resource {
    fn parse(path: &str, rules: Rules<'_>) -> Result<Self, RequestError> {
        let path = path
            .strip_prefix(SUPABASE)
            .filter(|path| path.is_empty() || path.starts_with('/'))
            .unwrap_or(path);
        let mut segments = path.split('/').skip(1).map(form::decode_segment);
        let first = segments.next().transpose()?.unwrap_or_default();
        let second = segments.next().transpose()?;
        if segments.next().is_some() {
            return Err(RequestError::Path);
        }
        match (first.as_str(), second) {
            ("", None) => match rules.root_routine {
                Some(routine) => Ok(Self::Routine(routine.to_owned())),
                None if rules.describes => Ok(Self::Schema),
                None => Err(RequestError::DescriptionDisabled),
            },
            (_, None) => Ok(Self::Relation(first)),
            ("rpc", Some(routine)) if !routine.is_empty() => Ok(Self::Routine(routine)),
            _ => Err(RequestError::Path),
        }
    }
}

impl Action {
    fn choose(
        resource: Resource,
        method: &Method,
        schema: &str,
        rules: Rules<'_>,
    ) -> Result<Self, RequestError> {
        let head = *method == Method::HEAD;
        match resource {
            Resource::Relation(relation) => Ok(match method.as_str() {
                "GET" | "HEAD"
                    if relation == "openapi.json" && rules.cache.relation(schema, &relation).is_none() =>
                {
                    if !rules.describes {
                        return Err(RequestError::DescriptionDisabled);
                    }
                    Self::Describe { format: DescriptionFormat::OpenApi, head }
                }
                "GET" | "HEAD" => Self::Read { relation, head },
                "POST" => Self::Mutate { relation, mutation: Mutation::Create },
                "PATCH" => Self::Mutate { relation, mutation: Mutation::Update },
                "PUT" => Self::Mutate { relation, mutation: Mutation::SingleUpsert },
                "DELETE" => Self::Mutate { relation, mutation: Mutation::Delete },
                "OPTIONS" => Self::RelationInfo { relation },
                other => return Err(RequestError::Method(other.to_owned())),
            }),
            Resource::Routine(routine) => Ok(match method.as_str() {
                "GET" | "HEAD" => Self::Call { routine, invocation: Invocation::Read { head } },
                "POST" => Self::Call { routine, invocation: Invocation::Post },
                "OPTIONS" => Self::RoutineInfo { routine },
                other => return Err(RequestError::RoutineMethod(other.to_owned())),
            }),
            Resource::Schema => Ok(match method.as_str() {
                "GET" | "HEAD" => Self::Describe { format: DescriptionFormat::Swagger, head },
                "OPTIONS" => Self::SchemaInfo,
                other => return Err(RequestError::Method(other.to_owned())),
            }),
        }
    }
}

/// The schema of a request, and whether several are exposed ([content negotiation by
/// profile](https://www.w3.org/TR/dx-prof-conneg/)).
fn schema(method: &Method, headers: &HeaderMap, rules: Rules<'_>) -> Result<(String, bool), RequestError> {
    let header = match *method {
        Method::POST | Method::PATCH | Method::PUT | Method::DELETE => "content-profile",
        _ => "accept-profile",
    };
    match headers.get(header).map(|value| String::from_utf8_lossy(value.as_bytes())) {
        Some(profile) if rules.schemas.iter().any(|schema| *schema == profile) => Ok((profile.into(), true)),
        Some(profile) => {
            Err(RequestError::Schema { schema: profile.into(), exposed: rules.schemas.to_vec() })
        }
        None => Ok((rules.schemas.first().cloned().unwrap_or_default(), rules.schemas.len() != 1)),
    }
}

/// The media types of all `Accept` headers.
fn accepted(headers: &HeaderMap) -> Vec<MediaType> {
    let texts: Vec<_> =
        headers.get_all(ACCEPT).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    if texts.is_empty() { vec![MediaType::Any] } else { MediaType::accepted(&texts.join(",")) }
}

fn text(headers: &HeaderMap, name: &http::HeaderName) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use http::Request;

    use super::*;

    fn rules<'a>(cache: &'a SchemaCache, schemas: &'a [String]) -> Rules<'a> {
        Rules {
            schemas,
            root_routine: None,
            describes: true,
            transaction_override: false,
            time_zones: true,
            cache,
        }
    }

    fn check(method: &str, target: &str, headers: &[(&str, &str)], expect: &Expect) {
        let schemas = ["one".to_owned(), "two".to_owned()];
        let cache = SchemaCache::default();
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let parsed = ApiRequest::parse(&parts, Bytes::from_static(b"{}"), rules(&cache, &schemas));
        let actual = match parsed {
            Ok(request) => format!("{:?} in {}", request.action, request.schema),
            Err(error) => format!("{} {error}", error.code()),
        };
        expect.assert_eq(&actual);
    }

    #[test]
    fn determines_the_action_from_path_and_method() {
        check("GET", "/films", &[], &expect![[r#"Read { relation: "films", head: false } in one"#]]);
        check(
            "HEAD",
            "/caf%C3%A9%2Fau%20lait",
            &[],
            &expect![[r#"Read { relation: "café/au lait", head: true } in one"#]],
        );
        check(
            "PUT",
            "/films",
            &[],
            &expect![[r#"Mutate { relation: "films", mutation: SingleUpsert } in one"#]],
        );
        check("TRACE", "/films", &[], &expect!["PGRST117 Unsupported HTTP method: TRACE"]);
        check("OPTIONS", "/films", &[], &expect![[r#"RelationInfo { relation: "films" } in one"#]]);
        check("GET", "/", &[], &expect!["Describe { format: Swagger, head: false } in one"]);
        check("POST", "/", &[], &expect!["PGRST117 Unsupported HTTP method: POST"]);
        check(
            "GET",
            "/rpc/add?a=1",
            &[],
            &expect![[r#"Call { routine: "add", invocation: Read { head: false } } in one"#]],
        );
        check("POST", "/rpc/add", &[], &expect![[r#"Call { routine: "add", invocation: Post } in one"#]]);
        check("DELETE", "/rpc/add", &[], &expect!["PGRST101 Cannot use the DELETE method on RPC"]);
        check("GET", "/rpc/", &[], &expect!["PGRST125 Invalid path specified in request URL"]);
        check("GET", "/films/", &[], &expect!["PGRST125 Invalid path specified in request URL"]);
        check("GET", "/a/b/c", &[], &expect!["PGRST125 Invalid path specified in request URL"]);
        check("GET", "/%ff", &[], &expect![[r#"22021 invalid byte sequence for encoding "UTF8": 0xff"#]]);
        check("GET", "/openapi.json", &[], &expect!["Describe { format: OpenApi, head: false } in one"]);
    }

    #[test]
    fn takes_the_schema_from_the_methods_profile_header() {
        check(
            "GET",
            "/films",
            &[("accept-profile", "two"), ("content-profile", "x")],
            &expect![[r#"Read { relation: "films", head: false } in two"#]],
        );
        check(
            "POST",
            "/films",
            &[("accept-profile", "x"), ("content-profile", "two")],
            &expect![[r#"Mutate { relation: "films", mutation: Create } in two"#]],
        );
        check("GET", "/films", &[("accept-profile", "three")], &expect!["PGRST106 Invalid schema: three"]);
    }

    #[test]
    fn passes_headers_and_cookies_to_sql() {
        let headers = HeaderMap::from_iter([
            (http::HeaderName::from_static("x-a"), http::HeaderValue::from_static("1")),
            (http::header::COOKIE, http::HeaderValue::from_static("a=b; c=\"d=e\";f")),
        ]);
        expect![[r#"{"x-a":"1"} {"a":"b","c":"d=e","f":""}"#]].assert_eq(&format!(
            "{} {}",
            context::headers(&headers),
            context::cookies(&headers)
        ));
    }
}
