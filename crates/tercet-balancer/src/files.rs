//! Static files: finds the file of a path in a folder, and its encoding for a client.
//!
//! The kernel resolves a name below the folder, without symbolic links (`openat2`, or `openat` for each part of the name), so no name
//! leads out of it. The folder itself is opened again every [`FRESH`], and before a file is not found, so that a folder that is replaced or built
//! again is seen at once. This module does not depend on connections.

pub(crate) mod media_type;
mod precondition;
pub mod range;

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, retry_on_intr};

pub(crate) use self::precondition::{Precondition, Validators};
use crate::accept_encoding::{AcceptEncoding, Coding};
use crate::config::Route;
use crate::path::Decoded;

/// The file that answers for a folder.
const INDEX: &str = "index.html";
/// The only name with a dot at its front that is served (RFC 8615).
const WELL_KNOWN: &str = ".well-known";
/// How long a folder is open, and may have been replaced meanwhile: to open it for each request is a tenth of what a small file costs.
const FRESH: Duration = Duration::from_millis(50);
/// The header `cache-control`, unless the route has another.
const REVALIDATE: &str = "no-cache";

/// The static files of a route.
#[derive(Debug)]
pub(crate) struct Files {
    folder: PathBuf,
    /// The folder as it was opened last.
    opened: ArcSwapOption<Folder>,
    fallback: Option<String>,
    /// The value of `cache-control`.
    pub(crate) cache_control: String,
}

/// A folder that is open.
#[derive(Debug)]
struct Folder {
    descriptor: OwnedFd,
    since: Instant,
}

/// What a path names.
#[derive(Debug)]
pub(crate) enum Found {
    /// A file.
    File(OpenFile),
    /// A folder; its path lacks the `/` at its end.
    Folder,
}

/// A file that is open, with the metadata of its response.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) file: File,
    pub(crate) length: u64,
    pub(crate) validators: Validators,
    pub(crate) media_type: Cow<'static, str>,
    pub(crate) coding: Option<Coding>,
    /// Whether the response depends on `Accept-Encoding`.
    pub(crate) varies: bool,
}

/// Why there is no file.
#[derive(Debug)]
pub(crate) enum FileError {
    /// There is none, or its name is hidden.
    NotFound,
    /// The balancer's user may not read it.
    Forbidden,
    /// There are no descriptors left.
    OutOfDescriptors,
    /// It cannot be read.
    Unreadable(io::Error),
}

impl Files {
    /// The files in `folder`.
    pub(crate) fn new(folder: &Path, route: &Route) -> Self {
        Self {
            folder: folder.to_owned(),
            opened: ArcSwapOption::empty(),
            fallback: route.fallback.clone(),
            cache_control: route.cache_control.clone().unwrap_or_else(|| REVALIDATE.to_owned()),
        }
    }

    /// Finds the file of a path that [`crate::path::check`] accepts.
    ///
    /// # Errors
    /// There is no file, or it cannot be opened.
    pub(crate) fn find(&self, path: &[u8], accepted: &AcceptEncoding) -> Result<Found, FileError> {
        let name = name(path)?;
        if let Some(folder) = self.opened.load().as_ref().filter(|folder| folder.since.elapsed() < FRESH) {
            match self.find_in(&folder.descriptor, path, &name, accepted) {
                // It may be in the folder that has taken its place.
                Err(FileError::NotFound) => {}
                found => return found,
            }
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = rustix::fs::open(&self.folder, flags, Mode::empty())?;
        let folder = Arc::new(Folder { descriptor, since: Instant::now() });
        self.opened.store(Some(Arc::clone(&folder)));
        self.find_in(&folder.descriptor, path, &name, accepted)
    }

    fn find_in<'a>(
        &'a self,
        folder: &OwnedFd,
        path: &[u8],
        mut name: &'a str,
        accepted: &AcceptEncoding,
    ) -> Result<Found, FileError> {
        let mut opened = open(folder, name);
        if let (Err(FileError::NotFound), Some(fallback)) = (&opened, &self.fallback)
            && !media_type::is_asset(name)
        {
            name = fallback;
            opened = open(folder, name);
        }
        let (file, metadata) = opened?;
        if metadata.is_dir() {
            return if path.ends_with(b"/") { Err(FileError::NotFound) } else { Ok(Found::Folder) };
        }
        let media_type = media_type::of_file(name);
        let varies = media_type::is_textual(media_type.as_bytes());
        if varies && let Some((file, metadata, coding)) = sibling(folder, name, accepted) {
            return Ok(Found::File(OpenFile::new(file, &metadata, media_type, Some(coding), varies)));
        }
        Ok(Found::File(OpenFile::new(file, &metadata, media_type, None, varies)))
    }
}

