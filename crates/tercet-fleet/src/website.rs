//! The static files of the balancer's routes, and its error pages: in the project's folder, in a release, and on the balancer's machine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};
use tercet_config::Topology;

use crate::archive;
use crate::paths::LIBRARY;

/// How many digits of its digest a website is named by.
pub(crate) const NAME_DIGITS: usize = 12;

/// The static files of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Website {
    /// The digest of their archive.
    pub archive: String,
    /// The folders, relative to that of `tercet.toml`.
    pub folders: Vec<PathBuf>,
}

impl Website {
    /// Its name on the balancer's machine: that of what is in it, so releases with the same files share them.
    pub(crate) fn name(&self) -> &str {
        self.archive.get(..NAME_DIGITS).unwrap_or(&self.archive)
    }
}

/// The folder of the websites on the balancer's machine.
pub(crate) fn folder() -> PathBuf {
    Path::new(LIBRARY).join("websites")
}

/// The static files of a project and their archive; `None` if it has no routes to files.
///
/// # Errors
/// A folder cannot be served, or has no file.
pub(crate) fn pack(topology: &Topology, project: &Path) -> Result<Option<(Website, Vec<u8>)>> {
    let folders = topology.balancer().files.clone();
    if folders.is_empty() {
        return Ok(None);
    }
    check(topology, project)?;
    let mut files = Vec::new();
    for folder in &folders {
        let before = files.len();
        list(project, folder, &mut files)?;
        if files.len() == before {
            bail!("{} has no file\nhint: build the website first", project.join(folder).display());
        }
    }
    let archive = archive::pack(project, &files)?;
    Ok(Some((Website { archive: crate::digest(&archive), folders }, archive)))
}

/// Adds the files below a folder, NUL-separated, without those that the balancer does not serve: links, and names that start
/// with a dot, other than `.well-known`.
fn list(project: &Path, below: &Path, files: &mut Vec<u8>) -> Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = project.join(below);
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name();
        if name.as_bytes().starts_with(b".") && name != ".well-known" {
            continue;
        }
        let (path, kind) = (below.join(&name), entry.file_type()?);
        if kind.is_dir() {
            list(project, &path, files)?;
        } else if kind.is_file() {
            files.extend_from_slice(path.as_os_str().as_bytes());
            files.push(0);
        }
    }
    Ok(())
}

/// Checks that the folders of static files exist, are in the project's folder also if they are symbolic links, and contain
/// nothing that no client may read.
///
/// # Errors
/// One does not, and which.
pub fn check(topology: &Topology, folder: &Path) -> Result<()> {
    let project = folder.canonicalize().with_context(|| folder.display().to_string())?;
    for files in &topology.balancer().files {
        let shown = folder.join(files);
        let shown = shown.display();
        let real = folder.join(files).canonicalize().map_err(|error| {
            anyhow!(
                "{shown} can't be opened: {error}\nhint: files in [[balancer.route]] or folder in [balancer.error-pages] names it; create the folder, or build the website first"
            )
        })?;
        ensure!(
            real.is_dir(),
            "{shown} is no folder\nhint: files in [[balancer.route]] and folder in [balancer.error-pages] name folders"
        );
        ensure!(
            real.starts_with(&project),
            "{shown} is a link out of the project's folder, to {}\nhint: files in [[balancer.route]] or folder in [balancer.error-pages] names it",
            real.display()
        );
        let mut private =
            topology.private().into_iter().filter_map(|path| folder.join(path).canonicalize().ok());
        if let Some(path) =
            private.find(|path| path.starts_with(&real) || *path != project && real.starts_with(path))
        {
            let verb = if path.starts_with(&real) { "contains" } else { "is in" };
            bail!(
                "{shown} {verb} {}, which clients must not read\nhint: files in [[balancer.route]] or folder in [balancer.error-pages] names it; move the website to a folder of its own",
                path.display()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_archive_has_what_the_balancer_serves() {
        let folder = tempfile::tempdir().unwrap();
        let text = "name = \"shop\"\n[balancer]\nroute = [{ files = \"./public\" }, { path = \"/docs\", files = \"docs\" }]\n";
        let origin = tercet_config::Origin { file: tercet_config::FILE, folder: "shop" };
        let topology = tercet_config::parse(text, origin).unwrap();
        let packed = || pack(&topology, folder.path()).map_err(|error| format!("{error:#}"));
        for name in ["public/css", "public/.well-known", "public/.git", "docs", "src"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        assert!(packed().unwrap_err().contains("/public has no file\nhint: build the website first"));
        let files = ["public/index.html", "public/css/a.css", "public/.well-known/a", "docs/a.html"];
        let hidden = ["public/.env", "public/.git/config", "src/main.py", "tercet.toml"];
        for name in files.iter().chain(&hidden) {
            fs::write(folder.path().join(name), "text").unwrap();
        }
        symlink("../src/main.py", folder.path().join("public/main.py")).unwrap();
        // Built files are shipped, whether or not git knows them.
        fs::write(folder.path().join(".gitignore"), "public\n").unwrap();
        let (website, packed_files) = packed().unwrap().unwrap();
        assert_eq!(website.folders, [Path::new("public"), Path::new("docs")]);
        let unpacked = folder.path().join("unpacked");
        archive::unpack(&unpacked, &mut &packed_files[..]).unwrap();
        for name in files {
            assert_eq!(fs::read_to_string(unpacked.join(name)).unwrap(), "text", "{name}");
        }
        for name in hidden.iter().chain(&["public/main.py"]) {
            assert!(!unpacked.join(name).exists(), "{name}");
        }
        assert!(
            fs::metadata(unpacked.join("docs/a.html")).unwrap().modified().unwrap() > std::time::UNIX_EPOCH
        );
        fs::write(folder.path().join("docs/a.html"), "more").unwrap();
        assert_ne!(packed().unwrap().unwrap().0, website);
    }
}
