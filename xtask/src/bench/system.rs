//! The whole chain, from the balancer to PostgreSQL, in forms that share one PostgreSQL: nginx and tercet, each in
//! front of the same two data API servers and of the same two FastAPI servers. Rounds are interleaved.
//!
//! All of it shares all cores with the load, as on one small machine. Each part runs in a session of its own, so that
//! Linux' scheduling by session (sched(7), "autogroup") favours none of the peers; `tercet up` is as it starts itself.

mod fastapi;
mod front;

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use self::fastapi::FastApi;
use self::front::Front;
use super::load::Load;
use super::machine;
use super::report::{self, median, verdict};
use super::up::{self, System};
use super::workload::{self, Request, Workload, lua};
use crate::packages;
use crate::workspace::Workspace;

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Rounds; the table holds their medians.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds of load for each chain and workload of a round.
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Connections of the load.
    #[arg(long, default_value_t = 64)]
    connections: u32,
    /// Only workloads whose name holds this; the table is then printed and not written.
    #[arg(long)]
    only: Option<String>,
}

/// A balancer and its servers, in the order of the table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Chain {
    NginxToFast,
    TercetToApi,
    NginxToApi,
    NginxToSockets,
    TercetToFast,
}

impl Chain {
    const ALL: [Self; 5] =
        [Self::NginxToFast, Self::TercetToApi, Self::NginxToApi, Self::NginxToSockets, Self::TercetToFast];

    const fn name(self) -> &'static str {
        match self {
            Self::NginxToFast => "nginx → 2 FastAPI",
            Self::TercetToApi => "`tercet up`: tercet → 2 tercet api",
            Self::NginxToApi => "nginx → the same 2 tercet api",
            Self::NginxToSockets => "nginx → the same, by Unix sockets",
            Self::TercetToFast => "tercet → the same 2 FastAPI",
        }
    }

    const fn request(self, workload: &Workload) -> &Request {
        match self {
            Self::TercetToApi | Self::NginxToApi | Self::NginxToSockets => &workload.data_api,
            Self::NginxToFast | Self::TercetToFast => &workload.fastapi,
        }
    }
}

/// A workload, and at least how many times the FastAPI chain's requests a second are to be served.
const WORKLOADS: [(&Workload, f64); 4] = [
    (&workload::ONE_ROW, 8.0),
    (&workload::MANY_ROWS, 10.0),
    (&workload::EMBEDDED, 4.0),
    (&workload::INSERT, 3.0),
];

/// Connections to PostgreSQL are opened, statements prepared: what a server does once is not what a request costs.
const WARM_UP_SECONDS: u32 = 1;

/// One measurement; processor time in microseconds a request.
#[derive(Clone, Copy)]
struct Sample {
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
    balancer: f64,
    application: f64,
    database: f64,
}

/// Processor time by tier.
#[derive(Clone, Copy)]
struct Used {
    balancer: Duration,
    application: Duration,
    database: Duration,
}

struct Row {
    workload: &'static Workload,
    goal: f64,
    samples: [Vec<Sample>; Chain::ALL.len()],
}

impl Row {
    fn median(&self, chain: Chain, of: fn(&Sample) -> f64) -> f64 {
        median(&self.samples[chain as usize].iter().map(of).collect::<Vec<_>>())
    }
}

/// Everything that runs.
struct Running {
    up: System,
    fastapi: FastApi,
    nginx: Front,
    tercet: Front,
}

impl Running {
    fn url(&self, chain: Chain) -> Result<String> {
        Ok(match chain {
            Chain::NginxToFast => self.nginx.url(front::Port::FastApi),
            Chain::TercetToApi => format!("http://{}", self.up.address("balancer")?),
            Chain::NginxToApi => self.nginx.url(front::Port::Api),
            Chain::NginxToSockets => self.nginx.url(front::Port::ApiBySocket),
            Chain::TercetToFast => self.tercet.url(front::Port::FastApi),
        })
    }

    fn used(&self, chain: Chain) -> Result<Used> {
        Ok(Used {
            balancer: match chain {
                Chain::NginxToFast | Chain::NginxToApi | Chain::NginxToSockets => self.nginx.processor()?,
                Chain::TercetToApi => self.up.processor("balancer")?,
                Chain::TercetToFast => self.tercet.processor()?,
            },
            application: match chain {
                Chain::TercetToApi | Chain::NginxToApi | Chain::NginxToSockets => {
                    self.up.processor("app-")?
                }
                Chain::NginxToFast | Chain::TercetToFast => self.fastapi.processor()?,
            },
            database: self.up.processor("database")?,
        })
    }
}

