//! Authentication: from the `Authorization` header to the request role and its claims.
//!
//! Verifies tokens only. Which rights a role has is PostgreSQL's decision.

mod cache;
mod token;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, header};
use serde_json::{Map, Value};

use self::cache::Cache;
pub use self::cache::CacheCounts;
use self::token::Verified;
use crate::config::Config;
use crate::error::TokenError;
pub use crate::token_keys::{Keys, KeysError};

/// The role and claims a request runs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The request role.
    pub role: Arc<str>,
    /// `request.jwt.claims`: the token's claims, including the role, as JSON text.
    pub claims: Bytes,
    /// Whether the role differs from the anonymous role: then a missing privilege is answered 403 instead of 401.
    pub authenticated: bool,
}

/// A thread's token verifier: keys and token cache, valid for one configuration.
#[derive(Debug, Default)]
pub struct Authenticator {
    config: Option<Arc<Config>>,
    cache: Cache,
    anonymous: Option<Identity>,
}

impl Authenticator {
    /// Verifies the request's token; without one, the identity is the anonymous role.
    ///
    /// # Errors
    /// The token is missing, malformed, forged, expired or for another audience.
    pub fn identify(&mut self, config: &Arc<Config>, headers: &HeaderMap) -> Result<Identity, TokenError> {
        self.reset_for(config);
        let Some(token) = headers.get(header::AUTHORIZATION).and_then(|value| bearer(value.as_bytes()))
        else {
            return self.anonymous.clone().ok_or(TokenError::Required);
        };
        let keys = config.jwt_keys.as_deref().ok_or(TokenError::NoSecret)?;
        if let Some(verified) = self.cache.get(token) {
            verified.times.check(now())?;
            return verified.identity.clone();
        }
        let verified = Rc::new(verify(config, keys, token)?);
        verified.times.check(now())?;
        let identity = verified.identity.clone();
        self.cache.insert(token, verified);
        identity
    }

    /// The token cache's counts.
    pub fn counts(&self) -> CacheCounts {
        self.cache.counts()
    }

    /// Resets keys and cache when the configuration was replaced.
    fn reset_for(&mut self, config: &Arc<Config>) {
        if self.config.as_ref().is_some_and(|known| Arc::ptr_eq(known, config)) {
            return;
        }
        self.cache.reset(config.jwt_cache_max_entries);
        self.anonymous = config.db_anon_role.as_ref().map(|role| identity(config, role, Map::new()));
        self.config = Some(Arc::clone(config));
    }
}

fn verify(config: &Config, keys: &Keys, token: &[u8]) -> Result<Verified, TokenError> {
    let claims = token::decode(keys, token)?;
    let times = token::Times::of(&claims)?;
    token::check_audience(&claims, config.jwt_aud.as_deref())?;
    let claims = Value::Object(claims);
    let role = config.jwt_role_claim_key.find(&claims).map(Arc::from).or_else(|| config.db_anon_role.clone());
    let Value::Object(claims) = claims else { return Err(TokenError::Claims) };
    let identity = match role {
        Some(role) => Ok(identity(config, &role, claims)),
        None => Err(TokenError::Required),
    };
    Ok(Verified { times, identity })
}

fn identity(config: &Config, role: &Arc<str>, mut claims: Map<String, Value>) -> Identity {
    claims.insert("role".to_owned(), Value::String(role.to_string()));
    Identity {
        role: Arc::clone(role),
        claims: Value::Object(claims).to_string().into(),
        authenticated: config.db_anon_role.as_ref() != Some(role),
    }
}

/// The token of `Bearer TOKEN` (RFC 6750 section 2.1); `None` for another scheme.
fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = authorization.split_at_checked("bearer".len())?;
    let separated = token.first().is_none_or(u8::is_ascii_whitespace);
    (scheme.eq_ignore_ascii_case(b"bearer") && separated).then(|| token.trim_ascii())
}

/// Unix time in seconds.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed())
}

#[cfg(test)]
mod tests;
