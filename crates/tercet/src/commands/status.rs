//! `tercet status`: the state of every machine, unit and server; of a running `tercet up`, that of its parts.

mod here;

use std::time::Duration;

use serde_json::json;
use tercet_fleet::agent::BalancerState;
use tercet_fleet::all_in_one;
use tercet_fleet::backup::record::Record;
use tercet_fleet::report::Report;

use super::backup;
use crate::cli;
use crate::failure::Outcome;
use crate::fleet::{Machines, Spinner, table};
use crate::project::Project;

/// The interval of `--watch`.
const REFRESH: Duration = Duration::from_secs(2);

#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
pub(crate) fn run(arguments: &cli::Status) -> Outcome {
    if let Some(project) = Project::of_up(&arguments.machines, arguments.here)? {
        return here::run(&project, arguments);
    }
    let machines = Machines::of(&arguments.machines)?;
    let spinner = Spinner::new("looking at the machines");
    let (mut fleet, mut missing) = machines.open_reachable()?;
    spinner.finish();
    let mut before = None;
    loop {
        let (reports, errors) = fleet.reports_of_those_there();
        let balancer = fleet.balancer().ok().flatten();
        let errors: Vec<&(String, anyhow::Error)> = missing.iter().chain(&errors).collect();
        if arguments.json {
            let present =
                reports.iter().map(|(name, report)| json!({ "machine": name, "report": report.shown() }));
            let absent =
                errors.iter().map(|(name, error)| json!({ "machine": name, "error": format!("{error:#}") }));
            let named: Vec<_> = present.chain(absent).collect();
            println!("{:#}", json!({ "machines": named, "balancer": balancer }));
        } else {
            if arguments.watch {
                // Home and clear (ECMA-48).
                print!("\x1b[H\x1b[2J");
            }
            print!("{}", describe(&reports, &errors, balancer.as_ref(), before.as_ref()));
            print!("{}", backup::missing(&machines.project().topology).unwrap_or_default());
        }
        before = balancer;
        if !arguments.watch || machines.interrupted() {
            let unreachable = errors.iter().map(|(_, error)| error);
            return if errors.is_empty() { Ok(()) } else { Err(all_in_one(unreachable).into()) };
        }
        std::thread::sleep(REFRESH);
        // A machine that could not be reached may be back.
        if !missing.is_empty() {
            (fleet, missing) = machines.open_reachable()?;
        }
    }
}

fn describe(
    reports: &[(String, Report)],
    errors: &[&(String, anyhow::Error)],
    balancer: Option<&BalancerState>,
    before: Option<&BalancerState>,
) -> String {
    let mut rows =
        vec![["machine", "up", "load", "memory", "part", "state", "restarts"].map(str::to_owned).to_vec()];
    let mut machines = vec![["machine", "disk", "certificates until"].map(str::to_owned).to_vec()];
    for (name, report) in reports {
        machines.push(vec![name.clone(), disks(report), certificates(report)]);
        let (all, available) = report.memory;
        let machine = [
            name.clone(),
            since(report.uptime),
            format!("{:.2}", report.load),
            format!("{} of {} MiB", (all - available) >> 10, all >> 10),
        ];
        let instances = report.instances.iter().map(|(instance, state)| {
            (format!("{} release {} port {}", instance.part, instance.release, instance.port), state)
        });
        let units = report.units.iter().map(|(unit, state)| (unit.clone(), state));
        for (index, (part, state)) in units.chain(instances).enumerate() {
            let mut row = if index == 0 { machine.to_vec() } else { vec![String::new(); 4] };
            row.extend([part, state.active.clone(), state.restarts.to_string()]);
            rows.push(row);
        }
    }
    for (name, _) in errors {
        rows.push(vec![name.clone(), "cannot be read".to_owned()]);
    }
    let mut text = format!("{}\n{}", table(&rows), table(&machines));
    for (name, report) in reports {
        text.extend(report.warnings.iter().map(|warning| format!("{name}: {warning}\n")));
    }
    text.extend(reports.iter().filter_map(|(name, report)| Some(backups(name, report.backups.as_ref()?))));
    if let Some(balancer) = balancer {
        let mut rows = vec![
            ["server", "address", "state", "requests", "failed", "per second"].map(str::to_owned).to_vec(),
        ];
        for server in &balancer.servers {
            let earlier = before.and_then(|before| before.servers.iter().find(|it| it.name == server.name));
            let rate = earlier.map_or("-".to_owned(), |earlier| {
                let new = server.requests.saturating_sub(earlier.requests);
                format!("{:.0}", new as f64 / REFRESH.as_secs_f64())
            });
            rows.push(vec![
                server.name.clone(),
                server.address.clone(),
                server.state.clone(),
                server.requests.to_string(),
                server.failed.to_string(),
                rate,
            ]);
        }
        text = format!("{text}\n{}", table(&rows));
    }
    text
}

/// The free space of a machine's file systems.
fn disks(report: &Report) -> String {
    let shown = report.disks.iter().map(|(folder, (size, free))| {
        let percent = if *size == 0 { 0 } else { free * 100 / size };
        format!("{} {} GiB free ({percent} %)", folder.display(), free >> 20)
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// The day on which the first of a machine's certificates expires.
fn certificates(report: &Report) -> String {
    report.certificates_end.map_or("-".to_owned(), |end| end.strftime("%Y-%m-%d").to_string())
}

/// What a machine says of the backups it makes.
fn backups(machine: &str, record: &Record) -> String {
    let Some(latest) = record.latest() else { return format!("{machine}: there is no backup yet\n") };
    let checked = match record.checks.get(&latest.id) {
        None => "not checked".to_owned(),
        Some(checked) if checked.passed() => "passed its check".to_owned(),
        Some(checked) => {
            format!("FAILED its check: {}", checked.failures().collect::<Vec<_>>().join("; "))
        }
    };
    let mut text =
        format!("{machine}: the last backup, {}, ended at {}: {checked}\n", latest.id, latest.finished);
    if let Some(failure) = &record.failure {
        text += &format!("{machine}: the attempt at {} failed: {}\n", failure.at, failure.why);
    }
    text
}

fn since(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}
