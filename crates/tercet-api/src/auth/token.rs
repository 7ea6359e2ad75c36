//! A JSON Web Token (RFC 7519): its three parts, its signature, and its validity and audience claims.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Identity;
use crate::error::TokenError;
use crate::token_keys::{self, Keys};

/// The keys that a token is verified with.
#[derive(Clone, Copy)]
pub(super) struct Trusted<'a> {
    /// Those in `jwt-secret`.
    pub(super) secret: Option<&'a Keys>,
    /// Those of the identity provider.
    pub(super) provided: Option<&'a Keys>,
}

/// The keys whose signature a token has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignedBy {
    Secret,
    Provider,
}

/// The accepted clock skew, in seconds.
const SKEW: i64 = 30;

/// A token with a valid signature.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) times: Times,
    pub(super) identity: Result<Identity, TokenError>,
}

/// The header of a token (RFC 7515 section 4).
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

/// Verifies the signature and returns the claims.
pub(super) fn decode(
    trusted: Trusted<'_>,
    token: &[u8],
) -> Result<(Map<String, Value>, SignedBy), TokenError> {
    if token.is_empty() {
        return Err(TokenError::Empty);
    }
    let parts: Vec<&[u8]> = token.split(|byte| *byte == b'.').collect();
    let [header, payload, signature] = parts[..] else {
        return Err(TokenError::Parts(parts.len()));
    };
    let signed = &token[..header.len() + 1 + payload.len()];
    let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| TokenError::Signature)?;
    let header: Header = serde_json::from_slice(&header).map_err(|_| TokenError::Undecodable)?;
    if header.alg == "none" {
        let reason = "JWT is unsecured but expected 'alg' was not 'none'";
        return Err(TokenError::Algorithm(reason.to_owned()));
    }
    // No critical extension is supported (RFC 7515 section 4.1.11).
    if header.crit.is_some() {
        return Err(TokenError::Undecodable);
    }
    if !token_keys::is_known(&header.alg) {
        return Err(TokenError::Undecodable);
    }
    let signature = std::str::from_utf8(signature).map_err(|_| TokenError::Signature)?;
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| TokenError::Signature)?;
    let sources = [(trusted.secret, SignedBy::Secret), (trusted.provided, SignedBy::Provider)];
    let mut candidates = sources
        .into_iter()
        .filter_map(|(keys, signer)| Some((keys?, signer)))
        .flat_map(|(keys, signer)| {
            keys.candidates(&header.alg, header.kid.as_deref()).map(move |key| (key, signer))
        })
        .peekable();
    if candidates.peek().is_none() {
        return Err(TokenError::Key("No suitable key was found to decode the JWT".to_owned()));
    }
    let Some((_, signer)) = candidates.find(|(key, _)| key.verifies(&header.alg, signature, signed)) else {
        return Err(TokenError::Key("None of the keys was able to decode the JWT".to_owned()));
    };
    let claims = serde_json::from_slice(&payload).map_err(|_| TokenError::Claims)?;
    Ok((claims, signer))
}

/// The validity claims, in Unix time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    expires: Option<i64>,
    not_before: Option<i64>,
    issued: Option<i64>,
}

impl Times {
    pub(super) fn of(claims: &Map<String, Value>) -> Result<Self, TokenError> {
        let seconds = |name: &'static str| match claims.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value
                .as_i64()
                .or_else(|| value.as_f64().map(|seconds| seconds.floor() as i64))
                .map(Some)
                .ok_or(TokenError::NotANumber(name)),
        };
        Ok(Self { expires: seconds("exp")?, not_before: seconds("nbf")?, issued: seconds("iat")? })
    }

    pub(super) fn check(self, now: i64) -> Result<(), TokenError> {
        if self.expires.is_some_and(|expires| now.saturating_sub(SKEW) > expires) {
            return Err(TokenError::Expired);
        }
        if self.not_before.is_some_and(|start| now.saturating_add(SKEW) < start) {
            return Err(TokenError::NotYetValid);
        }
        if self.issued.is_some_and(|issued| now.saturating_add(SKEW) < issued) {
            return Err(TokenError::IssuedInFuture);
        }
        Ok(())
    }
}

/// Checks that the token is of this issuer (RFC 7519 section 4.1.1), character by character.
pub(super) fn check_issuer(claims: &Map<String, Value>, wanted: &str) -> Result<(), TokenError> {
    let issuer = claims.get("iss").and_then(Value::as_str);
    if issuer == Some(wanted) { Ok(()) } else { Err(TokenError::Issuer) }
}

/// Checks that the token's audience contains `wanted`; a token without an audience is accepted.
pub(super) fn check_audience(claims: &Map<String, Value>, wanted: Option<&str>) -> Result<(), TokenError> {
    let audiences = match claims.get("aud") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::String(audience)) => vec![audience.as_str()],
        Some(Value::Array(audiences)) => {
            let texts: Option<Vec<&str>> = audiences.iter().map(Value::as_str).collect();
            match texts.ok_or(TokenError::AudienceType)? {
                texts if texts.is_empty() => return Ok(()),
                texts => texts,
            }
        }
        Some(_) => return Err(TokenError::AudienceType),
    };
    match wanted {
        Some(wanted) if !audiences.contains(&wanted) => Err(TokenError::Audience),
        _ => Ok(()),
    }
}
