//! The machine that is measured on: its programs, its cores, its description for a table.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::output;

/// Fails if one of the programs is missing; `packages` have them.
pub(crate) fn require(programs: &[&str], packages: &str) -> Result<()> {
    for program in programs {
        if output(Command::new("which").arg(program)).is_err() {
            bail!("{program}: not on this machine\nhint: sudo apt-get install {packages}");
        }
    }
    Ok(())
}

/// The cores of each process, as taskset(1) lists them.
pub(crate) struct Cores {
    all: String,
    /// All but the one of a balancer with one worker.
    pub(crate) others: String,
}

impl Cores {
    pub(crate) fn of_this_machine() -> Result<Self> {
        match std::thread::available_parallelism()?.get() {
            0 | 1 => bail!("one core for the balancer and one for the rest are needed"),
            2 => Ok(Self { all: "0-1".to_owned(), others: "1".to_owned() }),
            cores => Ok(Self { all: format!("0-{}", cores - 1), others: format!("1-{}", cores - 1) }),
        }
    }

    pub(crate) fn of_balancer(&self, workers: u16) -> &str {
        if workers == 1 { "0" } else { &self.all }
    }

    pub(crate) fn of_load(&self, workers: u16) -> &str {
        if workers == 1 { &self.others } else { &self.all }
    }
}

/// One line: processor, cores, memory, kernel, distribution.
pub(crate) fn description() -> Result<String> {
    let processor = line("/proc/cpuinfo", "model name", ':')?;
    let cores = std::thread::available_parallelism()?;
    let memory = line("/proc/meminfo", "MemTotal", ':')?;
    let memory: u64 = memory.trim_end_matches(" kB").parse().context("/proc/meminfo: unknown form")?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let system = line("/etc/os-release", "PRETTY_NAME", '=')?;
    Ok(format!(
        "{processor}, {cores} cores, {} GiB of memory, Linux {}, {}",
        memory.div_ceil(1 << 20),
        kernel.trim(),
        system.trim_matches('"')
    ))
}

/// What follows `key` and `separator` on the first line of `file` that begins with `key`.
fn line(file: &str, key: &str, separator: char) -> Result<String> {
    fs::read_to_string(file)
        .with_context(|| format!("{file}: cannot be read"))?
        .lines()
        .find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix(separator))
        .map(|value| value.trim().to_owned())
        .with_context(|| format!("{file}: no line {key}"))
}
