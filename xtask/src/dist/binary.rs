//! The release binary: how it is built, and what it may need of a machine.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::command::{attached, output};
use crate::workspace::Workspace;

/// The newest version of glibc that it may need.
const GLIBC: (u32, u32) = (2, 34);
/// The libraries that it may need, which every Debian has.
const LIBRARIES: [&str; 4] = ["ld-linux-x86-64.so.2", "libc.so.6", "libgcc_s.so.1", "libm.so.6"];

/// Builds tercet from `source` in `target`. Paths of this machine are not in it.
pub(crate) fn build(workspace: &Workspace, source: &Path, target: &Path) -> Result<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let home = home.context("neither CARGO_HOME nor HOME is set")?;
    let flags = format!(
        "--remap-path-prefix={}=/tercet --remap-path-prefix={}=/cargo",
        source.display(),
        home.display()
    );
    let mut cargo = workspace.command("cargo");
    cargo
        .args(["build", "--locked", "--package", "tercet", "--release", "--manifest-path"])
        .arg(source.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .env("RUSTFLAGS", &flags)
        // C code of dependencies has its own paths.
        .env("CFLAGS", flags.replace("--remap-path-prefix", "-ffile-prefix-map"))
        .env("SOURCE_DATE_EPOCH", "315532800");
    attached(&mut cargo)?;
    Ok(target.join("release/tercet"))
}

/// The requirements of an ELF binary.
pub(crate) struct Binary {
    libraries: Vec<String>,
    glibc: Vec<(u32, u32)>,
}

impl Binary {
    /// Reads them with binutils.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), bytes)?;
        let dynamic =
            output(std::process::Command::new("objdump").arg("--private-headers").arg(file.path()))?;
        let libraries = dynamic
            .lines()
            .filter_map(|line| line.trim().strip_prefix("NEEDED"))
            .map(|name| name.trim().to_owned())
            .collect();
        let version = |text: &str| {
            let (major, minor) = text.split_once('.')?;
            Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
        };
        let glibc =
            dynamic.split_whitespace().filter_map(|word| version(word.strip_prefix("GLIBC_")?)).collect();
        Ok(Self { libraries, glibc })
    }

    /// Fails if it needs more than a supported machine has.
    pub(crate) fn check(&self) -> Result<()> {
        let newest = self.glibc.iter().max().context("the binary names no version of glibc")?;
        if *newest > GLIBC {
            bail!(
                "the binary needs glibc {}.{}, and {}.{} is the limit",
                newest.0,
                newest.1,
                GLIBC.0,
                GLIBC.1
            );
        }
        if let Some(library) = self.libraries.iter().find(|name| !LIBRARIES.contains(&name.as_str())) {
            bail!("the binary needs {library}, which is none of {}", LIBRARIES.join(", "));
        }
        Ok(())
    }
}
