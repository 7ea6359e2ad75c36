//! The effective configuration and the schema cache, read without starting a server.

use serde_json::Value;
use tercet_postgres::{Connection, DatabaseError};

use super::ServerError;
use crate::config::database::{options, role_settings};
use crate::config::{Config, ConfigSource};
use crate::schema::{LoadError, SchemaCache};

/// The configuration a server would run with, including the in-database configuration unless `db-config` is off.
///
/// # Errors
/// The configuration is invalid, or a query failed.
pub async fn configuration(source: &ConfigSource) -> Result<Config, ServerError> {
    let config = source.read()?;
    if !config.db_config {
        return Ok(config);
    }
    let connection = Connection::connect(&config.db_uri, false).await.map_err(refused)?;
    effective(source, &config, &connection).await
}

/// The schema cache a server would load, in the form of the admin endpoint's `/schema_cache`.
///
/// # Errors
/// The configuration is invalid, or a query failed.
pub async fn schema_cache(source: &ConfigSource) -> Result<Value, ServerError> {
    Ok(schema(source).await?.dump())
}

/// The schema cache a server would load.
///
/// # Errors
/// The configuration is invalid, or a query failed.
pub async fn schema(source: &ConfigSource) -> Result<SchemaCache, ServerError> {
    let config = source.read()?;
    let connection = Connection::connect(&config.db_uri, false).await.map_err(refused)?;
    let config = effective(source, &config, &connection).await?;
    match SchemaCache::load(&connection, &config.db_schemas).await {
        Ok(cache) => Ok(cache),
        Err(LoadError::Database(error)) => Err(ServerError::Refused(error)),
        Err(error) => Err(ServerError::Schema(error)),
    }
}

fn refused(error: impl Into<DatabaseError>) -> ServerError {
    ServerError::Refused(error.into())
}

async fn effective(
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
