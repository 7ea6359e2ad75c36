//! This machine: processors, memory, and the free space where the project is.

use std::path::Path;

use serde::Serialize;

/// The state of the machine; what the system does not tell is missing.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Machine {
    /// The share of all processors' time that was not idle since the last reading.
    cpu: Option<f64>,
    /// The number of processors.
    processors: usize,
    /// Bytes of memory: all, and available.
    memory: Option<[u64; 2]>,
    /// Bytes of the project's file system: all, and available.
    disk: Option<[u64; 2]>,
}

/// Reads the machine's state.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// The processors' time in ticks: idle, and all.
    before: Option<[u64; 2]>,
}

impl Reader {
    pub(super) fn read(&mut self, folder: &Path) -> Machine {
        let ticks = std::fs::read_to_string("/proc/stat").ok().and_then(|text| ticks(&text));
        let before = std::mem::replace(&mut self.before, ticks);
        let cpu = ticks.zip(before).and_then(|([idle, all], [idle_before, all_before])| {
            let spent = all.checked_sub(all_before).filter(|spent| *spent > 0)? as f64;
            Some(1.0 - idle.saturating_sub(idle_before) as f64 / spent)
        });
        let disk = rustix::fs::statvfs(folder).ok();
        Machine {
            cpu,
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory: std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory(&text)),
            disk: disk.map(|it| [it.f_blocks * it.f_frsize, it.f_bavail * it.f_frsize]),
        }
    }
}

/// The first line of /proc/stat (proc_stat(5)): user, nice, system, idle, iowait, irq, softirq, steal, …
fn ticks(text: &str) -> Option<[u64; 2]> {
    let fields = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = fields.split_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
    Some([ticks.get(3)? + ticks.get(4)?, ticks.iter().sum()])
}

/// Total and available memory in /proc/meminfo (proc_meminfo(5)).
fn memory(text: &str) -> Option<[u64; 2]> {
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
    };
    Some([bytes("MemTotal:")?, bytes("MemAvailable:")?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        assert_eq!(ticks("cpu  10 0 20 60 10 0 0 0 5 0\ncpu0 1\n"), Some([70, 100]));
        assert_eq!(ticks("intr 1"), None);
        assert_eq!(memory("MemTotal: 4 kB\nMemFree: 1 kB\nMemAvailable:  2 kB\n"), Some([4096, 2048]));
        let disk = Reader::default().read(Path::new("/")).disk.unwrap();
        assert!(disk[0] >= disk[1] && disk[0] > 0);
    }
}
