//! `cargo xtask dist`: the files that people install tercet from, all made from one release binary.
//!
//! Nothing in them depends on the time, the folder or the order of files, so two builds of one commit have the same bytes.
//! Versions are those of the workspace's manifest.

mod archive;
mod binary;
mod debian;
mod licences;
mod newcomer;
mod npm;
mod sbom;
mod wheel;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use self::archive::{Entry, gzip, tar};
use self::binary::Binary;
use crate::command::output;
use crate::lab::Debian;
use crate::workspace::Workspace;

/// The platform of the files, as Rust, Debian, Python and npm call it. Another one is another value of this type.
pub(crate) struct Platform {
    pub(crate) rust: &'static str,
    pub(crate) debian: &'static str,
    pub(crate) python: &'static str,
    pub(crate) npm: (&'static str, &'static str),
}

/// The only platform so far. 2.34 is the newest version of glibc that the binary may need (Debian 12 has 2.36).
const LINUX_X64: Platform = Platform {
    rust: "x86_64-unknown-linux-gnu",
    debian: "amd64",
    python: "manylinux_2_34_x86_64",
    npm: ("linux", "x64"),
};

/// Options of `cargo xtask dist`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to do instead of making the files.
    #[command(subcommand)]
    task: Option<Task>,
    /// The folder to write to [default: target/dist]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Package this binary instead of building one.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// The URL of the folder that install.sh downloads from; without it, TERCET_BASE_URL names it then.
    #[arg(long, default_value = "", value_name = "URL")]
    base_url: String,
}

#[derive(clap::Subcommand)]
enum Task {
    /// Install each package into a bare Debian, run an example with it, and remove it (as root).
    Test {
        /// The release of Debian: 12 is bookworm, 13 is trixie.
        #[arg(long, default_value = "bookworm", value_name = "SUITE")]
        debian: Debian,
    },
    /// Build twice, in two folders, and compare all bytes.
    Reproduce,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let out = arguments.out.clone().unwrap_or_else(|| workspace.target.join("dist"));
    match arguments.task {
        Some(Task::Reproduce) => return reproduce(workspace, arguments, &out),
        Some(Task::Test { .. }) | None => {}
    }
    let path = match &arguments.binary {
        Some(path) => path.clone(),
        None => binary::build(workspace, &workspace.root, &workspace.target)?,
    };
    make(workspace, &path, &out, &arguments.base_url)?;
    if let Some(Task::Test { debian }) = arguments.task {
        newcomer::test(workspace, &out, &workspace.version, debian)?;
    }
    Ok(())
}

/// The content of the packages.
pub(crate) struct Content<'a> {
    pub(crate) version: &'a str,
    pub(crate) platform: &'a Platform,
    pub(crate) binary: &'a [u8],
    /// tercet's licence, then those of all dependencies.
    pub(crate) licence: &'a str,
    pub(crate) licences: &'a str,
    /// The manual pages by file name.
    pub(crate) manual: Vec<(String, Vec<u8>)>,
    /// The completions by shell.
    pub(crate) completions: Vec<(&'static str, Vec<u8>)>,
    pub(crate) schema: Vec<u8>,
    pub(crate) readme: Vec<u8>,
}

/// What every package says about tercet.
pub(crate) const SUMMARY: &str = "A load-balanced, locked-down HTTP API over PostgreSQL on machines you own";