impl OpenFile {
    fn new(
        file: File,
        metadata: &std::fs::Metadata,
        media_type: Cow<'static, str>,
        coding: Option<Coding>,
        varies: bool,
    ) -> Self {
        let suffix = coding.map_or("", Coding::name);
        // Archives that are made to be reproducible have no times; then the time of unpacking is the version.
        let (seconds, nanoseconds) = match metadata.mtime() {
            ..=0 => (metadata.ctime(), metadata.ctime_nsec()),
            seconds => (seconds, metadata.mtime_nsec()),
        };
        let length = metadata.len();
        let modified = u64::try_from(metadata.mtime()).ok().filter(|seconds| *seconds > 0);
        let modified = modified.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        Self {
            file,
            length,
            validators: Validators {
                etag: format!("\"{seconds:x}-{nanoseconds:x}-{length:x}{suffix}\""),
                modified,
            },
            media_type,
            coding,
            varies,
        }
    }
}

/// The encoded sibling of a file that the client prefers.
fn sibling(
    folder: &OwnedFd,
    name: &str,
    accepted: &AcceptEncoding,
) -> Option<(File, std::fs::Metadata, Coding)> {
    let mut offered = vec![Coding::Brotli, Coding::Gzip];
    while let Some(coding) = accepted.best(offered.iter().copied()) {
        let ending = if coding == Coding::Gzip { "gz" } else { "br" };
        match open(folder, &format!("{name}.{ending}")) {
            Ok((file, metadata)) if metadata.is_file() => return Some((file, metadata, coding)),
            _ => offered.retain(|other| *other != coding),
        }
    }
    None
}

/// The name in the folder that a path stands for.
fn name(path: &[u8]) -> Result<String, FileError> {
    let decoded: Vec<u8> = Decoded(path.strip_prefix(b"/").unwrap_or(path)).collect();
    let mut name = String::from_utf8(decoded).map_err(|_| FileError::NotFound)?;
    if name.is_empty() || name.ends_with('/') {
        name.push_str(INDEX);
    }
    let is_hidden = |(index, part): (usize, &str)| part.starts_with('.') && (index > 0 || part != WELL_KNOWN);
    if name.split('/').enumerate().any(is_hidden) {
        return Err(FileError::NotFound);
    }
    Ok(name)
}

/// Opens a file or folder.
fn open(folder: &OwnedFd, name: &str) -> Result<(File, std::fs::Metadata), FileError> {
    let file = File::from(open_below(folder, name)?);
    let metadata = file.metadata().map_err(FileError::Unreadable)?;
    if !metadata.is_file() && !metadata.is_dir() {
        return Err(FileError::NotFound);
    }
    Ok((file, metadata))
}

/// Without `NONBLOCK`, opening a pipe would wait for a writer.
const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Opens a name below a folder, without a symbolic link on the way.
fn open_below(folder: &OwnedFd, name: &str) -> rustix::io::Result<OwnedFd> {
    // systemd's `RestrictSUIDSGID=` makes it fail with ENOSYS, and the filters of older container engines with EPERM: they cannot see
    // its flags. It fails so until the process ends.
    static IS_REFUSED: AtomicBool = AtomicBool::new(false);
    if !IS_REFUSED.load(Ordering::Relaxed) {
        match open_at_once(folder, name) {
            Err(Errno::NOSYS | Errno::PERM) => IS_REFUSED.store(true, Ordering::Relaxed),
            opened => return opened,
        }
    }
    open_step_by_step(folder, name)
}

/// By one system call, which resolves the whole name.
fn open_at_once(folder: &OwnedFd, name: &str) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    retry_on_intr(|| rustix::fs::openat2(folder, name, FLAGS, Mode::empty(), resolve))
}

/// By one system call for each folder of the name.
fn open_step_by_step(folder: &OwnedFd, name: &str) -> rustix::io::Result<OwnedFd> {
    let step = |at: &OwnedFd, part: &str, flags| match part {
        "" | "." | ".." => Err(Errno::NOENT),
        part => retry_on_intr(|| rustix::fs::openat(at, part, flags | OFlags::NOFOLLOW, Mode::empty())),
    };
    let (folders, file) = name.rsplit_once('/').map_or((None, name), |(folders, file)| (Some(folders), file));
    let mut last = None;
    for part in folders.into_iter().flat_map(|folders| folders.split('/')) {
        let at = last.as_ref().unwrap_or(folder);
        last = Some(step(at, part, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)?);
    }
    step(last.as_ref().unwrap_or(folder), file, FLAGS)
}

impl From<Errno> for FileError {
    fn from(errno: Errno) -> Self {
        match errno {
            // A device, or a link out of the folder.
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::LOOP
            | Errno::XDEV
            | Errno::NAMETOOLONG
            | Errno::NXIO
            | Errno::INVAL => Self::NotFound,
            Errno::ACCESS | Errno::PERM => Self::Forbidden,
            Errno::MFILE | Errno::NFILE => Self::OutOfDescriptors,
            errno => Self::Unreadable(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests;
