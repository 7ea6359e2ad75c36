//! The heartbeat: a one-row table with the time of its last update. Its age in a restored copy is the measured data loss.

use std::sync::Arc;

use jiff::Timestamp;
use tercet_postgres::{Connection, DatabaseError, Target};

/// Creates the table if it is missing and sets its time to now. Idempotent, for the superuser in the project's database.
pub const BEAT: &str = "\
create schema if not exists tercet;
create table if not exists tercet.heartbeat (at timestamptz not null);
create unique index if not exists heartbeat_one_row on tercet.heartbeat ((true));
insert into tercet.heartbeat values (clock_timestamp()) on conflict ((true)) do update set at = excluded.at;";

/// Updates the heartbeat.
///
/// # Errors
/// A statement fails. `superuser` connects to the project's database.
pub async fn beat(superuser: &Arc<Target>) -> Result<(), DatabaseError> {
    let connection = Connection::connect(superuser, false).await?;
    connection.simple_query("set client_min_messages to warning").await?;
    connection.simple_query(BEAT).await.map(drop)
}

/// The time of the last heartbeat; `None` if there was none.
///
/// # Errors
/// The query fails.
pub async fn last(superuser: &Arc<Target>) -> Result<Option<Timestamp>, DatabaseError> {
    let connection = Connection::connect(superuser, false).await?;
    if connection.query(&"select where to_regclass('tercet.heartbeat') is not null".into()).await?.is_empty()
    {
        return Ok(None);
    }
    let select = "select (extract(epoch from max(at)) * 1000000)::bigint from tercet.heartbeat";
    let rows = connection.query(&select.into()).await?;
    let microseconds = rows.first().and_then(|row| row.text(0)?.parse().ok());
    Ok(microseconds.and_then(|microseconds| Timestamp::from_microsecond(microseconds).ok()))
}
