//! How long to wait before something that ended is started again.

use std::time::Duration;

/// The first wait: long enough not to spin, too short to be noticed.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(10);
/// Whoever ran this long is taken to have been well.
const WELL: Duration = Duration::from_secs(10);

/// Doubles with each failure in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// The wait after a life of this length.
    pub(super) fn after(&mut self, life: Duration) -> Duration {
        let wait = match self.last {
            Some(last) if life < WELL => (last * 2).min(LONGEST),
            _ => FIRST,
        };
        self.last = Some(wait);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_until_the_part_was_well_again() {
        let mut backoff = Backoff::default();
        let mut waits = |lives: &[u64]| {
            lives.iter().map(|life| backoff.after(Duration::from_secs(*life)).as_millis()).collect::<Vec<_>>()
        };
        assert_eq!(waits(&[0, 0, 9, 60, 0]), [100, 200, 400, 100, 200]);
        assert_eq!(waits(&[0; 9]).last(), Some(&10_000));
    }
}
