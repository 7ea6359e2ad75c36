//! Runs a request through the stages (parse, plan, query, transaction, response), then records metrics and the access
//! log.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue, REFERER, RETRY_AFTER, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use tercet_observe::event::ApiEvent;
use tercet_observe::panic::caught;
use tercet_observe::stages::{Stages, microseconds};
use tercet_observe::{AccessRecord, request_id, stages};

use super::body::UnreadBody;
use super::head::Rejection;
use super::methods;
use super::state::{Report, Settings, logs};
use super::traces;
use super::worker::Worker;
use crate::auth::Identity;
use crate::config::{Config, LogLevel, OpenApiMode};
use crate::error::{ApiError, RequestError, TokenError};
use crate::media_type::MediaType;
use crate::openapi::{self, Description, Privileges, page};
use crate::plan::{Plan, StatementPlan, plan};
use crate::query::Query;
use crate::request::{ApiRequest, DescriptionFormat, Rules};
use crate::response::timing::Timing;
use crate::response::validation::validated;
use crate::response::{Response, cors};
use crate::schema::SchemaCache;
use crate::transaction::{self, Context};

/// What the stages record for the logs, the balancer and `Server-Timing`.
struct RequestTrace {
    started: Instant,
    timing: Timing,
    stages: Stages,
    role: Option<Arc<str>>,
    /// Whether it was planned.
    is_planned: bool,
    /// The main statement.
    sql: Option<Arc<str>>,
}

impl RequestTrace {
    fn new(started: Instant) -> Self {
        let (timing, stages) = Default::default();
        Self { started, timing, stages, role: None, is_planned: false, sql: None }
    }

    /// Records the time of the response stage.
    fn timed(&mut self, mut clock: Stopwatch, response: Response) -> Response {
        self.timing.response = clock.lap();
        response
    }
}

/// Answers a request; a panic becomes a 500 response.
pub(super) async fn respond(
    worker: &Rc<Worker>,
    peer: Option<IpAddr>,
    request: Request<Incoming>,
) -> hyper::Response<Full<Bytes>> {
    let started = Instant::now();
    let settings = worker.shared.settings().await;
    let config = &*settings.config;
    let (parts, body) = request.into_parts();
    let body = UnreadBody::new(&parts, body);
    let mut trace = RequestTrace::new(started);
    let prepared = caught(prepare(worker, &settings, &parts, body, &mut trace)).await;
    let mut response = prepared.unwrap_or_else(|reason| {
        let target = parts.uri.path();
        let method = parts.method.as_str();
        worker.log.event(ApiEvent::RequestPanicked { method, target, reason: &reason });
        Response::of_error(&ApiError::Internal, config.client_error_verbosity)
    });
    let duration = started.elapsed();
    trace.stages.total = microseconds(duration);
    record(worker, config, peer, &parts, &trace, &response, duration);
    if config.server_stages_header
        && let Some(value) = worker.stages_value(&trace.stages)
    {
        response.headers.insert(HeaderName::from_static(stages::HEADER), value);
    }
    finish(response)
}

/// Builds the complete response to a request, with all headers.
async fn prepare(
    worker: &Rc<Worker>,
    settings: &Settings,
    parts: &Parts,
    body: UnreadBody,
    trace: &mut RequestTrace,
) -> Response {
    let config = &*settings.config;
    let origins = config.server_cors_allowed_origins.as_ref().map(|origins| origins.as_slice());
    let preflight = cors::preflight(&parts.method, &parts.headers, origins);
    let mut response = if let Some(response) = preflight {
        response
    } else {
        let answered = answer(worker, settings, parts, body, trace).await;
        let mut response = answered.unwrap_or_else(|error| error_response(worker, config, error));
        if response.status == StatusCode::METHOD_NOT_ALLOWED {
            methods::allow(settings, parts, &mut response);
        }
        cors::allow(&parts.headers, origins, &mut response);
        response
    };
    if config.server_timing_enabled && !response.status.is_server_error() {
        trace.timing.add_to(&mut response);
    }
    echo_trace(config, &parts.headers, &mut response);
    let is_head = parts.method == Method::HEAD;
    validated(response, is_head).unwrap_or_else(|reason| {
        let response = error_response(worker, config, RequestError::InvalidResponse(reason).into());
        validated(response, is_head).unwrap_or_else(|_| Response::empty(StatusCode::INTERNAL_SERVER_ERROR))
    })
}

