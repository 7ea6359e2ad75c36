//! The command line: one type per command; its help text is its documentation.
//!
//! Parses only: the modules of [`commands`](crate::commands) interpret the arguments.

mod backup;
mod balancer;
mod develop;
mod monitoring;
mod rollback;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use tercet_observe::Format;

pub(crate) use self::backup::{
    Backup, BackupCheck, BackupKey, BackupList, BackupVerb, Move, MoveDatabase, Restore,
};
pub(crate) use self::balancer::{Balancer, Certificates, Maintenance, MaintenanceOf};
pub(crate) use self::develop::{
    Language, Migrate, MigrateCheck, MigrateNew, MigrateReset, MigrateStatus, Run, Sql,
};
pub(crate) use self::monitoring::{
    Alerts, AlertsList, AlertsTest, AlertsVerb, Dashboard, Monitoring, MonitoringExport,
};
pub(crate) use self::rollback::Rollback;

/// A load-balanced, locked-down HTTP API over PostgreSQL on machines you own.
#[derive(Debug, Parser)]
#[command(name = "tercet", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(Up),
    Init(Init),
    /// Create, check and apply migrations of a project under `tercet up`.
    #[command(subcommand)]
    Migrate(Migrate),
    Sql(Sql),
    Run(Run),
    /// Print the types of tables, views and functions for a programming language.
    #[command(subcommand)]
    Types(Language),
    Token(Token),
    Keys(Keys),
    Api(Api),
    Balancer(Balancer),
    Plan(Plan),
    Apply(Apply),
    /// Return to the previous release.
    ///
    /// Shows an execution plan and asks for confirmation, as apply does. Migrations are not undone.
    Rollback(Rollback),
    /// Replace secrets, certificates or keys without downtime.
    ///
    /// Replaces one application server after the other, while old and new secrets are both valid, so that no request is
    /// lost. A rotation has phases, and the current one is recorded: run the command again to continue an interrupted
    /// rotation.
    #[command(subcommand)]
    Rotate(Rotate),
    Destroy(Destroy),
    Backup(Backup),
    Restore(Restore),
    /// Move a part of a project to another machine.
    #[command(subcommand)]
    Move(Move),
    Prove(Prove),
    Status(Status),
    Certificates(Certificates),
    /// Answer requests with status 503 and a page.
    ///
    /// Holds from the next second on, for requests that follow, until it is turned off; also over restarts. `allow` in
    /// [balancer.maintenance] names networks that are served all the same.
    #[command(subcommand)]
    Maintenance(Maintenance),
    Dashboard(Dashboard),
    Alerts(Alerts),
    /// Write files for a monitoring system of your own.
    #[command(subcommand)]
    Monitoring(Monitoring),
    State(State),
    Logs(Logs),
    Trace(Trace),
    Exec(Exec),
    #[command(hide = true)]
    Archive(Archive),
    #[command(hide = true)]
    Machine(Machine),
    Completions(Completions),
    Man(Man),
    #[command(hide = true)]
    Child(Child),
}

/// Run all tiers of a project on this machine, in the foreground.
///
/// Starts a private PostgreSQL, applies the migrations, starts the application servers and the balancer. A process
/// that crashes is restarted. New migrations and changes of tercet.toml are applied while it runs. Ctrl-C stops all parts.
#[derive(Args, Debug)]
pub(crate) struct Up {
    /// The project's folder, with tercet.toml
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) folder: PathBuf,

    /// Do not watch migrations, seeds and tercet.toml for changes
    #[arg(long)]
    pub(crate) no_watch: bool,

    /// Do not apply the files of seeds/ to a new database
    #[arg(long)]
    pub(crate) no_seeds: bool,

    /// Print the log lines of all parts from the start
    #[arg(long, short)]
    pub(crate) verbose: bool,

    /// Log as JSON, one object a line; the default if standard output is not a terminal
    #[arg(long)]
    pub(crate) json: bool,
}

/// Write a commented tercet.toml and a first migration.
///
/// Existing files are never overwritten.
#[derive(Args, Debug)]
pub(crate) struct Init {
    /// The folder to write to; it is created if necessary
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) folder: PathBuf,
}

/// Print a token for requests to a project's data API.
#[derive(Args, Debug)]
pub(crate) struct Token {
    /// The project's folder, with tercet.toml
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// The user that the token is for: its "sub" claim
    #[arg(long, value_name = "NAME")]
    pub(crate) subject: Option<String>,
    /// The database role of its requests: its "role" claim
    #[arg(long, default_value = "authenticated", value_name = "ROLE")]
    pub(crate) role: String,
    /// Seconds until the token expires
    #[arg(long, default_value_t = 3600, value_name = "N")]
    pub(crate) seconds: u64,
}

