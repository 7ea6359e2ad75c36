//! A private PostgreSQL for the tests: in a temporary folder, on a free port, started on first use and removed when
//! the test process ends, however it ends.
//!
//! PostgreSQL refuses to run as root; then it runs as the unprivileged user `postgres` or `nobody`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use tercet_postgres::Target;

use crate::service::wait_until;

/// The roles of every cluster: the login role and the request roles.
const ROLES: &str = "
    create role authenticator login noinherit password 'secret';
    create role anon nologin;
    create role authenticated nologin;
    grant anon, authenticated to authenticator;
";

/// The cluster shared by the tests of this process.
pub(crate) static SHARED: LazyLock<Cluster> = LazyLock::new(Cluster::start);

/// A running PostgreSQL.
pub(crate) struct Cluster {
    folder: PathBuf,
    port: u16,
    databases: AtomicU64,
    /// Stops the server and removes the folder when its standard input closes.
    _watcher: Child,
}

/// A test's database.
pub(crate) struct Database {
    pub(crate) name: String,
    cluster: &'static Cluster,
}

/// A new database in the shared cluster, loaded with `script` by the superuser.
pub(crate) fn database(script: &str) -> Database {
    SHARED.database(script)
}

impl Cluster {
    /// Starts another cluster, for tests that stop or kill it.
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("tercet-postgres-").tempdir().unwrap().keep();
        if let Some((user, group)) = unprivileged() {
            chown(&folder, Some(user), Some(group)).unwrap();
        }
        let data = folder.join("data");
        run(command("initdb", &folder)
            .args([
                "--no-locale",
                "--encoding=UTF8",
                "--no-sync",
                "--username=postgres",
                "--auth-local=trust",
            ])
            .arg("--auth-host=scram-sha-256")
            .arg(&data));
        let watcher = watch(&folder);
        let port = start_on_a_free_port(&folder);
        let cluster = Self { folder, port, databases: AtomicU64::new(0), _watcher: watcher };
        cluster.psql("postgres", ROLES);
        cluster
    }

    /// Starts a streaming standby of this cluster.
    pub(crate) fn standby(&self) -> Self {
        let folder = tempfile::Builder::new().prefix("tercet-postgres-").tempdir().unwrap().keep();
        if let Some((user, group)) = unprivileged() {
            chown(&folder, Some(user), Some(group)).unwrap();
        }
        run(command("pg_basebackup", &folder)
            .args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"])
            .args(["-U", "postgres", "-p", &self.port.to_string(), "-h"])
            .arg(&self.folder)
            .arg("-D")
            .arg(folder.join("data")));
        let watcher = watch(&folder);
        let port = start_on_a_free_port(&folder);
        Self { folder, port, databases: AtomicU64::new(0), _watcher: watcher }
    }

    /// Promotes a standby.
    pub(crate) fn promote(&self) {
        run(command("pg_ctl", &self.folder).args(["promote", "-w", "-D"]).arg(self.folder.join("data")));
    }

    /// A new database, loaded with `script` by the superuser.
    pub(crate) fn database(&'static self, script: &str) -> Database {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("create database {name}"));
        self.psql(&name, script);
        Database { name, cluster: self }
    }

    /// The connection string of a database for `authenticator`, by TCP and password.
    pub(crate) fn uri(&self, database: &str) -> String {
        format!("postgresql://authenticator:secret@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs a script as superuser and returns its output, unaligned, rows only.
    pub(crate) fn psql(&self, database: &str, script: &str) -> String {
        let mut psql = command("psql", &self.folder)
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-h"])
            .arg(&self.folder)
            .args(["-p", &self.port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        psql.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = psql.wait_with_output().unwrap();
        assert!(output.status.success(), "psql: {}", output.status);
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Stops the server with the mode `fast` or `immediate`.
    pub(crate) fn stop(&self, mode: &str) {
        run(command("pg_ctl", &self.folder)
            .args(["stop", "-w", "-m", mode, "-D"])
            .arg(self.folder.join("data")));
    }

    /// Kills the postmaster with SIGKILL and waits until it is gone.
    pub(crate) fn kill(&self) {
        let pids = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap();
        run(Command::new("kill").args(["-9", pids.lines().next().unwrap()]));
        let socket = self.folder.join(format!(".s.PGSQL.{}", self.port));
        wait_until("the postmaster is dead", || std::os::unix::net::UnixStream::connect(&socket).is_err());
    }

    /// Starts the server again on the same port.
    pub(crate) fn restart(&self) {
        // The children of a killed postmaster hold its shared memory until they notice.
        wait_until("PostgreSQL starts again", || start(&self.folder, self.port));
    }
}

impl Database {
    /// The connection string for `authenticator`, by TCP and password.
    pub(crate) fn uri(&self) -> String {
        self.cluster.uri(&self.name)
    }

    /// The port of its cluster.
    pub(crate) fn port(&self) -> u16 {
        self.cluster.port
    }

    /// The connection parameters of `authenticator`.
    pub(crate) fn target(&self) -> Arc<Target> {
        Arc::new(Target::parse(&self.uri(), &BTreeMap::new()).unwrap())
    }

    /// The connection parameters of the superuser, by Unix socket.
    pub(crate) fn superuser(&self) -> Arc<Target> {
        let folder = self.cluster.folder.display();
        let text = format!("host={folder} port={} user=postgres dbname={}", self.cluster.port, self.name);
        Arc::new(Target::parse(&text, &BTreeMap::new()).unwrap())
    }

    /// Runs a script as superuser and returns its output, unaligned, rows only.
    pub(crate) fn psql(&self, script: &str) -> String {
        self.cluster.psql(&self.name, script)
    }
}

fn start_on_a_free_port(folder: &Path) -> u16 {
    for _ in 0..10 {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // Another process may have taken the port meanwhile.
        if start(folder, port) {
            return port;
        }
    }
    panic!("PostgreSQL does not start, see {}", folder.join("log").display());
}

fn start(folder: &Path, port: u16) -> bool {
    let options = format!(
        "-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={} \
         -c fsync=off -c max_connections=200 -c timezone=UTC",
        folder.display()
    );
    command("pg_ctl", folder)
        .args(["start", "-w", "-o", &options, "-l"])
        .arg(folder.join("log"))
        .arg("-D")
        .arg(folder.join("data"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}

/// Starts a process that outlives this one to clean up.
fn watch(folder: &Path) -> Child {
    let script = r#"cat > /dev/null; "$1" stop -m immediate -D "$2/data" > /dev/null 2>&1; rm -rf "$2""#;
    let mut watcher = Command::new("sh");
    watcher.args(["-c", script, "watcher"]).arg(binaries().join("pg_ctl")).arg(folder);
    as_unprivileged(&mut watcher);
    // Ctrl-C in a terminal reaches the whole process group: the watcher must survive it.
    watcher.process_group(0).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn command(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(binaries().join(program));
    command.current_dir(folder).env("TZ", "UTC").env("LC_ALL", "C");
    as_unprivileged(&mut command);
    command
}

fn as_unprivileged(command: &mut Command) {
    if let Some((user, group)) = unprivileged() {
        command.uid(user).gid(group);
    }
}

/// The unprivileged user and group ids, if this process is root.
fn unprivileged() -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt as _;
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    ["postgres", "nobody"].into_iter().find_map(|name| {
        let mut fields =
            users.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.split(':');
        Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

/// The folder of the newest PostgreSQL's programs.
fn binaries() -> &'static Path {
    static BINARIES: LazyLock<PathBuf> = LazyLock::new(|| {
        let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut folders: Vec<_> = debian.map(|version| version.path().join("bin")).collect();
        folders.sort();
        folders.reverse();
        folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        folders
            .into_iter()
            .find(|folder| folder.join("initdb").exists())
            .expect("these tests need PostgreSQL's initdb: apt-get install postgresql")
    });
    &BINARIES
}
