//! Changes the owner of files that root created.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, openat};

use super::Login;

/// Makes `login` the owner of a folder and of everything in it that belongs to one of the user ids `former`. Symbolic links
/// are not followed, and files with several hard links are skipped: another user may have created those.
///
/// # Errors
/// A file cannot be read, or its owner cannot be changed.
pub fn take_over(folder: &Path, former: &[u32], login: &Login) -> io::Result<()> {
    let folder = rustix::fs::open(folder, FOLDER, Mode::empty())?;
    Ok(take_over_open(folder.as_fd(), former, login)?)
}

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const ITSELF: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn take_over_open(folder: BorrowedFd<'_>, former: &[u32], login: &Login) -> rustix::io::Result<()> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let found = openat(folder, name, ITSELF, Mode::empty())?;
        let stat = fstat(&found)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            let inner = openat(folder, name, FOLDER, Mode::empty())?;
            take_over_open(inner.as_fd(), former, login)?;
        } else if former.contains(&stat.st_uid) && !(kind == FileType::RegularFile && stat.st_nlink > 1) {
            give(found.as_fd(), login)?;
        }
    }
    if former.contains(&fstat(folder)?.st_uid) {
        give(folder, login)?;
    }
    Ok(())
}

/// By file descriptor, so that the path cannot be exchanged meanwhile.
fn give(open: BorrowedFd<'_>, login: &Login) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(login.uid), Gid::from_raw(login.gid));
    chownat(open, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
}