/// Print the keys for clients of Supabase: tokens of the roles anon and service_role.
///
/// They are valid for ten years, or until the key that they are signed with is replaced. The service key bypasses row-level security: keep
/// it on your servers.
#[derive(Args, Debug)]
pub(crate) struct Keys {
    /// The project's folder, with tercet.toml
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Print them as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Run one data API server in the foreground.
#[derive(Args, Debug)]
pub(crate) struct Api {
    /// A file with PostgREST's options; PGRST_ environment variables take precedence
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) action: ApiAction,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

/// An action instead of serving; at most one.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub(crate) struct ApiAction {
    /// Print the configuration, including the in-database configuration, without secrets, and exit
    #[arg(long)]
    pub(crate) dump_config: bool,
    /// Print the schema cache as JSON, and exit
    #[arg(long)]
    pub(crate) dump_schema: bool,
    /// Ask the admin endpoint of the server with this configuration whether it is ready; exit 0 if it is
    #[arg(long)]
    pub(crate) ready: bool,
    /// Print a configuration file that explains every option, and exit
    #[arg(long)]
    pub(crate) example: bool,
}

/// How a tier logs.
#[derive(Args, Debug)]
pub(crate) struct LogOptions {
    /// The name of this process in log lines
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Log events as JSON, one object a line
    #[arg(long)]
    json: bool,
}

impl LogOptions {
    /// The name to log under: `--name`, or the tier's.
    pub(crate) fn name<'a>(&'a self, tier: &'a str) -> &'a str {
        self.name.as_deref().unwrap_or(tier)
    }

    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { Format::Text }
    }
}

/// The agent that an operator's tercet runs on a machine, over ssh; or a task that a timer starts there.
#[derive(Args, Debug)]
pub(crate) struct Machine {
    #[command(subcommand)]
    pub(crate) task: Option<MachineTask>,
}

/// A task that a timer starts on a machine.
#[derive(Debug, Subcommand)]
pub(crate) enum MachineTask {
    /// Print warnings about certificates that expire soon, and measure when each does.
    Certificates,
    /// Make a backup.
    BackUp {
        /// Copy everything
        #[arg(long)]
        full: bool,
    },
    /// Check a backup.
    CheckBackup {
        /// Its id, or latest
        backup: String,
    },
    /// Restore a copy beside the database, and serve it.
    Copy,
    /// Write the time into the database, and look at the archive.
    Heartbeat,
    /// Test the connections to the other machines.
    Prove,
}

/// The project, and how to connect to its machines.
#[derive(Args, Debug)]
pub(crate) struct Machines {
    /// The project's folder, with tercet.toml
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Use this configuration file instead of ~/.ssh/config
    #[arg(long, env = "TERCET_SSH_CONFIG", value_name = "FILE")]
    pub(crate) ssh_config: Option<PathBuf>,
}

/// Show what an apply would change on the machines, without changing it.
///
/// Only tercet's own binary is copied to each machine, to read its state.
#[derive(Args, Debug)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) machines: Machines,
    /// Plan to take over machines that belong to another project, or whose secrets are not in this folder
    #[arg(long)]
    pub(crate) take_over: bool,
    /// Plan to start with an empty database although the project has data elsewhere
    #[arg(long)]
    pub(crate) new_database: bool,
    /// Do not clean up this machine, which is no longer in tercet.toml
    #[arg(long, value_name = "NAME")]
    pub(crate) forget: Vec<String>,
    /// Print the plan as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Bring the machines to the state that tercet.toml describes.
///
/// Shows the execution plan and asks for confirmation. Then it converges each machine, migrates the database, replaces
/// the application servers one by one, and tests every allowed and forbidden connection. If an operation fails, the
/// changes are undone and the previous servers keep serving.
#[derive(Args, Debug)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) change: Change,
    /// Take over machines that belong to another project, or whose secrets are not in this folder
    #[arg(long)]
    pub(crate) take_over: bool,
    /// Start with an empty database although the project has data elsewhere
    #[arg(long)]
    pub(crate) new_database: bool,
    /// Do not clean up this machine, which is no longer in tercet.toml, now or later
    #[arg(long, value_name = "NAME")]
    pub(crate) forget: Vec<String>,
}

