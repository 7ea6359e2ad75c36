//! The directory of a cluster: its layout, owners and modes.
//!
//! ```text
//! PLACE/                 the user that runs tercet, 0750
//!   lock
//!   configuration/       PostgreSQL can read but not write
//!   data/                PostgreSQL's, 0700
//!   socket/              PostgreSQL's, 0700
//! ```
//!
//! Root cannot keep the cluster beside `tercet.toml`: PostgreSQL then runs as another account, which may
//! have no access to that folder (such as /root). The cluster is kept in a folder below `/var/lib/tercet`, and a
//! symbolic link beside `tercet.toml` points to it. Root never writes into a folder in which
//! PostgreSQL's account could create a link.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use super::{ClusterError, Sockets, file_error};
use crate::account::Account;

/// The longest path of a Unix socket that every system accepts (`sockaddr_un`), minus the file name.
const SOCKET_FOLDER_LIMIT: usize = 104 - "/.s.PGSQL.65535".len() - 1;

/// The folder of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(PathBuf);

impl Place {
    /// The cluster's folder for the project whose private folder is `private`. If PostgreSQL runs as the owner of
    /// `private`, it is `postgresql` in that folder. Otherwise it is a separate folder below `shared`, which the
    /// first call creates and links from there.
    ///
    /// # Errors
    /// The link or a folder cannot be created or read.
    pub fn of(private: &Path, shared: &Path, name: &str, account: &Account) -> Result<Self, ClusterError> {
        let beside = private.join("postgresql");
        if !account.is_another() {
            // An earlier run as root created it elsewhere and transferred its ownership.
            return Ok(Self(fs::read_link(&beside).unwrap_or(beside)));
        }
        match fs::read_link(&beside) {
            Ok(target) if target.is_dir() => return Ok(Self(target)),
            // The data was removed on purpose: create a new cluster.
            Ok(_) => fs::remove_file(&beside).map_err(file_error(&beside))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(file_error(&beside)(error)),
        }
        create(shared, 0o755)?;
        let place = shared.join(format!("{name}-{:08x}", random().map_err(file_error(shared))?));
        create(&place, 0o750)?;
        symlink(&place, &beside).map_err(file_error(&beside))?;
        Ok(Self(place))
    }

    /// The cluster whose folder is `folder` itself.
    pub fn at(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// The path of the folder.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    pub(super) fn configuration(&self) -> PathBuf {
        self.0.join("configuration")
    }

    pub(super) fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    /// The folder of an incomplete `initdb`.
    pub(super) fn partial_data(&self) -> PathBuf {
        self.0.join("data.new")
    }

    /// Creates missing folders.
    pub(super) fn create(&self, account: &Account) -> Result<(), ClusterError> {
        for folder in [self.0.clone(), self.configuration()] {
            create(&folder, 0o750)?;
            give_group(&folder, account)?;
        }
        Ok(())
    }

    /// The folder for the socket, emptied: beside the data, or a temporary folder with a shorter path.
    pub(super) fn sockets(&self, account: &Account) -> Result<Sockets, ClusterError> {
        let beside = self.0.join("socket");
        if beside.as_os_str().as_bytes().len() <= SOCKET_FOLDER_LIMIT {
            create_owned(&beside, account)?;
            return Ok(Sockets::Beside(beside));
        }
        let short = Path::new("/tmp");
        let folder =
            tempfile::Builder::new().prefix("tercet-").tempdir_in(short).map_err(file_error(short))?;
        give(folder.path(), account)?;
        Ok(Sockets::Short(folder))
    }
}

/// Transfers the cluster that root created elsewhere and linked as `beside` to the account that will run it.
///
/// # Errors
/// A process uses the cluster, or its owner cannot be changed.
#[cfg(target_os = "linux")]
pub fn hand_over(beside: &Path, login: &crate::account::Login) -> Result<(), ClusterError> {
    let Ok(place) = fs::read_link(beside) else { return Ok(()) };
    let owner = |path: &Path| fs::symlink_metadata(path).map(|metadata| metadata.uid());
    // Only root could have created both.
    if owner(beside).is_ok_and(|uid| uid == 0) && owner(&place).is_ok_and(|uid| uid == 0) {
        let place = Place(place);
        let path = place.lock();
        let lock = fs::File::options().create(true).append(true).open(&path).map_err(file_error(&path))?;
        lock.try_lock().map_err(|_| ClusterError::InUse(place.0.clone()))?;
        let data = place.data();
        let pids = super::postmaster::processes(&data);
        if !pids.is_empty() {
            return Err(ClusterError::Orphans { data, pids });
        }
        let former: Vec<u32> = [0].into_iter().chain(owner(&data).ok()).collect();
        crate::account::take_over(&place.0, &former, login).map_err(file_error(&place.0))?;
    }
    Ok(())
}

/// Creates a folder with this mode; an existing one must be a folder of this user, not a link.
fn create(folder: &Path, mode: u32) -> Result<(), ClusterError> {
    match fs::DirBuilder::new().mode(mode).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = folder.parent() {
                create(parent, 0o755)?;
            }
            return fs::DirBuilder::new().mode(mode).create(folder).map_err(file_error(folder));
        }
        made => return made.map_err(file_error(folder)),
    }
    let metadata = fs::symlink_metadata(folder).map_err(file_error(folder))?;
    if metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(file_error(folder)(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("it should be a folder of this user's, and belongs to user id {}", metadata.uid()),
    )))
}

/// Creates a folder that only `account` can enter. Its parent belongs to this process's user, so no other user
/// could create anything there.
pub(crate) fn create_owned(folder: &Path, account: &Account) -> Result<(), ClusterError> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(file_error(folder)(error)),
        _ => give(folder, account),
    }
}

fn give(path: &Path, account: &Account) -> Result<(), ClusterError> {
    if account.is_another() {
        chown(path, Some(account.uid), Some(account.gid)).map_err(file_error(path))?;
    }
    Ok(())
}

fn give_group(path: &Path, account: &Account) -> Result<(), ClusterError> {
    if account.is_another() {
        chown(path, None, Some(account.gid)).map_err(file_error(path))?;
    }
    Ok(())
}

/// Replaces a file by one that `account` can read and only this process's user can write.
pub(super) fn write_readable_by(path: &Path, text: &str, account: &Account) -> Result<(), ClusterError> {
    let partial = path.with_extension("new");
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file_error(&partial)(error)),
        _ => {}
    }
    let mut file = fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o640)
        .open(&partial)
        .map_err(file_error(&partial))?;
    file.write_all(text.as_bytes()).map_err(file_error(&partial))?;
    give_group(&partial, account)?;
    fs::rename(&partial, path).map_err(file_error(path))
}

fn random() -> io::Result<u32> {
    let mut bytes = [0; 4];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u32::from_ne_bytes(bytes))
}
