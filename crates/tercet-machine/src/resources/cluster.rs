//! Roles and databases of the PostgreSQL cluster on this machine.
//!
//! Uses psql over the Unix socket as the operating system's user `postgres` (peer authentication). Passwords are SCRAM
//! verifiers (RFC 5803): the machine never gets a password.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
pub use tercet_postgres::Database;
use tercet_postgres::Others;
use tercet_postgres::quote::{self, literal};

use crate::change::Change;
use crate::command::{CommandError, output, run, run_with_input};
use crate::error::Error;
use crate::resource::{Action, Context, Resource};
use crate::secret::Secret;

/// Roles and databases as they should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// The port its Unix socket is named after.
    pub port: u16,
    /// Where it is; pages without checksums get them there.
    pub place: Option<Place>,
    /// Roles, each after those it is a member of.
    pub roles: Vec<Role>,
    /// Databases.
    pub databases: Vec<Database>,
    /// The other roles that may have privileged attributes; with `None` all may.
    pub privileged: Option<Vec<String>>,
}

/// The location of a cluster, for changes while it is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The unit that runs it.
    pub unit: String,
    /// The data directory.
    pub data: PathBuf,
    /// The folder of PostgreSQL's programs.
    pub programs: PathBuf,
}

/// A role whose verifier cannot be printed.
pub type Role = tercet_postgres::Role<Secret>;

/// The present roles and databases.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterFacts {
    /// The system identifier that initdb generated: it distinguishes this data from all other.
    #[serde(default)]
    pub identifier: String,
    /// Whether pages have checksums.
    #[serde(default)]
    pub checksums: bool,
    /// By name.
    pub roles: BTreeMap<String, RoleFacts>,
    /// By name.
    pub databases: BTreeMap<String, DatabaseFacts>,
}

/// The present state of a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleFacts {
    login: bool,
    inherit: bool,
    /// Its attributes among superuser, createdb, createrole, replication, bypassrls.
    powers: Vec<String>,
    member_of: Vec<String>,
    verifier: Option<Secret>,
    settings: BTreeMap<String, String>,
    /// Whether initdb made it: the superuser that the operating system's user `postgres` is.
    #[serde(default)]
    bootstrap: bool,
}

/// The present state of a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseFacts {
    owner: String,
    connect: Vec<String>,
}

const PROBE: &str = include_str!("cluster/probe.sql");

/// The arguments of runuser(1) that run psql as `postgres`, over the socket of this port.
pub(super) fn psql(port: &str) -> Vec<&str> {
    vec![
        "-u",
        "postgres",
        "--",
        "psql",
        "-X",
        "-A",
        "-t",
        "-q",
        "-v",
        "ON_ERROR_STOP=1",
        "-h",
        "/var/run/postgresql",
        "-p",
        port,
        "-d",
        "postgres",
    ]
}

/// A change to the cluster on a port; its SQL does not depend on the present role or database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Creates or alters a role.
    EnsureRole {
        /// The port the cluster's Unix socket is named after.
        port: u16,
        /// The role.
        role: Role,
        /// The differences.
        changes: Vec<Change>,
    },
    /// Creates or alters a database.
    EnsureDatabase {
        /// The port the cluster's Unix socket is named after.
        port: u16,
        /// The database.
        database: Database,
        /// The differences.
        changes: Vec<Change>,
    },
    /// Takes privileged attributes and memberships from a role that is not tercet's.
    RestrictRole {
        /// The port the cluster's Unix socket is named after.
        port: u16,
        /// The role's name.
        role: String,
        /// The privileged roles that it is a member of.
        memberships: Vec<String>,
        /// The differences.
        changes: Vec<Change>,
    },
    /// Gives every page a checksum, while PostgreSQL is stopped (PostgreSQL manual, `pg_checksums`). An interrupted run
    /// starts again.
    EnableChecksums {
        /// The cluster's location.
        place: Place,
    },
}

