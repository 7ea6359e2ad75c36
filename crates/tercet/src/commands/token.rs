//! `tercet token`: a token of a project's data API, for trying it out and for scripts.
//!
//! Signs with the project's own secret (HS256, RFC 7519). Whoever may read that secret may already be anyone.

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
            "this project runs your own program, and tokens are for the data API",
        ));
    };
    let option = project.jwt_secret(api)?;
    let secret = match option.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("{path} can't be read"))?,
        None => option,
    };
    // As the data API reads it: the newline an editor leaves is no part of it.
    let secret = secret.strip_suffix('\n').unwrap_or(&secret);
    let base64 = tercet_fleet::token_keys::are_base64(api);
    let key = match secret {
        jwk if jwk.trim_start().starts_with('{') => {
            return Err(Failure::input_message(
                "jwt-secret is a JWK or JWK set: tokens come from whoever holds its private key",
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
