//! Tar archives of a project's files: made by the operator, unpacked on machines.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use tercet_machine::path::remove;

/// The size limit of an archive: 512 MiB.
const LIMIT: usize = 512 << 20;

/// Packs files of a folder, given by their NUL-separated paths in it. The archive is the same whenever the files are the same.
///
/// # Errors
/// A file cannot be read, or the archive is too large.
pub(crate) fn pack(folder: &Path, files: &[u8]) -> Result<Vec<u8>> {
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(folder).args([
        "--create",
        "--sort=name",
        "--mtime=@0",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
    ]);
    tar.args(["--mode=go=rX,u+rw", "--exclude=./.tercet", "--exclude=.tercet", "--no-recursion", "--null"]);
    let list = tempfile::NamedTempFile::new()?;
    fs::write(list.path(), files)?;
    let output = tar.arg("--files-from").arg(list.path()).output().context("tar\nhint: install GNU tar")?;
    if !output.status.success() {
        bail!("{}: cannot be packed: {}", folder.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    if output.stdout.len() > LIMIT {
        bail!(
            "{}: {} MiB is more than a release may be\nhint: list what need not be shipped in .gitignore",
            folder.display(),
            output.stdout.len() >> 20
        );
    }
    Ok(output.stdout)
}

/// Unpacks an archive into a folder, which is made anew. Its files are as old as the unpacking.
///
/// # Errors
/// The archive is not received completely, or cannot be unpacked.
pub(crate) fn unpack(folder: &Path, archive: &mut impl Read) -> Result<()> {
    remove(folder)?;
    fs::create_dir(folder).with_context(|| folder.display().to_string())?;
    let mut tar = Command::new("tar")
        .args(["-x", "--touch", "--no-same-owner", "-C"])
        .arg(folder)
        .stdin(Stdio::piped())
        .spawn()
        .context("tar")?;
    let mut stdin = tar.stdin.take().context("standard input is piped")?;
    let received = io::copy(archive, &mut stdin);
    drop(stdin);
    let is_unpacked = tar.wait()?.success();
    match received {
        // tar ended before: on a full disk, say.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        received => drop(received.context("the archive was not received completely")?),
    }
    ensure!(is_unpacked, "the archive cannot be unpacked in {}", folder.display());
    Ok(())
}
