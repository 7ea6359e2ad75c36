//! A real PostgreSQL with the secrets of one phase, and logins with those of the other: in every pair of phases that follow
//! each other, since they serve side by side.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use tercet_database::Account;
use tercet_database::installation::Search;
use tercet_database::login::{self, Login, Power, Tls};
use tercet_database::program::Program;
use tercet_database::roles::AUTHENTICATOR;
use tercet_postgres::{Connection, Host, Target};

use super::*;
use crate::desired::{Project, hba};

/// A cluster of its own, gone when dropped.
struct Server {
    process: Child,
    account: Account,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let search = Search::system(None, PathBuf::from("/nowhere"));
        let installation = search.find(None).expect("this test needs PostgreSQL's server programs");
        let account = Account::for_postgresql().unwrap();
        let folder = tempfile::tempdir().unwrap();
        if account.is_another() {
            chown(folder.path(), Some(account.uid), Some(account.gid)).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let program = |name: &str, arguments: &[&str]| Program {
            path: installation.programs.join(name),
            arguments: arguments.iter().map(Into::into).collect(),
            environment: installation.environment(),
            folder: folder.path().to_owned(),
            account: account.clone(),
        };
        let initdb = program("initdb", &["-D", "data", "-U", "postgres", "-A", "trust", "--no-sync"]);
        assert!(initdb.command().stdout(Stdio::null()).status().unwrap().success());
        let (port_option, sockets) =
            (format!("port={port}"), format!("unix_socket_directories={}", folder.path().display()));
        let options = ["listen_addresses=127.0.0.1", &port_option, &sockets, "fsync=off", "lc_messages=C"];
        let mut arguments = vec!["-D", "data"];
        arguments.extend(options.iter().flat_map(|option| ["-c", option]));
        let mut process = program("postgres", &arguments).command().stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let ready =
            log.by_ref().map_while(Result::ok).find(|it| it.contains("is ready to accept connections"));
        assert!(ready.is_some(), "PostgreSQL does not start");
        // The pipe is no longer read: the process must not block on it.
        std::thread::spawn(move || log.for_each(drop));
        let server = Self { process, account, address: ([127, 0, 0, 1], port).into(), folder };
        server.sql("create role authenticator login");
        server.sql("create database shop");
        server
    }

    /// Runs SQL as the superuser.
    fn sql(&self, sql: &str) {
        block_on(async {
            let connection = Connection::connect(&self.superuser().into(), false).await.unwrap();
            connection.simple_query(sql).await.unwrap();
        });
    }

    /// When the configuration was read last.
    fn loaded(&self) -> String {
        block_on(async {
            let connection = Connection::connect(&self.superuser().into(), false).await.unwrap();
            let rows = connection.query(&"select pg_conf_load_time()".into()).await.unwrap();
            rows[0].text(0).unwrap().to_owned()
        })
    }

    fn superuser(&self) -> Target {
        Target::new(Host::socket(self.folder.path(), self.address.port()), "postgres", "postgres")
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join("data").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        if self.account.is_another() {
            chown(&path, Some(self.account.uid), Some(self.account.gid)).unwrap();
        }
    }

    /// Gives PostgreSQL on `machine` the secrets.
    fn converge(&self, topology: &Topology, machine: &str, secrets: &Secrets) {
        let project = Project { topology, secrets, program: "tercet", checks: &[] };
        let machine = topology.machines().iter().find(|it| it.name == machine).unwrap();
        // This test is the application machine.
        let lines =
            hba(&project, machine, &[]).replace("10.0.0.11", "127.0.0.1").replace("10.0.0.12", "127.0.0.1");
        let lines = lines.lines().filter(|line| line.starts_with("host")).collect::<Vec<_>>().join("\n");
        self.write("pg_hba.conf", &format!("local all postgres trust\n{lines}\n"));
        self.write("server.crt", &secrets.server.certificate);
        self.write("server.key", secrets.server.key.reveal());
        self.write("authority.crt", &secrets.authority);
        self.write(
            "postgresql.auto.conf",
            "ssl = on\nssl_ca_file = 'authority.crt'\nssl_min_protocol_version = 'TLSv1.3'\n",
        );
        let before = self.loaded();
        self.sql(&format!(
            "alter role authenticator password '{}'; select pg_reload_conf();",
            secrets.authenticator_verifier.reveal()
        ));
        while self.loaded() == before {}
    }

    /// Logs in as a server with the secrets does; why it is refused.
    fn login(&self, secrets: &Secrets, local: bool) -> Result<(), String> {
        let write = |name: &str, text: &str| {
            let path = self.folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let authority = write("authority.crt", &secrets.authority);
        let certificate = write("client.crt", &secrets.client.certificate);
        let key = write("client.key", secrets.client.key.reveal());
        let client: (&Path, &Path) = (&certificate, &key);
        let login = Login {
            address: self.address,
            database: "shop",
            role: AUTHENTICATOR,
            password: secrets.authenticator.reveal(),
            tls: if local && !secrets.certificate_alone {
                Tls::None
            } else {
                Tls::Verified { authority: &authority, client: Some(client) }
            },
        };
        block_on(login::attempt(&login)).map(|power| assert_eq!(power, Power::Ordinary))
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.process.id().cast_signed()) {
            // It may have ended already.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
            let _ = self.process.wait();
        }
    }
}

#[test]
fn servers_of_two_phases_log_in_side_by_side_and_those_of_before_no_longer() {
    let server = Server::start();
    for (text, machine, local) in [(FOUR, "db", false), (SHARED, "one", true)] {
        for kind in [Kind::Secrets, Kind::Certificates, Kind::Authority] {
            let applied = Applied::new(text);
            let mut rotation = Rotation::of(applied.folder.path(), &applied.topology, kind).unwrap();
            let mut phases = vec![applied.kept()];
            rotation.enter().unwrap();
            loop {
                phases.push(rotation.secrets().unwrap());
                if !rotation.go_on().unwrap() {
                    break;
                }
            }
            phases.push(applied.kept());
            for pair in phases.windows(2) {
                for database in pair {
                    server.converge(&applied.topology, machine, database);
                    for secrets in pair {
                        let (has, is) = (database.generation, secrets.generation);
                        server.login(secrets, local).unwrap_or_else(|why| {
                            panic!("{kind} on {machine}: PostgreSQL has {has}, the server {is}: {why}")
                        });
                    }
                }
            }
            let (first, last) = (&phases[0], phases.last().unwrap());
            let before = server.login(first, local);
            // The old certificates of an authority that stays are valid; over loopback none is asked for.
            let is_accepted = kind == Kind::Certificates || local && kind == Kind::Authority;
            assert_eq!(before.is_ok(), is_accepted, "{kind} on {machine}: {before:?}");
            let wrong =
                Secrets { authenticator: tercet_database::Password::generate().unwrap(), ..applied.kept() };
            server.login(&wrong, local).expect_err("a wrong password is refused");
            server.login(last, local).unwrap();
        }
    }
}