impl Resource for Option<Cluster> {
    /// `None` when the cluster does not answer.
    type Facts = Option<ClusterFacts>;
    /// The port. Databases and roles are dropped only by [`drop_database`].
    type Record = Option<u16>;
    type Step = Step;

    fn probe(&self, _recorded: &Self::Record) -> Result<Self::Facts, Error> {
        let Some(cluster) = self else { return Ok(None) };
        let output = match output("runuser", &psql(&cluster.port.to_string()), PROBE) {
            Err(CommandError::Start { .. }) => return Ok(None),
            output => output?,
        };
        // Without readable facts, the plan sets every role and database again.
        Ok(output.status.success().then(|| serde_json::from_slice(&output.stdout).ok()).flatten())
    }

    fn diff(&self, facts: &Self::Facts, _context: &mut Context<'_>) -> Vec<Step> {
        let Some(Cluster { port, place, roles, databases, privileged }) = self else { return Vec::new() };
        let none = ClusterFacts { checksums: true, ..ClusterFacts::default() };
        let without = facts.as_ref().is_some_and(|facts| !facts.checksums);
        let checksums = place.clone().filter(|_| without).map(|place| Step::EnableChecksums { place });
        let (facts, port) = (facts.as_ref().unwrap_or(&none), *port);
        let is_restricted = |name: &String| {
            privileged.as_ref().is_some_and(|privileged| !privileged.contains(name))
                && !roles.iter().any(|role| role.name == *name)
        };
        let others = facts.roles.iter().filter(|(name, role)| !role.bootstrap && is_restricted(name));
        let restrictions: Vec<Step> =
            others.filter_map(|(name, role)| restriction(port, name, role, &facts.roles)).collect();
        let roles = roles.iter().filter_map(|role| {
            let changes = role_changes(role, facts.roles.get(&role.name));
            (!changes.is_empty()).then(|| Step::EnsureRole { port, role: role.clone(), changes })
        });
        let databases = databases.iter().filter_map(|database| {
            let changes = database_changes(database, facts.databases.get(&database.name));
            (!changes.is_empty()).then(|| Step::EnsureDatabase { port, database: database.clone(), changes })
        });
        checksums.into_iter().chain(roles).chain(databases).chain(restrictions).collect()
    }

    fn recorded(&self, _files: &BTreeSet<&Path>) -> Self::Record {
        self.as_ref().map(|cluster| cluster.port)
    }

    fn record(
        &self,
        files: &BTreeSet<&Path>,
        _originals: &Path,
        record: &mut Self::Record,
    ) -> io::Result<()> {
        *record = self.recorded(files).or(*record);
        Ok(())
    }
}

impl Action for Step {
    fn changes(&self) -> &[Change] {
        match self {
            Self::EnsureRole { changes, .. }
            | Self::EnsureDatabase { changes, .. }
            | Self::RestrictRole { changes, .. } => changes,
            Self::EnableChecksums { .. } => &[],
        }
    }

    fn execute(&self, _note: &mut dyn FnMut(&str)) -> Result<(), Error> {
        let (port, sql) = match self {
            Self::EnsureRole { port, role, .. } => (port, role.sql(Others::Removed, Secret::reveal)),
            Self::EnsureDatabase { port, database, .. } => (port, database.script()),
            Self::RestrictRole { port, role, memberships, .. } => (port, restrict(role, memberships)),
            Self::EnableChecksums { place } => return Ok(enable_checksums(place)?),
        };
        // It may contain verifiers, so it is passed on standard input.
        run_with_input("runuser", &psql(&port.to_string()), &sql)?;
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EnsureRole { role, .. } => write!(f, "set database role {}", role.name),
            Self::EnsureDatabase { database, .. } => write!(f, "set database {}", database.name),
            Self::RestrictRole { role, .. } => {
                write!(f, "restrict database role {role}, which is not tercet's")
            }
            Self::EnableChecksums { .. } => {
                f.write_str("enable data checksums: PostgreSQL is stopped while its pages are rewritten")
            }
        }
    }
}

