//! The heartbeat: a one-row table with the time of its last update. Its age in a restored copy is the measured data loss.

use std::sync::Arc;

use jiff::Timestamp;
use tercet_postgres::{Connection, DatabaseError, Target};

use crate::roles;

/// Creates the table if it is missing and sets its time to now. Not the schema: that comes with the privileges in it, which are
/// granted once, when it is not there yet.
const BEAT: &str = "\
create table if not exists tercet.heartbeat (at timestamptz not null);
create unique index if not exists heartbeat_one_row on tercet.heartbeat ((true));
insert into tercet.heartbeat values (clock_timestamp()) on conflict ((true)) do update set at = excluded.at;";

/// Updates the heartbeat; returns whether there is a place for it: not in a database that has not been
/// [prepared](crate::roles::grant_once). `superuser` connects to the project's database.
///
/// # Errors
/// A statement fails.
pub async fn beat(superuser: &Arc<Target>) -> Result<bool, DatabaseError> {
    let connection = Connection::connect(superuser, false).await?;
    if !roles::is_granted(&connection).await? {
        return Ok(false);
    }
    connection.simple_query("set client_min_messages to warning").await?;
    connection.simple_query(BEAT).await?;
    Ok(true)
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
