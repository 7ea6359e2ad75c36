//! A description of the machine that a table was measured on.

use std::fs;

use anyhow::{Context as _, Result};

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
