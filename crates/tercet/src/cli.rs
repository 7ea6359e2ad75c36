//! What can be typed: one type per verb, its help is its documentation.
//!
//! Knows no meaning: the verbs in [`commands`](crate::commands) lower these arguments.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use tercet_observe::Format;

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
    Token(Token),
    Api(Api),
    Balancer(Balancer),
    Plan(Plan),
    Apply(Apply),
    /// Go back to the previous release.
    ///
    /// The same walk as an apply, to what ran before.
    Rollback(Change),
    /// Replace secrets, certificates or keys while everything serves.
    ///
    /// One application server after the other, old and new valid side by side, no request lost. A rotation has phases, and
    /// the one reached is kept with the secrets: one that was cut off goes on when it is run again.
    #[command(subcommand)]
    Rotate(Rotate),
    Destroy(Destroy),
    Prove(Prove),
    Status(Status),
    State(State),
    Logs(Logs),
    Trace(Trace),
    Exec(Exec),
    #[command(hide = true)]
    Machine(Machine),
    Completions(Completions),
    Man(Man),
    #[command(hide = true)]
    Child(Child),
}

/// Run everything on this machine, in the foreground.
///
/// A private PostgreSQL, the migrations, the application servers and the balancer. What crashes is
/// restarted. Ctrl-C stops all of it and leaves nothing running.
#[derive(Args, Debug)]
pub(crate) struct Up {
    /// The folder that holds tercet.toml
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) folder: PathBuf,

    /// Say everything as JSON, one object a line; the default when standard output is no terminal
    #[arg(long)]
    pub(crate) json: bool,
}

/// Write a commented tercet.toml and a first migration.
///
/// Files that are already there are never overwritten.
#[derive(Args, Debug)]
pub(crate) struct Init {
    /// The folder to write into; it is made when it is not there
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) folder: PathBuf,
}

/// Print a token that signs a person in to the data API of a project.
#[derive(Args, Debug)]
pub(crate) struct Token {
    /// The folder that holds tercet.toml
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Who it is for: the "sub" claim
    #[arg(long, value_name = "NAME")]
    pub(crate) subject: Option<String>,
    /// The database role its requests run as
    #[arg(long, default_value = "authenticated", value_name = "ROLE")]
    pub(crate) role: String,
    /// How many seconds it is good for
    #[arg(long, default_value_t = 3600, value_name = "N")]
    pub(crate) seconds: u64,
}

/// Run one data API server in the foreground.
#[derive(Args, Debug)]
pub(crate) struct Api {
    /// A file of PostgREST's options; PGRST_ environment variables win over it
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) instead: Instead,
    #[command(flatten)]
    pub(crate) log: LogLines,
}

/// What is done instead of serving.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub(crate) struct Instead {
    /// Print the configuration, with what the database says of it and without its secrets, and exit
    #[arg(long)]
    pub(crate) dump_config: bool,
    /// Print the schema cache as JSON, and exit
    #[arg(long)]
    pub(crate) dump_schema: bool,
    /// Ask the server that runs with this configuration whether it is ready, by its admin endpoint; exit 0 if it is
    #[arg(long)]
    pub(crate) ready: bool,
    /// Print a configuration file that explains every option, and exit
    #[arg(long)]
    pub(crate) example: bool,
}

/// Run one balancer in the foreground.
#[derive(Args, Debug)]
pub(crate) struct Balancer {
    /// The balancer's own configuration file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Serve what the supervising process at the other end of standard input says
    #[arg(long, hide = true)]
    pub(crate) worker: bool,
    #[command(flatten)]
    pub(crate) log: LogLines,
}

/// How a tier's log lines look.
#[derive(Args, Debug)]
pub(crate) struct LogLines {
    /// What log lines call this process
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Log events as JSON, one object a line
    #[arg(long)]
    json: bool,
}

impl LogLines {
    /// The name to log under, when the tier's own is not precise enough.
    pub(crate) fn name<'a>(&'a self, tier: &'a str) -> &'a str {
        self.name.as_deref().unwrap_or(tier)
    }

    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { Format::Text }
    }
}

/// What an operator's tercet runs on a machine, over ssh.
#[derive(Args, Debug)]
pub(crate) struct Machine {
    /// Warn about certificates whose end is near instead
    #[arg(long)]
    pub(crate) check: bool,
}

/// Which project's machines, and how to get to them.
#[derive(Args, Debug)]
pub(crate) struct Machines {
    /// The folder that holds tercet.toml
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Use this configuration file instead of ~/.ssh/config
    #[arg(long, env = "TERCET_SSH_CONFIG", value_name = "FILE")]
    pub(crate) ssh_config: Option<PathBuf>,
}

