//! The roles a database is used by, under the names the PostgREST ecosystem knows, and what each may do.
//!
//! `NAME_owner` owns the database and runs migrations. `authenticator` is all an application server may log
//! in as; it has no rights of its own and can only become a request role: `anon` or `authenticated`.

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};

use crate::SqlError;
use crate::secret::Password;

/// All an application server may log in as.
pub const AUTHENTICATOR: &str = "authenticator";
/// What a request without a token runs as.
pub const ANONYMOUS: &str = "anon";
/// What a request with a token runs as, unless the token names another role.
pub const AUTHENTICATED: &str = "authenticated";

/// The role that owns the database `name`.
pub fn owner(name: &str) -> String {
    format!("{name}_owner")
}

/// The passwords of the two roles that log in over TCP.
#[derive(Clone, Debug)]
pub struct Passwords {
    /// Of `NAME_owner`.
    pub owner: Password,
    /// Of `authenticator`.
    pub authenticator: Password,
}

/// Makes the roles and the database `name` where they are missing, and sets the passwords. What a
/// database's roles may do in it is set once, when it is made: after that it is the migrations' to change.
///
/// `session_role` is what a session of `authenticator` begins as: `None` for the data API, which chooses a
/// role for each request and must have no rights until it has; a request role for a person's own program,
/// whose statements would otherwise all be refused.
///
/// # Errors
/// A statement fails. `connect` gives a superuser's connection to the database of a name.
pub async fn prepare(
    connect: impl Fn(&str) -> PgConnectOptions,
    name: &str,
    passwords: &Passwords,
    session_role: Option<&str>,
) -> Result<(), SqlError> {
    let mut server = connect("postgres").connect().await?;
    for (role, login) in [
        (owner(name).as_str(), "login noinherit"),
        (AUTHENTICATOR, "login noinherit"),
        (ANONYMOUS, "nologin noinherit"),
        (AUTHENTICATED, "nologin noinherit"),
    ] {
        let exists = sqlx::query_scalar::<_, bool>("select exists (select from pg_roles where rolname = $1)")
            .bind(role)
            .fetch_one(&mut server)
            .await?;
        let verb = if exists { "alter" } else { "create" };
        let role = identifier(role);
        let rights = "nosuperuser nocreatedb nocreaterole noreplication nobypassrls";
        run(&mut server, format!("{verb} role {role} {login} {rights}")).await?;
    }
    for (role, password) in
        [(owner(name).as_str(), &passwords.owner), (AUTHENTICATOR, &passwords.authenticator)]
    {
        // The verifier, not the password: PostgreSQL may log the statement.
        let verifier = literal(&password.verifier());
        run(&mut server, format!("alter role {} password {verifier}", identifier(role))).await?;
    }
    run(&mut server, format!("grant {ANONYMOUS}, {AUTHENTICATED} to {AUTHENTICATOR}")).await?;
    let begin_as =
        session_role.map_or_else(|| "reset role".into(), |role| format!("set role to {}", identifier(role)));
    run(&mut server, format!("alter role {AUTHENTICATOR} {begin_as}")).await?;
    let exists = sqlx::query_scalar::<_, bool>("select exists (select from pg_database where datname = $1)")
        .bind(name)
        .fetch_one(&mut server)
        .await?;
    if !exists {
        run(&mut server, format!("create database {} owner {}", identifier(name), identifier(&owner(name))))
            .await?;
    }
    server.close().await?;

    grant_once(&connect(name), name).await
}

/// Says what the roles may do in the database `name`, once in its life: after that it is the migrations' to
/// change. `superuser` connects to that database.
///
/// # Errors
/// A statement fails.
pub async fn grant_once(superuser: &PgConnectOptions, name: &str) -> Result<(), SqlError> {
    if are_granted(superuser).await? {
        return Ok(());
    }
    let mut database = superuser.connect().await?;
    run(&mut database, rights(name)).await?;
    Ok(database.close().await?)
}

/// Whether [`grant_once`] was done in the database that `superuser` connects to.
///
/// # Errors
/// It cannot be asked.
pub async fn are_granted(superuser: &PgConnectOptions) -> Result<bool, SqlError> {
    let mut database = superuser.connect().await?;
    let granted =
        sqlx::query_scalar::<_, bool>("select exists (select from pg_namespace where nspname = 'tercet')")
            .fetch_one(&mut database)
            .await?;
    database.close().await?;
    Ok(granted)
}

/// What the roles may do in a new database, as one transaction.
fn rights(name: &str) -> String {
    include_str!("roles/rights.sql")
        .replace(":\"database\"", &identifier(name))
        .replace(":\"owner\"", &identifier(&owner(name)))
}

async fn run(connection: &mut PgConnection, sql: String) -> Result<(), SqlError> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}

/// A name as an SQL identifier.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as an SQL literal; `standard_conforming_strings` is on since PostgreSQL 9.1.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
