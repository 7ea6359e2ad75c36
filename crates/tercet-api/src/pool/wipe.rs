//! Wiping a session: what statements can leave on a connection beyond their transaction, and how it is taken back.
//!
//! It does what `DISCARD ALL` does (<https://www.postgresql.org/docs/current/sql-discard.html>), except that our own
//! prepared statements stay, with their plans: nothing can be read from a plan.

/// In this order:
///
/// - Whatever fails in here ends the session on the server, so nothing that is queued behind it is run. Of a timeout
///   that a function has left behind must not be the reason.
/// - The rest runs as the role that has logged in.
/// - Every name says where it is from: the `search_path` may be anybody's.
/// - A statement that SQL has prepared ends the session: it may have taken the place of one of ours, which nobody
///   could tell when it is used. The text that is no number is what PostgreSQL writes into its log.
/// - All settings, among them those that were made here.
const WIPE: &str = "set exit_on_error = on; \
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

/// What wipes a connection and sets it up again by the `session`'s commands.
pub(super) fn commands(session: &str) -> String {
    format!("{WIPE}{session}")
}
