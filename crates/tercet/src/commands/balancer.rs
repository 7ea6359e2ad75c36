//! `tercet balancer`.

use std::path::Path;

use anyhow::Context as _;
use tercet_balancer::config::{AccessLogFormat, AccessLogTo};
use tercet_balancer::{Balancer, Config, Listeners};
use tercet_observe::event::ProcessEvent;
use tercet_observe::log::Destination;
use tercet_observe::{Format, Log};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::cli;
use crate::failure::{Failure, Outcome};

pub(crate) fn run(arguments: &cli::Balancer) -> Outcome {
    let config = load(&arguments.config).map_err(Failure::input_message)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("event loop")?;
    runtime.block_on(serve(arguments, config)).map_err(Failure::Failed)
}

async fn serve(arguments: &cli::Balancer, config: Config) -> anyhow::Result<()> {
    let (file, name) = (arguments.config.as_path(), arguments.log.name("balancer"));
    let events = Log::open(name, Destination::Stderr, arguments.log.format())?;
    let to = match &config.access_log.to {
        AccessLogTo::Stdout => Destination::Stdout,
        AccessLogTo::Off => Destination::Discard,
        AccessLogTo::File(path) => Destination::File(path.clone()),
    };
    let format = match config.access_log.format {
        AccessLogFormat::Combined => Format::Text,
        AccessLogFormat::Json => Format::Json,
    };
    let access = Log::open(name, to, format).context("access log")?;
    let told = events.handle();

    let (mut stop, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (mut hang_up, mut reopen) = (signal(SignalKind::hangup())?, signal(SignalKind::user_defined1())?);
    let (reload_wanted, mut reloads) = mpsc::channel(1);
    let listeners = Listeners::bind(&config)?;
    let balancer = Balancer::start(config, &listeners, &events, &access, reload_wanted)?;
    told.event(ProcessEvent::Started { version: env!("CARGO_PKG_VERSION"), pid: std::process::id() });

    let source = file.display().to_string();
    let reload = || {
        let outcome = load(file).map(|config| balancer.reload(config));
        match &outcome {
            Ok(()) => told.event(ProcessEvent::ConfigurationLoaded { source: &source }),
            Err(reason) => told.event(ProcessEvent::ConfigurationRefused { source: &source, reason }),
        }
        outcome
    };
    let reason = loop {
        tokio::select! {
            _ = stop.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "SIGINT",
            _ = reopen.recv() => access.reopen(),
            _ = hang_up.recv() => drop(reload()),
            Some(reply) = reloads.recv() => drop(reply.send(reload())),
        }
    };
    told.event(ProcessEvent::Stopping { reason });
    balancer.stop()?;
    told.event(ProcessEvent::Stopped);
    Ok(())
}

fn load(file: &Path) -> Result<Config, String> {
    Config::load(file).map_err(|problems| problems.to_string())
}