/// Show what an apply would change on the machines, field by field; change nothing.
///
/// tercet copies its own binary to each machine, to be able to look.
#[derive(Args, Debug)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) machines: Machines,
    /// Plan to take over machines that belong to another project, or whose secrets are not in this folder
    #[arg(long)]
    pub(crate) take_over: bool,
    /// Plan to start with an empty database although the project has had data elsewhere
    #[arg(long)]
    pub(crate) new_database: bool,
    /// Leave a machine that is no longer in tercet.toml as it is
    #[arg(long, value_name = "NAME")]
    pub(crate) forget: Vec<String>,
    /// Print the plan as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Make the machines what tercet.toml says.
///
/// Plans, asks, brings each machine there, migrates the database, rolls the application servers one by one
/// behind the balancer, and proves that every connection is as drawn. Anything failing: what served before
/// serves again.
#[derive(Args, Debug)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) change: Change,
    /// Take over machines that belong to another project, or whose secrets are not in this folder
    #[arg(long)]
    pub(crate) take_over: bool,
    /// Start with an empty database although the project has had data elsewhere
    #[arg(long)]
    pub(crate) new_database: bool,
    /// Leave a machine that is no longer in tercet.toml as it is, and never ask for it again
    #[arg(long, value_name = "NAME")]
    pub(crate) forget: Vec<String>,
}

/// Take the project down: remove all that tercet made on its machines.
///
/// Balancer first, database last; every machine in tercet.toml, and every one it was applied to before. The data stays in
/// PostgreSQL, and packages stay installed. The secrets are moved aside, not deleted. One that was interrupted is
/// finished by the next.
#[derive(Args, Debug)]
pub(crate) struct Destroy {
    #[command(flatten)]
    pub(crate) machines: Machines,
    /// Drop the project's database and its roles, too; other databases of the cluster stay
    #[arg(long)]
    pub(crate) with_data: bool,
    /// Do not ask; the project's name, so that none is destroyed by mistake
    #[arg(long, value_name = "PROJECT")]
    pub(crate) yes: Option<String>,
    /// Leave a machine as it is, and never ask for it again
    #[arg(long, value_name = "NAME")]
    pub(crate) forget: Vec<String>,
}

