//! `tercet migrate`: creates the next migration, shows the state of all, checks them, makes the database anew from them.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde_json::json;
use tercet_database::migration::{Migrations, State, Status};
use tercet_database::{ScratchDatabase, Seeds, roles};
use tercet_postgres::Target;

use crate::cli;
use crate::commands::backup::here::block_on;
use crate::commands::backup::here::live::{Live, Serving};
use crate::commands::up::SEEDS;
use crate::failure::{Failure, Outcome};
use crate::project::Project;

pub(crate) fn run(verb: &cli::Migrate) -> Outcome {
    match verb {
        cli::Migrate::New(arguments) => new(arguments),
        cli::Migrate::Status(arguments) => status(arguments),
        cli::Migrate::Check(arguments) => check(arguments),
        cli::Migrate::Reset(arguments) => reset(arguments),
    }
}

fn new(arguments: &cli::MigrateNew) -> Outcome {
    let title = &arguments.title;
    if !title.chars().any(char::is_alphanumeric) {
        return Err(Failure::input_message(format!(
            "{title:?} is no title\nhint: say what the migration changes: tercet migrate new \"add shelves\""
        )));
    }
    let project = Project::to_bring_up(&arguments.folder)?;
    let folder = arguments.folder.join(&project.topology.database().migrations);
    let path = folder.join(read(&folder)?.next_name(title));
    let write = || {
        fs::create_dir_all(&folder)?;
        File::options()
            .write(true)
            .create_new(true)
            .open(&path)?
            .write_all(format!("-- {title}\n").as_bytes())
    };
    write().with_context(|| path.display().to_string())?;
    if arguments.json {
        print(&json!({ "file": path }).to_string())
    } else {
        print(&path.display().to_string())
    }
}

fn status(arguments: &cli::MigrateStatus) -> Outcome {
    let project = Project::open(&arguments.folder)?;
    let migrations = migrations(&project)?;
    if let Some(url) = &project.topology.database().url {
        let target =
            Target::parse(&project.reveal(url)?, &super::environment()).context("url in [database]")?;
        return block_on(async { show(&migrations.status(&target).await?, arguments.json) });
    }
    let live = Live::open(&project)?;
    block_on(serving(&live, async |serving| {
        show(&migrations.status(&serving.superuser(&live.name)).await?, arguments.json)
    }))
}

fn show(migrations: &[Status], json: bool) -> Outcome {
    if json {
        return print(&json!({ "migrations": migrations }).to_string());
    }
    let width = migrations.iter().map(|migration| migration.title.chars().count()).max().unwrap_or(0);
    for Status { version, title, applied, state, .. } in migrations {
        let time = applied.as_ref().map(|time| format!(" {time}")).unwrap_or_default();
        print(&format!("{version:04}  {title:width$}  {state}{time}"))?;
    }
    if migrations.is_empty() {
        print("there are no migrations")?;
    }
    if migrations.iter().any(|migration| matches!(migration.state, State::Changed | State::Missing)) {
        print(
            "\nhint: put the old text or the missing file back, or make the database anew: tercet migrate reset",
        )?;
    }
    Ok(())
}

fn check(arguments: &cli::MigrateCheck) -> Outcome {
    let project = Project::open(&arguments.folder)?;
    let inputs = Inputs::read(&project)?;
    let live = Live::open(&project)?;
    block_on(serving(&live, async |serving| {
        let scratch = scratch(serving, &project).await?;
        let applied = inputs.apply(&scratch.owner()).await;
        let removed = scratch.remove().await;
        let applied = applied?;
        removed?;
        let present = inputs.migrations.status(&serving.superuser(&live.name)).await?;
        if let Some(Status { version, state, .. }) =
            present.iter().find(|it| matches!(it.state, State::Changed | State::Missing | State::Failed))
        {
            return Err(anyhow::anyhow!(
                "the migrations apply to an empty database, but the file of migration {version} is {state} since it was \
                 applied to this one; hint: tercet migrate status"
            )
            .into());
        }
        let pending = present.iter().filter(|it| it.state == State::Pending).count();
        applied.say(
            arguments.json,
            "can be applied to an empty database",
            &format!("; {pending} pending here"),
        )
    }))
}

fn reset(arguments: &cli::MigrateReset) -> Outcome {
    let project = Project::open(&arguments.folder)?;
    let inputs = Inputs::read(&project)?;
    let live = Live::open(&project)?;
    live.confirm("drop its database with all rows", arguments.yes.as_deref())?;
    block_on(serving(&live, async |serving| {
        let scratch = scratch(serving, &project).await?;
        match inputs.apply(&scratch.owner()).await {
            Ok(applied) => {
                scratch.replace().await?;
                applied.say(arguments.json, "applied to a new database", "")
            }
            Err(error) => {
                scratch.remove().await?;
                Err(error.context("the database is unchanged").into())
            }
        }
    }))
}

async fn scratch(
    serving: &Serving,
    project: &Project,
) -> anyhow::Result<ScratchDatabase<impl Fn(&str) -> Target + use<>>> {
    let superuser = serving.superuser("postgres");
    let connect = move |database: &str| Target { database: database.to_owned(), ..Target::clone(&superuser) };
    let topology = &project.topology;
    Ok(ScratchDatabase::create(connect, topology.name(), topology.database().supabase).await?)
}

/// Connects to the project's PostgreSQL, started if necessary, for `work`.
async fn serving(live: &Live, work: impl AsyncFnOnce(&Serving) -> Outcome) -> Outcome {
    let serving = live.serve().await?;
    let outcome = work(&serving).await;
    serving.stop().await;
    outcome
}

/// The files of a project.
struct Inputs {
    migrations: Migrations,
    seeds: Seeds,
    /// What the roles of requests are granted by default (`grants`).
    grants: Option<bool>,
}

/// How many of them were applied.
struct Applied {
    migrations: u64,
    seeds: u64,
}

impl Inputs {
    fn read(project: &Project) -> Result<Self, Failure> {
        if project.topology.database().url.is_some() {
            return Err(Failure::input_message(
                "url in [database] names another PostgreSQL, and this command is for tercet's own\n\
                 hint: leave url out while you develop",
            ));
        }
        let seeds = Seeds::read(&project.folder.join(SEEDS));
        let seeds = seeds.map_err(|error| Failure::input_message(error.to_string()))?;
        let grants = project.topology.grants();
        Ok(Self { migrations: migrations(project)?, seeds, grants })
    }

    async fn apply(&self, owner: &Target) -> anyhow::Result<Applied> {
        self.seeds.announce(owner).await?;
        if let Some(granted) = self.grants {
            roles::set_default_grants(owner, granted).await?;
        }
        let migrations = self.migrations.apply(owner).await?;
        Ok(Applied { migrations, seeds: self.seeds.apply(owner).await?.count })
    }
}

impl Applied {
    fn say(&self, json: bool, what: &str, more: &str) -> Outcome {
        let Self { migrations, seeds } = self;
        if json {
            return print(&json!({ "migrations": migrations, "seeds": seeds }).to_string());
        }
        let of = |count: u64, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        print(&format!("{} and {} {what}{more}", of(*migrations, "migration"), of(*seeds, "seed")))
    }
}

fn migrations(project: &Project) -> Result<Migrations, Failure> {
    read(&project.folder.join(&project.topology.database().migrations))
}

fn read(folder: &Path) -> Result<Migrations, Failure> {
    Migrations::read(folder).map_err(|error| Failure::input_message(error.to_string()))
}

fn print(line: &str) -> Outcome {
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}
