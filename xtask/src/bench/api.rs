//! The data API and FastAPI over the same data, each with a PostgreSQL of its own under `tercet up`, rounds
//! interleaved so that a busy moment of the machine meets all.
//!
//! The load goes to the application server itself, not through the balancer. The data API sets role and claims for
//! every request; FastAPI does neither.

mod server;
mod table;

use std::fs;

use anyhow::{Context as _, Result, bail};

use self::server::Server;
use super::load::Load;
use super::up::{self, System};
use super::workload::{self, Request, Workload, lua};
use super::{machine, report};
use crate::packages;
use crate::workspace::Workspace;

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Rounds; the table holds their medians.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds of load for each server and scenario of a round.
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Only scenarios whose name holds this; the table is then printed and not written.
    #[arg(long)]
    only: Option<String>,
}

/// A workload, and the goal: at least this multiple of a peer's requests a second.
struct Scenario {
    workload: &'static Workload,
    goal: Option<f64>,
}

const SCENARIOS: &[Scenario] = &[
    Scenario { workload: &workload::ONE_ROW, goal: Some(10.0) },
    Scenario { workload: &workload::MANY_ROWS, goal: Some(7.0) },
    Scenario { workload: &workload::EMBEDDED, goal: None },
    Scenario { workload: &workload::INSERT, goal: None },
];

const CONNECTIONS: [u32; 3] = [16, 64, 256];

/// The number of connections at which the slowest server is measured; other numbers add no information.
const PLAIN_CONNECTIONS: u32 = 64;

/// Connections to PostgreSQL are opened, statements prepared: what a server does once is not what a request costs.
const WARM_UP_SECONDS: u32 = 1;

/// One measurement; processor time in microseconds a request.
#[derive(Clone, Copy)]
struct Sample {
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
    application: f64,
    database: f64,
}

/// The samples of one scenario at one number of connections, by [`Server`] and round.
struct Row<'a> {
    scenario: &'a Scenario,
    connections: u32,
    samples: [Vec<Sample>; Server::ALL.len()],
}

/// Measures and writes docs/benchmarks.md.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    machine::require(&["wrk", "taskset", "setsid"], "wrk util-linux")?;
    let python = packages::python(workspace, "test-python", "examples/fastapi/requirements.txt")?;
    let tercet = workspace.build_release()?;

    let folder = up::folder()?;
    let mut systems = Vec::new();
    for server in Server::ALL {
        let folder = folder.path().join(format!("bench-{}", systems.len()));
        systems.push(server.start(&tercet, &python, &folder).with_context(|| server.name())?);
    }

    let wanted =
        |scenario: &&Scenario| arguments.only.as_ref().is_none_or(|it| scenario.workload.name.contains(it));
    let mut rows: Vec<Row<'_>> = SCENARIOS
        .iter()
        .filter(wanted)
        .flat_map(|scenario| CONNECTIONS.map(|connections| (scenario, connections)))
        .map(|(scenario, connections)| Row { scenario, connections, samples: Default::default() })
        .collect();
    for round in 1..=arguments.rounds {
        for row in &mut rows {
            let Row { scenario: Scenario { workload, .. }, connections, .. } = *row;
            println!("round {round}: {}, {connections} connections", workload.name);
            for (server, system) in Server::ALL.iter().zip(&systems) {
                let request = match server {
                    Server::Tercet => &workload.data_api,
                    Server::Fast => &workload.fastapi,
                    Server::Plain if connections == PLAIN_CONNECTIONS => &workload.fastapi,
                    Server::Plain => continue,
                };
                let sample =
                    sample(workspace, system, request, workload.keys, connections, arguments.seconds)
                        .with_context(|| format!("{}: {}", server.name(), workload.name))?;
                row.samples[*server as usize].push(sample);
            }
        }
    }

    let text = table::text(&machine::description()?, &rows, arguments);
    if arguments.only.is_none() {
        report::write(workspace, "data API", &text)?;
    }
    println!("{text}");
    Ok(())
}

fn sample(
    workspace: &Workspace,
    system: &System,
    request: &Request,
    keys: u32,
    connections: u32,
    seconds: u32,
) -> Result<Sample> {
    let script = tempfile::NamedTempFile::with_suffix(".lua")?;
    fs::write(script.path(), lua(request, keys))?;
    let path = script.path().to_string_lossy();
    let cores = format!("0-{}", std::thread::available_parallelism()?.get() - 1);
    let url = format!("http://{}", system.address("app-1")?);
    let load = |seconds| {
        let arguments = &["--script", &*path];
        Load { url: &url, connections, seconds, cores: &cores, arguments }.run(workspace)
    };
    load(WARM_UP_SECONDS)?;
    let before = (system.usage("app-1")?.processor, system.usage("database")?.processor);
    let outcome = load(seconds)?;
    let after = (system.usage("app-1")?.processor, system.usage("database")?.processor);
    if outcome.failures > 0 || outcome.requests == 0 {
        bail!("{} of {} requests to {} failed", outcome.failures, outcome.requests, request.target);
    }
    let each = |used: std::time::Duration| used.as_secs_f64() * 1e6 / outcome.requests as f64;
    Ok(Sample {
        rate: outcome.rate,
        p50_ms: outcome.p50.as_secs_f64() * 1e3,
        p99_ms: outcome.p99.as_secs_f64() * 1e3,
        application: each(after.0.saturating_sub(before.0)),
        database: each(after.1.saturating_sub(before.1)),
    })
}
