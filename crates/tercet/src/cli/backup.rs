//! The arguments of the commands for backups, restores and moves.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Change, Machines};

/// Back the database up, list the backups, or check one by restoring it.
///
/// On machines, the `[backup]` section of tercet.toml schedules backups and checks; `tercet up` makes none by itself.
/// Without a subcommand: make one backup now.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Backup {
    #[command(subcommand)]
    pub(crate) verb: Option<BackupVerb>,
    #[command(flatten)]
    pub(crate) take: BackupTake,
}

/// An action on the backups.
#[derive(Debug, Subcommand)]
pub(crate) enum BackupVerb {
    List(BackupList),
    Check(BackupCheck),
    /// Print the key that the backups in an object store are encrypted with, to be kept in a safe place.
    Key(BackupKey),
}

/// Make one backup now.
#[derive(Args, Debug)]
pub(crate) struct BackupTake {
    #[command(flatten)]
    pub(crate) machines: Machines,
    /// Copy everything, not only what has changed since the last backup
    #[arg(long)]
    pub(crate) full: bool,
}

/// List the backups: what each can restore, and when and with what result it was checked.
#[derive(Args, Debug)]
pub(crate) struct BackupList {
    #[command(flatten)]
    pub(crate) machines: Machines,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Check a backup: restore it beside the database, recover it to the end of the archive, and verify the copy.
#[derive(Args, Debug)]
pub(crate) struct BackupCheck {
    /// The backup's id, from `tercet backup list`
    #[arg(default_value = "latest", value_name = "ID")]
    pub(crate) backup: String,
    #[command(flatten)]
    pub(crate) machines: Machines,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print the encryption key of the backups.
#[derive(Args, Debug)]
pub(crate) struct BackupKey {
    /// The project's folder, with tercet.toml
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) folder: PathBuf,
}

/// Restore the database as it was at a time.
///
/// By default beside the running database, as a copy to look at; `--replace` replaces the database with the copy, and
/// `--undo` returns to the one before.
#[derive(Args, Debug)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["to", "undo", "drop"])))]
pub(crate) struct Restore {
    #[command(flatten)]
    pub(crate) machines: Machines,
    /// The time: RFC 3339, "10 minutes ago", latest, or the id of a release: the moment before its migrations
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<String>,
    /// Replace the database
    #[arg(long, requires = "to")]
    pub(crate) replace: bool,
    /// Return to the database that the last `--replace` replaced
    #[arg(long)]
    pub(crate) undo: bool,
    /// Remove the copy that was restored beside the database
    #[arg(long)]
    pub(crate) drop: bool,
    /// Do not ask for confirmation; takes the project's name, as a safeguard
    #[arg(long, value_name = "PROJECT")]
    pub(crate) yes: Option<String>,
}

/// The part that moves.
#[derive(Debug, Subcommand)]
pub(crate) enum Move {
    Database(MoveDatabase),
}

/// Move the database to another machine, by its backups.
///
/// Give the new machine the tier "database" in tercet.toml first, in place of the old one. PostgreSQL stops on the old
/// machine once all of its write-ahead log is archived; the new one starts with a copy recovered to the end of it, and the
/// application servers are replaced one by one. The old machine keeps its data.
#[derive(Args, Debug)]
pub(crate) struct MoveDatabase {
    #[command(flatten)]
    pub(crate) change: Change,
    /// The new machine
    #[arg(long, value_name = "MACHINE")]
    pub(crate) to: String,
}
