//! A load made by wrk, and what it says about it.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::command::output;
use crate::workspace::Workspace;

/// What to ask for, and how hard.
pub(crate) struct Load<'a> {
    /// Where to.
    pub(crate) url: &'a str,
    /// Connections open at once.
    pub(crate) connections: u32,
    /// Whole seconds.
    pub(crate) seconds: u32,
    /// The cores wrk may run on, as taskset(1) lists them.
    pub(crate) cores: &'a str,
    /// More of wrk's own arguments: headers, a script.
    pub(crate) arguments: &'a [&'a str],
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Outcome {
    /// Answers that came.
    pub(crate) requests: u64,
    /// Answers a second.
    pub(crate) rate: f64,
    /// Half of the answers came within.
    pub(crate) p50: Duration,
    /// 99 of 100 answers came within.
    pub(crate) p99: Duration,
    /// Answers that were not 2xx or 3xx, and connections that failed.
    pub(crate) failures: u64,
}

impl Load<'_> {
    /// Makes the load and waits for its end.
    pub(crate) fn run(&self, workspace: &Workspace) -> Result<Outcome> {
        let mut wrk = workspace.command("taskset");
        wrk.args(["--cpu-list", self.cores, "wrk", "--latency", "--threads", "1", "--connections"]);
        wrk.arg(self.connections.to_string()).arg("--duration").arg(format!("{}s", self.seconds));
        let said = output(wrk.args(self.arguments).arg(self.url))?;
        parse(&said).with_context(|| format!("wrk said what we do not understand:\n{said}"))
    }
}

fn parse(said: &str) -> Option<Outcome> {
    let after = |key: &str| said.lines().find_map(|line| line.trim().strip_prefix(key)).map(str::trim);
    let requests = said.lines().find_map(|line| line.trim().split_once(" requests in "))?.0;
    // `connect 0, read 0, write 0, timeout 0`
    let errors = after("Socket errors:").unwrap_or_default();
    let errors = errors.split(", ").filter_map(|kind| kind.split_once(' ')?.1.parse::<u64>().ok());
    let refused = after("Non-2xx or 3xx responses:").unwrap_or("0");
    Some(Outcome {
        requests: requests.parse().ok()?,
        rate: after("Requests/sec:")?.parse().ok()?,
        p50: duration(after("50%")?)?,
        p99: duration(after("99%")?)?,
        failures: errors.sum::<u64>() + refused.parse::<u64>().ok()?,
    })
}

/// `950.00us`, `1.42ms`, `2.00s`, `1.05m`.
fn duration(text: &str) -> Option<Duration> {
    let unit = text.find(|it: char| it.is_ascii_alphabetic())?;
    let factor = match &text[unit..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return None,
    };
    Some(Duration::from_secs_f64(text[..unit].parse::<f64>().ok()? * factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_says_is_understood() {
        let said = "\
Running 1s test @ http://127.0.0.1:1/
  1 threads and 4 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.50ms  652.18us  10.17ms   87.18%
    Req/Sec     2.64k   220.36     2.90k    63.64%
  Latency Distribution
     50%  950.00us
     75%    1.70ms
     90%    2.04ms
     99%    4.05ms
  2890 requests in 1.10s, 1.43MB read
  Socket errors: connect 0, read 2, write 1, timeout 0
  Non-2xx or 3xx responses: 12
Requests/sec:   2626.37
Transfer/sec:      1.30MB
";
        assert_eq!(
            parse(said),
            Some(Outcome {
                requests: 2890,
                rate: 2626.37,
                p50: Duration::from_micros(950),
                p99: Duration::from_micros(4050),
                failures: 15,
            })
        );
        assert_eq!(parse("unable to connect"), None);
    }
}