/// The request's identity. A token that none of the identity provider's keys verifies may be signed with a newer key.
async fn identify(
    worker: &Worker,
    config: &Arc<Config>,
    headers: &HeaderMap,
) -> Result<Identity, TokenError> {
    let identified = || {
        let provided = config.identity_provider.as_ref().map(|_| worker.shared.provided.load());
        let provided = provided.as_ref().and_then(|keys| keys.as_ref());
        let identified = worker.authenticator.borrow_mut().identify(config, provided, headers);
        worker.count_tokens();
        identified
    };
    match identified() {
        Err(error) if config.identity_provider.is_some() && error.may_be_outdated() => {
            worker.shared.newer_keys().await;
            identified()
        }
        identified => identified,
    }
}

/// Answers a malformed request with the reason.
pub(super) fn reject(
    worker: &Worker,
    peer: Option<IpAddr>,
    rejection: &Rejection,
) -> hyper::Response<Full<Bytes>> {
    let Rejection { status, reason, line } = rejection;
    let settings = worker.shared.settings.load();
    let error = RequestError::Http { status: *status, reason };
    let response = error_response(worker, &settings.config, error.into());
    worker.shared.metrics.answered(status.as_u16());
    let client = peer.map_or_else(|| "a Unix socket".to_owned(), |peer| peer.to_string());
    let reason = format!("{reason}: \"{line}\"");
    worker.log.event(ApiEvent::RequestRefused { client: &client, status: status.as_u16(), reason: &reason });
    finish(validated(response, false).unwrap_or_else(|_| Response::empty(*status)))
}

async fn answer(
    worker: &Rc<Worker>,
    settings: &Settings,
    parts: &Parts,
    body: UnreadBody,
    trace: &mut RequestTrace,
) -> Result<Response, ApiError> {
    let config = &settings.config;
    if let Some(outage) = &*worker.shared.outage.load() {
        return Err(ApiError::Connection(Some(outage.reason.clone())));
    }
    let cache = settings.cache.as_deref().ok_or(ApiError::NoSchemaCache)?;

    let rules = rules(config, cache);
    // documentation pages need no token: users enter theirs there
    if let Some(file) = page::File::requested(parts, rules) {
        return Ok(file.response(parts.method == Method::HEAD));
    }
    if page::is_home(parts, rules) {
        let schema = config.db_schemas.first().map_or("", String::as_str);
        let (privileges, server) = (Privileges::ignored(), server(config));
        let title = Description { cache, schema, privileges: &privileges, server }.title();
        return Ok(page::home(title, parts.method == Method::HEAD));
    }

    let mut clock = Stopwatch::new(config);
    let identified = identify(worker, config, &parts.headers).await;
    trace.timing.jwt = clock.lap();
    let identity = identified?;
    trace.role = Some(Arc::clone(&identity.role));

    let request = ApiRequest::head(parts, rules)?;
    let head = clock.lap();
    let received = body.receive(&request, cache, config, &worker.shared.bodies).await?;
    clock.lap();
    // The body's memory stays reserved until the response is built.
    let (request, _reservation) = received.complete(request).await?;
    trace.timing.parse = clock.lap().zip(head).map(|(body, head)| body + head);
    let parsed_at = Instant::now();
    trace.stages.parse = microseconds(parsed_at - trace.started);
    let planned = plan(&request, cache, &settings.policy)?;
    trace.is_planned = true;
    trace.timing.plan = clock.lap();
    let planned_at = Instant::now();
    trace.stages.plan = microseconds(planned_at - parsed_at);
    match planned {
        Plan::Statement(plan) => statement(worker, settings, &identity, &request, *plan, trace).await,
        Plan::RelationInfo(relation) => Ok(trace.timed(clock, Response::of_relation_info(&relation))),
        Plan::RoutineInfo(routine) => Ok(trace.timed(clock, Response::of_routine_info(&routine))),
        Plan::SchemaInfo => Ok(trace.timed(clock, Response::of_schema_info())),
        Plan::Description { format, head } => {
            let privileges = privileges(worker, config, &identity, &request).await?;
            let elapsed = planned_at.elapsed();
            trace.timing.transaction = Some(elapsed);
            trace.stages.database = microseconds(elapsed);
            clock.lap();
            let description = description(config, cache, &request, &privileges);
            let (media_type, body) = match format {
                DescriptionFormat::Swagger => (MediaType::OpenApi, description.swagger()),
                DescriptionFormat::OpenApi => (MediaType::Json, description.openapi()),
            };
            let response = Response::of_description(&request, &media_type, body.into(), head);
            trace.timing.response = clock.lap();
            Ok(response)
        }
    }
}

