//! PGRST3xx: the bearer token is missing or invalid.
//!
//! Never contains any part of the token.

use http::StatusCode;

/// A failed authentication.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The request has a token, but `jwt-secret` is not set.
    #[error("Server lacks JWT secret")]
    NoSecret,
    /// The keys of the identity provider have not been fetched yet.
    #[error("The keys of the identity provider could not be fetched yet")]
    NoProvidedKeys,
    /// `Authorization: Bearer` without a token.
    #[error("Empty JWT is sent in Authorization header")]
    Empty,
    /// This number of parts instead of the three of a signed token.
    #[error("Expected 3 parts in JWT; got {0}")]
    Parts(usize),
    /// No key matches; the text is the reason.
    #[error("No suitable key or wrong key type")]
    Key(String),
    /// The algorithm is not allowed for the key; the text is the reason.
    #[error("Wrong or unsupported encoding algorithm")]
    Algorithm(String),
    /// The signature is invalid.
    #[error("JWT cryptographic operation failed")]
    Signature,
    /// Not a signed token.
    #[error("Unsupported token type")]
    Type,
    /// Not a token.
    #[error("JWT couldn't be decoded")]
    Undecodable,
    /// No token, and there is no anonymous role.
    #[error("Anonymous access is disabled")]
    Required,
    /// `exp` has passed.
    #[error("JWT expired")]
    Expired,
    /// `nbf` is in the future.
    #[error("JWT not yet valid")]
    NotYetValid,
    /// `iat` is in the future.
    #[error("JWT issued at future")]
    IssuedInFuture,
    /// `aud` does not contain the configured audience.
    #[error("JWT not in audience")]
    Audience,
    /// `iss` is not the configured issuer.
    #[error("JWT not of the issuer")]
    Issuer,
    /// The claims are not a JSON object.
    #[error("Parsing claims failed")]
    Claims,
    /// `exp`, `nbf` or `iat` is not a number.
    #[error("The JWT '{0}' claim must be a number")]
    NotANumber(&'static str),
    /// `aud` is neither text nor an array of texts.
    #[error("The JWT 'aud' claim must be a string or an array of strings")]
    AudienceType,
}

impl TokenError {
    /// PostgREST's error code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoSecret | Self::NoProvidedKeys => "PGRST300",
            Self::Empty
            | Self::Parts(_)
            | Self::Key(_)
            | Self::Algorithm(_)
            | Self::Signature
            | Self::Type
            | Self::Undecodable => "PGRST301",
            Self::Required => "PGRST302",
            _ => "PGRST303",
        }
    }

    /// The response status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoSecret => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NoProvidedKeys => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNAUTHORIZED,
        }
    }

    /// Whether newer keys of the identity provider may verify the token.
    pub fn may_be_outdated(&self) -> bool {
        matches!(self, Self::Key(_) | Self::NoProvidedKeys)
    }

    /// The `details` of the error.
    pub fn details(&self) -> Option<String> {
        match self {
            Self::Key(details) | Self::Algorithm(details) => Some(details.clone()),
            _ => None,
        }
    }

    /// The value of `WWW-Authenticate` ([RFC 6750 §3](https://www.rfc-editor.org/rfc/rfc6750#section-3)).
    pub fn challenge(&self) -> Option<String> {
        match self {
            Self::NoSecret | Self::NoProvidedKeys => None,
            Self::Required => Some("Bearer".into()),
            _ => Some(format!("Bearer error=\"invalid_token\", error_description=\"{self}\"")),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(error: &TokenError, expect: &Expect) {
        let challenge = error.challenge().unwrap_or_default();
        expect.assert_eq(&format!("{} {} {error} | {challenge}", error.status().as_u16(), error.code()));
    }

    #[test]
    fn challenges_with_the_reason() {
        check(&TokenError::NoSecret, &expect!["500 PGRST300 Server lacks JWT secret | "]);
        check(&TokenError::Required, &expect!["401 PGRST302 Anonymous access is disabled | Bearer"]);
        check(
            &TokenError::Parts(2),
            &expect![[
                r#"401 PGRST301 Expected 3 parts in JWT; got 2 | Bearer error="invalid_token", error_description="Expected 3 parts in JWT; got 2""#
            ]],
        );
        check(
            &TokenError::NotANumber("exp"),
            &expect![[
                r#"401 PGRST303 The JWT 'exp' claim must be a number | Bearer error="invalid_token", error_description="The JWT 'exp' claim must be a number""#
            ]],
        );
        check(
            &TokenError::Key("None of the keys fits".into()),
            &expect![[
                r#"401 PGRST301 No suitable key or wrong key type | Bearer error="invalid_token", error_description="No suitable key or wrong key type""#
            ]],
        );
    }
}