fn enable_checksums(place: &Place) -> Result<(), CommandError> {
    let program = place.programs.join("pg_checksums").display().to_string();
    let data = place.data.display().to_string();
    run("systemctl", &["stop", "--", &place.unit])?;
    let enabled = run("runuser", &["-u", "postgres", "--", &program, "--enable", "--pgdata", &data]);
    // It runs again whatever came of it.
    run("systemctl", &["start", "--", &place.unit])?;
    match enabled {
        Err(CommandError::Failed { message, .. }) if message.contains("already enabled") => Ok(()),
        enabled => enabled.map(drop),
    }
}

fn role_changes(role: &Role, facts: Option<&RoleFacts>) -> Vec<Change> {
    let Some(facts) = facts else { return vec![Change::new("role", "absent", "present")] };
    let mut changes = Vec::new();
    let mut compare = |field: &str, from: String, to: String| {
        if from != to {
            changes.push(Change::new(field, from, to));
        }
    };
    compare("login", facts.login.to_string(), role.login.to_string());
    compare("inherit", facts.inherit.to_string(), role.inherit.to_string());
    compare("powers", list(&facts.powers), list(&[]));
    compare("member of", list(&facts.member_of), list(&role.member_of));
    compare("settings", format!("{:?}", facts.settings), format!("{:?}", role.settings));
    if facts.verifier != role.verifier {
        changes.push(Change::new("password", "another", "the generated one"));
    }
    changes
}

/// The predefined roles whose members read or write every table, the server's files, or run its programs (PostgreSQL manual,
/// section 22.5).
const PRIVILEGED_ROLES: [&str; 5] = [
    "pg_execute_server_program",
    "pg_read_all_data",
    "pg_read_server_files",
    "pg_write_all_data",
    "pg_write_server_files",
];

/// The step that restricts a role which is not tercet's; `None` if it has no more rights than any role.
fn restriction(port: u16, name: &str, role: &RoleFacts, all: &BTreeMap<String, RoleFacts>) -> Option<Step> {
    let is_superuser = |name: &String| {
        all.get(name).is_some_and(|it| it.bootstrap || it.powers.iter().any(|power| power == "superuser"))
    };
    let is_privileged = |name: &&String| PRIVILEGED_ROLES.contains(&name.as_str()) || is_superuser(name);
    let memberships: Vec<String> = role.member_of.iter().filter(is_privileged).cloned().collect();
    let mut changes = Vec::new();
    if !role.powers.is_empty() {
        changes.push(Change::new("powers", list(&role.powers), list(&[])));
    }
    if !memberships.is_empty() {
        changes.push(Change::new("member of", list(&memberships), list(&[])));
    }
    let role = name.to_owned();
    (!changes.is_empty()).then_some(Step::RestrictRole { port, role, memberships, changes })
}

/// SQL that takes privileged attributes and memberships from a role. Its objects stay its own.
fn restrict(role: &str, memberships: &[String]) -> String {
    let (name, quoted) = (quote::identifier(role), literal(role));
    let groups: Vec<String> = memberships.iter().map(|group| literal(group)).collect();
    let groups = if groups.is_empty() { "null".to_owned() } else { groups.join(", ") };
    // From version 16 on, each grantor's grant is one of its own.
    format!(
        "begin;\nalter role {name} nosuperuser nocreatedb nocreaterole noreplication nobypassrls;\n\
         do $$ declare it record; begin for it in select g.rolname, m.grantor::regrole as grantor from pg_auth_members m \
         join pg_roles g on g.oid = m.roleid where m.member = {quoted}::name::regrole and g.rolname in ({groups}) loop \
         execute format('revoke %I from %I', it.rolname, {quoted}) || case \
         when current_setting('server_version_num')::int >= 160000 then format(' granted by %s cascade', it.grantor) else '' end; \
         end loop; end $$;\ncommit;\n"
    )
}

