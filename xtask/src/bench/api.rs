//! The data API and FastAPI over the same data, each with a PostgreSQL of its own under `tercet up`, rounds
//! interleaved so that a busy moment of the machine meets both.
//!
//! The load goes to the application server itself, not through the balancer. The data API sets role and claims for
//! every request; FastAPI does neither.

mod system;

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result, bail};

use self::system::System;
use super::load::Load;
use super::{machine, report};
use crate::command::output;
use crate::packages;
use crate::workspace::Workspace;

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Rounds; the table holds their medians.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds of load for each server and scenario of a round.
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Only scenarios whose name holds this; the table is then printed and not written.
    #[arg(long)]
    only: Option<String>,
}

/// What is asked, as each of the two is asked for it; `KEY` becomes a random number up to `keys`.
struct Scenario {
    name: &'static str,
    keys: u32,
    data_api: Request,
    fastapi: Request,
}

struct Request {
    target: &'static str,
    /// A `POST` with this JSON, or else a `GET`.
    body: Option<&'static str>,
}

const fn get(target: &'static str) -> Request {
    Request { target, body: None }
}

const fn post(target: &'static str, body: &'static str) -> Request {
    Request { target, body: Some(body) }
}

const VISIT: &str = r#"{"item_id":KEY,"note":"seen"}"#;

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "one row by key",
        keys: 10_000,
        data_api: get("/item?id=eq.KEY"),
        fastapi: get("/item/KEY"),
    },
    Scenario {
        name: "100 rows, filtered and ordered",
        keys: 50,
        data_api: get("/item?category_id=eq.KEY&order=price.desc&limit=100"),
        fastapi: get("/category/KEY/items"),
    },
    Scenario {
        name: "two levels embedded",
        keys: 2_000,
        data_api: get("/customer?id=eq.KEY&select=id,name,purchase(id,placed_at,line(item_id,amount))"),
        fastapi: get("/customer/KEY"),
    },
    Scenario {
        name: "insert",
        keys: 10_000,
        data_api: post("/visit", VISIT),
        fastapi: post("/visit", VISIT),
    },
];

const CONNECTIONS: [u32; 3] = [16, 64, 256];

/// One measurement; processor time in microseconds a request.
#[derive(Clone, Copy)]
struct Sample {
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
    application: f64,
    database: f64,
}

/// The samples of one scenario at one number of connections.
struct Row<'a> {
    scenario: &'a Scenario,
    connections: u32,
    data_api: Vec<Sample>,
    fastapi: Vec<Sample>,
}

/// Measures and writes docs/benchmarks.md.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    for program in ["wrk", "taskset"] {
        if output(workspace.command("which").arg(program)).is_err() {
            bail!("{program}: not on this machine\nhint: sudo apt-get install wrk util-linux");
        }
    }
    let python = packages::python(workspace, "test-python", "examples/fastapi/requirements.txt")?;
    output(workspace.command("cargo").args(["build", "--release", "--quiet", "--package", "tercet"]))?;
    let tercet = workspace.target.join("release/tercet");

    let folder = tempfile::tempdir()?;
    let migration = include_str!("api/shop.sql");
    let common = "[balancer]\nlisten = [\"127.0.0.1:0\"]\n[application]\nservers = 1\n";
    let data_api = System::start(&tercet, &folder.path().join("data-api"), common, migration)?;
    let program = format!(
        "{common}run = \"{}/bin/uvicorn peer:app --host {{host}} --port {{port}} --workers 2 --no-access-log\"\n\
         health = \"/health\"\n",
        python.display()
    );
    let fastapi = folder.path().join("fastapi");
    fs::create_dir_all(&fastapi)?;
    fs::write(fastapi.join("peer.py"), include_str!("api/peer.py"))?;
    let fastapi = System::start(&tercet, &fastapi, &program, migration)?;

    let wanted = |scenario: &&Scenario| arguments.only.as_ref().is_none_or(|it| scenario.name.contains(it));
    let mut rows: Vec<Row<'_>> = SCENARIOS
        .iter()
        .filter(wanted)
        .flat_map(|scenario| CONNECTIONS.map(|connections| (scenario, connections)))
        .map(|(scenario, connections)| Row { scenario, connections, data_api: vec![], fastapi: vec![] })
        .collect();
    for round in 1..=arguments.rounds {
        for row in &mut rows {
            let Row { scenario, connections, .. } = *row;
            println!("round {round}: {}, {connections} connections", scenario.name);
            let sample = |system, request| {
                sample(workspace, system, request, scenario.keys, connections, arguments.seconds)
                    .with_context(|| scenario.name)
            };
            row.data_api.push(sample(&data_api, &scenario.data_api)?);
            row.fastapi.push(sample(&fastapi, &scenario.fastapi)?);
        }
    }

    let text = table(&rows, arguments)?;
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
    let load = Load {
        url: &format!("http://{}", system.address("app-1")?),
        connections,
        seconds,
        cores: &cores,
        arguments: &["--script", &path],
    };
    let before = (system.usage("app-1")?.processor, system.usage("database")?.processor);
    let outcome = load.run(workspace)?;
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

