//! Session reset: undoes what statements may leave in a session beyond their transaction.
//!
//! Equivalent to `DISCARD ALL` (<https://www.postgresql.org/docs/current/sql-discard.html>), except that tercet's
//! prepared statements and their plans are kept: no data can be read from a plan.

/// Step by step:
///
/// - An error in these commands ends the session, so nothing queued behind them is executed. A timeout left by a
///   function must not cause one.
/// - The commands run as the login role.
/// - All names are qualified: the `search_path` may have been changed.
/// - A statement prepared by SQL ends the session: it may have replaced one of tercet's, unnoticed. The text that is
///   not a number appears in PostgreSQL's log.
/// - All settings are reset, including tercet's.
const RESET: &str = "set exit_on_error = on; \
    set statement_timeout = 0; \
    reset session authorization; \
    reset role; \
    close all; \
    unlisten *; \
    discard temporary; \
    discard sequences; \
    select pg_catalog.pg_advisory_unlock_all(), (\
    select pg_catalog.concat('the statement \"', name, '\" was left behind by PREPARE')::pg_catalog.int4 \
    from pg_catalog.pg_prepared_statement() where from_sql limit 1); \
    reset all; ";

/// Removes what `lastval()` and `currval()` return, as the reset does. Must not fail, either.
pub(super) const SEQUENCES: &str = "discard sequences";

/// The commands that reset a session and set it up again with the `session` commands.
pub(super) fn commands(session: &str) -> String {
    format!("{RESET}{session}")
}
