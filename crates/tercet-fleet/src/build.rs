//! Preparing a release's folder on a machine: the build command runs in a sandbox as a user that owns nothing else;
//! afterwards the folder is root's and read-only.
//!
//! Runs on the machine, as root. The release's folder then has:
//!
//! ```text
//! program/     the shipped files and the build's output
//! home/        HOME of the build, for tools that install below it
//! ```

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use tercet_config::Program;
use tercet_machine::path::remove;

use crate::release::Release;
use crate::sandbox::{self, Sandbox, USER};

/// Builds the unpacked release, from the start if an earlier build was interrupted.
///
/// # Errors
/// The build failed; its last lines are in the error.
pub(crate) fn build(release: &Release, command: &Program) -> Result<()> {
    let folder = release.folder();
    let (program, home) = (folder.join("program"), folder.join("home"));
    if !program.is_dir() {
        bail!("{} is not there\nhint: apply again", program.display());
    }
    sandbox::stop_all()?;
    make_anew(&home)?;
    for folder in [&program, &home] {
        give(folder, USER)?;
    }
    let sandbox = Sandbox {
        name: "build",
        files: "which may write to the program's folder, HOME and /tmp",
        unit: sandbox::unit(&release.id),
        folder: &program,
        properties: vec![format!("ReadWritePaths={} {}", program.display(), home.display())],
        // Caches are not part of the release.
        variables: [
            ("HOME", home.display().to_string()),
            ("XDG_CACHE_HOME", "/tmp/cache".to_owned()),
            ("npm_config_cache", "/tmp/npm".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec(),
        hidden: None,
    };
    sandbox.run(&command.words("", 0))
}

/// Gives the shipped and built files to root, read-only.
///
/// # Errors
/// It has a link to something that others than root may write.
pub(crate) fn seal(release: &Release) -> Result<()> {
    let folder = release.folder();
    for part in [folder.join("program"), folder.join("home")] {
        if part.exists() {
            seal_part(&part, &folder)?;
        }
    }
    Ok(())
}

fn make_anew(folder: &Path) -> Result<()> {
    remove(folder)?;
    fs::create_dir(folder).with_context(|| folder.display().to_string())
}

fn give(folder: &Path, user: &str) -> Result<()> {
    let status = Command::new("chown")
        .args(["--recursive", "--no-dereference", &format!("{user}:{user}"), "--"])
        .arg(folder)
        .status()
        .context("chown")?;
    if !status.success() {
        bail!("{} cannot be given to {user}", folder.display());
    }
    Ok(())
}

/// Gives everything in `path`, a part of the release in `folder`, to root, world-readable and not writable.
pub(crate) fn seal_part(path: &Path, folder: &Path) -> Result<()> {
    let context = || path.display().to_string();
    let metadata = fs::symlink_metadata(path).with_context(context)?;
    let kind = metadata.file_type();
    if kind.is_symlink() {
        lchown(path, Some(0), Some(0)).with_context(context)?;
        return check_link(path, folder);
    }
    if !kind.is_dir() && !kind.is_file() {
        // A socket or a pipe has nothing to do once its build is over.
        return fs::remove_file(path).with_context(context);
    }
    if kind.is_dir() {
        for entry in fs::read_dir(path).with_context(context)? {
            seal_part(&entry?.path(), folder)?;
        }
    }
    // Without set-id bits.
    let executable = kind.is_dir() || metadata.mode() & 0o111 != 0;
    lchown(path, Some(0), Some(0)).with_context(context)?;
    fs::set_permissions(path, Permissions::from_mode(if executable { 0o555 } else { 0o444 }))
        .with_context(context)
}

/// A link may lead out of the release only to what root alone may change: a running program trusts what it finds there.
fn check_link(link: &Path, folder: &Path) -> Result<()> {
    let target = link.parent().unwrap_or(folder).join(fs::read_link(link)?);
    // In place of a missing file, a user with write permission on the parent could create one.
    let there = target.ancestors().find_map(|path| path.canonicalize().ok()).unwrap_or_else(|| "/".into());
    if there.starts_with(folder) {
        return Ok(());
    }
    for path in there.ancestors() {
        let metadata = fs::metadata(path).with_context(|| path.display().to_string())?;
        if metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
            bail!(
                "{} is a link to {}, and others than root may write to {}\n\
                 hint: have the build install into the program's folder or HOME",
                link.display(),
                target.display(),
                path.display()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A release's folder with a program in it, as a build of another user might leave it.
    fn release() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        fs::create_dir_all(program.join("bin")).unwrap();
        for (name, mode) in [("bin/server", 0o6777), ("data", 0o600), ("shared", 0o666)] {
            fs::write(program.join(name), name).unwrap();
            fs::set_permissions(program.join(name), Permissions::from_mode(mode)).unwrap();
        }
        drop(UnixListener::bind(program.join("socket")).unwrap());
        symlink("bin/server", program.join("server")).unwrap();
        symlink("/usr/bin/env", program.join("env")).unwrap();
        folder
    }

    fn sealed(folder: &Path) -> Result<()> {
        seal_part(&folder.join("program"), folder)
    }

    #[test]
    fn a_sealed_release_belongs_to_root_and_is_not_writable() {
        // Only root can give files away.
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = release();
        let program = folder.path().join("program");
        for name in ["bin", "bin/server", "data", "server"] {
            lchown(program.join(name), Some(65534), Some(65534)).unwrap();
        }
        fs::set_permissions(program.join("bin/server"), Permissions::from_mode(0o6777)).unwrap();
        sealed(folder.path()).unwrap();
        let expected =
            [("", 0o555), ("bin", 0o555), ("bin/server", 0o555), ("data", 0o444), ("shared", 0o444)];
        for (name, mode) in expected {
            let metadata = fs::symlink_metadata(program.join(name)).unwrap();
            assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), (mode, 0, 0), "{name}");
        }
        assert_eq!(fs::symlink_metadata(program.join("server")).unwrap().uid(), 0);
        assert!(!program.join("socket").exists());
    }

    #[test]
    fn a_link_to_what_others_may_write_is_refused() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        for target in ["/tmp", "/tmp/nothing/there", "/var/tmp/nothing", "../../nothing"] {
            let folder = release();
            symlink(target, folder.path().join("program/link")).unwrap();
            let error = format!("{:#}", sealed(folder.path()).unwrap_err());
            assert!(error.contains("program/link is a link to ") && error.contains("hint: "), "{error}");
        }
        for target in ["/etc/hostname", "nothing", "bin/nothing", "/nothing", "../program/data"] {
            let folder = release();
            symlink(target, folder.path().join("program/link")).unwrap();
            sealed(folder.path()).unwrap_or_else(|error| panic!("{target}: {error:#}"));
        }
    }
}
