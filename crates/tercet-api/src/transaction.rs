//! One request's transaction: with its role, claims and settings, and nothing of anybody else's.
//!
//! What only reads is one round trip on a shared connection: the settings, the statement and a Sync are one
//! implicit transaction, whose settings end with it. What writes has a connection to itself for as long as
//! it takes, and what must be looked at before it is committed gets an explicit transaction there. So does what
//! must be said before a transaction does anything: its [`Characteristics`].

mod patience;
mod settings;

use std::cell::Cell;

use tercet_postgres::{DatabaseError, Results, Rows, Statement};

use crate::auth::Identity;
use crate::config::Config;
use crate::config::database::Characteristics;
use crate::error::{ApiError, DatabaseFailure, RequestError, StatementError};
use crate::plan::{Command, StatementPlan};
use crate::pool::{Lease, Need, Pool, SessionState};
use crate::query::{Answer, Query};
use crate::request::media_type::MediaType;
use crate::request::{ApiRequest, Mutation};
use crate::response::settings::Settings;
use crate::schema::Routine;

/// What a transaction is run for.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The options in force.
    pub config: &'a Config,
    /// Whom it runs as.
    pub identity: &'a Identity,
    /// What it is for.
    pub request: &'a ApiRequest,
    /// The routine that is called, if one is: its settings are the transaction's.
    pub routine: Option<&'a Routine>,
}

/// What came of a planned statement.
#[derive(Debug)]
pub struct Outcome {
    /// The answer; or PostgreSQL refused, no connection could be had, or the answer is not one the client accepts; then
    /// nothing is committed.
    pub answer: Result<Answer, ApiError>,
    /// Whether the schema has changed since it was loaded, as far as the statement shows.
    pub outdated: bool,
    /// Whether it was refused because of types that have changed: planned by the schema as it is now, it may succeed.
    pub retyped: bool,
}

/// Runs a planned statement and reads its answer.
pub async fn run(pool: &Pool, context: Context<'_>, plan: &StatementPlan, query: &Query) -> Outcome {
    let transaction = Transaction::new(pool, context);
    let ran = if plan.read_only {
        // What was only read needs no rollback when the client does not accept it.
        transaction
            .read(plan, query)
            .await
            .map(|answer| check(plan, context.request, &answer).map(|()| answer))
    } else {
        transaction.write(plan, query).await
    };
    // What a read is made of may be nonsense that a client asked for. What is written and called has types that only
    // the schema cache knows.
    let retyped = matches!(&ran, Err(error) if query.refutes_types(error));
    let misfit = matches!(&ran, Err(error) if error.is_unbound_misfit());
    let outdated = transaction.outdated.get() || misfit && !matches!(plan.command, Command::Read);
    let answer = match ran {
        Ok(checked) => checked.map_err(ApiError::from),
        Err(error) => Err(transaction.explained(error).await),
    };
    Outcome { answer, outdated, retyped }
}

/// Runs statements that only read, as one transaction, and returns the rows of each.
///
/// # Errors
/// PostgreSQL refused, or no connection could be had.
pub async fn read(
    pool: &Pool,
    context: Context<'_>,
    statements: &[&Statement],
) -> Result<Vec<Rows>, ApiError> {
    let transaction = Transaction::new(pool, context);
    match transaction.read_only(statements, SessionState::MayChange).await {
        Ok(rows) => Ok(rows),
        Err(error) => Err(transaction.explained(error).await),
    }
}

struct Transaction<'a> {
    pool: &'a Pool,
    context: Context<'a>,
    /// Set when what was prepared, or what a session remembers, turned out not to fit the schema any more.
    anew: Cell<bool>,
    /// Set when an answer was had in another way than the schema cache would have it.
    outdated: Cell<bool>,
}

impl<'a> Transaction<'a> {
    fn new(pool: &'a Pool, context: Context<'a>) -> Self {
        Self { pool, context, anew: Cell::new(false), outdated: Cell::new(false) }
    }

