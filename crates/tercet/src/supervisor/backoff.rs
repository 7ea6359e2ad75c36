//! The delay before a process that exited is restarted.

use std::time::Duration;

/// The first delay.
const FIRST: Duration = Duration::from_millis(100);
/// The longest delay.
const LONGEST: Duration = Duration::from_secs(10);
/// A process that ran this long is considered healthy, and the delay starts again from the first.
const HEALTHY: Duration = Duration::from_secs(10);

/// Doubles with each failure in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// The delay after an exit; `uptime` is how long the process ran.
    pub(super) fn after(&mut self, uptime: Duration) -> Duration {
        let delay = match self.last {
            Some(last) if uptime < HEALTHY => (last * 2).min(LONGEST),
            _ => FIRST,
        };
        self.last = Some(delay);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_until_a_process_was_healthy() {
        let mut backoff = Backoff::default();
        let mut delays = |uptimes: &[u64]| {
            uptimes
                .iter()
                .map(|uptime| backoff.after(Duration::from_secs(*uptime)).as_millis())
                .collect::<Vec<_>>()
        };
        assert_eq!(delays(&[0, 0, 9, 60, 0]), [100, 200, 400, 100, 200]);
        assert_eq!(delays(&[0; 9]).last(), Some(&10_000));
    }
}
