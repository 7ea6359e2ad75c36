//! Drops root: `tercet up` started by root becomes another user before it starts anything.
//!
//! The user is the owner of the project's folder or, if that is root, a system user. The process executes the same program
//! again, so from there on everything is as if that user had started it. Files that earlier runs by root left in
//! `.tercet/` are given to the user. For ports below 1024 the process keeps CAP_NET_BIND_SERVICE.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use rustix::process::{Gid, Uid};
use rustix::thread as kernel;
use tercet_config::{Secret, Server, Topology};
use tercet_database::account::{self, Login};
use tercet_database::cluster;

use super::private;
use crate::failure::{Failure, Outcome};
use crate::project::{Project, STATE};
use crate::supervisor::this_executable;

/// The system users to become if root owns the folder; the first that exists.
const SYSTEM_USERS: [&str; 2] = ["tercet", "nobody"];

/// What to do if a `tercet up` runs in the folder, which has given root's files to the user already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Running {
    /// Fail.
    Refused,
    /// Go on.
    Allowed,
}

/// Returns at once unless the user is root. As root it does not return: the process continues as another user.
pub(crate) fn drop_root(project: &Project, running: Running) -> Outcome {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owner = fs::metadata(&project.folder)?.uid();
    let login = login(owner)?;
    as_account(&login, || reachable(project, &login, owner))??;
    match hand_over(&project.folder, &login) {
        Err(error) if running == Running::Allowed && error.is::<private::IsUp>() => {}
        handed_over => handed_over?,
    }
    let low_ports = project.topology.only_this_machine()
        && project.topology.balancer().addresses().any(|address| (1..1024).contains(&address.port()));
    become_account(&login, low_ports).with_context(|| {
        format!("cannot become {}\nhint: root needs the capabilities SETUID and SETGID, or run tercet as that user", login.name)
    })?;
    let home = login.home.clone().unwrap_or_else(|| project.folder.join(STATE));
    let error = Command::new(this_executable()?)
        .arg0("tercet")
        .args(std::env::args_os().skip(1).collect::<Vec<OsString>>())
        .envs([("USER", &*login.name), ("LOGNAME", &*login.name)])
        .env("HOME", home)
        .env_remove("XDG_CACHE_HOME")
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_DATA_HOME")
        .env_remove("XDG_RUNTIME_DIR")
        .exec();
    Err(anyhow::Error::from(error).context("tercet cannot run itself as another user").into())
}

/// The user to run as.
fn login(owner: u32) -> anyhow::Result<Login> {
    if owner != 0 {
        let named = Login::find(&owner.to_string())?;
        return Ok(named.unwrap_or_else(|| Login {
            name: owner.to_string(),
            uid: owner,
            // A user private group, as most systems have them.
            gid: owner,
            groups: Vec::new(),
            home: None,
        }));
    }
    for name in SYSTEM_USERS {
        if let Some(login) = Login::find(name)?
            && login.uid != 0
        {
            // A system user has no usable home: it gets the project's private folder.
            return Ok(Login { home: None, ..login });
        }
    }
    bail!(
        "run by root in a folder that belongs to root, tercet needs a system user to run everything as\n\
         hint: useradd --system tercet, or chown the folder to a user"
    )
}

/// Calls `work` with the privileges of the user. There is no other thread yet.
fn as_account<R>(login: &Login, work: impl FnOnce() -> R) -> anyhow::Result<R> {
    let (uid, gid) = (Uid::from_raw(login.uid), Gid::from_raw(login.gid));
    let groups = rustix::process::getgroups()?;
    let change = || -> rustix::io::Result<R> {
        kernel::set_thread_groups(&groups_of(login))?;
        kernel::set_thread_res_gid(Gid::ROOT, gid, Gid::ROOT)?;
        kernel::set_thread_res_uid(Uid::ROOT, uid, Uid::ROOT)?;
        Ok(work())
    };
    let done = change();
    kernel::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
    kernel::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    kernel::set_thread_groups(&groups)?;
    done.with_context(|| {
        format!(
            "cannot become {}\nhint: root needs the capabilities SETUID and SETGID, or run tercet as that user",
            login.name
        )
    })
}

