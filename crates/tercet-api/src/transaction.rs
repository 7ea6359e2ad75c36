//! One request's transaction: with its role, claims and settings, and nothing of anybody else's.
//!
//! What only reads is one round trip on a shared connection: the settings, the statement and a Sync are one
//! implicit transaction, whose settings end with it. What writes has a connection to itself for as long as
//! it takes, and what must be looked at before it is committed gets an explicit transaction there.

mod settings;

use crate::auth::Identity;
use crate::config::Config;
use crate::config::database::Isolation;
use crate::error::{ApiError, DatabaseFailure, RequestError};
use crate::plan::{Command, StatementPlan};
use crate::pool::{Lease, Need, Pool};
use crate::postgres::{DatabaseError, Results, Rows, Statement};
use crate::query::{Answer, Query};
use crate::request::media_type::MediaType;
use crate::request::{ApiRequest, Mutation};
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

/// Runs a planned statement and reads its answer.
///
/// # Errors
/// PostgreSQL refused, no connection could be had, or the answer is not one the client accepts; then
/// nothing is committed.
pub async fn run(
    pool: &Pool,
    context: Context<'_>,
    plan: &StatementPlan,
    query: &Query,
) -> Result<Answer, ApiError> {
    let transaction = Transaction { pool, context };
    let ran = if plan.read_only {
        // What was only read needs no rollback when the client does not accept it.
        transaction
            .read(plan, query)
            .await
            .map(|answer| check(plan, context.request, &answer).map(|()| answer))
    } else {
        transaction.write(plan, query).await
    };
    match ran {
        Ok(checked) => checked.map_err(ApiError::from),
        Err(error) => Err(failure(error, context.identity)),
    }
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
    let ran = Transaction { pool, context }.read_only(statements).await;
    ran.map_err(|error| failure(error, context.identity))
}

struct Transaction<'a> {
    pool: &'a Pool,
    context: Context<'a>,
}