/// The request role's privileges on the requested schema, read from the database.
async fn privileges(
    worker: &Worker,
    config: &Config,
    identity: &Identity,
    request: &ApiRequest,
) -> Result<Privileges, ApiError> {
    if config.openapi_mode == OpenApiMode::IgnorePrivileges {
        return Ok(Privileges::ignored());
    }
    let [relations, routines] = Privileges::statements(&request.schema);
    let generation = worker.pool.generation();
    let context = Context { config, identity, request, routine: None, generation };
    let rows = transaction::read(&worker.pool, context, &[&relations, &routines]).await?;
    Ok(match rows.as_slice() {
        [relations, routines] => Privileges::from_rows(relations, routines),
        _ => Privileges::from_rows(&[], &[]),
    })
}

fn description<'a>(
    config: &'a Config,
    cache: &'a SchemaCache,
    request: &'a ApiRequest,
    privileges: &'a Privileges,
) -> Description<'a> {
    Description { cache, schema: &request.schema, privileges, server: server(config) }
}

fn server(config: &Config) -> openapi::Server<'_> {
    openapi::Server {
        proxy_uri: config.openapi_server_proxy_uri.as_deref(),
        security_active: config.openapi_security_active,
        title: config.openapi_title.as_deref(),
        version: config.openapi_version.as_deref(),
    }
}

async fn statement(
    worker: &Rc<Worker>,
    settings: &Settings,
    identity: &Identity,
    request: &ApiRequest,
    mut plan: StatementPlan,
    trace: &mut RequestTrace,
) -> Result<Response, ApiError> {
    let config = &*settings.config;
    let started = Instant::now();
    // The schema may have changed while the body was received.
    plan.side_effect_free &= std::ptr::eq(&raw const **worker.shared.settings.load(), settings);
    let mut query = Query::new(&plan);
    let run = async |plan: &StatementPlan, query: &Query| {
        let routine = plan.routine().map(Arc::as_ref);
        let generation = worker.pool.generation();
        let context = Context { config, identity, request, routine, generation };
        transaction::run(&worker.pool, context, plan, query).await
    };
    let mut outcome = run(&plan, &query).await;
    let mut waited = outcome.waited;
    // Types may change again between reloads: the ones PostgreSQL has at execution count.
    let mut known = settings.cache.clone();
    while outcome.types_changed {
        let fresh = worker.shared.reloaded(known.as_ref()).await.ok_or(ApiError::NoSchemaCache)?;
        let Plan::Statement(planned) = self::plan(request, &fresh, &settings.policy)? else { break };
        known = Some(fresh);
        let again = Query::new(&planned);
        // A reload did not change the query: this type cannot be asserted.
        query = if again.main.sql == query.main.sql { Query::unasserted(&planned) } else { again };
        plan = *planned;
        outcome = run(&plan, &query).await;
        waited += outcome.waited;
    }
    if outcome.schema_outdated {
        worker.shared.report(Report::SchemaOutdated);
    }
    let elapsed = started.elapsed();
    trace.timing.transaction = Some(elapsed);
    trace.stages.pool = microseconds(waited);
    trace.stages.database = microseconds(elapsed.saturating_sub(waited));
    let mut clock = Stopwatch::new(config);
    if config.log_query && config.log_level > LogLevel::Critical {
        worker.log.event(ApiEvent::Query { sql: &query.main.sql });
    }
    trace.sql = Some(query.main.sql);
    let answer = outcome.answer?;
    trace.stages.rows = u32::try_from(answer.rows).unwrap_or(u32::MAX);
    let response = Response::new(request, &plan, answer, config.client_error_verbosity)?;
    trace.timing.response = clock.lap();
    Ok(response)
}

fn rules<'a>(config: &'a Config, cache: &'a SchemaCache) -> Rules<'a> {
    Rules {
        schemas: &config.db_schemas,
        root_routine: config.db_root_spec.as_ref().map(|function| function.name.as_str()),
        describes: config.openapi_mode != OpenApiMode::Disabled,
        transaction_override: config.db_tx_end.allows_override(),
        time_zones: config.db_timezone_enabled,
        cache,
    }
}

fn error_response(worker: &Worker, config: &Config, error: ApiError) -> Response {
    let error = error.or_invalid_response();
    if let Some(reason) = error.invalid_response_reason() {
        worker.log.event(ApiEvent::ResponseUnsendable { reason: &reason });
    }
    let mut response = Response::of_error(&error, config.client_error_verbosity);
    let no_database = matches!(
        error,
        ApiError::Connection(_)
            | ApiError::ConnectionLost(_)
            | ApiError::NoSchemaCache
            | ApiError::PoolTimeout
    );
    if let Some(outage) = &*worker.shared.outage.load() {
        response.headers.insert(RETRY_AFTER, HeaderValue::from(outage.retry_after()));
    } else if no_database || response.status == StatusCode::SERVICE_UNAVAILABLE {
        // SQL may have set the header.
        response.headers.entry(RETRY_AFTER).or_insert(HeaderValue::from(1));
    }
    response
}

