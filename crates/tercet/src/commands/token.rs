//! `tercet token`: issues a token for a project's data API, for tests and scripts.
//!
//! Signs with the project's secret (HS256, RFC 7519). A process that can read that secret can act as any user anyway.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Map, Value};
use tercet_config::Server;

use crate::cli;
use crate::failure::{Failure, Outcome};
use crate::project::Project;

pub(crate) fn run(arguments: &cli::Token) -> Outcome {
    let project = Project::open(&arguments.folder)?;
    let Server::Api(api) = &project.topology.application().server else {
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
    let token = jsonwebtoken::encode(&Header::default(), &claims(arguments, api)?, &key)?;
    writeln!(std::io::stdout(), "{token}")?;
    Ok(())
}

fn claims(arguments: &cli::Token, api: &tercet_config::Api) -> anyhow::Result<Map<String, Value>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs();
    let mut claims = Map::new();
    claims.insert("role".to_owned(), arguments.role.clone().into());
    claims.insert("iat".to_owned(), now.into());
    claims.insert("exp".to_owned(), now.saturating_add(arguments.seconds).into());
    if let Some(subject) = &arguments.subject {
        claims.insert("sub".to_owned(), subject.clone().into());
    }
    if let Some(audience) = api.options.get("jwt-aud").and_then(toml::Value::as_str) {
        claims.insert("aud".to_owned(), audience.into());
    }
    Ok(claims)
}
