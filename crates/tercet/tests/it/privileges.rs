//! The user that the parts of `tercet up` run as: never root, even if root starts it.

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, geteuid};

use crate::folder::Folder;
use crate::http::get;
use crate::own_program::SERVER;
use crate::processes::descendants;
use crate::system::System;

const BOOKS: (&str, &str) = (
    "migrations/0001_book.sql",
    "create table book (id int primary key, title text);\ninsert into book values (1, 'Hyperion');\n\
     grant select on book to anon;\n",
);
const BOOK: &str = "/book?select=title";

/// A user that every system has and that owns nothing.
const OWNER: &str = "daemon";

/// Linux' number of CAP_NET_BIND_SERVICE (capabilities(7)).
const NET_BIND: u64 = 1 << 10;

fn user_id(name: &str) -> Option<u32> {
    let output = Command::new("id").args(["-u", name]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

/// The user that `up` becomes if root starts it in root's folder; for other users, that user.
fn system_user() -> u32 {
    if !geteuid().is_root() {
        return geteuid().as_raw();
    }
    user_id("tercet").or_else(|| user_id("nobody")).unwrap()
}

/// Gives the folder to another user, if that is possible; returns the user that the parts should run as.
fn give(folder: &Path) -> u32 {
    if !geteuid().is_root() {
        return geteuid().as_raw();
    }
    let owner = user_id(OWNER).unwrap();
    for path in everything_in(folder) {
        std::os::unix::fs::lchown(path, Some(owner), None).unwrap();
    }
    owner
}

fn everything_in(folder: &Path) -> Vec<PathBuf> {
    let mut paths = vec![folder.to_owned()];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.symlink_metadata().unwrap().is_dir() {
            paths.extend(everything_in(&path));
        } else {
            paths.push(path);
        }
    }
    paths
}

/// Of a line of /proc/PID/status, its words.
fn status(pid: Pid, key: &str) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().skip(1).map(str::to_owned).collect()
}

fn capabilities(pid: Pid) -> u64 {
    ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"]
        .iter()
        .map(|key| u64::from_str_radix(&status(pid, key)[0], 16).unwrap())
        .fold(0, |all, set| all | set)
}

/// `tercet up` and all below it, by what they are.
fn processes(system: &System) -> Vec<(Pid, String)> {
    let mut processes: Vec<(Pid, String)> = descendants(system.own_pid()).into_iter().collect();
    processes.push((system.own_pid(), "up".to_owned()));
    processes
}

/// Checks that every process and file belongs to this user, and that no process has capabilities.
fn runs_as(system: &System, folder: &Path, user: u32) {
    let processes = processes(system);
    assert!(processes.len() > 5, "{processes:?}");
    for (pid, command) in processes {
        assert_eq!(status(pid, "Uid:"), vec![user.to_string(); 4], "{command}");
        assert!(!status(pid, "Gid:").contains(&"0".to_owned()), "{command}");
        assert!(!status(pid, "Groups:").contains(&"0".to_owned()), "{command}");
        assert_eq!(capabilities(pid), 0, "{command}");
    }
    let state = folder.join(".tercet");
    assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
    for path in everything_in(&state) {
        assert_eq!(path.symlink_metadata().unwrap().uid(), user, "{}", path.display());
    }
}

