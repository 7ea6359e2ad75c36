//! `tercet balancer`.

use std::io::IsTerminal as _;
use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::Context as _;
use listenfd::ListenFd;
use tercet_balancer::supervisor::{Role, certificates, worker};
use tercet_balancer::{Supervisor, config};
use tercet_observe::event::ProcessEvent;
use tercet_observe::log::Destination;
use tercet_observe::{Format, Log};

use crate::cli;
use crate::failure::{Failure, Outcome};
use crate::low_ports;

pub(crate) fn run(arguments: &cli::Balancer) -> Outcome {
    let name = arguments.log.name("balancer");
    let log = Log::open(name, Destination::Stderr, arguments.log.format()).context("log")?;
    let outcome = match (arguments.worker, arguments.certificates) {
        (false, false) => supervise(arguments, &log)?,
        (true, _) => serve(&log, name),
        (false, true) => obtain_certificates(&log),
    };
    if let Err(error) = &outcome {
        log.handle().event(ProcessEvent::Failed { reason: &format!("{error:#}") });
    }
    outcome.map_err(Failure::Failed)
}

/// Runs the supervisor, which holds the listening sockets.
fn supervise(arguments: &cli::Balancer, log: &Log) -> Result<anyhow::Result<()>, Failure> {
    let config = config::load(&arguments.config).map_err(Failure::input)?;
    let mut given = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..given.len() {
        let socket = given.take_tcp_listener(index).context("a socket handed over by systemd")?;
        sockets.extend(socket);
    }
    let file = arguments.config.clone();
    let name = arguments.log.name("balancer").to_owned();
    let json = arguments.log.format() == Format::Json;
    let program = move |role: Role| {
        // The link leads to this executable even if its file was replaced.
        let mut command = std::process::Command::new("/proc/self/exe");
        command
            .arg("balancer")
            .arg("--config")
            .arg(&file)
            .arg(match role {
                Role::Worker => "--worker",
                Role::Certificates => "--certificates",
            })
            .args(["--name", &name])
            .args(json.then_some("--json"));
        command
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("event loop")?;
    Ok(runtime.block_on(async {
        Supervisor::new(&arguments.config, config, sockets, program, log.handle())?.run().await?;
        Ok(())
    }))
}

/// Runs the worker process, which serves requests.
fn serve(log: &Log, name: &str) -> anyhow::Result<()> {
    Ok(worker::run(supervisor_channel("--worker")?, log, name)?)
}

/// Runs the certificates process, which obtains certificates.
fn obtain_certificates(log: &Log) -> anyhow::Result<()> {
    Ok(certificates::run(supervisor_channel("--certificates")?, log)?)
}

/// Standard input, whose other end the supervisor has. Drops what only the supervisor needs: the capability to bind ports.
fn supervisor_channel(option: &str) -> anyhow::Result<OwnedFd> {
    let input = std::io::stdin();
    if input.is_terminal() {
        anyhow::bail!("{option} is internal to the balancer");
    }
    low_ports::drop_capability()?;
    Ok(input.as_fd().try_clone_to_owned()?)
}
