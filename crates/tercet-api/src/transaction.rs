//! Runs a request's transaction, with its role, claims and settings, isolated from other requests.
//!
//! Reads take one round trip on a shared connection: settings, statement and a Sync are one implicit transaction.
//! Writes lease a connection exclusively; if the answer must be checked before the commit, or the transaction has
//! [`Characteristics`], they use an explicit transaction block.

mod settings;
mod timeout;

use std::cell::Cell;
use std::time::{Duration, Instant};

use tercet_postgres::{DatabaseError, Results, Rows, Statement};

use crate::auth::Identity;
use crate::config::Config;
use crate::config::database::Characteristics;
use crate::error::{ApiError, DatabaseFailure, RequestError, StatementError};
use crate::media_type::MediaType;
use crate::plan::{Command, StatementPlan};
use crate::pool::{Lease, LeaseMode, Pool, SessionState};
use crate::query::{Answer, Query};
use crate::request::{ApiRequest, Mutation};
use crate::response::settings::Settings;
use crate::schema::Routine;

use settings::Access;

/// The input of a transaction.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The current configuration.
    pub config: &'a Config,
    /// The role and claims it runs with.
    pub identity: &'a Identity,
    /// The request.
    pub request: &'a ApiRequest,
    /// The called routine, if any: its settings apply to the transaction.
    pub routine: Option<&'a Routine>,
    /// The pool's [generation](Pool::generation) when the schema cache of the plan was taken.
    pub generation: u64,
}

/// The result of a planned statement.
#[derive(Debug)]
pub struct Outcome {
    /// The answer. It is an error, and nothing is committed, if PostgreSQL reported one, no connection was available,
    /// or the answer violates the request's constraints.
    pub answer: Result<Answer, ApiError>,
    /// Whether the schema cache turned out to be outdated.
    pub schema_outdated: bool,
    /// Whether types have changed: planned with a current schema cache, the statement may succeed.
    pub types_changed: bool,
    /// How long it waited for a connection of the pool.
    pub waited: Duration,
}

/// Runs a planned statement and parses its result.
pub async fn run(pool: &Pool, context: Context<'_>, plan: &StatementPlan, query: &Query) -> Outcome {
    let transaction = Transaction::new(pool, context);
    let ran = if plan.read_only {
        // A read needs no rollback if the answer is rejected.
        transaction
            .read(plan, query)
            .await
            .map(|answer| check(plan, context.request, &answer).map(|()| answer))
    } else {
        transaction.write(plan, query).await
    };
    // A read with a type error may be the client's mistake. Types of writes and calls come from the schema cache
    // only.
    let types_changed = matches!(&ran, Err(error) if query.refutes_types(error));
    let misfit = matches!(&ran, Err(error) if error.is_unbound_misfit());
    let schema_outdated =
        transaction.schema_outdated.get() || misfit && !matches!(plan.command, Command::Read);
    let answer = match ran {
        Ok(checked) => checked.map_err(ApiError::from),
        Err(error) => Err(transaction.map_error(error).await),
    };
    Outcome { answer, schema_outdated, types_changed, waited: transaction.waited.get() }
}

/// Runs read-only statements in one transaction, and returns the rows of each.
///
/// # Errors
/// PostgreSQL reported an error, or no connection was available.
pub async fn read(
    pool: &Pool,
    context: Context<'_>,
    statements: &[&Statement],
) -> Result<Vec<Rows>, ApiError> {
    let transaction = Transaction::new(pool, context);
    match transaction.read_only(statements, SessionState::MayChange).await {
        Ok(rows) => Ok(rows),
        Err(error) => Err(transaction.map_error(error).await),
    }
}

struct Transaction<'a> {
    pool: &'a Pool,
    context: Context<'a>,
    /// Set when prepared statements or session state did not match the schema.
    reparse: Cell<bool>,
    /// Set when the answer required a fallback because the schema cache is outdated.
    schema_outdated: Cell<bool>,
    /// How long it waited for a connection of the pool.
    waited: Cell<Duration>,
}