    async fn read(&self, plan: &StatementPlan, query: &Query) -> Result<Answer, StatementError> {
        let state = self.session_state(plan);
        match self.read_query(query, state).await {
            // The schema has changed since it was loaded, or the client asks for nonsense. Which one, and in
            // whose words, the general form says.
            Err(error) if query.relies_on_columns() && error.is_misfit() => {
                let general = Query::in_one_row(plan);
                let answer = self.read_query(&general, SessionState::MayChange).await?;
                self.outdated.set(true);
                Ok(answer)
            }
            answered => answered,
        }
    }

    async fn read_query(&self, query: &Query, state: SessionState) -> Result<Answer, StatementError> {
        query.answer(&self.read_only(&query.statements(), state).await?)
    }

    /// Reads are tried again when the connection turns out to be broken, or what was prepared on it to be gone: they
    /// have done nothing yet. Then alone, as the statements in front may have been the reason.
    async fn read_only(
        &self,
        statements: &[&Statement],
        state: SessionState,
    ) -> Result<Vec<Rows>, StatementError> {
        let key = statements.first().map_or(0, |statement| Pool::key(&statement.sql));
        match self.try_read_only(statements, Need::Shared(key, state)).await {
            Err(error) if error.is_lost() => {
                self.anew.set(true);
                self.try_read_only(statements, Need::Alone).await
            }
            Err(error) if self.may_fit_anew(&error) => {
                let need = Need::Shared(key, SessionState::MayChange);
                self.try_read_only(statements, need).await.inspect(|_| self.outdated.set(true))
            }
            answered => answered,
        }
    }

    /// Whether a statement that failed, and left nothing behind, may succeed when everything is parsed anew, on a
    /// connection that remembers nothing where that is at fault. It is not tried twice.
    fn may_fit_anew(&self, error: &StatementError) -> bool {
        if error.is_stale() {
            self.pool.renew();
        }
        (error.is_stale() || error.is_of_prepared()) && !self.anew.replace(true)
    }

    async fn try_read_only(
        &self,
        statements: &[&Statement],
        need: Need,
    ) -> Result<Vec<Rows>, StatementError> {
        let prelude = self.prelude(true);
        // What is proved to have no side effects has not changed the encoding.
        let check =
            (!matches!(need, Need::Shared(_, SessionState::Untouched))).then(settings::check_encoding);
        let sent = prelude.iter().chain(statements.iter().copied()).chain(&check);
        let characteristics = self.characteristics();
        let mut results = if characteristics.is_empty() {
            self.lease(need).await?.conclude(sent).await?
        } else {
            let begin = begin(&characteristics, true);
            let commit = Statement::from("commit");
            let mut lease = self.lease(Need::Alone).await?;
            let sent = begin.iter().chain(sent).chain(std::iter::once(&commit));
            let mut results = or_roll_back(&mut lease, sent).await?;
            results.drain(..begin.len());
            results.pop();
            results
        };
        Ok(results.drain(prelude.len()..prelude.len() + statements.len()).collect())
    }

    /// What failed has been rolled back, so it can be tried again where that may help.
    async fn write(
        &self,
        plan: &StatementPlan,
        query: &Query,
    ) -> Result<Result<Answer, RequestError>, StatementError> {
        match self.try_write(plan, query).await {
            // Taken away by a function's DEALLOCATE.
            Err(error) if error.is_of_deallocated() && !self.anew.replace(true) => {
                self.try_write(plan, query).await
            }
            Err(error) if self.may_fit_anew(&error) => {
                self.try_write(plan, query).await.inspect(|_| self.outdated.set(true))
            }
            written => written,
        }
    }

