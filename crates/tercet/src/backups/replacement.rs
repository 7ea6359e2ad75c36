//! Replaces the data directory of a cluster by another one: two renames, with a journal that the next command completes.
//!
//! The replaced data directory stays as `data.before-TIME`.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The journal, in the folder of the cluster.
const JOURNAL: &str = "replacement.json";
/// The name of the data directory.
const DATA: &str = "data";
/// The beginning of the name of a replaced data directory.
const BEFORE: &str = "data.before-";

/// The two renames: `data` to `before`, `new` to `data`. Paths are relative to the cluster's folder.
#[derive(Debug, Serialize, Deserialize)]
struct Replacement {
    before: String,
    new: PathBuf,
}

/// Replaces the data directory of the cluster in `folder` by `new`, a path in it. Returns the path of the replaced one, if
/// there was one.
pub(crate) fn replace(folder: &Path, new: &Path) -> anyhow::Result<Option<PathBuf>> {
    let new =
        new.strip_prefix(folder).context("the new data directory is in the cluster's folder")?.to_owned();
    let replacement =
        Replacement { before: format!("{BEFORE}{}", Timestamp::now().strftime("%Y%m%d-%H%M%S.%3f")), new };
    let journal = folder.join(JOURNAL);
    let named = || journal.display().to_string();
    let partial = folder.join("replacement.new");
    let mut file = File::create(&partial).with_context(named)?;
    file.write_all(serde_json::to_string(&replacement)?.as_bytes()).with_context(named)?;
    file.sync_all().with_context(named)?;
    fs::rename(&partial, &journal).with_context(named)?;
    sync(folder)?;
    finish(folder)?;
    Ok(Some(folder.join(replacement.before)).filter(|before| before.exists()))
}

/// Completes a replacement that was interrupted, and says so.
///
/// # Errors
/// A file cannot be renamed, or neither data directory exists any more.
pub(crate) fn finish(folder: &Path) -> anyhow::Result<Option<String>> {
    let journal = folder.join(JOURNAL);
    let named = || journal.display().to_string();
    let text = match fs::read_to_string(&journal) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(named),
    };
    let Replacement { before, new } = serde_json::from_str(&text).with_context(named)?;
    let (data, before, new) = (folder.join(DATA), folder.join(before), folder.join(new));
    let rename = |from: &Path, to: &Path| fs::rename(from, to).with_context(|| from.display().to_string());
    if new.exists() {
        if data.exists() {
            rename(&data, &before)?;
        }
        rename(&new, &data)?;
    } else if !data.exists() {
        if !before.exists() {
            bail!("{}: neither the data directory nor the one before it exists", folder.display());
        }
        rename(&before, &data)?;
    }
    sync(folder)?;
    fs::remove_file(&journal).with_context(named)?;
    Ok(Some(format!(
        "a restore that was interrupted is complete; the database before it: {}",
        before.display()
    )))
}

/// The data directories that were replaced, the oldest first.
pub(crate) fn all(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut replaced = super::listing(folder)?;
    replaced.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(BEFORE)));
    replaced.sort();
    Ok(replaced)
}

fn sync(folder: &Path) -> anyhow::Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).with_context(|| folder.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cluster's folder with these data directories, each with its own name as content.
    fn cluster(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            fs::create_dir_all(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("content"), name).unwrap();
        }
        folder
    }

    fn data(folder: &Path) -> String {
        fs::read_to_string(folder.join("data/content")).unwrap()
    }

    #[test]
    fn a_replacement_that_was_interrupted_after_any_step_is_completed() {
        for there in
            [&["data", "restored/data"][..], &["data.before-1", "restored/data"], &["data.before-1", "data"]]
        {
            let folder = cluster(there);
            let journal = r#"{"before":"data.before-1","new":"restored/data"}"#;
            fs::write(folder.path().join(JOURNAL), journal).unwrap();
            assert!(finish(folder.path()).unwrap().is_some());
            assert!(finish(folder.path()).unwrap().is_none());
            let expected = if there.contains(&"restored/data") { "restored/data" } else { "data" };
            assert_eq!(data(folder.path()), expected);
            assert_eq!(all(folder.path()).unwrap(), [folder.path().join("data.before-1")]);
        }
    }

    #[test]
    fn the_replaced_one_stays_and_replaces_again() {
        let folder = cluster(&["data", "restored/data"]);
        let before = replace(folder.path(), &folder.path().join("restored/data")).unwrap().unwrap();
        assert_eq!(
            (data(folder.path()).as_str(), all(folder.path()).unwrap()),
            ("restored/data", vec![before.clone()])
        );
        replace(folder.path(), &before).unwrap();
        assert_eq!(data(folder.path()), "data");
        let first = cluster(&["restored/data"]);
        assert_eq!(replace(first.path(), &first.path().join("restored/data")).unwrap(), None);
    }
}
