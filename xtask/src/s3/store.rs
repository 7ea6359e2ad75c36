//! Objects as files of a folder, and uploads in parts as folders beside it.

use std::fs;
use std::io::{ErrorKind, Result};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// The objects of a bucket.
pub(super) struct Store {
    objects: PathBuf,
    uploads: PathBuf,
    next: AtomicU64,
}

/// What a list says of an object.
pub(super) struct Object {
    pub(super) key: String,
    pub(super) size: u64,
    pub(super) modified: SystemTime,
}

/// One entry of a list.
pub(super) enum Entry {
    Object(Object),
    /// What keys have in common up to the delimiter.
    Prefix(String),
}

impl Entry {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Object(object) => &object.key,
            Self::Prefix(prefix) => prefix,
        }
    }
}

impl Store {
    /// Uploads that were under way are forgotten.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let store =
            Self { objects: folder.join("bucket"), uploads: folder.join("uploads"), next: AtomicU64::new(0) };
        if store.uploads.exists() {
            fs::remove_dir_all(&store.uploads)?;
        }
        fs::create_dir_all(&store.uploads)?;
        fs::create_dir_all(&store.objects)?;
        Ok(store)
    }

    /// The file of an object; none for a key that is no plain path.
    fn file(&self, key: &str) -> Option<PathBuf> {
        let plain = Path::new(key).components().all(|it| matches!(it, Component::Normal(_)));
        (plain && !key.is_empty() && !key.ends_with('/') && !key.contains("//"))
            .then(|| self.objects.join(key))
    }

    fn existing(&self, key: &str) -> Result<PathBuf> {
        self.file(key).filter(|path| path.is_file()).ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// The size and the time of an object.
    pub(super) fn about(&self, key: &str) -> Result<Object> {
        let metadata = fs::metadata(self.existing(key)?)?;
        Ok(Object { key: key.to_owned(), size: metadata.len(), modified: metadata.modified()? })
    }

    pub(super) fn get(&self, key: &str) -> Result<Vec<u8>> {
        fs::read(self.existing(key)?)
    }

    /// Writes an object; readers see the old one or the whole new one.
    pub(super) fn put(&self, key: &str, content: &[u8]) -> Result<()> {
        let path = self.file(key).ok_or(ErrorKind::InvalidInput)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let temporary = self.uploads.join(format!("object-{number}"));
        fs::write(&temporary, content)?;
        fs::create_dir_all(path.parent().ok_or(ErrorKind::InvalidInput)?)?;
        fs::rename(temporary, path)
    }

    /// Removes an object, if it is there, and folders that are then empty.
    pub(super) fn delete(&self, key: &str) -> Result<()> {
        let path = match self.existing(key) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        fs::remove_file(&path)?;
        let folders = path.ancestors().skip(1).take_while(|it| *it != self.objects);
        for folder in folders {
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Begins an upload in parts; its id.
    pub(super) fn begin(&self, key: &str) -> Result<String> {
        self.file(key).ok_or(ErrorKind::InvalidInput)?;
        let id = format!("upload-{}", self.next.fetch_add(1, Ordering::Relaxed));
        fs::create_dir(self.uploads.join(&id))?;
        fs::write(self.uploads.join(&id).join("key"), key)?;
        Ok(id)
    }

    /// The folder of an upload of this key.
    fn upload(&self, id: &str, key: &str) -> Result<PathBuf> {
        let number = id.strip_prefix("upload-").and_then(|it| it.parse::<u64>().ok());
        let folder = number.map(|number| self.uploads.join(format!("upload-{number}")));
        let ours = folder.filter(|it| fs::read_to_string(it.join("key")).is_ok_and(|it| it == key));
        ours.ok_or_else(|| ErrorKind::NotFound.into())
    }

    pub(super) fn put_part(&self, id: &str, key: &str, number: u32, content: &[u8]) -> Result<()> {
        fs::write(self.upload(id, key)?.join(number.to_string()), content)
    }

    /// Makes an object of an upload's parts.
    pub(super) fn complete(&self, id: &str, key: &str, parts: &[u32]) -> Result<()> {
        let folder = self.upload(id, key)?;
        let mut content = Vec::new();
        for part in parts {
            content.extend(fs::read(folder.join(part.to_string()))?);
        }
        self.put(key, &content)?;
        fs::remove_dir_all(folder)
    }

    /// Gives an upload up.
    pub(super) fn abort(&self, id: &str, key: &str) -> Result<()> {
        fs::remove_dir_all(self.upload(id, key)?)
    }

    /// The keys that begin with `prefix`, in order; those with the delimiter after it are one entry up to there.
    pub(super) fn list(&self, prefix: &str, delimiter: &str) -> Result<Vec<Entry>> {
        let mut keys = Vec::new();
        collect(&self.objects, "", prefix, &mut keys)?;
        keys.sort();
        let mut entries: Vec<Entry> = Vec::new();
        for key in keys {
            let rest = &key[prefix.len()..];
            let end = if delimiter.is_empty() { None } else { rest.find(delimiter) };
            if let Some(end) = end {
                let common = &key[..prefix.len() + end + delimiter.len()];
                if entries.last().is_none_or(|last| last.name() != common) {
                    entries.push(Entry::Prefix(common.to_owned()));
                }
            } else {
                match self.about(&key) {
                    // Removed in the meantime.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    about => entries.push(Entry::Object(about?)),
                }
            }
        }
        Ok(entries)
    }
}

/// Adds the keys below a folder that begin with `prefix`.
fn collect(folder: &Path, path: &str, prefix: &str, keys: &mut Vec<String>) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|_| ErrorKind::InvalidData)?;
        let key = format!("{path}{name}");
        if entry.file_type()?.is_dir() {
            let below = format!("{key}/");
            if below.starts_with(prefix) || prefix.starts_with(&below) {
                collect(&entry.path(), &below, prefix, keys)?;
            }
        } else if key.starts_with(prefix) {
            keys.push(key);
        }
    }
    Ok(())
}
