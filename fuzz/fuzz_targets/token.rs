//! Any token is an identity or a reason why not, also one that is signed.
#![no_main]

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use tercet_api::auth::Authenticator;
use tercet_api::config::{Config, ConfigSource};
use tercet_api::error::{ApiError, Verbosity};

const SECRET: &str = "a secret that is at least 32 bytes";

/// With and without an audience, and with a role that is deep inside.
static CONFIGS: LazyLock<[Arc<Config>; 2]> = LazyLock::new(|| {
    let config = |options: &[(&str, &str)]| {
        let options =
            options.iter().chain(&[("PGRST_JWT_SECRET", SECRET), ("PGRST_DB_URI", "postgresql://u@h/d")]);
        let environment: BTreeMap<_, _> =
            options.map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Arc::new(ConfigSource { file: None, environment }.read().expect("the options are right"))
    };
    [
        config(&[("PGRST_DB_ANON_ROLE", "anon")]),
        config(&[("PGRST_JWT_AUD", "me"), ("PGRST_JWT_ROLE_CLAIM_KEY", ".app.roles[0]")]),
    ]
});

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    /// The header as it comes.
    Header(&'a [u8]),
    /// Parts that are not signed.
    Parts(&'a [u8], &'a [u8], &'a [u8]),
    /// Claims that are, under a header of ours or one of theirs.
    Signed(Option<&'a [u8]>, Claims<'a>),
}

#[derive(Arbitrary, Debug)]
enum Claims<'a> {
    Bytes(&'a [u8]),
    Fields(Vec<(u8, Value<'a>)>),
}

#[derive(Arbitrary, Debug)]
enum Value<'a> {
    Integer(i64),
    Float(f64),
    Text(&'a str),
    Texts(Vec<&'a str>),
    Nested(&'a str),
    Null,
}

impl Claims<'_> {
    fn bytes(&self) -> Vec<u8> {
        const NAMES: [&str; 7] = ["exp", "nbf", "iat", "aud", "role", "app", "sub"];
        match self {
            Self::Bytes(bytes) => bytes.to_vec(),
            Self::Fields(fields) => {
                let fields: serde_json::Map<_, _> = fields
                    .iter()
                    .map(|(name, value)| {
                        let value = match value {
                            Value::Integer(number) => (*number).into(),
                            Value::Float(number) => serde_json::Value::from(*number),
                            Value::Text(text) => (*text).into(),
                            Value::Texts(texts) => texts.clone().into(),
                            Value::Nested(text) => serde_json::json!({"roles": [text]}),
                            Value::Null => serde_json::Value::Null,
                        };
                        (NAMES[usize::from(*name) % NAMES.len()].to_owned(), value)
                    })
                    .collect();
                serde_json::to_vec(&fields).expect("it is JSON")
            }
        }
    }
}

fuzz_target!(|input: Input<'_>| {
    let value = match input {
        Input::Header(bytes) => bytes.to_vec(),
        Input::Parts(header, claims, signature) => {
            let parts = [header, claims, signature].map(|part| URL_SAFE_NO_PAD.encode(part));
            format!("Bearer {}", parts.join(".")).into_bytes()
        }
        Input::Signed(header, claims) => {
            let header = header.unwrap_or(br#"{"alg":"HS256"}"#);
            let signed =
                format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.bytes()));
            let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
            let signature =
                jsonwebtoken::crypto::sign(signed.as_bytes(), &key, jsonwebtoken::Algorithm::HS256);
            format!("bearer {signed}.{}", signature.expect("HS256 signs anything")).into_bytes()
        }
    };
    let Ok(value) = HeaderValue::from_bytes(&value) else { return };
    let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
    for config in &*CONFIGS {
        let mut authenticator = Authenticator::default();
        let first = authenticator.identify(config, None, &headers);
        // what is remembered is what was found out
        assert_eq!(authenticator.identify(config, None, &headers).is_ok(), first.is_ok());
        match first {
            Ok(identity) => {
                serde_json::from_slice::<serde_json::Value>(&identity.claims).expect("claims are JSON");
            }
            Err(error) => {
                let error = ApiError::from(error);
                serde_json::from_slice::<serde_json::Value>(&error.json(Verbosity::Verbose))
                    .expect("errors are JSON");
            }
        }
    }
});
