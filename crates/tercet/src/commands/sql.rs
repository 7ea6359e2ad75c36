//! `tercet sql`: psql on the private database of a project, as its owner or with the privileges of a request.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use serde_json::{Map, Value};
use tercet_database::roles;

use crate::cli;
use crate::commands::backup::here::block_on;
use crate::commands::backup::here::live::{Live, Serving};
use crate::failure::{Failure, Outcome};
use crate::project::Project;

/// The setting that has a request's claims, as the data API sets it.
const CLAIMS: &str = "request.jwt.claims";

pub(crate) fn run(arguments: &cli::Sql) -> Outcome {
    let project = Project::open(&arguments.folder)?;
    if project.topology.database().url.is_some() {
        return Err(Failure::input_message(
            "url in [database] names another PostgreSQL\nhint: run psql with that URL",
        ));
    }
    let settings = settings(arguments, project.topology.name())?;
    let live = Live::open(&project)?;
    block_on(async {
        let serving = live.serve().await?;
        let mut psql = psql(&serving, &live.name, &settings);
        psql.args(&arguments.psql);
        if live.is_up() {
            // There is nothing to stop afterwards.
            let error = psql.exec();
            return Err(missing(error).into());
        }
        // Ctrl-C is for psql.
        let _interrupts = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
        let status = tokio::process::Command::from(psql).status().await.map_err(missing);
        serving.stop().await;
        match status?.code() {
            Some(0) => Ok(()),
            code => Err(anyhow::anyhow!("psql ended with exit code {}", code.unwrap_or(-1)).into()),
        }
    })
}

fn missing(error: std::io::Error) -> anyhow::Error {
    anyhow::Error::from(error).context("psql cannot be run; hint: install postgresql-client")
}

/// The settings of the session: the role, and the claims if there are any.
fn settings(arguments: &cli::Sql, project: &str) -> Result<Vec<(&'static str, String)>, Failure> {
    let claims = arguments.claims.as_ref().map(|text| claims(text)).transpose()?;
    let named = claims.as_ref().and_then(|claims| claims.get("role")).and_then(Value::as_str);
    let role = match (&arguments.role, named) {
        (Some(role), _) => role.clone(),
        (None, Some(role)) => role.to_owned(),
        (None, None) if claims.is_some() => roles::AUTHENTICATED.to_owned(),
        (None, None) => return Ok(vec![("role", roles::owner(project))]),
    };
    // As the data API does for a request without a token, too.
    let mut claims = claims.unwrap_or_default();
    claims.insert("role".to_owned(), role.clone().into());
    Ok(vec![("role", role), (CLAIMS, Value::from(claims).to_string())])
}

fn claims(text: &str) -> Result<Map<String, Value>, Failure> {
    match serde_json::from_str(text) {
        Ok(Value::Object(claims)) => Ok(claims),
        _ => Err(Failure::input_message(format!(
            "--claims {text:?} is no JSON object\nhint: --claims '{{\"sub\": \"ann\"}}'"
        ))),
    }
}

/// psql as the superuser, whose session begins as another role.
fn psql(serving: &Serving, database: &str, settings: &[(&str, String)]) -> Command {
    let own = serving.installation.programs.join("psql");
    let mut command = Command::new(if own.exists() { own } else { "psql".into() });
    let options: Vec<String> =
        settings.iter().map(|(name, value)| format!("-c {name}={}", escaped(value))).collect();
    command
        .args(serving.client_arguments())
        .arg("--dbname")
        .arg(database)
        .env("PGOPTIONS", options.join(" "))
        .envs(serving.installation.environment());
    command
}

/// A value of `options`: a backslash before each space and backslash
/// (<https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-OPTIONS>).
fn escaped(value: &str) -> String {
    value.chars().fold(String::new(), |mut text, character| {
        if character == '\\' || character.is_whitespace() {
            text.push('\\');
        }
        text.push(character);
        text
    })
}