impl<'a> Transaction<'a> {
    fn new(pool: &'a Pool, context: Context<'a>) -> Self {
        Self {
            pool,
            context,
            reparse: Cell::new(false),
            schema_outdated: Cell::new(false),
            waited: Cell::default(),
        }
    }

    async fn read(&self, plan: &StatementPlan, query: &Query) -> Result<Answer, StatementError> {
        match self.read_query(query, session_state(plan)).await {
            // The schema cache is outdated, or the client's request is wrong: the general form succeeds, or reports
            // PostgreSQL's error.
            Err(error) if query.relies_on_columns() && error.is_misfit() => {
                let general = Query::in_one_row(plan);
                let answer = self.read_query(&general, SessionState::MayChange).await?;
                self.schema_outdated.set(true);
                Ok(answer)
            }
            answered => answered,
        }
    }

    async fn read_query(&self, query: &Query, state: SessionState) -> Result<Answer, StatementError> {
        query.answer(&self.read_only(&query.statements(), state).await?)
    }

    /// Retries when the connection is lost or prepared statements are gone: a read has no effects. The retry is
    /// exclusive, since statements in front on the connection may have been the cause.
    async fn read_only(
        &self,
        statements: &[&Statement],
        state: SessionState,
    ) -> Result<Vec<Rows>, StatementError> {
        let key = statements.first().map_or(0, |statement| Pool::key(&statement.sql));
        match self.try_read_only(statements, LeaseMode::Shared(key, state)).await {
            Err(error) if error.is_lost() => {
                self.reparse.set(true);
                self.try_read_only(statements, LeaseMode::Exclusive(SessionState::MayChange)).await
            }
            Err(error) if self.may_retry(&error) => {
                let mode = LeaseMode::Shared(key, SessionState::MayChange);
                self.try_read_only(statements, mode).await.inspect(|_| self.schema_outdated.set(true))
            }
            answered => answered,
        }
    }

    /// Whether a failed statement without effects may succeed once it is parsed again, and on a new connection if
    /// session state is outdated. Only one retry.
    fn may_retry(&self, error: &StatementError) -> bool {
        if error.is_stale() {
            self.pool.replace_connections();
        }
        (error.is_stale() || error.is_of_prepared()) && !self.reparse.replace(true)
    }

    async fn try_read_only(
        &self,
        statements: &[&Statement],
        mode: LeaseMode,
    ) -> Result<Vec<Rows>, StatementError> {
        let characteristics = self.characteristics();
        let mode = match mode {
            LeaseMode::Shared(_, state) if !characteristics.is_empty() => LeaseMode::Exclusive(state),
            mode => mode,
        };
        let mut lease = self.lease(mode).await?;
        let prelude = self.prelude(Access::Read);
        // Statements without side effects cannot have changed the encoding.
        let may_change = lease.session_state() == SessionState::MayChange;
        let check = may_change.then(settings::check_encoding);
        let sent = prelude.iter().chain(statements.iter().copied()).chain(&check);
        let mut results = if characteristics.is_empty() {
            lease.conclude(sent).await?
        } else {
            let begin = begin(&characteristics, true);
            let commit = Statement::from("commit");
            let sent = begin.iter().chain(sent).chain(std::iter::once(&commit));
            let mut results = exchange_or_rollback(&mut lease, sent).await?;
            results.drain(..begin.len());
            results.pop();
            results
        };
        Ok(results.drain(prelude.len()..prelude.len() + statements.len()).collect())
    }

    /// A failed write has been rolled back, so it can be retried.
    async fn write(
        &self,
        plan: &StatementPlan,
        query: &Query,
    ) -> Result<Result<Answer, RequestError>, StatementError> {
        match self.try_write(plan, query).await {
            // Deallocated by a function.
            Err(error) if error.is_of_deallocated() && !self.reparse.replace(true) => {
                self.try_write(plan, query).await
            }
            Err(error) if self.may_retry(&error) => {
                self.try_write(plan, query).await.inspect(|_| self.schema_outdated.set(true))
            }
            written => written,
        }
    }

