//! A running cluster in a temporary folder, for one test.

use std::io::Seek as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tercet_database::cluster::{Cluster, Place};
use tercet_database::installation::Search;
use tercet_database::roles::{self, Passwords};
use tercet_database::{Account, Installation, Password};
use tercet_postgres::{Connection, Host, Target};

/// A cluster, its server and its folder; all gone when dropped.
pub(crate) struct Server {
    process: tokio::process::Child,
    installation: Installation,
    pub(crate) cluster: Cluster,
    pub(crate) passwords: Passwords,
    archive_command: String,
    folder: tempfile::TempDir,
}

pub(crate) const NAME: &str = "book-shop";

pub(crate) fn installation() -> Installation {
    let search = Search::system(std::env::var_os("PATH").as_ref(), PathBuf::from("/nowhere"));
    search.find(None).expect("these tests need PostgreSQL's server programs")
}

/// A folder PostgreSQL's account can reach even when the tests run as root.
pub(crate) fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

pub(crate) fn open(folder: &Path) -> Result<Cluster, tercet_database::cluster::ClusterError> {
    let account = Account::for_postgresql().unwrap();
    let place = Place::of(folder, &folder.join("shared"), NAME, &account)?;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    Cluster::open(place, account, port)
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_from(installation()).await
    }

    pub(crate) async fn start_from(installation: Installation) -> Self {
        Self::start_in(folder(), installation, "true").await
    }

    /// Starts one in `folder` that archives its WAL.
    pub(crate) async fn start_in(
        folder: tempfile::TempDir,
        installation: Installation,
        archive_command: &str,
    ) -> Self {
        let cluster = open(folder.path()).unwrap();
        cluster.initialise(&installation).await.unwrap();
        let password = || Password::generate().unwrap();
        let passwords = Passwords { owner: password(), authenticator: password() };
        let archive_command = archive_command.to_owned();
        let process = run(&cluster, &installation, &archive_command).await;
        roles::prepare(|database| cluster.superuser(database), NAME, &passwords, None).await.unwrap();
        Self { process, installation, cluster, passwords, archive_command, folder }
    }

    /// Starts it again, after whatever happened to its process.
    pub(crate) async fn restart(&mut self) {
        self.process = run(&self.cluster, &self.installation, &self.archive_command).await;
    }

    /// Kills the postmaster alone, the way the kernel does when memory runs out.
    pub(crate) async fn crash(&mut self) {
        self.process.kill().await.unwrap();
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// How a role connects over TCP.
    pub(crate) fn target(&self, role: &str, password: &Password) -> Target {
        let host = Host::tcp(([127, 0, 0, 1], self.cluster.port()).into());
        Target { password: Some(password.reveal().to_owned()), ..Target::new(host, NAME, role) }
    }

    pub(crate) fn owner(&self) -> Target {
        self.target(&roles::owner(NAME), &self.passwords.owner)
    }

    pub(crate) fn authenticator(&self) -> Target {
        self.target(roles::AUTHENTICATOR, &self.passwords.authenticator)
    }
}

pub(crate) async fn connect(target: Target) -> Connection {
    Connection::connect(&target.into(), false).await.unwrap()
}

/// The first column of the first row.
pub(crate) async fn value(connection: &Connection, sql: &str) -> String {
    connection.query(&sql.into()).await.unwrap()[0].text(0).unwrap().to_owned()
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = self.process.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()))
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
        }
    }
}

async fn run(cluster: &Cluster, installation: &Installation, archive_command: &str) -> tokio::process::Child {
    cluster.recover().await.unwrap();
    let program = cluster.program(installation, NAME, archive_command).unwrap();
    let log = tempfile::tempfile().unwrap();
    let mut process = tokio::process::Command::from(program.command())
        .stdin(Stdio::null())
        .stderr(log.try_clone().unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pid = process.id().unwrap();
    tokio::select! {
        () = cluster.ready(pid) => process,
        status = process.wait() => {
            let log = std::io::read_to_string({ let mut log = log; log.rewind().unwrap(); log }).unwrap();
            panic!("PostgreSQL ended instead of starting: {status:?}\n{log}");
        }
    }
}
