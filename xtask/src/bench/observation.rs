//! What being observed costs: the same system under `tercet up`, left alone, and with everything that observes it at once: its
//! metrics scraped, 1 % of the requests traced to a collector, the dashboard open.
//!
//! Two instances of one program differ by several per cent of processor time (where their memory and their threads happen to be), so
//! every sample is of an instance of its own, and the result is the median of the ratios of pairs.

mod collector;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use self::collector::Collector;
use super::load::Load;
use super::machine;
use super::report::{self, median, verdict};
use super::up::{self, System};
use super::workload::{self, lua};
use crate::command::output;
use crate::workspace::Workspace;

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Pairs of an observed instance and one that is left alone.
    #[arg(long, default_value_t = 15)]
    rounds: u32,
    /// Seconds of load for each instance.
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// Connections of the load.
    #[arg(long, default_value_t = 64)]
    connections: u32,
}

/// At most this much more processor time a request.
const GOAL: f64 = 1.02;
/// As Prometheus on a monitor machine.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(5);
/// As the dashboard's page.
const FEED_INTERVAL: Duration = Duration::from_millis(500);
const WARM_UP_SECONDS: u32 = 1;

/// The fields of `tercet status --json` that are read here.
#[derive(Deserialize)]
struct Status {
    up: Up,
}

#[derive(Deserialize)]
struct Up {
    dashboard: String,
    parts: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    admin: Option<String>,
}

/// Measures, prints and writes the part of docs/benchmarks.md.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    machine::require(&["wrk", "taskset", "setsid", "curl"], "wrk util-linux curl")?;
    let tercet = workspace.build_release()?;
    let folder = up::folder()?;
    let mut pairs = Vec::new();
    for round in 0..arguments.rounds {
        let sample = |observed| {
            let project = folder.path().join(format!("shop-{round}-{}", u8::from(observed)));
            sample(workspace, &tercet, &project, arguments, observed)
        };
        // The first of a pair is another each time.
        let (bare, observed) = if round % 2 == 0 {
            let bare = sample(false)?;
            (bare, sample(true)?)
        } else {
            let observed = sample(true)?;
            (sample(false)?, observed)
        };
        println!("pair {}: {:.1} and {:.1} µs", round + 1, bare.all(), observed.all());
        pairs.push((bare, observed));
    }
    let text = text(&machine::description()?, &pairs, arguments);
    report::write(workspace, "observation", &text)?;
    println!("{text}");
    Ok(())
}

/// Processor time in microseconds a request, by process.
#[derive(Clone, Copy)]
struct Sample {
    balancer: f64,
    data_api: f64,
    /// `tercet up` itself, which keeps the logs and serves the dashboard.
    supervisor: f64,
}

impl Sample {
    fn all(&self) -> f64 {
        self.balancer + self.data_api + self.supervisor
    }
}

/// An instance under load.
fn sample(
    workspace: &Workspace,
    tercet: &Path,
    project: &Path,
    arguments: &Arguments,
    observed: bool,
) -> Result<Sample> {
    let collector = Collector::start()?;
    let mut config = "[balancer]\nlisten = [\"127.0.0.1:0\"]\n[application]\nservers = 2\n".to_owned();
    if observed {
        write!(config, "[monitoring]\notlp = \"{}\"\notlp-sample = \"1%\"\n", collector.url())?;
    }
    let up = System::start(tercet, project, &config, workload::SCHEMA)?;
    let script = tempfile::NamedTempFile::with_suffix(".lua")?;
    std::fs::write(script.path(), lua(&workload::ONE_ROW.data_api, workload::ONE_ROW.keys))?;
    let path = script.path().to_string_lossy();
    let cores = format!("0-{}", std::thread::available_parallelism()?.get() - 1);
    let url = format!("http://{}", up.address("balancer")?);
    let load = |seconds| {
        let connections = arguments.connections;
        Load { url: &url, connections, seconds, cores: &cores, arguments: &["--script", &*path] }
            .run(workspace)
    };
    let status = output(workspace.command(tercet).arg("status").arg("--json").current_dir(project))?;
    let status: Status = serde_json::from_str(&status).context("tercet status printed an unknown form")?;
    load(WARM_UP_SECONDS)?;

    let ended = AtomicBool::new(false);
    let used = || -> Result<[Duration; 3]> {
        let parts = [up.processor("balancer")?, up.processor("app-")?];
        let others = parts.iter().sum::<Duration>() + up.usage("database")?.processor;
        Ok([parts[0], parts[1], up.whole()?.processor.saturating_sub(others)])
    };
    let (outcome, before, after) = std::thread::scope(|scope| -> Result<_> {
        let watching = observed.then(|| scope.spawn(|| observe(&status.up, &ended)));
        let before = used()?;
        let outcome = load(arguments.seconds);
        let after = used()?;
        ended.store(true, Ordering::Relaxed);
        if let Some(watching) = watching {
            watching.join().expect("the observing thread does not panic")?;
        }
        Ok((outcome?, before, after))
    })?;
    if outcome.failures > 0 || outcome.requests == 0 {
        bail!("{} of {} requests failed", outcome.failures, outcome.requests);
    }
    if observed && collector.exports() == 0 {
        bail!("no trace came: not everything was measured");
    }
    let each =
        |part: usize| after[part].saturating_sub(before[part]).as_secs_f64() * 1e6 / outcome.requests as f64;
    Ok(Sample { balancer: each(0), data_api: each(1), supervisor: each(2) })
}

