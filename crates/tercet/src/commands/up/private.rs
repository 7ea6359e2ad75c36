//! The private folder beside `tercet.toml`: `.tercet/`, mode 0700, locked by the `tercet up` that uses it.
//!
//! ```text
//! .tercet/
//!   name           the project's name
//!   lock           locked by the `tercet up` that runs here
//!   secrets/       generated passwords
//!   certificates/  certificates of domains, with their keys; written by the balancer
//!   maintenance    turns the balancer's maintenance on while it exists
//!   run/           generated configurations, written at each start; the Unix sockets between the parts
//!   log/
//!   NAME-provider-keys.json   the keys of an identity provider, kept by the server of that name
//!   postgresql/    the database; see tercet_database::cluster
//!   backups/       its backups and WAL archive; see crate::backups
//! ```

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::project::{LOG, MAINTENANCE, NAME};

const RUN: &str = "run";

/// The longest path of a Unix socket, in bytes: less than unix(7) allows, since the socket first has a temporary name.
const LONGEST_SOCKET: usize = 98;

/// Whether a Unix socket can be made in `folder`, and linked as `tercet_observe::unix_socket` does: not every file system can.
fn allows_sockets(folder: &Path) -> bool {
    let [socket, link] = ["probe", "probe.link"].map(|name| folder.join(name));
    let remove = || [&socket, &link].map(fs::remove_file);
    // Left over from one that was killed.
    let _ = remove();
    let allows = UnixListener::bind(&socket).is_ok() && fs::hard_link(&socket, &link).is_ok();
    let _ = remove();
    allows
}

/// The folder, locked until this is dropped.
#[derive(Debug)]
pub(crate) struct PrivateFolder {
    folder: PathBuf,
    /// Whether its file system can have Unix sockets.
    allows_sockets: bool,
    /// The kernel releases the lock when this process ends.
    _lock: File,
}

/// The folder is locked by another process.
#[derive(Debug)]
pub(crate) struct IsUp(String);

impl std::fmt::Display for IsUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for IsUp {}

/// The content of the lock file, for the error that a second `tercet up` gets.
#[derive(Deserialize, Serialize)]
struct Holder {
    pid: u32,
    since: String,
}

impl PrivateFolder {
    /// Creates and locks the folder.
    ///
    /// # Errors
    /// Another `tercet up` has locked it, or it belongs to another user.
    pub(crate) fn lock(project: &Path) -> anyhow::Result<Self> {
        let folder = project.join(".tercet");
        create(&folder)?;
        let lock = lock(&folder.join("lock"))?;
        for name in ["secrets", RUN, LOG] {
            create(&folder.join(name))?;
        }
        // Independent of the project's own rules: nothing in here belongs into a repository.
        let ignore = folder.join(".gitignore");
        fs::write(&ignore, "*\n").with_context(|| ignore.display().to_string())?;
        let allows_sockets = allows_sockets(&folder.join(RUN));
        Ok(Self { folder, allows_sockets, _lock: lock })
    }

    /// The folder itself.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of the log files.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join(LOG)
    }

    /// The folder of the certificates of domains.
    pub(crate) fn certificates(&self) -> PathBuf {
        self.folder.join("certificates")
    }

    /// The file that turns the balancer's maintenance on while it exists.
    pub(crate) fn maintenance(&self) -> PathBuf {
        self.folder.join(MAINTENANCE)
    }

    /// The file of a generated password.
    pub(crate) fn secret(&self, name: &str) -> PathBuf {
        self.folder.join("secrets").join(name)
    }

    /// The Unix socket of the part `name`; `None` where there can be none.
    pub(crate) fn socket(&self, name: &str) -> Option<PathBuf> {
        let path = self.folder.join(RUN).join(format!("{name}.sock"));
        (self.allows_sockets && path.as_os_str().len() <= LONGEST_SOCKET).then_some(path)
    }

    /// Writes down the project's name, which its database has: the folder may be renamed.
    pub(crate) fn record_name(&self, name: &str) -> anyhow::Result<()> {
        let path = self.folder.join(NAME);
        match fs::read_to_string(&path) {
            Ok(recorded) if recorded.trim_end() == name => Ok(()),
            _ => {
                // A full disk must not leave half a name.
                let new = self.folder.join(format!("{NAME}.new"));
                let written = fs::write(&new, format!("{name}\n")).and_then(|()| fs::rename(&new, &path));
                written.with_context(|| path.display().to_string())
            }
        }
    }

    /// Writes a generated configuration with mode 0600, since it may contain secrets.
    pub(crate) fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.join(RUN).join(name);
        let write = || {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(text.as_bytes())
        };
        write().with_context(|| path.display().to_string())?;
        Ok(path)
    }
}