/// A change of the machines.
#[derive(Args, Debug)]
pub(crate) struct Change {
    #[command(flatten)]
    pub(crate) machines: Machines,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// What is replaced.
#[derive(Debug, Subcommand)]
pub(crate) enum Rotate {
    /// The password application servers log in to PostgreSQL with.
    Secrets(Change),
    /// The certificates of PostgreSQL and of the application servers; the authority stays.
    Certificates(Change),
    /// The authority that issues these certificates, and the certificates with it.
    ///
    /// Afterwards no certificate of the old one is accepted: what to do when a key was stolen.
    Authority(Change),
    /// The key that tokens of the data API are signed with.
    ///
    /// Tokens of the old key are accepted until it is retired.
    TokenKeys(TokenKeys),
}

/// The key that tokens are signed with.
#[derive(Args, Debug)]
pub(crate) struct TokenKeys {
    #[command(flatten)]
    pub(crate) change: Change,
    /// Make no new key, but accept tokens of the old one no longer
    #[arg(long)]
    pub(crate) retire: bool,
}

/// Try every allowed and every forbidden connection, from everywhere.
#[derive(Args, Debug)]
pub(crate) struct Prove {
    #[command(flatten)]
    pub(crate) machines: Machines,
    /// Print all trials as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show how the machines and the parts on them are doing.
#[derive(Args, Debug)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) machines: Machines,
    /// Look again every two seconds
    #[arg(long, short)]
    pub(crate) watch: bool,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Share what only the operator has, through the machines.
///
/// The certificate authority, the passwords and the token secret in .tercet are kept on every machine, encrypted to the
/// `[state]` recipients of tercet.toml or to a passphrase, and signed by the authority. Without a verb: which generation
/// this folder has, and which each machine.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct State {
    #[command(subcommand)]
    pub(crate) verb: Option<StateVerb>,
    #[command(flatten)]
    pub(crate) show: StateShow,
}

/// What to do with the operator state.
#[derive(Debug, Subcommand)]
pub(crate) enum StateVerb {
    Show(StateShow),
    Push(StatePush),
    Pull(StatePull),
    Identity(StateIdentity),
}

/// Show which generation of the operator state this folder has, and which each machine.
#[derive(Args, Debug)]
pub(crate) struct StateShow {
    #[command(flatten)]
    pub(crate) machines: Machines,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Keep this folder's operator state on the machines.
///
/// An apply does it by itself when tercet.toml names `[state]` recipients. Without recipients it asks for a passphrase.
#[derive(Args, Debug)]
pub(crate) struct StatePush {
    #[command(flatten)]
    pub(crate) machines: Machines,
    /// Take the passphrase from the first line of this file; /dev/stdin and /dev/fd/N are files, too
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Make this folder's state the newest, although the machines keep one that it was not made from
    #[arg(long)]
    pub(crate) replace: bool,
}

/// Fetch the operator state from the machines into this folder.
///
/// Takes the newest generation whose signature is the authority's, and puts it in place whole or not at all.
#[derive(Args, Debug)]
pub(crate) struct StatePull {
    #[command(flatten)]
    pub(crate) machines: Machines,
    #[command(flatten)]
    pub(crate) decryption: Decryption,
    /// The fingerprint of the authority that must have signed it, instead of tercet.toml's
    #[arg(long, value_name = "sha256:…")]
    pub(crate) authority: Option<String>,
    /// Take it from this machine
    #[arg(long, value_name = "MACHINE")]
    pub(crate) from: Option<String>,
    /// Also replace a state that it was not made from, and keep that one in .tercet/replaced-…
    #[arg(long)]
    pub(crate) replace: bool,
}

/// What the operator state is decrypted with.
#[derive(Args, Debug, Default)]
pub(crate) struct Decryption {
    /// A file of age identities, or an ssh key; ~/.config/tercet/identity, ~/.ssh/id_ed25519 and ~/.ssh/id_rsa unless given
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    /// Take the passphrase from the first line of this file; /dev/stdin and /dev/fd/N are files, too
    #[arg(long, value_name = "FILE", conflicts_with = "identity")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

/// Print your public key, to be named in `[state]` recipients; make one when there is none.
#[derive(Args, Debug)]
pub(crate) struct StateIdentity {
    /// The file of the private key; ~/.config/tercet/identity unless given
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// Show what all machines' parts said, as one stream.
#[derive(Args, Debug)]
pub(crate) struct Logs {
    #[command(flatten)]
    pub(crate) machines: Machines,
    /// Go on with lines as they come
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Only of this tier: balancer, application or database
    #[arg(long, value_name = "TIER")]
    pub(crate) tier: Option<String>,
    /// Only lines that matter at least as much
    #[arg(long, value_parser = ["debug", "info", "warn", "error"])]
    pub(crate) level: Option<String>,
    /// Only lines about this request
    #[arg(long, value_name = "ID")]
    pub(crate) request: Option<String>,
    /// How far back, as journalctl understands it; an hour, unless given
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    pub(crate) since: Option<String>,
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show one request's way: balancer, application server, SQL.
#[derive(Args, Debug)]
pub(crate) struct Trace {
    /// Its id, from the x-request-id header
    #[arg(value_name = "ID")]
    pub(crate) request: String,
    #[command(flatten)]
    pub(crate) machines: Machines,
    /// How far back to look, as journalctl understands it
    #[arg(long, value_name = "WHEN", default_value = "-1d", allow_hyphen_values = true)]
    pub(crate) since: String,
}

/// Run a command on a machine, or on all machines of a tier.
#[derive(Args, Debug)]
pub(crate) struct Exec {
    /// A machine's name, or balancer, application or database
    #[arg(value_name = "WHERE")]
    pub(crate) on: String,
    #[command(flatten)]
    pub(crate) machines: Machines,
    /// The command
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<String>,
}

/// Print the completions of a shell.
#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: Shell,
}

/// Print the manual page, or write one page per verb into a folder.
#[derive(Args, Debug)]
pub(crate) struct Man {
    /// Where to write tercet.1, tercet-up.1, …; without it tercet.1 is printed
    #[arg(value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
}

/// Run a program that never outlives its parent.
#[derive(Args, Debug)]
pub(crate) struct Child {
    /// The process that must still be the parent
    #[arg(long)]
    pub(crate) parent: i32,
    /// Die with the parent by SIGQUIT instead of SIGKILL
    #[arg(long)]
    pub(crate) quit: bool,
    /// Become this user and group first
    #[arg(long, value_name = "UID:GID", value_parser = account)]
    pub(crate) account: Option<(u32, u32)>,
    /// Keep the right to listen on ports below 1024
    #[arg(long)]
    pub(crate) low_ports: bool,
    /// Stay with the program and end whatever it leaves running
    #[arg(long)]
    pub(crate) guard: bool,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    pub(crate) program: Vec<OsString>,
}

fn account(text: &str) -> Result<(u32, u32), String> {
    let (uid, gid) = text.split_once(':').ok_or("not UID:GID")?;
    Ok((uid.parse().map_err(|_| "not a user id")?, gid.parse().map_err(|_| "not a group id")?))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
