//! Files of others that a desired state rules out: they are moved below `/var/backups/tercet`, never deleted.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The folder that they are moved to; root alone can read it.
pub(crate) const FOLDER: &str = "/var/backups/tercet";

/// Moves a file or a symbolic link below [`FOLDER`]; a path that does not exist is no error.
pub(crate) fn set_aside(path: &Path) -> Result<(), Error> {
    move_below(Path::new(FOLDER), path).map_err(Error::change(path))
}

/// Copies a file below [`FOLDER`]; a path that does not exist is no error.
pub(crate) fn keep_copy(path: &Path) -> Result<(), Error> {
    copy_below(Path::new(FOLDER), path).map_err(Error::change(path))
}

fn move_below(folder: &Path, path: &Path) -> io::Result<()> {
    // A copy and a removal: the two may be on different file systems.
    copy_below(folder, path)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn copy_below(folder: &Path, path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    let copy = unused(folder.join(path.strip_prefix("/").unwrap_or(path)));
    let parent = copy.parent().unwrap_or(folder);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    fs::create_dir_all(parent)?;
    if metadata.file_type().is_symlink() {
        symlink(fs::read_link(path)?, &copy)?;
    } else {
        fs::copy(path, &copy)?;
        chown(&copy, Some(metadata.uid()), Some(metadata.gid()))?;
        fs::File::open(&copy)?.sync_all()?;
    }
    fs::File::open(parent)?.sync_all()
}

/// The path, or the first of `path.1`, `path.2`, … that does not exist: an earlier copy stays.
fn unused(path: PathBuf) -> PathBuf {
    let numbered = (1..).map(|number: u32| {
        let mut numbered = path.clone().into_os_string();
        numbered.push(format!(".{number}"));
        PathBuf::from(numbered)
    });
    let mut paths = [path.clone()].into_iter().chain(numbered);
    paths.find(|path| path.symlink_metadata().is_err()).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_moved_with_its_mode_and_an_earlier_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (file, kept) = (folder.path().join("a.conf"), folder.path().join("kept"));
        for text in ["first", "second"] {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
            move_below(&kept, &file).unwrap();
            assert!(!file.exists());
        }
        let moved = kept.join(file.strip_prefix("/").unwrap());
        assert_eq!(fs::read_to_string(&moved).unwrap(), "first");
        assert_eq!(fs::metadata(&moved).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(fs::read_to_string(moved.with_extension("conf.1")).unwrap(), "second");
        assert_eq!(fs::metadata(&kept).unwrap().mode() & 0o7777, 0o700);
        // A repeated step finds nothing to move.
        move_below(&kept, &file).unwrap();
    }
}