fn echo_trace(config: &Config, headers: &HeaderMap, response: &mut Response) {
    if let Some(name) = &config.server_trace_header
        && let Some(value) = headers.get(name)
    {
        response.headers.insert(name.clone(), value.clone());
    }
}

/// Records the request in the metrics, the access log and its trace.
fn record(
    worker: &Worker,
    config: &Config,
    client: Option<IpAddr>,
    parts: &Parts,
    trace: &RequestTrace,
    response: &Response,
    duration: Duration,
) {
    let status = response.status.as_u16();
    worker.shared.metrics.latency.observe(duration);
    worker.shared.metrics.answered(status);
    let slow = *config.log_slow_requests;
    let is_slow = !slow.is_zero() && duration >= slow && config.log_level > LogLevel::Critical;
    let is_logged = logs(config.log_level, status);
    let tracer = worker.shared.tracer.as_ref();
    let traced =
        tracer.and_then(|tracer| Some((tracer, traces::wanted(tracer, &parts.headers, status, duration)?)));
    if !is_logged && !is_slow && traced.is_none() {
        return;
    }
    let header = |name: HeaderName| parts.headers.get(name).map(HeaderValue::as_bytes);
    let id = header(HeaderName::from_static(request_id::HEADER)).filter(|id| request_id::is_acceptable(id));
    let fresh;
    let id = if let Some(id) = id {
        id
    } else {
        fresh = request_id::fresh().to_string();
        fresh.as_bytes()
    };
    let target = parts.uri.path_and_query().map_or(parts.uri.path(), |target| target.as_str());
    if is_slow {
        worker.log.event(ApiEvent::SlowRequest {
            request_id: &String::from_utf8_lossy(id),
            method: parts.method.as_str(),
            target,
            status,
            role: trace.role.as_deref(),
            seconds: duration.as_secs_f64(),
            parse_seconds: seconds(trace.stages.parse),
            plan_seconds: seconds(trace.stages.plan),
            pool_seconds: seconds(trace.stages.pool),
            database_seconds: seconds(trace.stages.database),
            rows: trace.stages.rows,
            sql: trace.sql.as_deref().map(beginning),
        });
    }
    let record = AccessRecord {
        client,
        request_id: id,
        method: parts.method.as_str().as_bytes(),
        target: target.as_bytes(),
        version: if parts.version == http::Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" },
        status,
        bytes: response.body.len() as u64,
        duration,
        upstream: trace.role.as_deref().unwrap_or("-"),
        queue_duration: None,
        upstream_duration: trace.timing.transaction,
        stages: Some(trace.stages),
        referer: header(REFERER),
        user_agent: header(USER_AGENT),
    };
    if let Some((tracer, context)) = traced {
        let RequestTrace { stages, is_planned, ref sql, .. } = *trace;
        let progress = traces::Progress { stages, is_planned, sql: sql.as_deref().map(beginning) };
        tracer.send(traces::spans(&context, config, parts, &record, progress));
    }
    if is_logged {
        worker.log.request(&record);
    }
}

fn seconds(microseconds: u32) -> f64 {
    f64::from(microseconds) / 1e6
}

/// The most bytes of a statement in a log line.
const SQL_LIMIT: usize = 2048;

/// A statement, or its beginning if it is too long for a log line.
fn beginning(sql: &str) -> &str {
    &sql[..sql.floor_char_boundary(SQL_LIMIT)]
}

fn finish(response: Response) -> hyper::Response<Full<Bytes>> {
    let mut finished = hyper::Response::new(Full::new(response.body));
    *finished.status_mut() = response.status;
    *finished.headers_mut() = response.headers;
    if let Some(reason) = response.reason.and_then(|reason| ReasonPhrase::try_from(reason.into_bytes()).ok())
    {
        finished.extensions_mut().insert(reason);
    }
    finished
}

/// Times the stages of a request, but only if `server-timing-enabled` is on: reading the clock costs as much as some
/// stages.
struct Stopwatch(Option<Instant>);

impl Stopwatch {
    fn new(config: &Config) -> Self {
        Self(config.server_timing_enabled.then(Instant::now))
    }

    /// The time since the last lap.
    fn lap(&mut self) -> Option<Duration> {
        self.0.as_mut().map(|last| {
            let now = Instant::now();
            now - std::mem::replace(last, now)
        })
    }
}
