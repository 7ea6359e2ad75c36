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
use self::token::{SignedBy, Trusted, Verified};
use crate::config::Config;
use crate::error::TokenError;
use crate::identity_provider::ProvidedKeys;
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

/// A thread's token verifier: keys and token cache, valid for one configuration and one version of the provider's keys.
#[derive(Debug, Default)]
pub struct Authenticator {
    config: Option<Arc<Config>>,
    /// The newest keys of a provider, which may be the one of an earlier configuration.
    provided: Option<Arc<ProvidedKeys>>,
    cache: Cache,
    anonymous: Option<Identity>,
}

impl Authenticator {
    /// Verifies the request's token; without one, the identity is the anonymous role. `provided` are the keys of the identity
    /// provider, once there are any.
    ///
    /// # Errors
    /// The token is missing, malformed, forged, expired, of another issuer or for another audience.
    pub fn identify(
        &mut self,
        config: &Arc<Config>,
        provided: Option<&Arc<ProvidedKeys>>,
        headers: &HeaderMap,
    ) -> Result<Identity, TokenError> {
        self.reset_for(config, provided);
        let Some(token) = headers.get(header::AUTHORIZATION).and_then(|value| bearer(value.as_bytes()))
        else {
            return self.anonymous.clone().ok_or(TokenError::Required);
        };
        if let Some(verified) = self.cache.get(token) {
            verified.times.check(now())?;
            return verified.identity.clone();
        }
        let verified = Rc::new(verify(config, self.provided.as_deref(), token)?);
        verified.times.check(now())?;
        let identity = verified.identity.clone();
        self.cache.insert(token, verified);
        identity
    }

    /// The token cache's counts.
    pub fn counts(&self) -> CacheCounts {
        self.cache.counts()
    }

    /// Resets keys and cache when the configuration or the provider's keys were replaced.
    fn reset_for(&mut self, config: &Arc<Config>, provided: Option<&Arc<ProvidedKeys>>) {
        let same_keys = self.provided.as_ref().map(Arc::as_ptr) == provided.map(Arc::as_ptr);
        if same_keys && self.config.as_ref().is_some_and(|known| Arc::ptr_eq(known, config)) {
            return;
        }
        self.provided = provided.cloned();
        self.cache.reset(config.jwt_cache_max_entries);
        self.anonymous = config.db_anon_role.as_ref().map(|role| identity(config, role, Map::new()));
        self.config = Some(Arc::clone(config));
    }
}

fn verify(config: &Config, provided: Option<&ProvidedKeys>, token: &[u8]) -> Result<Verified, TokenError> {
    let provider = config.identity_provider.as_ref();
    if config.jwt_keys.is_none() && provider.is_none() {
        return Err(TokenError::NoSecret);
    }
    let provided = provided.filter(|keys| provider == Some(&keys.provider)).map(|it| &it.keys);
    let trusted = Trusted { secret: config.jwt_keys.as_deref(), provided };
    let is_waiting = provider.is_some() && provided.is_none();
    let (claims, signer) = match token::decode(trusted, token) {
        Err(TokenError::Key(_)) if is_waiting => return Err(TokenError::NoProvidedKeys),
        decoded => decoded?,
    };
    if let (SignedBy::Provider, Some(issuer)) = (signer, &config.jwt_issuer) {
        token::check_issuer(&claims, issuer)?;
    }
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
