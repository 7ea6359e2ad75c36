//! Makes changes on the machine: one at a time, each under the lease that the request names.

use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use tercet_database::roles::{self, ANONYMOUS, AUTHENTICATED, AUTHENTICATOR, MONITOR};
use tercet_machine::directory::Directory;
use tercet_machine::file::{Contents, File};
use tercet_machine::firewall::{self, Firewall};
use tercet_machine::path::{Owner, remove};
use tercet_machine::{Desired, Secret, Step, cluster, inventory, package, plan, probe, unit};

use super::message::{Change, DatabaseTask, Reply};
use super::{postgres, task};
use crate::backup::Task;
use crate::backup::pgbackrest::PgBackRest;
use crate::backup::settings::{Settings, in_folder};
use crate::identity::{self, Data, Identity};
use crate::lease;
use crate::paths::{CERTIFICATES, LIBRARY, RUNTIME, STATE};
use crate::release::{API_CONF, Kind, Release};
use crate::state;
use crate::systemctl::systemctl;
use crate::{archive, backup, build, website};

/// Makes a change; `say` sends progress. `payload` is the data after the request.
pub(super) fn make(
    change: Change,
    project: &str,
    fence: u64,
    payload: &mut impl Read,
    say: &mut impl FnMut(&Reply) -> Result<()>,
) -> Result<()> {
    let held = lease::begin_change(fence)?;
    let there = identity::read()?;
    if let Some(there) = there.as_ref().filter(|there| there.project != project)
        && !matches!(change, Change::Identify { take_over: true, .. })
    {
        bail!("it is {there}");
    }
    match change {
        Change::Converge { desired, expects, data } => {
            ensure!(expects.exists(), "{} does not exist\nhint: apply again", expects.display());
            converge(&desired, data.as_ref(), &held, say)?;
        }
        Change::Identify { identity, .. } => {
            let same = there.filter(|there| there.project == identity.project);
            let since = same.as_ref().map_or_else(crate::now, |it| it.since.clone());
            identity::write(&Identity { since, data: same.and_then(|it| it.data), ..identity })?;
        }
        Change::RecordData(data) => {
            let there = there.context("the machine belongs to no project yet")?;
            identity::write(&Identity { data: Some(data), ..there })?;
        }
        Change::KeepState { state, replaces } => {
            ensure!(there.is_some(), "the machine belongs to no project yet");
            state::keep(state, replaces.as_deref())?;
        }
        Change::EndSessions { port, addresses } => {
            let ended = cluster::end_sessions(port, AUTHENTICATOR, &addresses)?;
            say(&Reply::Progress(format!("{ended} sessions ended")))?;
        }
        Change::DropDatabase { data, port } => drop_database(&data, port, say)?,
        Change::Erase => {
            erase(Path::new(STATE), &[RUNTIME, LIBRARY, CERTIFICATES].map(Path::new))?;
        }
        Change::KeepFirewall(firewall) => {
            let step = Step::Firewall(firewall::Step::Keep { firewall });
            say(&Reply::Progress(step.to_string()))?;
            step.execute(&mut |_| {})?;
        }
        Change::Ship(release) => ship(&release, payload)?,
        Change::ShipWebsite { name } => ship_website(&name, payload)?,
        Change::Build(release) => build(&release)?,
        Change::MarkUsed(release) => {
            let record = fs::File::options().append(true).open(release.record());
            record.and_then(|file| file.set_modified(std::time::SystemTime::now())).with_context(|| {
                format!("{}: this release is not complete here", release.record().display())
            })?;
        }
        Change::Migrate { migrate, release } => {
            say(&postgres::ask(DatabaseTask::Migrate(migrate, release))?)?;
        }
        Change::SetOwnerLogin(login) => drop(postgres::ask(DatabaseTask::SetOwnerLogin(login))?),
        Change::MigrateByProgram(migration) => migration.run()?,
        Change::InitialiseRepository { is_another_cluster } => {
            initialise_repository(is_another_cluster, say)?;
        }
        Change::CheckArchive => {
            let settings = Settings::here()?;
            PgBackRest { settings: &settings }.check_archive()?;
        }
        Change::StartTask(task) => task::start(&task)?,
        Change::Archive => backup::replace::archive_until_now(&mut |line| {
            drop(say(&Reply::Progress(line.to_owned())));
        })?,
        Change::RestoreCopy(target) => {
            backup::copy::ask(&target)?;
            task::start(&Task::Copy)?;
        }
        Change::DropCopy => drop_copy()?,
        Change::PrepareReplacement(target) => backup::replace::prepare(&target, &mut |line| {
            // A failed write to a disconnected operator is ignored.
            drop(say(&Reply::Progress(line.to_owned())));
        })?,
        Change::ReplaceDatabase(target) => backup::replace::replace(&target, &mut |line| {
            drop(say(&Reply::Progress(line.to_owned())));
        })?,
        Change::CompleteReplacement => backup::replace::complete()?,
        Change::StopDatabase => backup::replace::stop()?,
        Change::DropReplaced => backup::replace::drop_before()?,
    }
    say(&Reply::Done)
}