    async fn try_write(
        &self,
        plan: &StatementPlan,
        query: &Query,
    ) -> Result<Result<Answer, RequestError>, StatementError> {
        let Context { config, request, .. } = self.context;
        let rolls_back = config.rolls_back(request.preferences.transaction);
        let characteristics = self.characteristics();
        let mut lease = self.lease(LeaseMode::Exclusive(session_state(plan))).await?;
        let (access, last) = match lease.session_state() {
            SessionState::Untouched => (Access::PlainWrite, None),
            SessionState::MayChange => (Access::Write, Some(settings::enable_warnings())),
        };
        let prelude = self.prelude(access);
        let sent = prelude.iter().chain([&query.main]).chain(&last);
        if characteristics.is_empty() && !rolls_back && !is_checked(plan, request) {
            let results = lease.conclude(sent).await?;
            return query.answer(&results[prelude.len()..=prelude.len()]).map(Ok);
        }
        let begin = begin(&characteristics, false);
        let results = exchange_or_rollback(&mut lease, begin.iter().chain(sent)).await?;
        let main = begin.len() + prelude.len();
        let answer = query.answer(&results[main..=main])?;
        let checked = check(plan, request, &answer);
        match (&checked, rolls_back) {
            (Err(_), _) => drop(lease.conclude([&"rollback".into()]).await?),
            // Deferred constraints are checked as by a commit.
            (Ok(()), true) => {
                let end = ["set constraints all immediate".into(), "rollback".into()];
                exchange_or_rollback(&mut lease, &end).await?;
            }
            (Ok(()), false) => lease.commit().await?,
        }
        Ok(checked.map(|()| answer))
    }

    /// The statements before the main statement.
    fn prelude(&self, access: Access) -> Vec<Statement> {
        let mut prelude = vec![settings::statement(self.context, access)];
        if let Some(function) = &self.context.config.db_pre_request {
            prelude.push(settings::pre_request(&function.sql()));
        }
        prelude
    }

    /// The characteristics of the transaction: those of the role, overridden by the routine's.
    fn characteristics(&self) -> Characteristics {
        let Context { config, identity, routine, .. } = self.context;
        let mut characteristics = Characteristics::default();
        if let Some(settings) = config.role_settings.get(&identity.role) {
            characteristics.clone_from(&settings.characteristics);
        }
        for (name, value) in routine.iter().flat_map(|routine| &routine.settings) {
            let applies = settings::is_hoisted(config, name) || &**name == settings::ISOLATION;
            if applies {
                characteristics.take(name, value);
            }
        }
        characteristics
    }

    async fn lease(&self, mode: LeaseMode) -> Result<Lease, StatementError> {
        let asked = Instant::now();
        let leased = self.pool.lease(mode).await;
        self.waited.set(self.waited.get() + asked.elapsed());
        let mut lease = leased?;
        if self.context.generation != self.pool.generation() {
            lease.expect_changes();
        }
        lease.set_timeout(timeout::of(self.context));
        if self.reparse.get() {
            lease.reparse_statements();
        }
        Ok(lease)
    }

    /// Maps an error to the client's. A role that PostgreSQL refuses to set is the client's error, unless the
    /// session's role was dropped: then it cannot set any role, and `session_user` fails.
    async fn map_error(&self, error: StatementError) -> ApiError {
        if error.server().is_some_and(|error| error.refuses_role) {
            let name = Statement::from("select session_user");
            let result = match self.pool.lease(LeaseMode::Exclusive(SessionState::MayChange)).await {
                Ok(mut lease) => lease.conclude([&name]).await.map_err(StatementError::from),
                Err(error) => Err(error),
            };
            match result {
                Err(error) if error.code() == Some("42704") => {
                    self.pool.replace_connections();
                    return ApiError::ConnectionLost(Some("the session's role was dropped".to_owned()));
                }
                Err(error) => return failure(error, self.context.identity),
                Ok(_) => {}
            }
        }
        failure(error, self.context.identity)
    }
}

/// The possible effect of a plan's statements on the session.
fn session_state(plan: &StatementPlan) -> SessionState {
    if plan.side_effect_free { SessionState::Untouched } else { SessionState::MayChange }
}

