//! The commands for developing a project under `tercet up`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// A command about migrations.
#[derive(Debug, Subcommand)]
pub(crate) enum Migrate {
    New(MigrateNew),
    Status(MigrateStatus),
    Check(MigrateCheck),
    Reset(MigrateReset),
}

/// Create the file of the next migration.
#[derive(Args, Debug)]
pub(crate) struct MigrateNew {
    /// What it changes, for the file's name
    #[arg(value_name = "TITLE")]
    pub(crate) title: String,
    /// The project's folder, with tercet.toml
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Print the file's name as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show which migrations are applied, pending, changed or missing.
#[derive(Args, Debug)]
pub(crate) struct MigrateStatus {
    /// The project's folder, with tercet.toml
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Apply all migrations and seeds to an empty scratch database, which is dropped afterwards.
#[derive(Args, Debug)]
pub(crate) struct MigrateCheck {
    /// The project's folder, with tercet.toml
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Make the database anew from the migrations and seeds; all rows in it are lost.
///
/// The new database is made first, and replaces the old one only if all migrations and seeds were applied. A running
/// `tercet up` goes on with the new one.
#[derive(Args, Debug)]
pub(crate) struct MigrateReset {
    /// The project's folder, with tercet.toml
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Do not ask for confirmation; takes the project's name, as a safeguard
    #[arg(long, value_name = "PROJECT")]
    pub(crate) yes: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Open psql on the project's database, as its owner or as a request role.
///
/// With --role or --claims, statements run with the privileges and policies of such a request.
#[derive(Args, Debug)]
pub(crate) struct Sql {
    /// The project's folder, with tercet.toml
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// The role to run statements as: anon or authenticated [default: the owner]
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: Option<String>,
    /// The claims of the token, as a JSON object; the role is the one they name, or authenticated
    #[arg(long, value_name = "JSON")]
    pub(crate) claims: Option<String>,
    /// Arguments for psql
    #[arg(last = true, value_name = "PSQL")]
    pub(crate) psql: Vec<std::ffi::OsString>,
}

/// Run a command of your own program, with its environment and the owner's DATABASE_URL.
///
/// It runs in the project's folder while `tercet up` is running, as the command of `migrate` does, and can ask for input:
/// `tercet run -- python manage.py createsuperuser`.
#[derive(Args, Debug)]
pub(crate) struct Run {
    /// The project's folder, with tercet.toml
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// The application whose environment the command gets, if there are several
    #[arg(long, value_name = "NAME")]
    pub(crate) application: Option<String>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<std::ffi::OsString>,
}

/// A programming language.
#[derive(Debug, Subcommand)]
pub(crate) enum Language {
    /// Print types for TypeScript, as `@supabase/supabase-js` and `@supabase/postgrest-js` take them.
    #[command(name = "typescript")]
    TypeScript(TypeScript),
}

/// The project.
#[derive(Args, Debug)]
pub(crate) struct TypeScript {
    /// The project's folder, with tercet.toml
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) folder: PathBuf,
}
