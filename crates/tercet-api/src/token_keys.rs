//! `jwt-secret`: a secret, a JSON Web Key or a key set (RFC 7517), as keys that verify signatures.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use p521::ecdsa::signature::Verifier as _;
use serde::Deserialize;
use serde_json::Value;

/// Base64 with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The keys that tokens are verified with.
pub struct Keys(Vec<Key>);

struct Key {
    id: Option<String>,
    verifier: Verifier,
}

/// The verifier of a key.
pub(super) enum Verifier {
    /// A key of the JWT library, for any of these algorithms.
    Library { algorithms: Vec<Algorithm>, decoding: Box<DecodingKey> },
    /// ES512 (RFC 7518 section 3.4), which the JWT library does not support.
    Es512(Box<p521::ecdsa::VerifyingKey>),
}

impl Verifier {
    fn from_library(algorithms: Vec<Algorithm>, decoding: DecodingKey) -> Self {
        Self::Library { algorithms, decoding: Box::new(decoding) }
    }

    /// Whether the key can also sign.
    fn is_symmetric(&self) -> bool {
        ["HS256", "HS384", "HS512"].into_iter().any(|algorithm| self.supports(algorithm))
    }

    /// Whether the key verifies signatures of this algorithm.
    fn supports(&self, algorithm: &str) -> bool {
        match self {
            Self::Library { algorithms, .. } => {
                algorithm.parse().is_ok_and(|algorithm| algorithms.contains(&algorithm))
            }
            Self::Es512(_) => algorithm == ES512,
        }
    }

    /// Whether `signature`, in base64url, is the signature of `signed` by this algorithm and key.
    pub(super) fn verifies(&self, algorithm: &str, signature: &str, signed: &[u8]) -> bool {
        match self {
            Self::Library { decoding, .. } => algorithm.parse().is_ok_and(|algorithm| {
                jsonwebtoken::crypto::verify(signature, signed, decoding, algorithm)
                    .is_ok_and(|genuine| genuine)
            }),
            Self::Es512(key) => {
                let signature = URL_SAFE_NO_PAD.decode(signature).ok();
                let signature = signature.and_then(|bytes| p521::ecdsa::Signature::from_slice(&bytes).ok());
                signature.is_some_and(|signature| key.verify(signed, &signature).is_ok())
            }
        }
    }
}

/// The algorithm over P-521.
const ES512: &str = "ES512";

/// A `jwt-secret` that cannot verify signatures.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// Shorter than the hash (RFC 7518 section 3.2).
    #[error("the JWT secret must be at least 32 characters long")]
    TooShort,
    /// `jwt-secret-is-base64` is set and the secret is not base64.
    #[error("the JWT secret is not base64")]
    NotBase64,
    /// A malformed JSON Web Key.
    #[error("the JSON Web Key cannot be read: {0}")]
    Malformed(String),
    /// None of the keys can verify a signature.
    #[error(
        "none of the JSON Web Keys can verify a signature; RSA, P-256, P-384, P-521, Ed25519 and oct keys can"
    )]
    NoneUsable,
}

#[derive(Deserialize)]
struct P521 {
    kty: String,
    x: String,
    y: String,
    alg: Option<String>,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

impl Keys {
    /// Parses a key set or a key; other bytes are a secret for HS256.
    ///
    /// # Errors
    /// The secret is too short, or none of the keys can verify a signature.
    pub fn parse(secret: &[u8]) -> Result<Self, KeysError> {
        let Ok(json @ Value::Object(_)) = serde_json::from_slice::<Value>(secret) else {
            return Self::symmetric(secret);
        };
        let keys = match Set::deserialize(&json) {
            // Keys for other purposes are ignored (RFC 7517 section 5).
            Ok(set) => set.keys.into_iter().filter_map(|key| Key::read(key).ok().flatten()).collect(),
            Err(_) => Key::read(json)?.into_iter().collect::<Vec<_>>(),
        };
        if keys.is_empty() { Err(KeysError::NoneUsable) } else { Ok(Self(keys)) }
    }

    /// Like [`Keys::parse`], for a secret in base64 or base64url.
    ///
    /// # Errors
    /// The secret is not base64; otherwise as for [`Keys::parse`].
    pub fn from_base64(secret: &[u8]) -> Result<Self, KeysError> {
        let text = secret.trim_ascii();
        let standard: Vec<u8> = text
            .iter()
            .map(|byte| match byte {
                b'_' => b'/',
                b'-' => b'+',
                b'.' => b'=',
                other => *other,
            })
            .collect();
        Self::parse(&BASE64.decode(&standard).map_err(|_| KeysError::NotBase64)?)
    }

