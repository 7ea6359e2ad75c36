//! The bookshop: a database and its schema cache, with requests planned and run against them.

use std::fmt::Write as _;
use std::sync::LazyLock;

use bytes::Bytes;
use expect_test::Expect;
use tercet_api::error::{ApiError, StatementError, Verbosity};
use tercet_api::plan::{Plan, Policy, StatementPlan, plan};
use tercet_api::query::{Answer, Query};
use tercet_api::request::{ApiRequest, Rules};
use tercet_api::schema::SchemaCache;
use tercet_postgres::{Connection, DatabaseError, Rows, Statement};
use tokio::task::LocalSet;

use crate::postgres::{self, Database};

static BOOKSHOP: LazyLock<Database> = LazyLock::new(|| postgres::database(include_str!("bookshop.sql")));

static CACHE: LazyLock<SchemaCache> = LazyLock::new(|| {
    on_one_thread(async {
        let connection = Connection::connect(&BOOKSHOP.superuser(), true).await.unwrap();
        SchemaCache::load(&connection, &["shop".to_owned()]).await.unwrap()
    })
});

/// The bookshop's database.
pub(crate) fn database() -> &'static Database {
    &BOOKSHOP
}

/// The bookshop's schema cache.
pub(crate) fn cache() -> &'static SchemaCache {
    &CACHE
}

/// A policy with everything enabled.
pub(crate) fn permissive() -> Policy {
    Policy { aggregates: true, execution_plans: true, ..Policy::default() }
}

/// Checks the SQL and the parameters of a request (first line: method and target; then headers; then a blank line and
/// the body).
#[track_caller]
pub(crate) fn check_sql(request: &str, expect: &Expect) {
    expect.assert_eq(&match statement(request, &permissive()) {
        Ok(plan) => print(&Query::new(&plan).main),
        Err(error) => describe(&error),
    });
}

/// The same where the request is proved free of side effects, which nothing is in the bookshop: its casts may do
/// anything.
#[track_caller]
pub(crate) fn check_plain_sql(request: &str, expect: &Expect) {
    let mut plan = statement(request, &permissive()).unwrap();
    plan.side_effect_free = true;
    expect.assert_eq(&print(&Query::new(&plan).main));
}

/// Checks the answer to a request as `anon`; the transaction is rolled back.
#[track_caller]
pub(crate) fn check(request: &str, expect: &Expect) {
    check_with(&permissive(), request, expect);
}

/// The same with another policy.
#[track_caller]
pub(crate) fn check_with(policy: &Policy, request: &str, expect: &Expect) {
    expect.assert_eq(&match statement(request, policy) {
        Ok(plan) => run(plan),
        Err(error) => describe(&error),
    });
}

/// Plans a request.
pub(crate) fn statement(request: &str, policy: &Policy) -> Result<StatementPlan, ApiError> {
    let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
    let mut lines = head.lines();
    let (method, target) = lines.next().unwrap().split_once(' ').unwrap();
    let mut builder = http::Request::builder().method(method).uri(target.replace('>', "%3E"));
    for (name, value) in lines.map(|line| line.split_once(": ").unwrap()) {
        builder = builder.header(name, value);
    }
    let (parts, ()) = builder.body(()).unwrap().into_parts();
    match planned(&parts, Bytes::from(body.to_owned()), policy)? {
        Plan::Statement(plan) => Ok(*plan),
        other => panic!("not a statement: {other:?}"),
    }
}

/// Plans a request that is already parsed.
pub(crate) fn planned(parts: &http::request::Parts, body: Bytes, policy: &Policy) -> Result<Plan, ApiError> {
    let schemas = ["shop".to_owned()];
    let rules = Rules {
        schemas: &schemas,
        root_routine: None,
        describes: true,
        transaction_override: false,
        time_zones: true,
        cache: cache(),
    };
    let request = ApiRequest::parse(parts, body, rules)?;
    plan(&request, cache(), policy)
}

/// The rows of statements run by a role.
pub(crate) fn ask(role: &str, statements: &[Statement]) -> Vec<Rows> {
    on_one_thread(async {
        let connection = Connection::connect(&BOOKSHOP.superuser(), true).await.unwrap();
        let role: Statement = Statement::from(&*format!("set role {role}"));
        connection.query(&role).await.unwrap();
        let mut answers = Vec::new();
        for statement in statements {
            answers.push(connection.query(statement).await.unwrap());
        }
        answers
    })
}

/// PostgreSQL's answer to a query.
pub(crate) async fn answer(connection: &Connection, query: &Query) -> Result<Answer, StatementError> {
    let mut results = Vec::new();
    for statement in query.statements() {
        results.push(connection.query(statement).await?);
    }
    query.answer(&results)
}

/// Runs a plan in transactions that are rolled back, in both forms, and prints the answer.
fn run(mut plan: StatementPlan) -> String {
    let outcome = on_one_thread(async {
        let connection =
            Connection::connect(&BOOKSHOP.superuser(), true).await.map_err(DatabaseError::from)?;
        let run = async |query: &Query| {
            connection.query(&"begin".into()).await?;
            let settings = "select set_config('role', 'anon', true), set_config('search_path', 'shop', true)";
            connection.query(&settings.into()).await?;
            let answer = answer(&connection, query).await;
            connection.query(&"rollback".into()).await?;
            answer
        };
        let general = run(&Query::in_one_row(&plan)).await?;
        for side_effect_free in [false, true] {
            plan.side_effect_free = side_effect_free;
            let query = Query::new(&plan);
            assert_eq!(run(&query).await?, general, "{query:?}");
        }
        Ok::<_, StatementError>(general)
    });
    let answer = match outcome {
        Ok(answer) => answer,
        Err(StatementError::Database(DatabaseError::Server(error))) => {
            return format!("{} {}\n", error.code, error.message);
        }
        Err(error) => panic!("{error}"),
    };
    let mut text = match String::from_utf8(answer.body.to_vec()) {
        Ok(body) if body.is_empty() => "(no body)".to_owned(),
        Ok(body) => body.replace(", \n ", ",\n "),
        Err(_) => format!("{:02x?}", &answer.body[..]),
    };
    text.push('\n');
    if let Some(total) = answer.total {
        writeln!(text, "total {total}").unwrap();
    }
    if !answer.location.is_empty() {
        writeln!(text, "location {:?}", answer.location).unwrap();
    }
    if let Some(inserted) = answer.inserted {
        writeln!(text, "inserted {inserted}").unwrap();
    }
    text
}

fn describe(error: &ApiError) -> String {
    format!("{}\n{}\n", error.status(), String::from_utf8(error.json(Verbosity::Verbose)).unwrap())
}

/// The text of a statement, a line per clause, and its parameters.
fn print(statement: &Statement) -> String {
    let mut text = statement.sql.to_string();
    for clause in [
        " SELECT ",
        " FROM ",
        " LEFT JOIN ",
        " INNER JOIN ",
        " WHERE ",
        " ORDER BY ",
        " RETURNING ",
        " ON CONFLICT",
    ] {
        text = text.replace(clause, &format!("\n{}", clause.trim_start()));
    }
    text.push('\n');
    for (index, parameter) in statement.parameters.iter().enumerate() {
        let value = parameter.as_deref().map(String::from_utf8_lossy);
        writeln!(text, "${} = {}", index + 1, value.as_deref().unwrap_or("NULL")).unwrap();
    }
    text
}

/// Runs a test's future on a single thread, like the server.
pub(crate) fn on_one_thread<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, future)
}