/// Makes all files from a binary.
fn make(workspace: &Workspace, path: &Path, out: &Path, base_url: &str) -> Result<()> {
    let bytes = fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    Binary::parse(&bytes)?.check()?;
    let version = workspace.version.as_str();
    let said = output(workspace.command(path).arg("--version"))?;
    if said.trim() != format!("tercet {version}") {
        bail!("{}: it is {}, and the workspace has version {version}", path.display(), said.trim());
    }
    let dependencies = licences::dependencies(workspace, LINUX_X64.rust)?;
    let licence = fs::read_to_string(workspace.root.join("LICENSE"))?;
    let content = Content {
        version,
        platform: &LINUX_X64,
        binary: &bytes,
        licence: &licence,
        licences: &licences::text(&dependencies)?,
        manual: manual(workspace, path)?,
        completions: completions(workspace, path)?,
        schema: fs::read(workspace.root.join("docs/guide/tercet.schema.json"))?,
        readme: fs::read(workspace.root.join("README.md"))?,
    };
    match fs::remove_dir_all(out) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => fs::create_dir_all(out)?,
    }
    let tarball = tarball(&content)?;
    let sum = archive::sha256(&tarball);
    let mut files = vec![
        (archive_name(version), tarball),
        debian::package(&content)?,
        wheel::package(&content)?,
        (format!("tercet-{version}.cdx.json"), sbom::document(version, &dependencies)),
        ("install.sh".to_owned(), install_script(version, &sum, base_url)),
        ("Containerfile".to_owned(), containerfile(version)),
    ];
    files.extend(npm::packages(&content)?);
    let sums: String =
        files.iter().map(|(name, bytes)| format!("{}  {name}\n", archive::sha256(bytes))).collect();
    files.push(("SHA256SUMS".to_owned(), sums.into_bytes()));
    for (name, bytes) in &files {
        fs::write(out.join(name), bytes)?;
        println!("{:>11} {}", bytes.len(), out.join(name).display());
    }
    Ok(())
}

fn archive_name(version: &str) -> String {
    format!("tercet-{version}-{}.tar.gz", LINUX_X64.rust)
}

/// The archive: a folder with the binary and what belongs to it.
fn tarball(content: &Content<'_>) -> Result<Vec<u8>> {
    let folder = format!("tercet-{}-{}", content.version, content.platform.rust);
    let mut entries = vec![
        Entry::program("tercet", content.binary),
        Entry::file("LICENSE", content.licence),
        Entry::file("LICENSES.txt", content.licences),
        Entry::file("README.md", &content.readme),
        Entry::file("tercet.schema.json", &content.schema),
    ];
    entries.extend(content.manual.iter().map(|(name, page)| Entry::file(format!("man/{name}"), page)));
    entries.extend(
        content
            .completions
            .iter()
            .map(|(shell, text)| Entry::file(format!("completions/tercet.{shell}"), text)),
    );
    for entry in &mut entries {
        entry.path = format!("{folder}/{}", entry.path);
    }
    gzip(&tar(entries))
}

fn manual(workspace: &Workspace, tercet: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let folder = tempfile::tempdir()?;
    output(workspace.command(tercet).arg("man").arg(folder.path()))?;
    let mut pages = Vec::new();
    for entry in fs::read_dir(folder.path())? {
        let entry = entry?;
        pages.push((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?));
    }
    pages.sort();
    Ok(pages)
}

fn completions(workspace: &Workspace, tercet: &Path) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let script = |shell| {
        output(workspace.command(tercet).args(["completions", shell])).map(|text| (shell, text.into_bytes()))
    };
    ["bash", "fish", "zsh"].into_iter().map(script).collect()
}

fn install_script(version: &str, sum: &str, base_url: &str) -> Vec<u8> {
    include_str!("dist/install.sh")
        .replace("@VERSION@", version)
        .replace("@ARCHIVE@", &archive_name(version))
        .replace("@SHA256@", sum)
        .replace("@BASE_URL@", base_url)
        .into_bytes()
}

fn containerfile(version: &str) -> Vec<u8> {
    include_str!("dist/Containerfile").replace("@VERSION@", version).into_bytes()
}

/// Builds two copies of the working tree in two folders, and compares the files made from them.
fn reproduce(workspace: &Workspace, arguments: &Arguments, out: &Path) -> Result<()> {
    let mut made = Vec::new();
    for name in ["one", "another-folder"] {
        let folder = tempfile::Builder::new().prefix(name).tempdir()?;
        let files = workspace.files()?;
        for file in &files {
            let target = folder.path().join("source").join(file);
            fs::create_dir_all(target.parent().context("a file has a folder")?)?;
            fs::copy(workspace.root.join(file), target)?;
        }
        let source = folder.path().join("source");
        let binary = binary::build(workspace, &source, &folder.path().join("target"))?;
        let out = out.join(name);
        make(workspace, &binary, &out, &arguments.base_url)?;
        made.push(fs::read_to_string(out.join("SHA256SUMS"))?);
    }
    if made[0] != made[1] {
        bail!("two builds differ:\n{}\n{}", made[0], made[1]);
    }
    println!("two builds in two folders have the same bytes");
    Ok(())
}