/// Measures and writes docs/benchmarks.md.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    machine::require(&["nginx", "wrk", "taskset", "setsid", "curl"], "nginx-light wrk util-linux curl")?;
    let python = packages::python(workspace, "test-python", "examples/fastapi/requirements.txt")?;
    let tercet = workspace.build_release()?;

    let folder = up::folder()?;
    let config = "[balancer]\nlisten = [\"127.0.0.1:0\"]\n[application]\nservers = 2\n";
    let up = System::start(&tercet, &folder.path().join("shop"), config, workload::SCHEMA)?;
    let fastapi = FastApi::start(&python, &folder.path().join("fastapi"), &up.database_url()?)?;
    let socket = |name| folder.path().join("shop/.tercet/run").join(format!("{name}.sock"));
    let servers = front::Servers {
        api: [up.address("app-1")?, up.address("app-2")?],
        sockets: ["app-1", "app-2"].map(socket),
        fastapi: fastapi.addresses(),
    };
    let nginx = Front::nginx(&folder.path().join("nginx"), &servers)?;
    let tercet = Front::tercet(&tercet, &folder.path().join("tercet"), &servers)?;
    let running = Running { up, fastapi, nginx, tercet };

    let wanted = |(workload, _): &&(&Workload, f64)| {
        arguments.only.as_ref().is_none_or(|only| workload.name.contains(only))
    };
    let row = |(workload, goal): &(&'static Workload, f64)| Row {
        workload,
        goal: *goal,
        samples: Default::default(),
    };
    let mut rows: Vec<Row> = WORKLOADS.iter().filter(wanted).map(row).collect();
    for round in 1..=arguments.rounds {
        for row in &mut rows {
            println!("round {round}: {}", row.workload.name);
            for chain in Chain::ALL {
                let sample = sample(workspace, &running, chain, row.workload, arguments)
                    .with_context(|| format!("{}: {}", chain.name(), row.workload.name))?;
                row.samples[chain as usize].push(sample);
            }
        }
    }
    let text = text(&machine::description()?, &rows, arguments);
    if arguments.only.is_none() {
        report::write(workspace, "system", &text)?;
    }
    println!("{text}");
    Ok(())
}

fn sample(
    workspace: &Workspace,
    running: &Running,
    chain: Chain,
    workload: &Workload,
    arguments: &Arguments,
) -> Result<Sample> {
    let script = tempfile::NamedTempFile::with_suffix(".lua")?;
    let request = chain.request(workload);
    fs::write(script.path(), lua(request, workload.keys))?;
    let path = script.path().to_string_lossy();
    let cores = format!("0-{}", std::thread::available_parallelism()?.get() - 1);
    let url = running.url(chain)?;
    let load = |seconds| {
        let connections = arguments.connections;
        Load { url: &url, connections, seconds, cores: &cores, arguments: &["--script", &*path] }
            .run(workspace)
    };
    load(WARM_UP_SECONDS)?;
    let before = running.used(chain)?;
    let outcome = load(arguments.seconds)?;
    let after = running.used(chain)?;
    if outcome.failures > 0 || outcome.requests == 0 {
        bail!("{} of {} requests to {} failed", outcome.failures, outcome.requests, request.target);
    }
    let each = |of: fn(&Used) -> Duration| {
        of(&after).saturating_sub(of(&before)).as_secs_f64() * 1e6 / outcome.requests as f64
    };
    Ok(Sample {
        rate: outcome.rate,
        p50_ms: outcome.p50.as_secs_f64() * 1e3,
        p99_ms: outcome.p99.as_secs_f64() * 1e3,
        balancer: each(|used| used.balancer),
        application: each(|used| used.application),
        database: each(|used| used.database),
    })
}

fn text(machine: &str, rows: &[Row], arguments: &Arguments) -> String {
    let mut text = format!(
        "## The whole chain\n\n{machine}; everything shares all cores. {} round(s) of {} s each after a second that does \
         not count, interleaved, medians, {} connections. One PostgreSQL for all; FastAPI with asyncpg under uvicorn with \
         uvloop and httptools, one worker a server; nginx with 2 workers, buffered access log and keep-alive to the servers; \
         tercet with its defaults, access log on. Under `tercet up` the balancer reaches the data API by Unix sockets, nginx by TCP \
         as the addresses in the summary say, and once by the sockets, too.\n\n\
         | request | chain | requests/s | p50 ms | p99 ms | CPU µs/request: balancer | application | PostgreSQL | beside nginx → FastAPI |\n\
         |---|---|---|---|---|---|---|---|---|\n",
        arguments.rounds, arguments.seconds, arguments.connections,
    );
    for row in rows {
        for chain in Chain::ALL {
            let rate = row.median(chain, |it| it.rate);
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {rate:.0} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} × |",
                row.workload.name,
                chain.name(),
                row.median(chain, |it| it.p50_ms),
                row.median(chain, |it| it.p99_ms),
                row.median(chain, |it| it.balancer),
                row.median(chain, |it| it.application),
                row.median(chain, |it| it.database),
                rate / row.median(Chain::NginxToFast, |it| it.rate),
            );
        }
    }
    text.push_str("\n| request | goal | measured | |\n|---|---|---|---|\n");
    for row in rows {
        let rate = |chain| row.median(chain, |it| it.rate);
        let p99 = |chain| row.median(chain, |it| it.p99_ms);
        let mut goal = |goal: String, measured: f64, holds: bool| {
            // Writing to a String cannot fail.
            let _ =
                writeln!(text, "| {} | {goal} | {measured:.2} × | {} |", row.workload.name, verdict(holds));
        };
        let beside_nginx = rate(Chain::TercetToApi) / rate(Chain::NginxToApi);
        goal("requests/s ≥ 1.05 × nginx → the same api".into(), beside_nginx, beside_nginx >= 1.05);
        let wait = p99(Chain::TercetToApi) / p99(Chain::NginxToApi);
        goal("p99 ≤ 1.1 × nginx → the same api".into(), wait, wait <= 1.1);
        let times = rate(Chain::TercetToApi) / rate(Chain::NginxToFast);
        goal(format!("requests/s ≥ {} × nginx → FastAPI", row.goal), times, times >= row.goal);
        let before_fastapi = rate(Chain::TercetToFast) / rate(Chain::NginxToFast);
        goal("before FastAPI, requests/s ≥ nginx's".into(), before_fastapi, before_fastapi >= 1.0);
    }
    text
}
