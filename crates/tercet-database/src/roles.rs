//! The roles of a database, with the names that PostgREST's documentation uses, and their privileges.
//!
//! `NAME_owner` owns the database and runs migrations. `authenticator` is the only role that an application server
//! may log in as. It has no privileges except that it can become a request role: `anon` or `authenticated`.

use std::collections::BTreeMap;
use std::sync::Arc;

use tercet_postgres::quote::identifier;
use tercet_postgres::{Connection, Database, DatabaseError, Others, Role, Statement, Target, Verifier};

use crate::secret::Password;

/// The role that an application server logs in as.
pub const AUTHENTICATOR: &str = "authenticator";
/// The role of requests without a token.
pub const ANONYMOUS: &str = "anon";
/// The role of requests with a token, unless the token names another role.
pub const AUTHENTICATED: &str = "authenticated";

/// The role that reads PostgreSQL's statistics for the monitoring, over the Unix socket, without a password.
pub const MONITOR: &str = "tercet_monitor";

/// The role [`MONITOR`]: a member of `pg_monitor` (PostgreSQL manual, section 22.5), with no right to any table.
pub fn monitor<S>() -> Role<S> {
    Role {
        name: MONITOR.to_owned(),
        login: true,
        inherit: true,
        member_of: vec!["pg_monitor".to_owned()],
        verifier: None,
        settings: BTreeMap::new(),
    }
}

/// The name of the role that owns the database `name`.
pub fn owner(name: &str) -> String {
    format!("{name}_owner")
}

/// The roles of the database `name`, each after those it is a member of. Those without a verifier have no password.
///
/// `session_role` is the initial role of the sessions of `authenticator`. It is `None` for the data API, which sets a
/// role for each request and must have no privileges before that. For the user's program it is a request role, since
/// its statements would otherwise all be rejected.
pub fn roles<S>(
    name: &str,
    owner_verifier: Option<S>,
    authenticator_verifier: Option<S>,
    session_role: Option<&str>,
) -> [Role<S>; 4] {
    let role = |name: &str, login, verifier| Role {
        name: name.to_owned(),
        login,
        inherit: false,
        member_of: Vec::new(),
        verifier,
        settings: BTreeMap::new(),
    };
    let begins_as = session_role.map(|role| ("role".to_owned(), role.to_owned()));
    [
        role(&owner(name), true, owner_verifier),
        role(ANONYMOUS, false, None),
        role(AUTHENTICATED, false, None),
        Role {
            member_of: vec![ANONYMOUS.to_owned(), AUTHENTICATED.to_owned()],
            settings: begins_as.into_iter().collect(),
            ..role(AUTHENTICATOR, true, authenticator_verifier)
        },
    ]
}

/// The database `name`.
pub fn database(name: &str) -> Database {
    Database { name: name.to_owned(), owner: owner(name), connect: vec![AUTHENTICATOR.to_owned()] }
}

/// The passwords of the two roles that log in over TCP.
#[derive(Clone, Debug)]
pub struct Passwords {
    /// Of `NAME_owner`.
    pub owner: Password,
    /// Of `authenticator`.
    pub authenticator: Password,
}

/// Creates the [roles] and the database `name` if they are missing, and sets the passwords. Settings and memberships
/// that a superuser has added to a role stay. The privileges in the database are granted once, when it is created;
/// after that, only migrations change them. Must be called on a `LocalSet`, like all functions here that connect.
///
/// # Errors
/// A statement fails. `connect` returns the parameters of a superuser's connection to the database of a name.
pub async fn prepare(
    connect: impl Fn(&str) -> Target,
    name: &str,
    passwords: &Passwords,
    session_role: Option<&str>,
) -> Result<(), DatabaseError> {
    let server = Connection::connect(&Arc::new(connect("postgres")), false).await?;
    // Statements contain the verifier instead of the password, since PostgreSQL may log them.
    let (owner, authenticator) = (passwords.owner.verifier(), passwords.authenticator.verifier());
    for role in roles(name, Some(owner), Some(authenticator), session_role) {
        server.simple_query(&role.sql(Others::Kept, Verifier::reveal)).await?;
    }
    if !has_database(&server, name).await? {
        server.simple_query(&database(name).create()).await?;
    }
    grant_once(&Arc::new(connect(name)), name).await
}

/// Whether a cluster has the database of a name.
pub(crate) async fn has_database(server: &Connection, name: &str) -> Result<bool, DatabaseError> {
    let select = "select from pg_database where datname = $1";
    let rows = server.query(&Statement::new(select, vec![Some(name.to_owned().into())])).await?;
    Ok(!rows.is_empty())
}

