//! Tier 2: the data API: request, plan, query, transaction, response.

pub mod auth;
pub mod config;
pub mod error;
pub mod identity_provider;
pub mod media_type;
pub mod openapi;
pub mod plan;
pub mod pool;
pub mod query;
pub mod request;
pub mod response;
pub mod response_headers;
pub mod schema;
pub mod server;
pub mod token_keys;
pub mod transaction;
pub mod typescript;
