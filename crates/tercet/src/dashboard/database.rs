//! The state of PostgreSQL: connections, transactions, locks, size, from its statistics views.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tercet_postgres::{Connection, Target};
use tokio::time::timeout;

/// The statement: one row with one JSON object. It has no text of other sessions' statements, which may have secrets.
const STATEMENT: &str = "
    select json_build_object(
        'version', current_setting('server_version'),
        'bytes', pg_database_size(current_database()),
        'connections', (select count(*) from pg_stat_activity where backend_type = 'client backend'),
        'active', (select count(*) from pg_stat_activity
                   where backend_type = 'client backend' and state = 'active' and pid <> pg_backend_pid()),
        'idle_in_transaction', (select count(*) from pg_stat_activity where state like 'idle in transaction%'),
        'waiting', (select count(*) from pg_stat_activity where wait_event_type = 'Lock'),
        'max_connections', current_setting('max_connections')::int,
        'oldest_transaction', (select extract(epoch from max(now() - xact_start)) from pg_stat_activity
                               where backend_type = 'client backend' and pid <> pg_backend_pid()),
        'transactions', (select xact_commit + xact_rollback from pg_stat_database where datname = current_database()),
        'deadlocks', (select deadlocks from pg_stat_database where datname = current_database()),
        'cache_hit', (select blks_hit::float / nullif(blks_hit + blks_read, 0) from pg_stat_database
                      where datname = current_database()))::text";

/// The longest a reading may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Reads it, on a connection that is kept.
pub(super) struct Reader {
    target: Arc<Target>,
    connection: Option<Connection>,
}

impl Reader {
    pub(super) fn new(target: Target) -> Self {
        Self { target: Arc::new(target), connection: None }
    }

    /// The state, or why there is none.
    pub(super) async fn read(&mut self) -> Result<Value, String> {
        let read = timeout(TIMEOUT, self.query()).await;
        let read = read.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {} s", TIMEOUT.as_secs())));
        if read.is_err() {
            self.connection = None;
        }
        read.map_err(|error| format!("{error:#}"))
    }

    async fn query(&mut self) -> anyhow::Result<Value> {
        let connection = match self.connection.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => Connection::connect(&self.target, false).await?,
        };
        let rows = connection.query(&STATEMENT.into()).await?;
        let text = rows.iter().next().and_then(|row| row.text(0).map(str::to_owned)).context("no row")?;
        self.connection = Some(connection);
        Ok(serde_json::from_str(&text)?)
    }
}