/// Grants the CONNECT privilege on the database `name` and the privileges of the roles in it, unless this was done
/// before; after that, only migrations change them. `superuser` connects to that database.
///
/// # Errors
/// A statement fails.
pub async fn grant_once(superuser: &Arc<Target>, name: &str) -> Result<(), DatabaseError> {
    grant_in(superuser, &database(name), name).await
}

/// As [`grant_once`], in a database with another name than that of the project `name`.
pub(crate) async fn grant_in(
    superuser: &Arc<Target>,
    database: &Database,
    name: &str,
) -> Result<(), DatabaseError> {
    let connection = Connection::connect(superuser, false).await?;
    if !is_granted(&connection).await? {
        connection.simple_query(&database.sql()).await?;
        connection.simple_query(&rights(name)).await?;
    }
    Ok(())
}

/// The projects whose databases are in the cluster, if that of the project `name` is not. `superuser` connects to the
/// database `postgres`.
///
/// # Errors
/// The query fails.
pub async fn other_projects(superuser: &Arc<Target>, name: &str) -> Result<Vec<String>, DatabaseError> {
    let server = Connection::connect(superuser, false).await?;
    let others = "select datname from pg_database \
                  where pg_get_userbyid(datdba) = datname || '_owner' \
                  and not exists (select from pg_database where datname = $1) order by 1";
    let rows = server.query(&Statement::new(others, vec![Some(name.to_owned().into())])).await?;
    Ok(rows.iter().filter_map(|row| row.text(0).map(str::to_owned)).collect())
}

/// Whether [`grant_once`] has run in the database that `superuser` connects to.
///
/// # Errors
/// The query fails.
pub async fn are_granted(superuser: &Arc<Target>) -> Result<bool, DatabaseError> {
    is_granted(&Connection::connect(superuser, false).await?).await
}

pub(crate) async fn is_granted(connection: &Connection) -> Result<bool, DatabaseError> {
    let schema = connection.query(&"select from pg_namespace where nspname = 'tercet'".into()).await?;
    Ok(!schema.is_empty())
}

/// Makes the database that `superuser` connects to one that Supabase's schemas and clients expect, and the role
/// `service_role`. Repeating it changes nothing.
///
/// # Errors
/// A statement fails.
pub async fn prepare_for_supabase(superuser: &Arc<Target>, name: &str) -> Result<(), DatabaseError> {
    let sql = include_str!("roles/supabase.sql").replace(":\"owner\"", &identifier(&owner(name)));
    Connection::connect(superuser, false).await?.simple_query(&sql).await.map(drop)
}

/// Sets what `authenticated` may do with the tables, sequences and functions that the owner creates from now on.
///
/// # Errors
/// A statement fails. `database` is the owner's connection.
pub async fn set_default_grants(database: &Target, granted: bool) -> Result<(), DatabaseError> {
    let (verb, preposition) = if granted { ("grant", "to") } else { ("revoke", "from") };
    let statement = |privileges: &str| {
        format!("alter default privileges {verb} {privileges} {preposition} {AUTHENTICATED};")
    };
    let sql =
        ["select, insert, update, delete on tables", "usage, select on sequences", "execute on functions"]
            .map(statement)
            .concat();
    Connection::connect(&Arc::new(database.clone()), false).await?.simple_query(&sql).await.map(drop)
}

/// Whether `authenticated` may use the tables that the owner creates, in the database that `superuser` connects to.
///
/// # Errors
/// The query fails.
pub async fn has_default_grants(superuser: &Arc<Target>, name: &str) -> Result<bool, DatabaseError> {
    let sql = "select from pg_default_acl, aclexplode(defaclacl) \
               where defaclrole = to_regrole($1) and defaclnamespace = 0 and defaclobjtype = 'r' \
               and grantee = to_regrole($2) and privilege_type = 'INSERT'";
    let roles = [identifier(&owner(name)), AUTHENTICATED.to_owned()].map(|role| Some(role.into()));
    let connection = Connection::connect(superuser, false).await?;
    Ok(!connection.query(&Statement::new(sql, roles.into())).await?.is_empty())
}

/// The SQL that grants the privileges in a new database, as one transaction.
fn rights(name: &str) -> String {
    include_str!("roles/rights.sql").replace(":\"owner\"", &identifier(&owner(name)))
}