#[test]
fn the_owner_of_the_folder_runs_everything() {
    let folder = Folder::with(&[BOOKS]);
    let user = give(folder.path());
    if geteuid().is_root() {
        // Files that an earlier version or another command left as root.
        folder.write(".tercet/jwt-secret", "a secret of more than thirty-two characters");
        folder.write(".tercet/log/up.log", "");
        for path in everything_in(&folder.path().join(".tercet")) {
            let mode = if path.is_dir() { 0o700 } else { 0o600 };
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
    }
    for _ in 0..2 {
        let system = System::start(folder.path());
        assert_eq!(system.ask(get(BOOK)).body, r#"[{"title":"Hyperion"}]"#);
        runs_as(&system, folder.path(), user);
        let (code, log) = system.stop(Signal::INT);
        assert_eq!(code, Some(0), "{log:#?}");
    }
}

#[test]
fn a_system_user_runs_everything_in_a_folder_of_root() {
    let config = "[application]\nrun = 'python3 server.py {port}'\nhealth = '/health'\n";
    let folder = Folder::with(&[BOOKS, ("tercet.toml", config), ("server.py", SERVER)]);
    let system = System::start(folder.path());
    assert_eq!(system.ask(get("/")).status, 200);
    runs_as(&system, folder.path(), system_user());
    // No process survives a kill, as another user either.
    system.kill_and_wait();
}

#[test]
fn data_of_earlier_versions_by_root_is_kept() {
    let Some(postgres) = user_id("postgres").filter(|_| geteuid().is_root()) else { return };
    let folder = Folder::with(&[BOOKS]);
    let user = give(folder.path());
    let (code, _) = System::start(folder.path()).stop(Signal::INT);
    assert_eq!(code, Some(0));

    // As versions before this one kept it.
    std::fs::create_dir_all("/var/lib/tercet").unwrap();
    let place = tempfile::Builder::new().prefix("shop-").tempdir_in("/var/lib/tercet").unwrap();
    let (state, place) = (folder.path().join(".tercet"), place.keep());
    let moved = Command::new("cp").arg("-a").arg(state.join("postgresql/.")).arg(&place).status().unwrap();
    assert!(moved.success());
    std::fs::remove_dir_all(state.join("postgresql")).unwrap();
    symlink(&place, state.join("postgresql")).unwrap();
    for path in everything_in(&state).into_iter().chain(everything_in(&place)) {
        let postgresqls = path.starts_with(place.join("data")) || path.starts_with(place.join("socket"));
        std::os::unix::fs::lchown(path, Some(if postgresqls { postgres } else { 0 }), Some(0)).unwrap();
    }

    let system = System::start(folder.path());
    assert_eq!(system.ask(get(BOOK)).body, r#"[{"title":"Hyperion"}]"#);
    runs_as(&system, folder.path(), user);
    assert!(everything_in(&place).iter().all(|path| path.symlink_metadata().unwrap().uid() == user));
}

#[test]
fn files_of_root_outside_the_project_keep_their_owner() {
    if !geteuid().is_root() {
        return;
    }
    let folder = Folder::with(&[BOOKS]);
    let outside = Folder::with(&[("linked", "root's"), ("named-twice", "root's")]);
    give(folder.path());
    folder.write(".tercet/log/up.log", "");
    symlink(outside.path().join("linked"), folder.path().join(".tercet/log/a")).unwrap();
    std::fs::hard_link(outside.path().join("named-twice"), folder.path().join(".tercet/log/b")).unwrap();
    let system = System::start(folder.path());
    for name in ["linked", "named-twice"] {
        assert_eq!(std::fs::metadata(outside.path().join(name)).unwrap().uid(), 0, "{name}");
    }
    drop(system);
}

#[test]
fn files_that_the_user_cannot_read_are_refused() {
    if !geteuid().is_root() {
        return;
    }
    let mode = |path: PathBuf, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let config = "[api]\njwt-secret = '@jwt'\n";
    let folder = Folder::with(&[
        ("shop/tercet.toml", config),
        ("shop/jwt", "secret"),
        ("shop/migrations/0001_a.sql", ""),
    ]);
    let shop = folder.path().join("shop");
    let refused = |owner: u32, path: &str, what: &str| {
        chown(&shop, Some(owner), None).unwrap();
        let printed = crate::tercet::run(folder.path(), ["up", "shop"]).replace("\n  │ ", " ");
        assert!(printed.contains(&format!("DIR{path}: ")), "{printed}");
        assert!(printed.contains(&format!("cannot {what} it (permission denied)")), "{printed}");
        assert!(printed.contains("hint: ") && printed.ends_with("exit code 2\n"), "{printed}");
        assert!(!shop.join(".tercet").exists(), "something was started");
    };
    let owner = user_id(OWNER).unwrap();
    mode(folder.path().to_owned(), 0o700);
    refused(0, "", "enter");
    refused(owner, "", "enter");
    mode(folder.path().to_owned(), 0o755);
    mode(shop.clone(), 0o700);
    refused(0, "/shop", "enter");
    mode(shop.clone(), 0o711);
    refused(0, "/shop", "read");
    mode(shop.clone(), 0o755);
    for name in ["jwt", "migrations", "tercet.toml"] {
        mode(shop.join(name), 0o600);
        refused(0, &format!("/shop/{name}"), "read");
        refused(owner, &format!("/shop/{name}"), "read");
        mode(shop.join(name), 0o755);
    }
    // A virtual environment whose Python is in a home folder that belongs to root.
    let python = shop.join("python");
    std::fs::write(&python, "").unwrap();
    std::fs::write(shop.join("server"), format!("#!{} -u\n", python.display())).unwrap();
    std::fs::write(shop.join("tercet.toml"), "[application]\nrun = './server {port}'\n").unwrap();
    mode(shop.join("server"), 0o755);
    mode(python, 0o700);
    refused(0, "/shop/python", "read");
    refused(owner, "/shop/python", "read");
}

#[test]
fn the_balancer_can_bind_a_port_below_1024() {
    if !geteuid().is_root() {
        return;
    }
    let port = (600..1024).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap();
    let folder =
        Folder::with(&[BOOKS, ("tercet.toml", &format!("balancer.listen = ['127.0.0.1:{port}']\n"))]);
    let user = give(folder.path());
    let system = System::start(folder.path());
    assert_eq!(system.address.port(), port);
    assert_eq!(system.ask(get(BOOK)).status, 200);
    for (pid, command) in processes(&system) {
        assert_eq!(status(pid, "Uid:"), vec![user.to_string(); 4], "{command}");
        let binds = command == "up" || command.contains(" balancer ") && !command.contains("--worker");
        assert_eq!(capabilities(pid), if binds { NET_BIND } else { 0 }, "{command}");
    }
}
