//! Installs each package as a newcomer does, in a bare Debian with an index of packages on the same machine.
//!
//! Each newcomer has an overlay over the base system of the lab, in namespaces that end with it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use ring::digest::{SHA512, digest};
use serde_json::json;

use super::LINUX_X64;
use crate::command::{attached, output};
use crate::lab::{self, Debian};
use crate::workspace::Workspace;

/// The ways to install it.
const WAYS: [&str; 5] = ["deb", "wheel", "npm", "tarball", "install.sh"];

/// Mounts an overlay with the index and the repository, and runs the script there.
const ENTER: &str = r#"
set -eu
debian=$1 repository=$2 index=$3 script=$4 way=$5 version=$6
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o lowerdir="$debian",upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
cd /mnt/root
mkdir -p srv/index srv/repository
mount --bind "$index" srv/index
mount --bind "$repository" srv/repository
cp "$script" srv/newcomer.sh
mount -t proc proc proc
mount --rbind /dev dev
ip link set lo up
exec chroot . /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin sh /srv/newcomer.sh "$way" "$version"
"#;

/// Installs, uses and removes the packages in `out` in each way.
pub(super) fn test(workspace: &Workspace, out: &Path, version: &str, debian: Debian) -> Result<()> {
    let debian = lab::bare_debian(workspace, debian)?;
    let index = index(out, version)?;
    let script = index.join("newcomer.sh");
    fs::write(&script, include_str!("newcomer.sh"))?;
    for way in WAYS {
        attached(
            workspace
                .command("unshare")
                .args(["--mount", "--pid", "--net", "--fork", "--kill-child", "--propagation", "private"])
                .args(["sh", "-c", ENTER, "newcomer"])
                .args([&debian.root, &debian.repository])
                .arg(&index)
                .arg(&script)
                .args([way, version]),
        )
        .with_context(|| format!("a newcomer could not install tercet by {way}"))?;
    }
    Ok(())
}

/// Makes the index: the files, and the pages that pip and npm read.
fn index(out: &Path, version: &str) -> Result<PathBuf> {
    let index = out.join("index");
    fs::create_dir_all(index.join("simple/tercet"))?;
    fs::create_dir_all(index.join("npm/@tercet"))?;
    for entry in fs::read_dir(out)? {
        let path = entry?.path();
        if path.is_file() {
            fs::copy(&path, index.join(path.file_name().context("a file has a name")?))?;
        }
    }
    let wheel = format!("tercet-{version}-py3-none-{}.whl", LINUX_X64.python);
    fs::write(index.join("simple/tercet/index.html"), format!("<a href=\"/{wheel}\">{wheel}</a>\n"))?;
    let (system, processor) = LINUX_X64.npm;
    let platform = format!("{system}-{processor}");
    for (name, file, page) in [
        ("tercet".to_owned(), format!("tercet-{version}.tgz"), "tercet".to_owned()),
        (
            format!("@tercet/{platform}"),
            format!("tercet-{platform}-{version}.tgz"),
            format!("@tercet/{platform}"),
        ),
    ] {
        let bytes = fs::read(index.join(&file))?;
        let manifest = output(
            std::process::Command::new("tar")
                .args(["--extract", "--to-stdout", "--file"])
                .arg(index.join(&file))
                .arg("package/package.json"),
        )?;
        let mut entry: serde_json::Value = serde_json::from_str(&manifest)?;
        let sum =
            digest(&SHA512, &bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        entry["dist"] = json!({ "tarball": format!("http://127.0.0.1:8000/{file}"), "integrity": format!("sha512-{}", base64(&sum)?) });
        let document = json!({
            "name": name,
            "dist-tags": { "latest": version },
            "versions": { version: entry },
        });
        fs::write(index.join("npm").join(page), document.to_string())?;
    }
    Ok(index)
}

/// Base64 of bytes in hexadecimal, by Python.
fn base64(hexadecimal: &str) -> Result<String> {
    let script = "import base64, sys; print(base64.b64encode(bytes.fromhex(sys.argv[1])).decode())";
    Ok(output(std::process::Command::new("python3").args(["-c", script, hexadecimal]))?.trim().to_owned())
}
