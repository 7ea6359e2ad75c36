//! Notices changes of a project's files: `tercet.toml`, migrations and seeds.
//!
//! Compares names, sizes and times every 400 ms, which works on every file system, also on shared folders where the kernel
//! reports no events. A change counts when the files have been the same for one interval, so a half-written file is not read.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

/// The interval of comparisons.
const TICK: Duration = Duration::from_millis(400);

/// The files of a kind: each with its inode, size and time of modification in seconds and nanoseconds.
type Files = BTreeMap<PathBuf, (u64, u64, i64, i64)>;

/// The watched files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Watched {
    configuration: Files,
    migrations: Files,
    seeds: Files,
}

/// The kinds of files that have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) configuration: bool,
    pub(super) migrations: bool,
    pub(super) seeds: bool,
}

impl Watched {
    /// The files as they are now. A folder that cannot be read has none.
    pub(super) fn now(configuration: &Path, migrations: &Path, seeds: &Path) -> Self {
        Self {
            configuration: signature(configuration.to_owned()).into_iter().collect(),
            migrations: files(migrations),
            seeds: files(seeds),
        }
    }

    /// Waits until `now` differs from this, and then does not change for an interval. Takes over the new state.
    pub(super) async fn changed(&mut self, now: impl Fn() -> Self) -> Change {
        let mut last = self.clone();
        loop {
            sleep(TICK).await;
            let new = now();
            if new == last && new != *self {
                let change = Change {
                    configuration: new.configuration != self.configuration,
                    migrations: new.migrations != self.migrations,
                    seeds: new.seeds != self.seeds,
                };
                *self = new;
                return change;
            }
            last = new;
        }
    }
}

fn files(folder: &Path) -> Files {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let sql = entries.filter(|path| path.extension().is_some_and(|extension| extension == "sql"));
    sql.filter_map(signature).collect()
}

fn signature(path: PathBuf) -> Option<(PathBuf, (u64, u64, i64, i64))> {
    let metadata = fs::metadata(&path).ok()?;
    Some((path, (metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_counts_when_the_files_have_settled() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let now = || Watched::now(&path("tercet.toml"), &path("migrations"), &path("seeds"));
        let mut watched = now();
        fs::create_dir(path("migrations")).unwrap();
        fs::write(path("migrations/README.md"), "no migration").unwrap();
        assert_eq!(watched, now());
        let looks = std::cell::Cell::new(0);
        let change = watched.changed(|| {
            looks.set(looks.get() + 1);
            // Written in three pieces, each seen by one look.
            if looks.get() <= 3 {
                fs::write(path("migrations/1_a.sql"), "x".repeat(looks.get())).unwrap();
            }
            now()
        });
        assert_eq!(change.await, Change { configuration: false, migrations: true, seeds: false });
        assert_eq!(looks.get(), 4);
    }
}
