//! `tercet dashboard`: the dashboard of a project on machines, served here.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use tercet_config::{Api, Tier};
use tercet_fleet::logs::{Line, Selection, follow};
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::LocalSet;

use super::up::environment;
use crate::cli;
use crate::dashboard::{self, News, Redaction};
use crate::failure::{Failure, Outcome};
use crate::fleet::{Machines, Spinner};
use crate::project::Project;

/// The folder of the operator's secrets.
const SECRETS: &str = ".tercet/fleet";

#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
pub(crate) fn run(arguments: &cli::Dashboard) -> Outcome {
    let machines = Machines::of(&arguments.machines)?;
    let spinner = Spinner::new("looking at the machines");
    let (fleet, missing) = machines.open_reachable()?;
    spinner.finish();
    let project = machines.project();
    let missing: Vec<_> = missing.iter().map(|(name, error)| (name.clone(), format!("{error:#}"))).collect();
    let remotes = machines.remotes(&[])?;
    let files = std::fs::read_dir(project.folder.join(SECRETS)).into_iter().flatten().flatten();
    let redaction = redaction(project, files.map(|it| it.path()))?;
    let has_monitor = project.topology.carrying(Tier::Monitor).is_some();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stop = machines.stop();
    std::thread::scope(|scope| {
        LocalSet::new().block_on(&runtime, async {
            let dashboard = dashboard::Machines::bind(&project.topology, redaction).await;
            let dashboard = Rc::new(dashboard.context("the dashboard")?);
            println!("dashboard  {}", dashboard.url());
            println!("Ctrl-C ends it; nothing was changed on the machines");
            let (sender, news) = unbounded_channel();
            let (watched, lines) = (dashboard.watched(), sender.clone());
            scope.spawn(move || dashboard::read(&fleet, &missing, has_monitor, &watched, &sender, stop));
            scope.spawn(move || {
                let selection = Selection { events: true, ..Selection::default() };
                // The page is served no more once the receiver is dropped.
                let send = |line: &Line| Ok(lines.send(News::Line(line.clone()))?);
                let lost = |error: &anyhow::Error| drop(lines.send(News::Line(of_tercet(error))));
                follow(&remotes, &selection, stop, send, lost)
            });
            dashboard.run(news, stop).await;
            stop.store(true, Ordering::Relaxed);
            Ok(())
        })
    })
}

/// A line about the connection to a machine.
fn of_tercet(error: &anyhow::Error) -> Line {
    Line {
        time: jiff::Timestamp::now().as_microsecond().unsigned_abs(),
        machine: String::new(),
        part: "dashboard".to_owned(),
        level: "warn".to_owned(),
        message: serde_json::json!({ "level": "warn", "message": format!("{error:#}") }).to_string(),
    }
}

/// Knows the secrets of a project: those in these files, and those that tercet.toml has or names.
pub(crate) fn redaction(
    project: &Project,
    files: impl IntoIterator<Item = std::path::PathBuf>,
) -> Result<Redaction, Failure> {
    let mut redaction = Redaction::of(files);
    if let Some(Api { jwt_secret: Some(secret), .. }) = project.topology.data_api() {
        redaction.add(&project.reveal(secret)?);
    }
    if let Some(url) = &project.topology.database().url {
        let target = tercet_postgres::Target::parse(project.reveal(url)?.trim(), &super::environment());
        redaction.add(&target.ok().and_then(|target| target.password).unwrap_or_default());
    }
    for application in project.topology.applications() {
        for (_, value) in environment::of_file(project, application)? {
            redaction.add(&value);
        }
    }
    Ok(redaction)
}