/// Checks that the user can read the files that the parts need.
fn reachable(project: &Project, login: &Login, owner: u32) -> Outcome {
    let refused = |path: &Path, what: &str, error: &io::Error| {
        let name = &login.name;
        let everything = if owner == 0 {
            format!("run by root in a folder that belongs to root, tercet runs everything as {name}")
        } else {
            format!("run by root, tercet runs everything as {name}, who owns the folder")
        };
        Failure::input_message(format!(
            "{}: {name} cannot {what} it ({}); {everything}\n\
             hint: give {name} the permission, move the project, or chown it to the user that should run it",
            path.display(),
            error.kind(),
        ))
    };
    let mut folders: Vec<&Path> = project.folder.ancestors().collect();
    folders.reverse();
    for folder in folders {
        fs::metadata(folder.join(".")).map_err(|error| refused(folder, "enter", &error))?;
    }
    fs::read_dir(&project.folder).map_err(|error| refused(&project.folder, "read", &error))?;
    for path in files(&project.topology, &project.folder) {
        let path = project.folder.join(path);
        let read =
            if path.is_dir() { fs::read_dir(&path).map(drop) } else { fs::File::open(&path).map(drop) };
        match read {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(refused(&path, "read", &error));
            }
            // The part that needs the file reports other errors.
            _ => {}
        }
    }
    Ok(())
}

/// The files that the parts read.
fn files(topology: &Topology, folder: &Path) -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from(tercet_config::FILE), topology.database().migrations.clone()];
    let certificates = topology.balancer().tls.iter().flat_map(|tls| &tls.certificates);
    files.extend(certificates.flat_map(|pair| [pair.certificate.clone(), pair.key.clone()]));
    files.extend(topology.balancer().files.iter().chain(&topology.balancer().users).cloned());
    let acme = &topology.balancer().acme;
    files.extend(acme.root.iter().cloned().chain(acme.eab.iter().map(|eab| eab.hmac_key_file.clone())));
    let mut secret = |secret: &Option<Secret>| {
        if let Some(Secret::File(path)) = secret {
            files.push(path.clone());
        }
    };
    secret(&topology.database().url);
    for application in topology.applications() {
        secret(&application.environment.file.clone().map(Secret::File));
        if let Server::Api(api) = &application.server {
            secret(&api.jwt_secret);
        }
    }
    for application in topology.applications() {
        if let Server::Own { program, .. } = &application.server {
            let word = program.words("", 0).into_iter().next().unwrap_or_default();
            if word.contains('/') {
                files.extend(interpreter(&folder.join(&word)));
                files.push(word.into());
            }
        }
    }
    files
}

/// The interpreter in a script's first line (execve(2), "Interpreter scripts").
fn interpreter(program: &Path) -> Option<PathBuf> {
    let mut start = Vec::new();
    fs::File::open(program).ok()?.take(256).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let word = line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty())?;
    Some(PathBuf::from(OsStr::from_bytes(word)))
}

/// Creates the private folder if it is missing, and gives root's files in it to the user. Fails while a `tercet up`
/// has locked it.
fn hand_over(folder: &Path, login: &Login) -> anyhow::Result<()> {
    let state = folder.join(STATE);
    match fs::DirBuilder::new().mode(0o700).create(&state) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| state.display().to_string());
        }
        _ => {}
    }
    let metadata = fs::symlink_metadata(&state).with_context(|| state.display().to_string())?;
    if !metadata.is_dir() || ![0, login.uid].contains(&metadata.uid()) {
        // Locking the folder reports the error.
        return Ok(());
    }
    let lock = state.join("lock");
    let _lock = lock.exists().then(|| private::lock(&lock)).transpose()?;
    cluster::hand_over(&state.join("postgresql"), login)?;
    account::take_over(&state, &[0], login).with_context(|| state.display().to_string())
}

/// Changes the user of this thread irrevocably. There is no other thread yet, and exec keeps it for the process.
fn become_account(login: &Login, low_ports: bool) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(login.uid), Gid::from_raw(login.gid));
    let port_capability = kernel::CapabilitySet::NET_BIND_SERVICE;
    // In a container root may not have the capability; then binding the port fails.
    let keep = low_ports && kernel::capabilities(None)?.permitted.contains(port_capability);
    kernel::set_thread_groups(&groups_of(login))?;
    kernel::set_thread_res_gid(gid, gid, gid)?;
    kernel::set_keep_capabilities(keep)?;
    kernel::set_thread_res_uid(uid, uid, uid)?;
    if keep {
        // Ambient, it survives exec (capabilities(7)); `tercet child` takes it from all parts but the balancer.
        let sets = kernel::CapabilitySets {
            effective: port_capability,
            permitted: port_capability,
            inheritable: port_capability,
        };
        kernel::set_capabilities(None, sets)?;
        kernel::configure_capability_in_ambient_set(port_capability, true)?;
    }
    Ok(())
}

fn groups_of(login: &Login) -> Vec<Gid> {
    login.groups.iter().chain([&login.gid]).map(|group| Gid::from_raw(*group)).collect()
}