/// Take the project down: remove everything that tercet made on its machines.
///
/// Covers every machine in tercet.toml and every machine that was applied to before; the balancer first, the database
/// last. The data stays in PostgreSQL, and packages stay installed. The secrets are moved aside, not deleted. Run the
/// command again to continue after an interruption.
#[derive(Args, Debug)]
pub(crate) struct Destroy {
    #[command(flatten)]
    pub(crate) machines: Machines,
    /// Also drop the project's database and its roles; other databases of the cluster stay
    #[arg(long)]
    pub(crate) with_data: bool,
    /// Do not ask for confirmation; takes the project's name, as a safeguard
    #[arg(long, value_name = "PROJECT")]
    pub(crate) yes: Option<String>,
    /// Do not clean up this machine, now or later
    #[arg(long, value_name = "NAME")]
    pub(crate) forget: Vec<String>,
}

/// A change of the machines.
#[derive(Args, Debug)]
pub(crate) struct Change {
    #[command(flatten)]
    pub(crate) machines: Machines,
    /// Do not ask for confirmation
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// The secrets, certificates or keys to replace.
#[derive(Debug, Subcommand)]
pub(crate) enum Rotate {
    /// The password that application servers log in to PostgreSQL with.
    Secrets(Change),
    /// The certificates of PostgreSQL and of the application servers; the authority stays.
    Certificates(Change),
    /// The authority that issues these certificates, and the certificates with it.
    ///
    /// Afterwards no certificate of the old authority is accepted. Use it if a certificate's key was stolen.
    Authority(Change),
    /// The key that tokens of the data API are signed with.
    ///
    /// Tokens that were signed with the old key are accepted until it is retired.
    TokenKeys(TokenKeys),
}

/// The key that tokens are signed with.
#[derive(Args, Debug)]
pub(crate) struct TokenKeys {
    #[command(flatten)]
    pub(crate) change: Change,
    /// Stop accepting tokens that were signed with the old key; makes no new key
    #[arg(long)]
    pub(crate) retire: bool,
}

/// Test all allowed and forbidden connections, from here and from each machine.
#[derive(Args, Debug)]
pub(crate) struct Prove {
    #[command(flatten)]
    pub(crate) machines: Machines,
    /// Check all 65,535 TCP ports of every address, not only those that may be open: minutes for each address
    #[arg(long)]
    pub(crate) all: bool,
    /// Connection attempts per second with --all, from each vantage point; too many fill the connection tracking of routers
    #[arg(long, value_name = "NUMBER", default_value_t = 400, requires = "all", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: u32,
    /// Print all results as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show the state of `tercet up` or of the machines, and of the balancer's servers.
#[derive(Args, Debug)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) machines: Machines,
    /// Of the `tercet up` on this machine, although tercet.toml names machines
    #[arg(long)]
    pub(crate) here: bool,
    /// Refresh every two seconds
    #[arg(long, short)]
    pub(crate) watch: bool,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Share the operator state with other operators, through the machines.
///
/// The certificate authority, the passwords and the token secret in .tercet are stored on every machine, encrypted to the
/// `[state]` recipients of tercet.toml or with a passphrase, and signed by the authority. Without a subcommand: show the
/// generations of this folder and of each machine.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct State {
    #[command(subcommand)]
    pub(crate) verb: Option<StateVerb>,
    #[command(flatten)]
    pub(crate) show: StateShow,
}

/// An action on the operator state.
#[derive(Debug, Subcommand)]
pub(crate) enum StateVerb {
    Show(StateShow),
    Push(StatePush),
    Pull(StatePull),
    Identity(StateIdentity),
}

/// Show the generation of the operator state in this folder and on each machine.
#[derive(Args, Debug)]
pub(crate) struct StateShow {
    #[command(flatten)]
    pub(crate) machines: Machines,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Store this folder's operator state on the machines.
///
/// An apply does this if tercet.toml names `[state]` recipients. Without recipients, push asks for a passphrase.
#[derive(Args, Debug)]
pub(crate) struct StatePush {
    #[command(flatten)]
    pub(crate) machines: Machines,
    /// Read the passphrase from the first line of this file; /dev/stdin and /dev/fd/N are files, too
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Overwrite the machines' state, although this folder's is not derived from it
    #[arg(long)]
    pub(crate) replace: bool,
}

/// Fetch the operator state from the machines into this folder.
///
/// Takes the newest generation with a valid signature of the authority, and replaces the folder's state atomically.
#[derive(Args, Debug)]
pub(crate) struct StatePull {
    #[command(flatten)]
    pub(crate) machines: Machines,
    #[command(flatten)]
    pub(crate) decryption: Decryption,
    /// The fingerprint of the authority that must have signed the state, instead of the one in tercet.toml
    #[arg(long, value_name = "sha256:…")]
    pub(crate) authority: Option<String>,
    /// Take the state from this machine
    #[arg(long, value_name = "MACHINE")]
    pub(crate) from: Option<String>,
    /// Replace this folder's state even if it has changes of its own, and keep those in .tercet/replaced-…
    #[arg(long)]
    pub(crate) replace: bool,
}

/// The key that decrypts the operator state.
#[derive(Args, Debug, Default)]
pub(crate) struct Decryption {
    /// A file of age identities, or an ssh key [default: ~/.config/tercet/identity, ~/.ssh/id_ed25519, ~/.ssh/id_rsa]
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    /// Read the passphrase from the first line of this file; /dev/stdin and /dev/fd/N are files, too
    #[arg(long, value_name = "FILE", conflicts_with = "identity")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

/// Print your public key, for the `[state]` recipients; create a key pair if there is none.
#[derive(Args, Debug)]
pub(crate) struct StateIdentity {
    /// The file of the private key [default: ~/.config/tercet/identity]
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// Show the logs of `tercet up`, or of all machines, as one stream.
#[derive(Args, Debug)]
pub(crate) struct Logs {
    #[command(flatten)]
    pub(crate) machines: Machines,
    /// Of the `tercet up` on this machine, although tercet.toml names machines
    #[arg(long)]
    pub(crate) here: bool,
    /// Keep printing new lines
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Only lines of this tier: balancer, application, database, backup or monitor
    #[arg(long, value_name = "TIER")]
    pub(crate) tier: Option<String>,
    /// Only lines of at least this level
    #[arg(long, value_parser = ["debug", "info", "warn", "error"])]
    pub(crate) level: Option<String>,
    /// Only lines of the request with this id
    #[arg(long, value_name = "ID")]
    pub(crate) request: Option<String>,
    /// The time to start at, in journalctl's format [default: -1h]
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    pub(crate) since: Option<String>,
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show the timeline of a request, from balancer to PostgreSQL, and its log lines.
#[derive(Args, Debug)]
pub(crate) struct Trace {
    /// The request id, from the x-request-id header
    #[arg(value_name = "ID")]
    pub(crate) request: String,
    #[command(flatten)]
    pub(crate) machines: Machines,
    /// Of the `tercet up` on this machine, although tercet.toml names machines
    #[arg(long)]
    pub(crate) here: bool,
    /// The time to start at, in journalctl's format [default: when the id was generated, else -1d]
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    pub(crate) since: Option<String>,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Run a command on a machine, or on all machines of a tier.
#[derive(Args, Debug)]
pub(crate) struct Exec {
    /// A machine's name, or a tier: balancer, application, database, backup or monitor
    #[arg(value_name = "WHERE")]
    pub(crate) on: String,
    /// Connect standard input and output with the command's, byte for byte; on one machine
    #[arg(long)]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) machines: Machines,
    /// The command
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<String>,
}

/// Print a shell's completion script.
#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: Shell,
}

/// Print the manual page, or write a page for each command into a folder.
#[derive(Args, Debug)]
pub(crate) struct Man {
    /// The folder to write tercet.1, tercet-up.1, … to; without it, print tercet.1
    #[arg(value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
}

/// Copy a file of PostgreSQL's WAL into an archive; PostgreSQL runs this as its `archive_command`.
#[derive(Args, Debug)]
pub(crate) struct Archive {
    /// The file
    pub(crate) file: PathBuf,
    /// Its path in the archive
    pub(crate) target: PathBuf,
}

/// Run a program that is terminated with its parent process.
#[derive(Args, Debug)]
pub(crate) struct Child {
    /// The process that must still be the parent
    #[arg(long)]
    pub(crate) parent: i32,
    /// Send the program SIGQUIT instead of SIGKILL when the parent dies
    #[arg(long)]
    pub(crate) quit: bool,
    /// Become this user and group first
    #[arg(long, value_name = "UID:GID", value_parser = account)]
    pub(crate) account: Option<(u32, u32)>,
    /// Keep the capability to bind ports below 1024
    #[arg(long)]
    pub(crate) low_ports: bool,
    /// Report an error as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Stay as a child subreaper, and terminate all of the program's descendants with it
    #[arg(long)]
    pub(crate) subreaper: bool,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    pub(crate) program: Vec<OsString>,
}

fn account(text: &str) -> Result<(u32, u32), String> {
    let (uid, gid) = text.split_once(':').ok_or("not UID:GID")?;
    Ok((uid.parse().map_err(|_| "not a user id")?, gid.parse().map_err(|_| "not a group id")?))
}

#[cfg(test)]
mod tests;
