//! Checks at start, rather than with the first request, that the login role can assume the anonymous role.

use bytes::Bytes;
use tercet_postgres::{Connection, DatabaseError, Statement};

/// Since PostgreSQL 16 membership does not imply the right to `SET ROLE`.
const SET_SINCE: u32 = 16;

/// Why the login role cannot assume `role`, with a hint; `None` if it can.
///
/// # Errors
/// The query failed.
pub(super) async fn refused(connection: &Connection, role: &str) -> Result<Option<String>, DatabaseError> {
    let major: u32 = connection.version().split('.').next().and_then(|text| text.parse().ok()).unwrap_or(0);
    let privilege = if major >= SET_SINCE { "SET" } else { "MEMBER" };
    let sql = format!(
        "select session_user, quote_ident(session_user), quote_ident($1), \
         (select pg_catalog.pg_has_role(session_user, oid, '{privilege}') \
          from pg_catalog.pg_roles where rolname = $1)"
    );
    let parameters = vec![Some(Bytes::copy_from_slice(role.as_bytes()))];
    let rows = connection.query(&Statement::new(sql, parameters)).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let text = |column| row.text(column).unwrap_or_default();
    Ok(match row.text(3) {
        Some("t") => None,
        Some(_) => Some(format!(
            "role \"{}\" cannot assume role \"{role}\" (db-anon-role): every request without a token fails; \
             hint: grant {} to {};",
            text(0),
            text(2),
            text(1)
        )),
        None => Some(format!(
            "role \"{role}\" (db-anon-role) does not exist: every request without a token fails; \
             hint: create role {0} nologin; grant {0} to {1};",
            text(2),
            text(1)
        )),
    })
}