/// Executes the steps from the present to the desired state. Checks the lease before each.
fn converge(
    desired: &Desired,
    data: Option<&Data>,
    held: &lease::Held,
    say: &mut impl FnMut(&Reply) -> Result<()>,
) -> Result<()> {
    let state = Path::new(STATE);
    inventory::record(state, desired).context("the inventory")?;
    let mut unconfirmed: Option<Firewall> = None;
    let mut again = 2;
    'plan: loop {
        let facts = probe(desired)?;
        if let (Some(data), Some(cluster), Some(wanted)) = (data, &facts.cluster, &desired.cluster) {
            let has = |name: &String| cluster.databases.contains_key(name);
            ensure!(
                cluster.identifier == data.cluster && wanted.databases.iter().all(|it| has(&it.name)),
                "its PostgreSQL does not have the project's data, which is in {data}"
            );
        }
        for step in plan(desired, &facts) {
            if let Step::Firewall(firewall::Step::Keep { firewall }) = step {
                unconfirmed = Some(firewall);
                continue;
            }
            held.check()?;
            say(&Reply::Progress(step.to_string()))?;
            // A failed write to a disconnected operator is ignored: a step that has begun is completed.
            step.execute(&mut |note| drop(say(&Reply::Progress(note.to_owned()))))
                .with_context(|| step.to_string())?;
            // A package creates users, files and running units, and a cluster can be read only once it runs: the facts
            // are read again and the rest is planned anew.
            let starts = matches!(step, Step::Unit(unit::Step::Start { .. }))
                && desired.cluster.is_some()
                && facts.cluster.is_none();
            if again > 0 && (starts || matches!(step, Step::Package(package::Step::Install { .. }))) {
                again -= 1;
                continue 'plan;
            }
        }
        break;
    }
    inventory::forget(state, desired).context("the inventory")?;
    unconfirmed.map_or(Ok(()), |firewall| say(&Reply::Unconfirmed(firewall)))
}

/// Initialises the repository, and waits until the database's write-ahead log arrives in it.
fn initialise_repository(is_another_cluster: bool, say: &mut impl FnMut(&Reply) -> Result<()>) -> Result<()> {
    let settings = Settings::here()?;
    let engine = PgBackRest { settings: &settings };
    engine.initialise(is_another_cluster)?;
    say(&Reply::Progress("wait for the first segment of the write-ahead log".to_owned()))?;
    engine.check_archive()?;
    backup::run::save(&backup::run::read(engine)?)
}

/// Stops the server of the copy; its unit removes the folder.
fn drop_copy() -> Result<()> {
    systemctl(&["stop", "--", backup::units::COPY])?;
    Ok(remove(&in_folder(backup::copy::FOLDER))?)
}