/// A script for wrk: the request with another random key each time.
fn lua(request: &Request, keys: u32) -> String {
    let quoted = |text: &str| format!("([[{text}]]):gsub('KEY', key)");
    let target = quoted(request.target);
    let call = match request.body {
        None => format!("wrk.format('GET', ({target}))"),
        Some(body) => format!(
            "wrk.format('POST', ({target}), {{['content-type'] = 'application/json'}}, ({}))",
            quoted(body)
        ),
    };
    format!("function request()\n  local key = tostring(math.random(1, {keys}))\n  return {call}\nend\n")
}

fn table(rows: &[Row<'_>], arguments: &Arguments) -> Result<String> {
    let mut text = format!(
        "## The data API beside FastAPI\n\n{}; the application, PostgreSQL and the load share all cores. {} round(s) of \
         {} s each, medians. FastAPI with asyncpg under uvicorn, 2 workers. The data API sets role and claims for every \
         request, FastAPI does not.\n\n\
         | request | connections | server | requests/s | p50 ms | p99 ms | CPU µs/request: application | PostgreSQL | × FastAPI |\n\
         |---|---|---|---|---|---|---|---|---|\n",
        machine::description()?,
        arguments.rounds,
        arguments.seconds,
    );
    for row in rows {
        let middle = |samples: &[Sample], of: fn(&Sample) -> f64| {
            report::median(&samples.iter().map(of).collect::<Vec<_>>())
        };
        let times = middle(&row.data_api, |it| it.rate) / middle(&row.fastapi, |it| it.rate);
        let servers =
            [("tercet", &row.data_api, format!("{times:.1}")), ("FastAPI", &row.fastapi, String::new())];
        for (name, samples, times) in servers {
            writeln!(
                text,
                "| {} | {} | {name} | {:.0} | {:.2} | {:.2} | {:.0} | {:.0} | {times} |",
                row.scenario.name,
                row.connections,
                middle(samples, |it| it.rate),
                middle(samples, |it| it.p50_ms),
                middle(samples, |it| it.p99_ms),
                middle(samples, |it| it.application),
                middle(samples, |it| it.database),
            )?;
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_has_a_key_of_its_own() {
        assert_eq!(
            lua(&get("/item/KEY"), 9),
            "function request()\n  local key = tostring(math.random(1, 9))\n  return wrk.format('GET', (([[/item/KEY]]):gsub('KEY', key)))\nend\n"
        );
        assert!(
            lua(&post("/visit", VISIT), 9)
                .contains("([[{\"item_id\":KEY,\"note\":\"seen\"}]]):gsub('KEY', key)")
        );
    }
}
