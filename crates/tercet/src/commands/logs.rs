//! `tercet logs` and `tercet trace`: what the parts of all machines said, as one stream.

use std::io::Write as _;

use anyhow::anyhow;
use tercet_config::Tier;
use tercet_fleet::logs::{Line, Selection, follow, read};

use crate::cli;
use crate::failure::{Failure, Outcome};
use crate::fleet::{Machines, table};

pub(crate) fn run(arguments: &cli::Logs) -> Outcome {
    let machines = Machines::of(&arguments.machines)?;
    let selection = Selection {
        tier: arguments.tier.as_deref().map(tier).transpose()?,
        level: arguments.level.clone(),
        request_id: arguments.request.clone(),
        since: arguments.since.clone(),
    };
    let remotes = machines.remotes(&[])?;
    let mut out = std::io::stdout().lock();
    let mut print = |line: &Line| -> anyhow::Result<()> {
        let text = if arguments.json {
            serde_json::to_string(line)?
        } else {
            format!("{} {:<5} {:<9} {}", time(line.time), line.level, line.part, line.message)
        };
        Ok(writeln!(out, "{text}")?)
    };
    if arguments.follow {
        return Ok(follow(&remotes, &selection, |line| print(&line))?);
    }
    Ok(read(&remotes, &selection)?.iter().try_for_each(print)?)
}

/// One request's way, in the order of time.
#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
pub(crate) fn trace(arguments: &cli::Trace) -> Outcome {
    if arguments.request.len() < 8 {
        return Err(Failure::input_message(
            "that is too short for a request id\nhint: the x-request-id header has it",
        ));
    }
    let machines = Machines::of(&arguments.machines)?;
    let selection = Selection {
        request_id: Some(arguments.request.clone()),
        since: Some(arguments.since.clone()),
        ..Selection::default()
    };
    let lines = read(&machines.remotes(&[])?, &selection)?;
    let Some(first) = lines.first() else {
        return Err(anyhow!(
            "no machine has a line about {}\nhint: --since looks further back than {}",
            arguments.request,
            arguments.since
        )
        .into());
    };
    let mut rows = vec![["after", "machine", "part", "took", "what"].map(str::to_owned).to_vec()];
    for line in &lines {
        let record: serde_json::Value = serde_json::from_str(&line.message).unwrap_or_default();
        let field = |name: &str| match record.get(name) {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        let milliseconds = |name: &str| {
            record
                .get(name)
                .and_then(serde_json::Value::as_f64)
                .map(|seconds| format!("{:.1} ms", seconds * 1000.0))
        };
        let what = if record.get("status").is_some() {
            let upstream =
                milliseconds("upstream_seconds").map_or(String::new(), |it| format!(", of it {it} there"));
            format!(
                "{} {} → {} by {}{upstream}",
                field("method"),
                field("target"),
                field("status"),
                field("upstream")
            )
        } else {
            line.message.clone()
        };
        rows.push(vec![
            format!("{:.1} ms", (line.time - first.time) as f64 / 1000.0),
            line.machine.clone(),
            line.part.clone(),
            milliseconds("seconds").unwrap_or_default(),
            what,
        ]);
    }
    print!("{}", table(&rows));
    Ok(())
}

fn tier(name: &str) -> Result<Tier, Failure> {
    [Tier::Balancer, Tier::Application, Tier::Database]
        .into_iter()
        .find(|tier| tier.to_string() == name)
        .ok_or_else(|| {
            Failure::input_message(format!("{name} is no tier\nhint: balancer, application or database"))
        })
}

/// Hours, minutes, seconds in UTC, as the machines' logs have them.
fn time(microseconds: u64) -> String {
    let seconds = microseconds / 1_000_000;
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{:03}", seconds % 60, microseconds / 1000 % 1000)
}
