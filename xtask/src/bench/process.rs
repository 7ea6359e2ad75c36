//! Programs that a bench runs, and what a process and its descendants have used so far, from /proc (proc(5)).

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::command::output;

/// The kernel's unit of processor times: USER_HZ is 100 on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// How long a program may take until it answers.
const PATIENCE: Duration = Duration::from_secs(20);

/// A program of a benchmark; on drop it is terminated (SIGTERM) and waited for.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn new(child: Child) -> Self {
        Self(child)
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits until a GET of this URL succeeds.
    pub(crate) fn wait_until_it_answers(&self, url: &str) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let mut curl = Command::new("curl");
            if output(curl.args(["--silent", "--fail", "--max-time", "1", url])).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("process {} does not answer at {url}", self.id())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = output(Command::new("kill").arg(self.0.id().to_string()));
        let _ = self.0.wait();
    }
}

/// Starts a program on these cores, its output in a file of this name.
pub(crate) fn start(program: &Command, folder: &Path, name: &str, cores: &str) -> Result<Running> {
    let said = fs::File::create(folder.join(format!("{name}.out")))?;
    let mut pinned = Command::new("sh");
    // As many descriptors as this machine allows: the balancers hold thousands of connections.
    pinned.args(["-c", r#"ulimit -n "$(ulimit -Hn)"; exec taskset --cpu-list "$0" "$@""#, cores]);
    pinned.arg(program.get_program()).args(program.get_args());
    pinned.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
    Ok(Running::new(pinned.spawn().with_context(|| format!("{name}: cannot be started"))?))
}

/// Processor time and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// In user space and in the kernel together.
    pub(crate) processor: Duration,
    /// Bytes of memory that are neither swapped out nor shared with another process, and a fair part of those shared
    /// (Pss).
    pub(crate) memory: u64,
}

impl Usage {
    /// The usage of `process` and everything it started, directly or not.
    pub(crate) fn of(process: u32) -> Result<Self> {
        let mut usage = Self { processor: processor(process)?, memory: memory(process)? };
        let mut waiting = children(process)?;
        while let Some(child) = waiting.pop() {
            // A child may exit meanwhile.
            if let (Ok(processor), Ok(memory)) = (processor(child), memory(child)) {
                usage.processor += processor;
                usage.memory += memory;
                waiting.extend(children(child).unwrap_or_default());
            }
        }
        Ok(usage)
    }
}

fn processor(process: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))
        .with_context(|| format!("process {process} is gone"))?;
    ticks(&stat).map(|ticks| TICK * ticks).with_context(|| format!("/proc/{process}/stat: unknown form"))
}

/// utime, stime and, of children that have ended, cutime and cstime; the name before them, in brackets, may hold
/// anything.
fn ticks(stat: &str) -> Option<u32> {
    let fields: Vec<u32> =
        stat.rsplit_once(')')?.1.split_whitespace().skip(11).map_while(|it| it.parse().ok()).collect();
    fields.get(..4).map(|times| times.iter().sum())
}

fn memory(process: u32) -> Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))
        .with_context(|| format!("the memory of process {process} cannot be read"))?;
    let kilobytes = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kilobytes = kilobytes.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    Ok(kilobytes.with_context(|| format!("/proc/{process}/smaps_rollup: no Pss"))? * 1024)
}

fn children(process: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let list = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        children.extend(list.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    Ok(children)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stand_after_the_name_whatever_it_is() {
        let stat = "17 (a) b (c) S 1 17 17 0 -1 4194560 100 0 0 0 250 50 7 7 20 0 1 0 99";
        assert_eq!(ticks(stat), Some(314));
        assert_eq!(ticks("17 (cut"), None);
    }

    #[test]
    fn a_process_is_counted_with_its_children() {
        let alone = Usage::of(std::process::id()).unwrap();
        assert!(alone.memory > 0);
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        assert!(children(std::process::id()).unwrap().contains(&child.id()));
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