    async fn try_write(
        &self,
        plan: &StatementPlan,
        query: &Query,
    ) -> Result<Result<Answer, RequestError>, StatementError> {
        let prelude = self.prelude(false);
        let Context { config, request, .. } = self.context;
        let rolls_back = config.rolls_back(request.preferences.transaction);
        let characteristics = self.characteristics();
        let last = settings::hear_warnings();
        let sent = prelude.iter().chain([&query.main, &last]);
        let mut lease = self.lease(Need::Alone).await?;
        if characteristics.is_empty() && !rolls_back && !is_checked(plan, request) {
            let results = lease.conclude(sent).await?;
            return query.answer(&results[prelude.len()..=prelude.len()]).map(Ok);
        }
        let begin = begin(&characteristics, false);
        let results = or_roll_back(&mut lease, begin.iter().chain(sent)).await?;
        let main = begin.len() + prelude.len();
        let answer = query.answer(&results[main..=main])?;
        let checked = check(plan, request, &answer);
        match (&checked, rolls_back) {
            (Err(_), _) => drop(lease.conclude([&"rollback".into()]).await?),
            // What only a commit would find out is found out as well.
            (Ok(()), true) => {
                let end = ["set constraints all immediate".into(), "rollback".into()];
                or_roll_back(&mut lease, &end).await?;
            }
            (Ok(()), false) => lease.commit().await?,
        }
        Ok(checked.map(|()| answer))
    }

    /// What comes before the statement.
    fn prelude(&self, read_only: bool) -> Vec<Statement> {
        let mut prelude = vec![settings::statement(self.context, read_only)];
        if let Some(function) = &self.context.config.db_pre_request {
            prelude.push(settings::pre_request(&function.sql()));
        }
        prelude
    }

    /// What the transaction must begin with: the routine's, else the role's.
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

    async fn lease(&self, need: Need) -> Result<Lease, StatementError> {
        let mut lease = self.pool.lease(need).await?;
        lease.wait_at_most(patience::of(self.context));
        if self.anew.get() {
            lease.parse_anew();
        }
        Ok(lease)
    }

    /// What an error means for the client. A role that PostgreSQL does not let the session become is the client's fault,
    /// unless the session's own role was dropped: then it may become no role at all, and has no name any more.
    async fn explained(&self, error: StatementError) -> ApiError {
        if error.server().is_some_and(|error| error.refuses_role) {
            let name = Statement::from("select session_user");
            let asked = match self.pool.lease(Need::Alone).await {
                Ok(mut lease) => lease.conclude([&name]).await.map_err(StatementError::from),
                Err(error) => Err(error),
            };
            match asked {
                Err(error) if error.code() == Some("42704") => {
                    self.pool.renew();
                    return ApiError::ConnectionLost(Some("the session's role was dropped".to_owned()));
                }
                Err(error) => return failure(error, self.context.identity),
                Ok(_) => {}
            }
        }
        failure(error, self.context.identity)
    }

    /// What a statement that only reads may do to its session.
    fn session_state(&self, plan: &StatementPlan) -> SessionState {
        if self.context.config.db_pre_request.is_none() && plan.side_effect_free {
            SessionState::Untouched
        } else {
            SessionState::MayChange
        }
    }
}

/// Begins a transaction block with its characteristics.
fn begin(characteristics: &Characteristics, read_only: bool) -> Vec<Statement> {
    let begin = if read_only { "begin read only" } else { "begin" };
    let mut statements = vec![Statement::from(begin)];
    statements.extend(characteristics.statements(read_only));
    statements
}

/// Runs statements inside a transaction block; when one fails, the block is left.
async fn or_roll_back<'a>(
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

/// Whether the answer decides about the commit.
fn is_checked(plan: &StatementPlan, request: &ApiRequest) -> bool {
    let is_put = matches!(&plan.command, Command::Write(write) if write.mutation == Mutation::SingleUpsert);
    is_put || is_singular(plan) || request.preferences.enforced_max_affected().is_some()
}

/// Whether the answer is one the client accepts.
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
        Some(most) if answer.rows > most => Err(RequestError::MaxAffected(answer.rows)),
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
        // It is the connection's end, not the statement's: an administrator, a timeout of the session, a shutdown.
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

/// A function has changed what PostgreSQL's answers are encoded in.
fn encoding_changed(identity: &Identity) -> DatabaseFailure {
    DatabaseFailure {
        sqlstate: "38000".to_owned(),
        message: "a function has changed client_encoding, and answers are UTF-8".to_owned(),
        detail: None,
        hint: Some(
            "Let the function leave client_encoding as it is; convert_to() encodes text as bytea.".to_owned(),
        ),
        authenticated: identity.authenticated,
    }
}
