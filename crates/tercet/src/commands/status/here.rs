//! The state of a running `tercet up`.

use jiff::Timestamp;
use serde_json::json;
use tercet_config::Tier;
use tercet_observe::metrics::quantile;

use super::{REFRESH, since};
use crate::cli;
use crate::commands::backup::here::block_on;
use crate::failure::Outcome;
use crate::fleet::table;
use crate::project::Project;
use crate::running::servers::{Server, servers};
use crate::running::{self, RunState, tier};

#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
pub(super) fn run(project: &Project, arguments: &cli::Status) -> Outcome {
    let mut before = Vec::new();
    loop {
        let mut state = running::find(project)?;
        state.parts.sort_by_key(|part| tier(&part.name).unwrap_or(Tier::Application));
        let servers = match state.metrics {
            // A balancer that is restarted answers the next time.
            Some(metrics) => {
                let mut found = Vec::new();
                block_on(async {
                    found = servers(metrics).await.unwrap_or_default();
                    Ok(())
                })?;
                found
            }
            None => Vec::new(),
        };
        if arguments.json {
            println!("{:#}", json!({ "up": state, "servers": servers }));
        } else {
            if arguments.watch {
                // Home and clear (ECMA-48).
                print!("\x1b[H\x1b[2J");
            }
            print!("{}", describe(&state, &servers, &before));
        }
        if !arguments.watch {
            return Ok(());
        }
        before = servers;
        std::thread::sleep(REFRESH);
    }
}

fn describe(state: &RunState, servers: &[Server], before: &[Server]) -> String {
    let ago = |time: Timestamp| since(u64::try_from((Timestamp::now() - time).as_secs()).unwrap_or_default());
    let on = state.url.as_ref().map_or(" starting".to_owned(), |url| format!(" up on {url}"));
    let header = format!("{} is{on}, for {}, process {}\n", state.name, ago(state.since), state.pid);
    let mut rows = vec![
        ["part", "address", "state", "for", "process", "restarts", "last exit"].map(str::to_owned).to_vec(),
    ];
    for part in &state.parts {
        rows.push(vec![
            part.name.clone(),
            part.address.clone().unwrap_or_default(),
            part.state.as_str().to_owned(),
            ago(part.since),
            part.pid.map_or("-".to_owned(), |pid| pid.to_string()),
            part.restarts.to_string(),
            part.reason.clone().unwrap_or_default(),
        ]);
    }
    let dashboard = state.dashboard.as_ref().map(|url| format!("dashboard {url}\n")).unwrap_or_default();
    let text = format!("{header}{dashboard}\n{}", table(&rows));
    if servers.is_empty() {
        return text;
    }
    let mut rows = vec![
        ["server", "state", "requests", "failed", "in flight", "p50", "p99", "per second"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for server in servers {
        let earlier = before.iter().find(|it| it.name == server.name);
        let rate = earlier.map_or("-".to_owned(), |earlier| {
            format!("{:.0}", server.requests.saturating_sub(earlier.requests) as f64 / REFRESH.as_secs_f64())
        });
        let percentile =
            |q| quantile(&server.first_byte, q).map_or("-".to_owned(), |it| format!("{:.1} ms", it * 1000.0));
        rows.push(vec![
            server.name.clone(),
            server.state.clone(),
            server.requests.to_string(),
            server.failures.to_string(),
            server.in_flight.to_string(),
            percentile(0.5),
            percentile(0.99),
            rate,
        ]);
    }
    format!("{text}\n{}", table(&rows))
}