/// Reads all metrics and the dashboard's feed, as a Prometheus and an open page do, until the load has ended.
fn observe(up: &Up, ended: &AtomicBool) -> Result<()> {
    let jar = tempfile::NamedTempFile::new()?;
    let jar = jar.path().to_string_lossy();
    let page = up.dashboard.split_once('?').context("the dashboard's address has a key")?.0;
    let curl = |arguments: &[&str]| {
        let common = ["--silent", "--show-error", "--fail", "--max-time", "5"];
        output(std::process::Command::new("curl").args(common).args(arguments))
    };
    curl(&["--cookie-jar", &jar, &up.dashboard])?;
    curl(&["--cookie", &jar, &format!("{page}history")])?;
    let mut scraped: Option<Instant> = None;
    while !ended.load(Ordering::Relaxed) {
        if scraped.is_none_or(|at| at.elapsed() >= SCRAPE_INTERVAL) {
            for admin in up.parts.iter().filter_map(|part| part.admin.as_ref()) {
                curl(&[&format!("http://{admin}/metrics")])?;
            }
            scraped = Some(Instant::now());
        }
        curl(&["--cookie", &jar, &format!("{page}state")])?;
        std::thread::sleep(FEED_INTERVAL);
    }
    Ok(())
}

fn text(machine: &str, pairs: &[(Sample, Sample)], arguments: &Arguments) -> String {
    let mut ratios: Vec<f64> = pairs.iter().map(|(bare, observed)| observed.all() / bare.all()).collect();
    ratios.sort_by(f64::total_cmp);
    let (low, high) = (ratios[ratios.len() / 4], ratios[ratios.len() * 3 / 4]);
    let ratio = median(&ratios);
    let mut text = format!(
        "## What being observed costs\n\n{machine}. `tercet up` with two data API servers, one row by key, {} connections, {} pairs of \
         instances, each loaded for {} s. The observed one has its metrics scraped every {} s, traces 1 % of the requests to a collector, \
         and its dashboard is open. Medians; processor time in µs a request, without PostgreSQL's.\n\n\
         | | balancer | data API | `tercet up` itself | all |\n|---|---|---|---|---|\n",
        arguments.connections,
        pairs.len(),
        arguments.seconds,
        SCRAPE_INTERVAL.as_secs(),
    );
    let columns: [fn(&Sample) -> f64; 4] =
        [|it| it.balancer, |it| it.data_api, |it| it.supervisor, Sample::all];
    let mut row = |name: &str, of: fn(&(Sample, Sample)) -> Sample| {
        let samples: Vec<Sample> = pairs.iter().map(of).collect();
        let medians = columns.map(|column| median(&samples.iter().map(column).collect::<Vec<_>>()));
        let cells = medians.map(|value| format!(" {value:.1} |")).concat();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {name} |{cells}");
    };
    row("left alone", |(bare, _)| *bare);
    row("observed", |(_, observed)| *observed);
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "\n| goal | measured | middle half of the pairs | |\n|---|---|---|---|\n\
         | CPU ≤ {GOAL} × | {ratio:.3} × | {low:.3} to {high:.3} | {} |\n",
        verdict(ratio <= GOAL),
    );
    text
}
