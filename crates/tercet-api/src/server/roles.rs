//! Whether the login role can become the role that requests without a token run as: said when the server starts, not
//! by the first request.

use bytes::Bytes;
use tercet_postgres::{Connection, DatabaseError, Statement};

/// Since PostgreSQL 16 a member of a role need not be allowed to `SET ROLE` to it.
const SET_SINCE: u32 = 16;

/// Why the login role cannot become `role`, with what helps; `None` where it can.
///
/// # Errors
/// PostgreSQL refused, or the connection broke.
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
            "role \"{}\" cannot become \"{role}\" (db-anon-role): every request without a token fails; \
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
