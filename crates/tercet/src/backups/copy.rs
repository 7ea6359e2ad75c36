//! A backup, restored into a folder: unpacked, compared with its manifest, recovered.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail};
use tercet_database::restored::{RecoveryError, Server};
use tercet_database::{Account, Installation, Program, Recovery, RecoveryTarget, RestoredCluster};

use super::{Backup, Entry, need_room};
use crate::supervisor::ends_with_this_process;

/// The compressed files of a backup: the data directory, and the WAL that makes it consistent.
const FILES: [&str; 2] = ["base.tar.gz", "pg_wal.tar.gz"];
/// The most lines of a program's output in an error.
const LINES: usize = 6;

/// A restored backup.
#[derive(Debug)]
pub(crate) struct Copy {
    cluster: RestoredCluster,
    preload_libraries: String,
}

impl Copy {
    /// Unpacks a backup into `folder`, whose previous content is removed, and checks every file with its manifest.
    ///
    /// # Errors
    /// There is no room, or a file of the backup is missing or damaged; the error names it.
    pub(crate) async fn unpack(
        entry: &Entry,
        backup: &Backup,
        folder: &Path,
        account: Account,
        installation: Installation,
    ) -> anyhow::Result<Self> {
        let cluster = RestoredCluster::open(folder, account, installation, ends_with_this_process()?).await?;
        cluster.clear()?;
        need_room(folder, backup.data_bytes)?;
        let data = cluster.data();
        let copy = Self { cluster, preload_libraries: backup.preload_libraries.clone() };
        for (name, folder) in FILES.into_iter().zip([data.clone(), data.join("pg_wal")]) {
            let file = entry.folder.join(name);
            let arguments = [
                OsStr::new("-x"),
                "-z".as_ref(),
                "-f".as_ref(),
                file.as_ref(),
                "-C".as_ref(),
                folder.as_ref(),
            ];
            copy.run("tar".into(), &arguments)
                .await
                .with_context(|| format!("{} is damaged", file.display()))?;
        }
        let manifest = entry.folder.join("backup_manifest");
        let verify = copy.cluster.installation().program("pg_verifybackup");
        // The WAL is verified by its recovery.
        let arguments =
            [OsStr::new("--no-parse-wal"), "--manifest-path".as_ref(), manifest.as_ref(), data.as_ref()];
        if let Err(error) = copy.run(verify, &arguments).await {
            copy.compressed_files_are_whole(entry).await?;
            return Err(error).with_context(|| format!("backup {} is damaged", entry.id));
        }
        Ok(copy)
    }

    /// Fails if the checksum of a compressed file is wrong, which tar does not notice when the archive in it seems to end early.
    async fn compressed_files_are_whole(&self, entry: &Entry) -> anyhow::Result<()> {
        for name in FILES {
            let file = entry.folder.join(name);
            let tested = self.run("gzip".into(), &["--test".as_ref(), file.as_ref()]).await;
            tested.with_context(|| format!("{} is damaged", file.display()))?;
        }
        Ok(())
    }

    /// Recovers it and starts its server. `complete` says that the archive has all WAL up to now: then a time after the last
    /// commit is reached at the end of the archive.
    pub(crate) async fn recover(
        &self,
        recovery: &Recovery,
        complete: bool,
    ) -> Result<Server<'_>, RecoveryError> {
        match self.cluster.start(Some(recovery), &self.preload_libraries).await {
            Err(RecoveryError::BeforeTarget { .. }) if complete => {
                let to_the_end = Recovery { target: RecoveryTarget::Latest, ..recovery.clone() };
                self.cluster.start(Some(&to_the_end), &self.preload_libraries).await
            }
            started => started,
        }
    }

    pub(crate) fn installation(&self) -> &Installation {
        self.cluster.installation()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.cluster.data()
    }

    /// Runs a program on its files, as PostgreSQL's account.
    async fn run(&self, path: PathBuf, arguments: &[&OsStr]) -> anyhow::Result<()> {
        let account = Account::for_postgresql()?;
        run(self.cluster.installation(), path, arguments, self.cluster.folder(), account).await
    }
}

/// Runs a program until it ends; it also ends with this process.
///
/// # Errors
/// It fails; the error has the first lines of its output.
pub(crate) async fn run(
    installation: &Installation,
    path: PathBuf,
    arguments: &[&OsStr],
    folder: &Path,
    account: Account,
) -> anyhow::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut words = ends_with_this_process()?.into_iter();
    let wrapper = words.next().context("the wrapper is a program")?;
    let arguments = words.chain([path.into_os_string()]).chain(arguments.iter().map(Into::into)).collect();
    let program = Program {
        path: wrapper.into(),
        arguments,
        environment: installation.environment(),
        folder: folder.to_owned(),
        account,
    };
    let output = tokio::process::Command::from(program.command())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| name.clone())?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).take(LINES).collect();
    if lines.is_empty() {
        bail!("{name}: {}", output.status);
    }
    bail!("{}", lines.join("; "))
}
