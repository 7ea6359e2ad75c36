//! The private PostgreSQL of a project: the one of the running `tercet up`, or one that is started for a command.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, kill_process};
use tercet_database::cluster::{self, Cluster, Place, SUPERUSER};
use tercet_database::{Account, ControlData, Installation, installation::Search};
use tercet_postgres::{Connection, Host, Statement, Target};
use tokio::process::Child;
use tokio::time::{Instant, sleep};

use crate::backups::{Archive, Backups, replacement};
use crate::commands::up::database;
use crate::commands::up::private::{IsUp, PrivateFolder};
use crate::failure::{Failure, Outcome};
use crate::project::{LOG, Project, STATE};
use crate::supervisor::ends_with_this_process;
use crate::terminal::ask;

/// How long the server may take to archive a segment.
const ARCHIVE_PATIENCE: Duration = Duration::from_secs(60);
/// The interval of checks whether it has.
const TICK: Duration = Duration::from_millis(20);

/// The private PostgreSQL of a project, running or not.
pub(crate) struct Live {
    pub(crate) name: String,
    pub(crate) backups: Backups,
    pub(crate) account: Account,
    place: Place,
    search: Search,
    /// The folder of log files.
    log: PathBuf,
    /// The lock of the project; `None` while a `tercet up` has it.
    stopped: Option<PrivateFolder>,
}

impl Live {
    /// Asks for the project's name, to `verb`; `yes` is the answer of a script.
    pub(crate) fn confirm(&self, verb: &str, yes: Option<&str>) -> Outcome {
        let name = &self.name;
        let answer = match yes {
            Some(answer) => answer.to_owned(),
            None => ask(&format!("type the project's name, {name}, to {verb}: "), &format!("--yes {name}"))?,
        };
        if answer == *name {
            return Ok(());
        }
        Err(Failure::input_message(format!("the name is {name}, not {answer:?}: nothing was changed")))
    }

    /// Opens the project's PostgreSQL. As root, the process continues as the user of `tercet up`.
    pub(crate) fn open(project: &Project) -> Result<Self, Failure> {
        if project.topology.database().url.is_some() {
            return Err(Failure::input_message(
                "url in [database] names another PostgreSQL, and this command is for tercet's own\n\
                 hint: use the tools of that server",
            ));
        }
        #[cfg(target_os = "linux")]
        {
            use crate::commands::up::privileges::{Running, drop_root};
            drop_root(project, Running::Allowed)?;
        }
        let stopped = match PrivateFolder::lock(&project.folder) {
            Ok(private) => Some(private),
            Err(error) if error.is::<IsUp>() => None,
            Err(error) => return Err(error.into()),
        };
        let state = project.folder.join(STATE);
        let name = project.topology.name().to_owned();
        let (place, account) = database::place(&name, &state)?;
        if stopped.is_some()
            && let Some(message) = replacement::finish(place.folder())?
        {
            super::say(&message);
        }
        let search = database::search(&account)?;
        let log = state.join(LOG);
        Ok(Self { name, backups: Backups::of(&state), account, place, search, log, stopped })
    }

    /// The folder of the cluster.
    pub(crate) fn folder(&self) -> &Path {
        self.place.folder()
    }

    /// Its data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// Whether a `tercet up` runs it.
    pub(crate) fn is_up(&self) -> bool {
        self.stopped.is_none()
    }

    /// The programs of this major version.
    pub(crate) fn installation(&self, major: u32) -> anyhow::Result<Installation> {
        self.search.find(Some(major)).with_context(|| {
            format!("PostgreSQL {major} is not on this machine; hint: install postgresql-{major}")
        })
    }

    /// The control file of its data directory; `None` if that does not exist.
    pub(crate) fn control(&self) -> anyhow::Result<Option<ControlData>> {
        let data = self.data();
        data.join("PG_VERSION").exists().then(|| self.control_of(&data)).transpose()
    }

    /// The control file of a data directory.
    pub(crate) fn control_of(&self, data: &Path) -> anyhow::Result<ControlData> {
        let version = data.join("PG_VERSION");
        let named = || version.display().to_string();
        let major =
            std::fs::read_to_string(&version).with_context(named)?.trim().parse().with_context(named)?;
        ControlData::read(&self.installation(major)?, data).with_context(|| data.display().to_string())
    }