/// Creates a folder of mode 0700; an existing one must be a real folder that belongs to this user.
fn create(folder: &Path) -> anyhow::Result<()> {
    let name = || folder.display().to_string();
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).with_context(name),
    }
    let metadata = fs::symlink_metadata(folder).with_context(name)?;
    if !metadata.is_dir() {
        bail!("{} is not a folder; hint: move it away", folder.display());
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        bail!(
            "{} belongs to user id {}; hint: run tercet as that user, or once with sudo, \
             which changes the owner of files made by root to the owner of the project",
            folder.display(),
            metadata.uid()
        );
    }
    if metadata.mode() & 0o077 != 0 {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).with_context(name)?;
    }
    Ok(())
}

/// Locks the file and writes this process's id into it; fails with the id of the process that has locked it.
pub(super) fn lock(path: &Path) -> anyhow::Result<File> {
    let name = || path.display().to_string();
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .with_context(name)?;
    match try_lock(&file) {
        Ok(()) => {}
        Err(TryLockError::Error(error)) => return Err(error).with_context(name),
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            file.read_to_string(&mut text).with_context(name)?;
            let folder = path.parent().and_then(Path::parent).unwrap_or(path).display();
            match serde_json::from_str::<Holder>(&text) {
                Ok(Holder { pid, since }) => bail!(IsUp(format!(
                    "{folder} is up already: process {pid} runs it since {since}; \
                     hint: stop that one by Ctrl-C or `kill {pid}`"
                ))),
                // The holder has not written its id yet.
                Err(_) => {
                    bail!(IsUp(format!("{folder} is up already: another process has just started to run it")))
                }
            }
        }
    }
    let mut since = Vec::new();
    tercet_observe::format::push_now(&mut since);
    let since = String::from_utf8_lossy(&since).into_owned();
    let holder = serde_json::to_string(&Holder { pid: std::process::id(), since })?;
    file.set_len(0).with_context(name)?;
    file.rewind().with_context(name)?;
    file.write_all(holder.as_bytes()).with_context(name)?;
    Ok(file)
}

/// Locks the file. A command that asks whether a `tercet up` runs has it locked for a moment.
fn try_lock(file: &File) -> Result<(), TryLockError> {
    for _ in 0..10 {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(2)),
            locked => return locked,
        }
    }
    file.try_lock()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_locked_by_one_process_and_a_stale_lock_is_ignored() {
        let project = tempfile::tempdir().unwrap();
        let private = PrivateFolder::lock(project.path()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(private.folder()), 0o700);
        assert_eq!(mode(&private.write("a.toml", "secret").unwrap()), 0o600);
        let error = PrivateFolder::lock(project.path()).unwrap_err().to_string();
        let pid = std::process::id();
        assert!(error.contains(&format!("is up already: process {pid} runs it since 20")), "{error}");

        drop(private);
        fs::write(project.path().join(".tercet/lock"), r#"{"pid":1,"since":"long ago, and longer"}"#)
            .unwrap();
        drop(PrivateFolder::lock(project.path()).unwrap());
        let text = fs::read_to_string(project.path().join(".tercet/lock")).unwrap();
        assert_eq!(serde_json::from_str::<Holder>(&text).unwrap().pid, pid);
    }

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let project = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), project.path().join(".tercet")).unwrap();
        assert!(PrivateFolder::lock(project.path()).unwrap_err().to_string().contains("is not a folder"));
    }
}
