//! Tasks in units of their own, which go on when the operator's connection ends.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::backup::Task;
use crate::systemctl::systemctl;
use crate::{journal, report};

/// How long systemd may take to start a unit.
const START: Duration = Duration::from_secs(10);

/// The state of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskState {
    /// Whether it runs; one that stays runs until it is ready.
    pub runs: bool,
    /// Whether its last run failed.
    pub failed: bool,
    /// The last lines of its last run.
    pub lines: Vec<String>,
}

/// Starts a task; one that runs already goes on.
pub(super) fn start(task: &Task) -> Result<()> {
    let unit = task.unit()?;
    let before = invocation(&unit)?;
    systemctl(&["start", "--no-block", "--", &unit])?;
    let begin = Instant::now();
    let runs = || Ok::<_, anyhow::Error>(matches!(&*report::state(&unit)?.active, "active" | "activating"));
    while invocation(&unit)? == before && !runs()? {
        ensure!(begin.elapsed() < START, "{unit} does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The state of a task.
pub(super) fn state(task: &Task) -> Result<TaskState> {
    let unit = task.unit()?;
    let active = report::state(&unit)?.active;
    let invocation = invocation(&unit)?;
    // One that ends has not yet succeeded or failed.
    let runs = matches!(active.as_str(), "activating" | "deactivating");
    if !runs {
        // Its last lines may still be on their way to the journal; if this fails, they may be missing.
        let _ = journal::messages(&["--sync"]);
    }
    let said = journal::messages(&["--lines=200", &format!("_SYSTEMD_INVOCATION_ID={invocation}")])?;
    let lines = said.lines().map(str::to_owned).collect();
    Ok(TaskState { runs, failed: active == "failed", lines })
}

/// The id of a unit's last run (systemd.exec(5), `$INVOCATION_ID`).
fn invocation(unit: &str) -> Result<String> {
    systemctl(&["show", "--property=InvocationID", "--value", "--", unit])
}