impl Transaction<'_> {
    async fn read(&self, plan: &StatementPlan, query: &Query) -> Result<Answer, DatabaseError> {
        match self.read_query(query).await {
            // The schema has changed since it was loaded, or the client asks for nonsense. Which one, and in
            // whose words, the general form says.
            Err(error) if query.relies_on_columns() && error.is_misfit() => {
                self.read_query(&Query::in_one_row(plan)).await
            }
            answered => answered,
        }
    }

    async fn read_query(&self, query: &Query) -> Result<Answer, DatabaseError> {
        Ok(query.answer(&self.read_only(&query.statements()).await?))
    }

    /// Reads are tried again when the connection turns out to be broken: they have done nothing yet.
    async fn read_only(&self, statements: &[&Statement]) -> Result<Vec<Rows>, DatabaseError> {
        match self.try_read_only(statements).await {
            Err(error) if is_lost(&error) => self.try_read_only(statements).await,
            answered => answered,
        }
    }

    async fn try_read_only(&self, statements: &[&Statement]) -> Result<Vec<Rows>, DatabaseError> {
        let prelude = self.prelude(true);
        let sent = prelude.iter().chain(statements.iter().copied());
        let isolation = self.isolation();
        let mut results = if isolation == Isolation::ReadCommitted {
            let key = statements.first().map_or(0, |statement| Pool::key(&statement.sql));
            let mut lease = self.lease(Need::Shared(key)).await?;
            lease.exchange(sent).await?
        } else {
            let begin = begin(isolation, true);
            let commit = Statement::from("commit");
            let mut lease = self.lease(Need::Alone).await?;
            let sent = std::iter::once(&begin).chain(sent).chain(std::iter::once(&commit));
            let mut results = or_roll_back(&mut lease, sent).await?;
            results.remove(0);
            results.pop();
            results
        };
        Ok(results.drain(prelude.len()..).collect())
    }

    async fn write(
        &self,
        plan: &StatementPlan,
        query: &Query,
    ) -> Result<Result<Answer, RequestError>, DatabaseError> {
        let prelude = self.prelude(false);
        let Context { config, request, .. } = self.context;
        let rolls_back = config.rolls_back(request.preferences.transaction);
        let isolation = self.isolation();
        let sent = prelude.iter().chain(std::iter::once(&query.main));
        let mut lease = self.lease(Need::Alone).await?;
        if isolation == Isolation::ReadCommitted && !rolls_back && !is_checked(plan, request) {
            let results = lease.exchange(sent).await?;
            return Ok(Ok(query.answer(&results[prelude.len()..])));
        }
        let begin = begin(isolation, false);
        let results = or_roll_back(&mut lease, std::iter::once(&begin).chain(sent)).await?;
        let answer = query.answer(&results[prelude.len() + 1..]);
        let checked = check(plan, request, &answer);
        let end: &[Statement] = match (&checked, rolls_back) {
            (Err(_), _) => &["rollback".into()],
            // What only a commit would find out is found out as well.
            (Ok(()), true) => &["set constraints all immediate".into(), "rollback".into()],
            (Ok(()), false) => &["commit".into()],
        };
        or_roll_back(&mut lease, end).await?;
        Ok(checked.map(|()| answer))
    }

    /// What comes before the statement.
    fn prelude(&self, read_only: bool) -> Vec<Statement> {
        let mut prelude = vec![settings::statement(self.context, read_only)];
        if let Some(function) = &self.context.config.db_pre_request {
            prelude.push(Statement::new(format!("select {}()", function.sql()), Vec::new()));
        }
        prelude
    }

    fn isolation(&self) -> Isolation {
        let Context { config, identity, routine, .. } = self.context;
        let of_routine = routine.and_then(|routine| {
            let setting = |(name, _): &&(Box<str>, Box<str>)| &**name == settings::ISOLATION;
            routine.settings.iter().find(setting).map(|(_, value)| Isolation::parse(value))
        });
        let of_role = || config.role_settings.get(&identity.role).and_then(|settings| settings.isolation);
        of_routine.or_else(of_role).unwrap_or_default()
    }

    /// A connection. Functions may leave on it what outlives their transaction; then it is wiped before
    /// anybody else gets it.
    async fn lease(&self, need: Need) -> Result<Lease, DatabaseError> {
        let Context { config, request, routine, .. } = self.context;
        let mut lease = self.pool.lease(need).await?;
        let reads_only = matches!(request.method.as_str(), "GET" | "HEAD");
        if routine.is_some() || config.db_pre_request.is_some() || !reads_only {
            lease.wipe_afterwards();
        }
        Ok(lease)
    }
}

fn begin(isolation: Isolation, read_only: bool) -> Statement {
    let access = if read_only { "read only" } else { "read write" };
    Statement::new(format!("begin isolation level {}, {access}", isolation.sql()), Vec::new())
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

/// Whether the connection broke before the statement was answered, or has lost what was prepared on it.
fn is_lost(error: &DatabaseError) -> bool {
    matches!(error, DatabaseError::Closed | DatabaseError::Io(_))
        || matches!(error.code(), Some("57P01" | "57P02")) && error.is_fatal()
        || error.code() == Some("26000")
}

fn failure(error: DatabaseError, identity: &Identity) -> ApiError {
    match error {
        DatabaseError::Server(error) => ApiError::Database(DatabaseFailure {
            sqlstate: error.code,
            message: error.message,
            detail: error.detail,
            hint: error.hint,
            authenticated: identity.authenticated,
        }),
        DatabaseError::Timeout => ApiError::PoolTimeout,
        DatabaseError::Connect { .. } => ApiError::Connection(Some(error.to_string())),
        DatabaseError::Io(_) | DatabaseError::Closed | DatabaseError::Protocol(_) => {
            ApiError::ConnectionLost(Some(error.to_string()))
        }
    }
}