    /// Connects to its server, which is started unless it runs.
    ///
    /// # Errors
    /// There is no data yet, or the server does not start.
    pub(crate) async fn serve(&self) -> anyhow::Result<Serving> {
        let data = self.data();
        let Ok(major) = std::fs::read_to_string(data.join("PG_VERSION")) else {
            bail!("there is no database in {} yet; hint: tercet up", data.display());
        };
        let installation = self.installation(major.trim().parse()?)?;
        let control = ControlData::read(&installation, &data).with_context(|| data.display().to_string())?;
        let archive = self.backups.archive(&control.system_identifier);
        if self.is_up() {
            let (sockets, port) = Cluster::socket_of(&data)
                .context("tercet up is running, and its database is not ready; hint: repeat when it is up")?;
            if !sockets.is_dir() {
                bail!("tercet up was started before this folder was renamed; hint: restart it");
            }
            return Ok(Serving { sockets, port, own: None, installation, control, archive });
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let cluster = Cluster::open(self.place.clone(), self.account.clone(), port)?;
        cluster.recover().await?;
        let command = self.backups.archive_command(&cluster, &installation)?;
        let program = cluster.program(&installation, &self.name, &command)?;
        let words = ends_with_this_process()?;
        let log = self.log.join("command.log");
        let file = std::fs::File::create(&log).with_context(|| log.display().to_string())?;
        let mut command = std::process::Command::new(&words[0]);
        command
            .args(&words[1..])
            .arg(&program.path)
            .args(&program.arguments)
            .args(["-c", "listen_addresses="])
            .env_clear()
            .envs(program.environment.iter().cloned())
            .current_dir(&program.folder)
            // Ctrl-C on the terminal is for this process alone.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file);
        let mut process = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
        let pid = process.id().context("the server ended at its start")?;
        tokio::select! {
            biased;
            status = process.wait() => {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                let fatal = text.lines().find(|line| line.starts_with("FATAL") || line.starts_with("PANIC"));
                bail!("the database does not start: {}", fatal.or(text.lines().last()).map_or_else(|| format!("{status:?}"), str::to_owned));
            }
            () = cluster.ready(pid) => {}
        }
        let sockets = cluster.socket_folder().to_owned();
        Ok(Serving { sockets, port, own: Some((process, cluster)), installation, control, archive })
    }
}

/// A connection to the server of a project.
pub(crate) struct Serving {
    /// The folder and the port of its Unix socket.
    sockets: PathBuf,
    port: u16,
    /// The server that was started for this command.
    own: Option<(Child, Cluster)>,
    pub(crate) installation: Installation,
    pub(crate) control: ControlData,
    pub(crate) archive: Archive,
}

impl Serving {
    /// The port, which is also that of TCP if a `tercet up` runs it.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn superuser(&self, database: &str) -> Arc<Target> {
        let options = Some("-c statement_timeout=0 -c lock_timeout=0".to_owned());
        Arc::new(Target {
            options,
            ..Target::new(Host::socket(&self.sockets, self.port), database, SUPERUSER)
        })
    }

    /// The superuser's connection URL.
    pub(crate) fn uri(&self, database: &str) -> String {
        let port = self.port.to_string();
        let socket = [("host", self.sockets.as_os_str().as_bytes()), ("port", port.as_bytes())];
        tercet_postgres::uri(SUPERUSER, None, "", database, &socket)
    }

    /// The arguments of a client program.
    pub(crate) fn client_arguments(&self) -> Vec<OsString> {
        let (folder, port) = (self.sockets.clone().into_os_string(), self.port.to_string().into());
        vec!["-h".into(), folder, "-p".into(), port, "-U".into(), SUPERUSER.into(), "--no-password".into()]
    }

    /// The first column of the first row.
    pub(crate) async fn value(&self, sql: &str) -> anyhow::Result<String> {
        let connection = Connection::connect(&self.superuser("postgres"), false).await?;
        let rows = connection.query(&Statement::new(sql, Vec::new())).await?;
        Ok(rows.first().and_then(|row| row.text(0)).unwrap_or_default().to_owned())
    }

    /// Commits a transaction, completes the current WAL segment, and waits until the archive has it: with that, it has
    /// everything that was committed before.
    pub(crate) async fn archive_all(&self) -> anyhow::Result<()> {
        // A recovery to a time ends at the next commit, so there must be one.
        self.value("select pg_current_xact_id()::text").await?;
        let name = self.value("select pg_walfile_name(pg_switch_wal())").await?;
        let began = Instant::now();
        while !self.archive.has(&name) {
            if began.elapsed() > ARCHIVE_PATIENCE {
                let failed = self.value("select last_failed_wal from pg_stat_archiver").await?;
                bail!(
                    "WAL segment {name} is not in {} after {} s (last failure: {failed}); \
                     hint: the database's log says why: .tercet/log/database.log",
                    self.archive.folder().display(),
                    ARCHIVE_PATIENCE.as_secs(),
                );
            }
            sleep(TICK).await;
        }
        Ok(())
    }

    /// Stops the server if it was started for this command.
    pub(crate) async fn stop(self) {
        let Some((mut process, _cluster)) = self.own else { return };
        for (signal, patience) in cluster::STOP {
            if let Some(pid) = process.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
                let _ = kill_process(pid, signal);
            }
            if tokio::time::timeout(patience, process.wait()).await.is_ok() {
                return;
            }
        }
    }
}
