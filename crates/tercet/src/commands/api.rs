//! `tercet api`: one data API server in the foreground, or a dump of its configuration or schema cache.

mod ready;

use std::io::Write as _;

use anyhow::Context as _;
use tercet_api::config::ConfigSource;
use tercet_api::server::{self, Instruction, Server, ServerError};
use tercet_observe::Log;
use tercet_observe::event::ProcessEvent;
use tercet_observe::log::Destination;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::cli;
use crate::failure::{Failure, Outcome};

pub(crate) fn run(arguments: &cli::Api) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, serve(arguments))
}

async fn serve(arguments: &cli::Api) -> Outcome {
    let source = ConfigSource { file: arguments.config.clone(), environment: super::environment() };
    let action = &arguments.action;
    if action.example {
        return print(&tercet_options::reference::api_example());
    }
    if action.dump_config {
        return print(&server::configuration(&source).await.map_err(failure)?.dump());
    }
    if action.dump_schema {
        return print(&format!("{:#}\n", server::schema_cache(&source).await.map_err(failure)?));
    }
    if action.ready {
        let config = source.read().map_err(|error| failure(error.into()))?;
        return print(&ready::ask(&config)?);
    }
    let server = Server::bind(source).await.map_err(failure)?;
    let log = Log::open(arguments.log.name("api"), Destination::Stderr, arguments.log.format())
        .context("could not start the log")?;
    log.handle().event(ProcessEvent::Started { version: env!("CARGO_PKG_VERSION"), pid: std::process::id() });
    let (instruct, instructions) = mpsc::unbounded_channel();
    for (kind, instruction) in [
        (SignalKind::terminate(), Instruction::Stop("SIGTERM")),
        (SignalKind::interrupt(), Instruction::Stop("SIGINT")),
        (SignalKind::user_defined1(), Instruction::ReloadSchema),
        (SignalKind::user_defined2(), Instruction::ReloadConfig),
        (SignalKind::hangup(), Instruction::ReloadConfig),
    ] {
        let mut signals = signal(kind)?;
        let instruct = instruct.clone();
        tokio::task::spawn_local(async move {
            while signals.recv().await.is_some() && instruct.send(instruction).is_ok() {}
        });
    }
    server.run(&log, instructions).await?;
    Ok(())
}

fn failure(error: ServerError) -> Failure {
    match error {
        ServerError::Config(mistakes) => Failure::input(mistakes),
        other => other.into(),
    }
}

fn print(text: &str) -> Outcome {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}
