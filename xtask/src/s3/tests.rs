//! The object store with its only client: a real PostgreSQL that archives by a real pgBackRest.

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;

use super::*;

/// A cluster in a temporary folder, which archives into an object store beside it.
struct Archived {
    folder: tempfile::TempDir,
    /// The user of PostgreSQL, which refuses root.
    user: Option<&'static str>,
    programs: PathBuf,
}

impl Archived {
    /// The object store runs as long as the test's process.
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let store = folder.path().join("store");
        // Small pages, so that lists go over several.
        let service = Arc::new(Service::open(&store, "localhost", "backups", 3).unwrap());
        let Credentials { key, secret } = &service.credentials;
        let path = folder.path().display().to_string();
        let config = format!(
            "[global]\nrepo1-type=s3\nrepo1-path=/shop\nrepo1-s3-bucket=backups\nrepo1-s3-endpoint=localhost\n\
             repo1-storage-port={port}\nrepo1-storage-ca-file={path}/store/authority.crt\n\
             repo1-s3-region=here\nrepo1-s3-uri-style=path\nrepo1-s3-key={key}\nrepo1-s3-key-secret={secret}\n\
             repo1-cipher-type=aes-256-cbc\nrepo1-cipher-pass=a passphrase\nrepo1-bundle=y\nrepo1-retention-full=1\n\
             compress-type=none\nstart-fast=y\narchive-timeout=30\nlog-level-file=off\nlog-level-console=error\n\
             lock-path={path}/lock\nspool-path={path}/spool\n\
             [shop]\npg1-path={path}/data\npg1-socket-path={path}\npg1-user=postgres\n"
        );
        fs::write(folder.path().join("pgbackrest.conf"), config).unwrap();
        std::thread::spawn(move || service.serve(&listener));

        let root = fs::metadata("/proc/self").unwrap().uid() == 0;
        let versions = fs::read_dir("/usr/lib/postgresql").unwrap();
        let programs = versions.map(|it| it.unwrap().path().join("bin")).max().unwrap();
        let archived = Self { folder, user: root.then_some("postgres"), programs };
        let data = archived.path("data");
        archived.succeed("initdb", &["--username=postgres", "--auth=trust", "--no-sync", "-D", &data]);
        let archive = format!("pgbackrest --config={path}/pgbackrest.conf --stanza=shop archive-push %p");
        let settings = format!(
            "archive_mode = on\narchive_command = '{archive}'\nlisten_addresses = ''\nfsync = off\n\
             unix_socket_directories = '{path}'\n"
        );
        fs::write(archived.folder.path().join("data/postgresql.auto.conf"), settings).unwrap();
        archived.pg_ctl("data", "start");
        archived
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// A program as PostgreSQL's user; its output and whether it succeeded.
    fn run(&self, program: &str, arguments: &[&str]) -> (bool, String) {
        let own = self.programs.join(program);
        let program = if own.exists() { own } else { program.into() };
        let mut command = self.user.map_or_else(
            || Command::new(&program),
            |user| {
                let mut command = Command::new("runuser");
                command.args(["-u", user, "--"]).arg(&program);
                command
            },
        );
        // Not a pipe: a server that was started would hold it open.
        let printed = tempfile::tempfile().unwrap();
        command.args(arguments).current_dir(self.folder.path());
        command.stdout(printed.try_clone().unwrap()).stderr(printed.try_clone().unwrap());
        let success = command.status().unwrap().success();
        let mut text = String::new();
        std::io::Seek::rewind(&mut &printed).unwrap();
        std::io::Read::read_to_string(&mut &printed, &mut text).unwrap();
        (success, text)
    }

    fn succeed(&self, program: &str, arguments: &[&str]) -> String {
        let (success, text) = self.run(program, arguments);
        assert!(success, "{program} {arguments:?}: {text}");
        text
    }

    fn pg_ctl(&self, data: &str, verb: &str) {
        self.succeed("pg_ctl", &["-w", "-l", &self.path("log"), "-D", &self.path(data), verb]);
    }

    fn psql(&self, sql: &str) -> String {
        let folder = self.path("");
        self.succeed("psql", &["-XAtq", "-h", &folder, "-U", "postgres", "-d", "postgres", "-c", sql])
    }

    fn backrest(&self, arguments: &[&str]) -> (bool, String) {
        let config = format!("--config={}", self.path("pgbackrest.conf"));
        self.run("pgbackrest", &[&[&*config, "--stanza=shop"], arguments].concat())
    }

    fn backrests(&self, arguments: &[&str]) {
        let (success, text) = self.backrest(arguments);
        assert!(success, "pgbackrest {arguments:?}: {text}");
    }

    /// Checks that pgBackRest fails and says so.
    fn refused(&self, arguments: &[&str], says: &str) {
        let (success, text) = self.backrest(arguments);
        assert!(!success && text.contains(says), "pgbackrest {arguments:?} does not say {says}: {text}");
    }

    fn requests(&self) -> String {
        fs::read_to_string(self.folder.path().join("store/requests.log")).unwrap()
    }
}

impl Drop for Archived {
    fn drop(&mut self) {
        let data = self.path("data");
        // It may not run.
        let _ = self.run("pg_ctl", &["-w", "-m", "immediate", "-D", &data, "stop"]);
    }
}

#[test]
fn pgbackrest_backs_up_archives_expires_and_restores() {
    let archived = Archived::start();
    archived.backrests(&["stanza-create"]);
    archived.psql("create table kept (number int); insert into kept select generate_series(1, 1000)");
    archived.backrests(&["--type=full", "backup"]);
    archived.psql("insert into kept values (1001)");
    // The first full backup expires with the second.
    archived.backrests(&["--type=full", "backup"]);
    archived.psql("insert into kept values (1002); select pg_switch_wal()");
    archived.backrests(&["check"]);
    let restored = archived.path("restored");
    archived.backrests(&["--archive-mode=off", "--pg1-path", &restored, "restore"]);
    archived.pg_ctl("data", "stop");
    archived.pg_ctl("restored", "start");
    let rows = archived.psql("select count(*), max(number) from kept");
    archived.pg_ctl("restored", "stop");
    assert_eq!(rows, "1002|1002\n");
    let requests = archived.requests();
    for part in ["?uploads=", "&uploadId=upload-", "?delete=", "continuation-token="] {
        assert!(requests.contains(part), "no request with {part}:\n{requests}");
    }
}

#[test]
fn faults_and_wrong_signatures_are_told_to_pgbackrest() {
    let archived = Archived::start();
    let config = archived.folder.path().join("pgbackrest.conf");
    let right = fs::read_to_string(&config).unwrap();
    for (option, says) in [("s3-key", "InvalidAccessKeyId"), ("s3-key-secret", "SignatureDoesNotMatch")] {
        fs::write(&config, right.replace(&format!("{option}="), &format!("{option}=x"))).unwrap();
        // The response to a HEAD request has no body, and so no code: stanza-create would only say 403.
        archived.refused(&["--raw", "repo-get", "archive/shop/archive.info"], says);
    }
    fs::write(&config, right).unwrap();
    archived.refused(&["--repo1-s3-bucket=other", "stanza-create"], "NoSuchBucket");
    let fault = archived.folder.path().join("store/fault");
    fs::write(&fault, "full").unwrap();
    archived.refused(&["--io-timeout=1", "stanza-create"], "[507] InsufficientStorage");
    // pgBackRest repeats a request that it was told to send later.
    fs::write(&fault, "slow-down 1").unwrap();
    archived.backrests(&["stanza-create"]);
    assert!(archived.requests().contains("\n503 "), "{}", archived.requests());
}