/// Drops the project's database and those of its roles that no other object depends on.
fn drop_database(data: &Data, port: u16, say: &mut impl FnMut(&Reply) -> Result<()>) -> Result<()> {
    let roles = [roles::owner(&data.database)];
    let roles: Vec<&str> = [AUTHENTICATOR, ANONYMOUS, AUTHENTICATED, MONITOR]
        .into_iter()
        .chain(roles.iter().map(String::as_str))
        .collect();
    let kept = cluster::drop_database(port, &data.cluster, &data.database, &roles)?;
    for role in kept {
        say(&Reply::Progress(format!("role {role} is kept: other objects in the cluster depend on it")))?;
    }
    Ok(())
}

/// Removes `folders`, then the contents of `state` with the identity last: an interrupted run can be repeated.
fn erase(state: &Path, folders: &[&Path]) -> Result<()> {
    for folder in folders {
        remove(folder)?;
    }
    for entry in fs::read_dir(state).with_context(|| state.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            remove(&path)?;
        } else if path.file_name() != Path::new(identity::FILE).file_name() {
            fs::remove_file(&path).with_context(|| path.display().to_string())?;
        }
    }
    Ok(remove(state)?)
}

/// Creates a release's folder, unless it is complete already. A release without a build command is then complete.
fn ship(release: &Release, payload: &mut impl Read) -> Result<()> {
    if release.record().exists() {
        return Ok(());
    }
    let folder = release.folder();
    for path in [folder.parent().context("a release's folder is in another")?, &folder] {
        Directory { path: path.into(), owner: Owner::root(), mode: 0o755 }
            .make()
            .with_context(|| path.display().to_string())?;
    }
    match &release.kind {
        Kind::Api { configuration } => write(&folder.join(API_CONF), configuration.clone())?,
        Kind::Own { .. } => unpack(&folder, payload)?,
    }
    if release.build().is_none() { complete(release) } else { Ok(()) }
}

/// Unpacks a user's program. The folder gets its final name when it is whole.
fn unpack(folder: &Path, payload: &mut impl Read) -> Result<()> {
    let [new, program] = ["program.new", "program"].map(|name| folder.join(name));
    archive::unpack(&new, payload)?;
    remove(&program)?;
    fs::rename(&new, &program).with_context(|| program.display().to_string())
}

/// Unpacks static files, unless they are there. The folder gets its name when it is whole.
fn ship_website(name: &str, payload: &mut impl Read) -> Result<()> {
    let folder = website::folder();
    let (new, website) = (folder.join(format!("{name}.new")), folder.join(name));
    if website.exists() {
        return Ok(());
    }
    for path in [folder.parent().context("the folder of the websites is in another")?, &folder] {
        Directory { path: path.into(), owner: Owner::root(), mode: 0o755 }
            .make()
            .with_context(|| path.display().to_string())?;
    }
    archive::unpack(&new, payload)?;
    build::seal_part(&new, &new)?;
    let opened = fs::File::open(&new).with_context(|| new.display().to_string())?;
    rustix::fs::syncfs(&opened)?;
    fs::rename(&new, &website).with_context(|| website.display().to_string())?;
    fs::File::open(&folder)?.sync_all().with_context(|| folder.display().to_string())
}

/// Runs a release's build command.
fn build(release: &Release) -> Result<()> {
    let Some(command) = release.build().filter(|_| !release.record().exists()) else { return Ok(()) };
    build::build(release, command)?;
    complete(release)
}

/// Marks a release as complete, after all its files belong to root and are synced to disk.
fn complete(release: &Release) -> Result<()> {
    build::seal(release).with_context(|| format!("release {}", release.id))?;
    let folder = fs::File::open(release.folder()).with_context(|| release.folder().display().to_string())?;
    rustix::fs::syncfs(&folder)?;
    // It contains the configuration, which may contain secrets.
    write(&release.record(), Secret::json_of(release)?)
}

fn write(path: &Path, text: Secret) -> Result<()> {
    let file =
        File { path: path.into(), contents: Contents::Secret(text), owner: Owner::root(), mode: 0o600 };
    file.write().with_context(|| path.display().to_string())
}
