//! What a server would run with, for whoever asks without starting one: the configuration with what the database
//! says of it, and the schema cache.

use serde_json::Value;
use tercet_postgres::{Connection, DatabaseError};

use super::ServerError;
use crate::config::database::{options, role_settings};
use crate::config::{Config, ConfigSource};
use crate::schema::{LoadError, SchemaCache};

/// The configuration as a server would have it, read from the database too unless `db-config` is off.
///
/// # Errors
/// The configuration cannot be used, or the database cannot be asked.
pub async fn configuration(source: &ConfigSource) -> Result<Config, ServerError> {
    let config = source.read()?;
    if !config.db_config {
        return Ok(config);
    }
    let connection = Connection::connect(&config.db_uri, false).await.map_err(refused)?;
    follow(source, &config, &connection).await
}

/// The schema cache as a server would have it, as `/schema_cache` of the admin endpoint shows it.
///
/// # Errors
/// The configuration cannot be used, or the database cannot be asked.
pub async fn schema_cache(source: &ConfigSource) -> Result<Value, ServerError> {
    let config = source.read()?;
    let connection = Connection::connect(&config.db_uri, false).await.map_err(refused)?;
    let config = follow(source, &config, &connection).await?;
    match SchemaCache::load(&connection, &config.db_schemas).await {
        Ok(cache) => Ok(cache.dump()),
        Err(LoadError::Database(error)) => Err(ServerError::Refused(error)),
        Err(error) => Err(ServerError::Schema(error)),
    }
}

fn refused(error: impl Into<DatabaseError>) -> ServerError {
    ServerError::Refused(error.into())
}

async fn follow(
    source: &ConfigSource,
    config: &Config,
    connection: &Connection,
) -> Result<Config, ServerError> {
    if !config.db_config {
        return Ok(source.read()?);
    }
    let from_database = options(connection, config.db_pre_config.as_ref()).await.map_err(refused)?;
    let role_settings = role_settings(connection).await.map_err(refused)?;
    Ok(Config { role_settings, ..source.read_with(&from_database)? })
}
