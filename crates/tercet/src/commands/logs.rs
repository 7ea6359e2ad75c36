//! `tercet logs` and `tercet trace`: the logs of a running `tercet up`, or of all machines, as one stream.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use serde_json::{Value, json};
use tercet_config::Tier;
use tercet_fleet::all_in_one;
use tercet_fleet::logs::{Line, Selection, follow, read};

use crate::cli;
use crate::failure::{Failure, Outcome};
use crate::fleet::{Machines, interruptible, table};
use crate::output::{plain, push_text};
use crate::project::{LOG, Project, STATE};
use crate::running::log_files;
use crate::timeline::Timeline;

pub(crate) fn run(arguments: &cli::Logs) -> Outcome {
    let selection = Selection {
        tier: arguments.tier.as_deref().map(tier).transpose()?,
        level: arguments.level.clone(),
        request_id: arguments.request.clone(),
        events: false,
        since: arguments.since.clone(),
    };
    let mut out = io::stdout().lock();
    let mut print = |line: &Line| -> anyhow::Result<()> {
        let mut text = Vec::new();
        if arguments.json {
            serde_json::to_writer(&mut text, line)?;
        } else {
            write!(text, "{} {:<5} {:<9} ", time(line.time), line.level, line.part)?;
            push_text(&mut text, words(&line.message).as_bytes(), false);
        }
        text.push(b'\n');
        Ok(out.write_all(&text)?)
    };
    if let Some(project) = Project::of_up(&arguments.machines, arguments.here)? {
        let folder = project.folder.join(STATE).join(LOG);
        if arguments.follow {
            let stop = Arc::<AtomicBool>::default();
            interruptible(&stop)?;
            return Ok(log_files::follow(&folder, &selection, &stop, print)?);
        }
        return Ok(log_files::read(&folder, &selection)?.iter().try_for_each(print)?);
    }
    let machines = Machines::of(&arguments.machines)?;
    let remotes = machines.remotes(&[])?;
    if arguments.follow {
        return Ok(follow(&remotes, &selection, machines.stop(), print, lost)?);
    }
    let (lines, errors) = read(&remotes, &selection);
    lines.iter().try_for_each(&mut print)?;
    all_reached(&errors)
}

/// The columns of the terminal that is printed to.
fn columns() -> u64 {
    rustix::termios::tcgetwinsize(io::stdout()).map_or(80, |size| u64::from(size.ws_col))
}

/// Prints on standard error that the connection to a machine was lost.
#[expect(clippy::print_stderr, reason = "the command is the one place that prints")]
fn lost(error: &anyhow::Error) {
    eprintln!("{error:#}");
}

fn all_reached(errors: &[anyhow::Error]) -> Outcome {
    if errors.is_empty() {
        return Ok(());
    }
    Err(all_in_one(errors).into())
}

/// A line for display: a summary of a request, or the message of an event, or else the line itself.
fn words(message: &str) -> String {
    let record: Value = serde_json::from_str(message).unwrap_or_default();
    let request = request(&record).map(|request| {
        let took = milliseconds(&record, "seconds").map_or(String::new(), |took| format!(" in {took}"));
        format!("{request}{took}  {}", field(&record, "request_id"))
    });
    let event = || record.get("message")?.as_str().map(str::to_owned);
    request.or_else(event).unwrap_or_else(|| message.to_owned())
}

/// The summary of a request's record; `None` for other records.
fn request(record: &Value) -> Option<String> {
    record.get("status")?;
    let upstream = field(record, "upstream");
    let by = if upstream.is_empty() { upstream } else { format!(" by {upstream}") };
    let [method, target, status] = ["method", "target", "status"].map(|name| field(record, name));
    Some(format!("{method} {target} → {status}{by}"))
}

fn field(record: &Value, name: &str) -> String {
    match record.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

fn milliseconds(record: &Value, name: &str) -> Option<String> {
    record.get(name).and_then(Value::as_f64).map(|seconds| format!("{:.1} ms", seconds * 1000.0))
}

/// The lines in the log files of `tercet up`. Those of a request that has just been answered are written a moment later.
fn written(folder: &Path, selection: &Selection) -> anyhow::Result<Vec<Line>> {
    let started = Instant::now();
    loop {
        let lines = log_files::read(folder, selection)?;
        if !lines.is_empty() || started.elapsed() >= WRITING {
            return Ok(lines);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// How long the parts may take to write a line.
const WRITING: Duration = Duration::from_secs(1);

/// Prints the timeline of one request, and its log lines in the order of time.
#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
pub(crate) fn trace(arguments: &cli::Trace) -> Outcome {
    if arguments.request.len() < 8 {
        return Err(Failure::input_message(
            "too short for a request id\nhint: the response's x-request-id header has it",
        ));
    }
    let selection = Selection {
        request_id: Some(arguments.request.clone()),
        since: arguments.since.clone(),
        ..Selection::default()
    };
    let (lines, errors) = match Project::of_up(&arguments.machines, arguments.here)? {
        Some(Project { folder, .. }) => (written(&folder.join(STATE).join(LOG), &selection)?, Vec::new()),
        None => read(&Machines::of(&arguments.machines)?.remotes(&[])?, &selection),
    };
    let Some(first) = lines.first() else {
        all_reached(&errors)?;
        return Err(anyhow!(
            "there is no log line of request {}\nhint: --since starts earlier; tercet up keeps 20 MiB of each part's log, \
             machines keep logs as long as keep-logs in [system] says",
            arguments.request,
        )
        .into());
    };
    let records: Vec<Value> =
        lines.iter().map(|line| serde_json::from_str(&line.message).unwrap_or_default()).collect();
    let timeline = Timeline::of(&records);
    if arguments.json {
        println!("{:#}", json!({ "timeline": timeline, "lines": lines }));
        return all_reached(&errors);
    }
    if let Some(timeline) = &timeline {
        let text: String = timeline.draw(columns()).lines().map(|line| plain(line) + "\n").collect();
        println!("{text}");
    }
    let mut rows = vec![["after", "machine", "part", "what"].map(str::to_owned).to_vec()];
    for line in &lines {
        rows.push(vec![
            format!("{:.1} ms", (line.time - first.time) as f64 / 1000.0),
            line.machine.clone(),
            line.part.clone(),
            plain(&words(&line.message)),
        ]);
    }
    print!("{}", table(&rows));
    all_reached(&errors)
}

fn tier(name: &str) -> Result<Tier, Failure> {
    Tier::ALL.into_iter().find(|tier| tier.to_string() == name).ok_or_else(|| {
        Failure::input_message(format!(
            "there is no tier {name}\nhint: balancer, application, database, backup or monitor"
        ))
    })
}

/// Hours, minutes, seconds in UTC.
fn time(microseconds: u64) -> String {
    let seconds = microseconds / 1_000_000;
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{:03}", seconds % 60, microseconds / 1000 % 1000)
}