fn database_changes(database: &Database, facts: Option<&DatabaseFacts>) -> Vec<Change> {
    let Some(facts) = facts else { return vec![Change::new("database", "absent", "present")] };
    let mut changes = Vec::new();
    if facts.owner != database.owner {
        changes.push(Change::new("owner", facts.owner.clone(), database.owner.clone()));
    }
    if list(&facts.connect) != list(&database.connect) {
        changes.push(Change::new("may connect", list(&facts.connect), list(&database.connect)));
    }
    changes
}

fn list(names: &[String]) -> String {
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Terminates the sessions of `role` from `addresses` and returns their number.
///
/// # Errors
/// PostgreSQL does not answer, or refuses the statement.
pub fn end_sessions(port: u16, role: &str, addresses: &[IpAddr]) -> Result<u64, CommandError> {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let sql = format!(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = {} and client_addr = any({}::inet[]);\n",
        literal(role),
        literal(&format!("{{{}}}", addresses.join(","))),
    );
    let ended = run_with_input("runuser", &psql(&port.to_string()), &sql)?;
    Ok(ended.trim().parse().unwrap_or_default())
}

/// Commits a transaction and ends the segment of the write-ahead log; returns the segment's name.
///
/// # Errors
/// PostgreSQL does not answer.
pub fn end_segment(port: u16) -> Result<String, CommandError> {
    // A recovery to a time ends at the first commit after that time.
    let sql = "do $$ begin perform pg_current_xact_id(); end $$;\nselect pg_walfile_name(pg_switch_wal());\n";
    Ok(run_with_input("runuser", &psql(&port.to_string()), sql)?.trim().to_owned())
}

/// Returns the name of the file that was archived last; empty if none was.
///
/// # Errors
/// PostgreSQL does not answer.
pub fn last_archived(port: u16) -> Result<String, CommandError> {
    let sql = "select last_archived_wal from pg_stat_archiver;\n";
    Ok(run_with_input("runuser", &psql(&port.to_string()), sql)?.trim().to_owned())
}

/// Returns the line of `pg_hba.conf` that decides about a login, with its number; `None` if none matches. Lines with patterns or
/// groups are not compared.
///
/// # Errors
/// PostgreSQL does not answer.
pub fn hba_line(
    port: u16,
    database: &str,
    role: &str,
    client: IpAddr,
    tls: bool,
) -> Result<Option<String>, CommandError> {
    let sql = format!(
        include_str!("cluster/hba_line.sql"),
        transport = literal(if tls { "hostssl" } else { "hostnossl" }),
        database = literal(database),
        role = literal(role),
        client = literal(&client.to_string()),
    );
    let line = run_with_input("runuser", &psql(&port.to_string()), &sql)?;
    Ok(Some(line.trim().to_owned()).filter(|line| !line.is_empty()))
}

/// Drops a database of the cluster with this system identifier, with its sessions, and those of `roles` that no other
/// object in the cluster depends on. Returns the roles that remain.
///
/// # Errors
/// The system identifier differs, or PostgreSQL does not answer.
pub fn drop_database(
    port: u16,
    identifier: &str,
    database: &str,
    roles: &[&str],
) -> Result<Vec<String>, CommandError> {
    let mut sql = format!(
        "do $$ begin if (select system_identifier::text from pg_control_system()) <> {} then \
         raise exception 'it is another PostgreSQL cluster'; end if; end $$;\n\
         select format('drop database %I with (force)', datname) from pg_database where datname = {} \\gexec\n",
        literal(identifier),
        literal(database),
    );
    for role in roles {
        let (name, role) = (quote::identifier(role), literal(role));
        sql += &format!(
            "do $$ begin if exists (select from pg_roles where rolname = {role}) then drop role {name}; end if; \
             exception when dependent_objects_still_exist then null; end $$;\n"
        );
    }
    let names: Vec<String> = roles.iter().map(|role| literal(role)).collect();
    sql += &format!("select rolname from pg_roles where rolname in ({}) order by 1;\n", names.join(", "));
    let left = run_with_input("runuser", &psql(&port.to_string()), &sql)?;
    Ok(left.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}
