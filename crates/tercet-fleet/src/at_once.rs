//! One piece of work on many items at the same time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Error, Result, anyhow};

/// How many threads work at most.
const THREADS: usize = 512;

/// Does `work` for all items; all outcomes in the items' order, or all errors as one.
pub(crate) fn at_once<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let (done, errors): (Vec<_>, Vec<_>) = outcomes(items, work).into_iter().partition(Result::is_ok);
    if errors.is_empty() {
        return done.into_iter().collect();
    }
    Err(all_in_one(errors.iter().filter_map(|outcome| outcome.as_ref().err())))
}

/// Several errors as one: a line, or its lines, for each.
pub fn all_in_one<'a>(errors: impl IntoIterator<Item = &'a Error>) -> Error {
    let errors: Vec<_> = errors.into_iter().map(|error| format!("{error:#}")).collect();
    anyhow!("{}", errors.join("\n"))
}

/// Calls `work` for all items concurrently and returns the results in the items' order.
pub(crate) fn outcomes<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS.min(items.len()) {
            scope.spawn(|| {
                while let Some((place, item)) = {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    items.get(place).map(|item| (place, item))
                } {
                    let outcome = work(item);
                    outcomes.lock().expect("no thread panics while holding it").push((place, outcome));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().expect("no thread panicked while holding it");
    outcomes.sort_by_key(|(place, _)| *place);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}