/// Starts a transaction block with its characteristics.
fn begin(characteristics: &Characteristics, read_only: bool) -> Vec<Statement> {
    let begin = if read_only { "begin read only" } else { "begin" };
    let mut statements = vec![Statement::from(begin)];
    statements.extend(characteristics.statements(read_only));
    statements
}

/// Runs statements in a transaction block; rolls back if one fails.
async fn exchange_or_rollback<'a>(
    lease: &mut Lease,
    statements: impl IntoIterator<Item = &'a Statement>,
) -> Result<Results, DatabaseError> {
    let results = lease.exchange(statements).await;
    if results.is_err() && !lease.is_idle() {
        lease.exchange([&"rollback".into()]).await?;
    }
    results
}

fn is_singular(plan: &StatementPlan) -> bool {
    matches!(plan.media_type, MediaType::Singular { .. })
}

/// Whether the answer is checked before the commit.
fn is_checked(plan: &StatementPlan, request: &ApiRequest) -> bool {
    let is_put = matches!(&plan.command, Command::Write(write) if write.mutation == Mutation::SingleUpsert);
    is_put || is_singular(plan) || request.preferences.enforced_max_affected().is_some()
}

/// Checks the answer against the request's constraints.
fn check(plan: &StatementPlan, request: &ApiRequest, answer: &Answer) -> Result<(), RequestError> {
    Settings::of(answer)?;
    if plan.explains() {
        return Ok(());
    }
    let mutation = match &plan.command {
        Command::Write(write) => Some(write.mutation),
        Command::Read | Command::Call(_) => None,
    };
    if mutation == Some(Mutation::SingleUpsert) {
        return if answer.rows == 1 { Ok(()) } else { Err(RequestError::PutPayload) };
    }
    if is_singular(plan) && answer.rows != 1 {
        return Err(RequestError::NotSingular(answer.rows));
    }
    let bounded = mutation != Some(Mutation::Create) && !matches!(plan.command, Command::Read);
    match request.preferences.enforced_max_affected().filter(|_| bounded) {
        Some(maximum) if answer.rows > maximum => Err(RequestError::MaxAffected(answer.rows)),
        _ => Ok(()),
    }
}

fn failure(error: StatementError, identity: &Identity) -> ApiError {
    let error = match error {
        StatementError::Database(error) => error,
        StatementError::PoolTimeout => return ApiError::PoolTimeout,
        StatementError::ColumnTypes => return ApiError::ConnectionLost(Some(error.to_string())),
    };
    match error {
        // The session ended (an administrator, a session timeout, a shutdown); the statement is not the cause.
        DatabaseError::Server(_) if error.is_fatal() => ApiError::ConnectionLost(Some(error.to_string())),
        DatabaseError::Server(error)
            if error.code == "22P02" && error.message.contains(settings::ENCODING_CHANGED) =>
        {
            ApiError::Database(encoding_changed(identity))
        }
        DatabaseError::Server(error) => ApiError::Database(DatabaseFailure {
            sqlstate: error.code,
            message: error.message,
            detail: error.detail,
            hint: error.hint,
            authenticated: identity.authenticated,
        }),
        DatabaseError::Unreplicated => ApiError::Unreplicated,
        DatabaseError::Connect(error) => ApiError::Connection(Some(error.to_string())),
        DatabaseError::Io(_)
        | DatabaseError::Closed
        | DatabaseError::Stalled(_)
        | DatabaseError::Protocol(_) => ApiError::ConnectionLost(Some(error.to_string())),
    }
}

/// A function changed `client_encoding`.
fn encoding_changed(identity: &Identity) -> DatabaseFailure {
    DatabaseFailure {
        sqlstate: "38000".to_owned(),
        message: "a function has changed client_encoding, and answers are UTF-8".to_owned(),
        detail: None,
        hint: Some(
            "The function must not change client_encoding; convert_to() encodes text as bytea.".to_owned(),
        ),
        authenticated: identity.authenticated,
    }
}
