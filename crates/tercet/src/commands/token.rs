//! `tercet token`: issues a token for a project's data API, for tests and scripts.
//!
//! Signs with the project's secret (HS256, RFC 7519). A process that can read that secret can act as any user anyway.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::Map;
use tercet_config::Api;

use crate::cli;
use crate::failure::{Failure, Outcome};
use crate::project::Project;

/// How long a key is valid, in seconds: ten years.
const KEY: u64 = 10 * 365 * 24 * 3600;

pub(crate) fn run(arguments: &cli::Token) -> Outcome {
    let project = Project::open(&arguments.folder)?;
    let signer = Signer::of(&project)?;
    let token = signer.token(&arguments.role, arguments.seconds, arguments.subject.as_deref())?;
    writeln!(std::io::stdout(), "{token}")?;
    Ok(())
}

/// Prints the keys of Supabase's clients.
pub(crate) fn keys(arguments: &cli::Keys) -> Outcome {
    let project = Project::open(&arguments.folder)?;
    if !project.topology.database().supabase {
        return Err(Failure::input_message(
            "this database is not prepared for clients of Supabase\nhint: supabase = true in [database]",
        ));
    }
    let signer = Signer::of(&project)?;
    let (anon, service) = (signer.token("anon", KEY, None)?, signer.token("service_role", KEY, None)?);
    let mut out = std::io::stdout();
    if arguments.json {
        writeln!(out, "{}", serde_json::json!({ "anon": anon, "service_role": service }))?;
    } else {
        writeln!(out, "anon          {anon}\nservice_role  {service}")?;
    }
    Ok(())
}

/// Signs tokens with the project's secret.
struct Signer<'a> {
    api: &'a Api,
    key: EncodingKey,
}

impl<'a> Signer<'a> {
    fn of(project: &'a Project) -> Result<Self, Failure> {
        let Some(api) = project.topology.data_api() else {
            return Err(Failure::input_message(
                "tokens are for the data API, and this project runs your own program",
            ));
        };
        let option = project.jwt_secret(api)?;
        let secret = match option.strip_prefix('@') {
            Some(path) => std::fs::read_to_string(path).with_context(|| format!("{path} can't be read"))?,
            None => option,
        };
        // As the data API reads it: without a trailing newline.
        let secret = secret.strip_suffix('\n').unwrap_or(&secret);
        let base64 = tercet_fleet::token_keys::are_base64(api);
        let key = match secret {
            jwk if jwk.trim_start().starts_with('{') => {
                return Err(Failure::input_message(
                    "jwt-secret is a JWK or JWK set: the service that has its private key issues the tokens",
                ));
            }
            secret if base64 => EncodingKey::from_base64_secret(secret).context("jwt-secret is no base64")?,
            secret => EncodingKey::from_secret(secret.as_bytes()),
        };
        Ok(Self { api, key })
    }

    fn token(&self, role: &str, seconds: u64, subject: Option<&str>) -> anyhow::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs();
        let mut claims = Map::new();
        claims.insert("role".to_owned(), role.into());
        claims.insert("iat".to_owned(), now.into());
        claims.insert("exp".to_owned(), now.saturating_add(seconds).into());
        if let Some(subject) = subject {
            claims.insert("sub".to_owned(), subject.into());
        }
        if let Some(audience) = self.api.options.get("jwt-aud").and_then(toml::Value::as_str) {
            claims.insert("aud".to_owned(), audience.into());
        }
        Ok(jsonwebtoken::encode(&Header::default(), &claims, &self.key)?)
    }
}