    /// Parses the JWK set of an identity provider. Its symmetric keys are ignored: a holder of one can sign tokens, too.
    ///
    /// # Errors
    /// The document is no key set, or none of its keys can verify a signature.
    pub fn of_provider(document: &[u8]) -> Result<Self, KeysError> {
        let malformed = |error: serde_json::Error| KeysError::Malformed(error.to_string());
        let set: Set = serde_json::from_slice(document).map_err(malformed)?;
        // Keys of kinds that are not known are ignored (RFC 7517 section 5).
        let keys = set.keys.into_iter().filter_map(|key| Key::read(key).ok().flatten());
        let keys: Vec<Key> = keys.filter(|key| !key.verifier.is_symmetric()).collect();
        if keys.is_empty() { Err(KeysError::NoneUsable) } else { Ok(Self(keys)) }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    fn symmetric(secret: &[u8]) -> Result<Self, KeysError> {
        if secret.len() < 32 {
            return Err(KeysError::TooShort);
        }
        let decoding = DecodingKey::from_secret(secret);
        Ok(Self(vec![Key { id: None, verifier: Verifier::from_library(vec![Algorithm::HS256], decoding) }]))
    }

    /// The keys that may verify a signature of this algorithm, and with this key id where both have one.
    pub(super) fn candidates<'a>(
        &'a self,
        algorithm: &'a str,
        id: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Verifier> {
        self.0
            .iter()
            .filter(move |key| key.verifier.supports(algorithm))
            .filter(move |key| match (id, &key.id) {
                (Some(wanted), Some(id)) => wanted == id,
                _ => true,
            })
            .map(|key| &key.verifier)
    }
}

/// Whether the algorithm is supported.
pub(super) fn is_known(algorithm: &str) -> bool {
    algorithm == ES512 || algorithm.parse::<Algorithm>().is_ok()
}

impl Key {
    /// Parses a key; `None` if it is not for signatures.
    fn read(json: Value) -> Result<Option<Self>, KeysError> {
        let malformed = |reason: String| KeysError::Malformed(reason);
        if json["crv"] == "P-521" {
            return Self::p521(json);
        }
        let jwk: Jwk = serde_json::from_value(json).map_err(|error| malformed(error.to_string()))?;
        if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
            return Ok(None);
        }
        let of_its_kind = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => vec![
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
            ],
            AlgorithmParameters::EllipticCurve(parameters) => match parameters.curve {
                EllipticCurve::P256 => vec![Algorithm::ES256],
                EllipticCurve::P384 => vec![Algorithm::ES384],
                _ => return Ok(None),
            },
            AlgorithmParameters::OctetKeyPair(_) => vec![Algorithm::EdDSA],
            AlgorithmParameters::OctetKey(_) => vec![Algorithm::HS256, Algorithm::HS384, Algorithm::HS512],
            _ => return Ok(None),
        };
        let algorithms = match jwk.common.key_algorithm {
            None => of_its_kind,
            Some(named) => {
                let named = named.to_string().parse::<Algorithm>().ok();
                of_its_kind.into_iter().filter(|algorithm| Some(*algorithm) == named).collect()
            }
        };
        if algorithms.is_empty() {
            return Ok(None);
        }
        let decoding = DecodingKey::from_jwk(&jwk).map_err(|error| malformed(error.to_string()))?;
        Ok(Some(Self { id: jwk.common.key_id, verifier: Verifier::from_library(algorithms, decoding) }))
    }

    /// Parses a key of the curve P-521 (RFC 7518 section 6.2.1).
    fn p521(json: Value) -> Result<Option<Self>, KeysError> {
        let key: P521 =
            serde_json::from_value(json).map_err(|error| KeysError::Malformed(error.to_string()))?;
        if key.kty != "EC"
            || key.usage.is_some_and(|usage| usage != "sig")
            || key.alg.is_some_and(|it| it != ES512)
        {
            return Ok(None);
        }
        let coordinate = |text: &str| URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() == 66);
        // An uncompressed point (SEC 1 section 2.3.3).
        let point = coordinate(&key.x).zip(coordinate(&key.y)).map(|(x, y)| [&[4], &x[..], &y[..]].concat());
        let verifying = point.and_then(|point| p521::ecdsa::VerifyingKey::from_sec1_bytes(&point).ok());
        let verifying = verifying.ok_or_else(|| KeysError::Malformed("not a point of P-521".to_owned()))?;
        Ok(Some(Self { id: key.kid, verifier: Verifier::Es512(Box::new(verifying)) }))
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}
