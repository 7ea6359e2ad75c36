//! What every machine starts from: a small Debian, a repository of the packages it may install, keys. Another release of Debian is
//! built when a machine of it is started.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::Folders;
use super::machines::{Debian, SUDOER, SWITCH, all, inside, plain};
use crate::command::output;
use crate::packages;
use crate::workspace::Workspace;

/// Programs the host needs and the Debian packages that bring them.
const HOST: &[(&str, &str)] = &[
    ("mmdebstrap", "mmdebstrap"),
    ("systemd-nspawn", "systemd-container"),
    ("dpkg-scanpackages", "dpkg-dev"),
    ("ssh", "openssh-client"),
    ("ip", "iproute2"),
    ("sysctl", "procps"),
    ("unshare", "util-linux"),
    ("python3", "python3"),
    ("curl", "curl"),
    ("openssl", "openssl"),
    ("pebble", "pebble"),
];

/// What the kernel must let root do, tried in namespaces that are gone afterwards.
const KERNEL: &[(&str, &str)] = &[
    ("processes, mounts and a network of its own", "true"),
    (
        "overlay file systems",
        "mount -t tmpfs tmpfs /mnt && cd /mnt && mkdir lower upper work root \
         && mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work root",
    ),
    (
        "bridges and pairs of network interfaces",
        "ip link add bridge0 type bridge && ip link add left type veth peer name right",
    ),
];

/// On every machine from the start: a server as a hoster delivers it.
const INSTALLED: &str = "systemd,systemd-sysv,dbus,libpam-systemd,iproute2,openssh-server,curl,ca-certificates,procps,python3,python3-venv,udev,kmod,apt-utils,sudo";

/// What machines, and newcomers to tercet's packages, may install from the lab's own repository.
const INSTALLABLE: &str = "nftables nodejs npm pgbackrest postgresql postgresql-contrib prometheus prometheus-alertmanager \
     prometheus-node-exporter prometheus-postgres-exporter unattended-upgrades";

/// The Python packages machines may install from there, by pip.
const REQUIREMENTS: &str = "examples/fastapi/requirements.txt";

/// What a base system was made by: it is made anew when this is another.
const RECIPE: &str =
    concat!(include_str!("base.rs"), include_str!("../../../examples/fastapi/requirements.txt"));

/// The port of the lab's own package repository.
pub(super) const MIRROR_PORT: u16 = 3142;

/// Returns an error that names what the host lacks.
fn check_host() -> Result<()> {
    if output(Command::new("id").arg("-u"))?.trim() != "0" {
        bail!(
            "the lab needs root: machines are containers with their own network\nhint: sudo -E cargo xtask lab …"
        );
    }
    let missing: Vec<&str> = HOST
        .iter()
        .filter(|(program, _)| output(Command::new("which").arg(program)).is_err())
        .map(|(_, package)| *package)
        .collect();
    if !missing.is_empty() {
        bail!(
            "the lab needs more of this machine\nhint: apt-get install -y --no-install-recommends {}",
            missing.join(" ")
        );
    }
    for (what, script) in KERNEL {
        let mut probe = Command::new("unshare");
        probe.args(["--mount", "--pid", "--net", "--fork", "--propagation", "private", "sh", "-c", script]);
        output(&mut probe).with_context(|| format!("the lab needs {what}, and this machine refuses them"))?;
    }
    Ok(())
}

/// Builds the base if it is missing or out of date; an incomplete build is removed.
pub(super) fn build(folders: &Folders, workspace: &Workspace) -> Result<()> {
    check_host()?;
    let base = &folders.base;
    if fs::read_to_string(base.join("complete")).is_ok_and(|recipe| recipe == RECIPE) {
        return Ok(());
    }
    println!("building the lab's base system, once");
    if base.exists() {
        fs::remove_dir_all(base)?;
    }
    fs::create_dir_all(base.join("keys"))?;
    // The repository is read by an unprivileged web server, the keys by root alone.
    fs::set_permissions(base.join("keys"), fs::Permissions::from_mode(0o700))?;
    let keys = all().map(|machine| format!("host_{}", machine.name)).chain(["operator".to_owned()]);
    for key in keys {
        let path = base.join("keys").join(&key);
        output(
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", &key, "-f"]).arg(path),
        )?;
    }
    build_root(folders, Debian::Bookworm)?;
    let python = packages::python(workspace, "lab-python", REQUIREMENTS)?;
    let download =
        ["download", "--quiet", "--disable-pip-version-check", "--only-binary=:all:", "--requirement"];
    let mut pip = workspace.command(python.join("bin/pip"));
    output(pip.args(download).arg(REQUIREMENTS).arg("--dest").arg(base.join("repository/wheels")))?;
    Ok(fs::write(base.join("complete"), RECIPE)?)
}

/// The root folder of a release of Debian.
pub(super) fn root(folders: &Folders, debian: Debian) -> PathBuf {
    folders.base.join("root").join(debian.suite())
}

/// A release of Debian.
pub(crate) struct Root {
    /// The root folder.
    pub(crate) root: PathBuf,
    /// The packages that its machines may install.
    pub(crate) repository: PathBuf,
}

/// Builds a release of Debian and its repository, if they are missing.
pub(super) fn build_root(folders: &Folders, debian: Debian) -> Result<Root> {
    let base = &folders.base;
    let (root, repository) = (root(folders, debian), base.join("repository").join(debian.suite()));
    let complete = base.join(format!("complete-{}", debian.suite()));
    if !complete.exists() {
        for folder in [&root, &repository] {
            if folder.exists() {
                fs::remove_dir_all(folder)?;
            }
            fs::create_dir_all(folder)?;
        }
        bootstrap(&root, &repository, debian)?;
        configure(base, &root, debian)?;
        index(&repository, debian)?;
        fs::write(complete, "")?;
    }
    Ok(Root { root, repository })
}

fn bootstrap(root: &Path, repository: &Path, debian: Debian) -> Result<()> {
    let download = format!(
        "--customize-hook=APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get -qq --yes --download-only install {INSTALLABLE}"
    );
    let keep = format!("--customize-hook=cp \"$1\"/var/cache/apt/archives/*.deb '{}'", repository.display());
    output(
        Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase", "--include", INSTALLED])
            .args(["--aptopt=APT::Install-Recommends \"false\"", "--dpkgopt=path-exclude=/usr/share/doc/*"])
            .args(["--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*"])
            .args([&download, &keep])
            .arg(debian.suite())
            .arg(root),
    )
    .context("the base system could not be made")
    .map(drop)
}

fn configure(base: &Path, root: &Path, debian: Debian) -> Result<()> {
    for name in ["etc/machine-id", "etc/resolv.conf"] {
        fs::write(root.join(name), "")?;
    }
    for entry in fs::read_dir(root.join("etc/ssh"))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("ssh_host_") {
            fs::remove_file(entry.path())?;
        }
    }
    let chroot = |arguments: &[&str]| output(Command::new("chroot").arg(root).args(arguments));
    chroot(&["useradd", "--create-home", "--shell", "/bin/bash", SUDOER])?;
    fs::write(root.join("etc/sudoers.d/lab"), format!("{SUDOER} ALL=(ALL) NOPASSWD:ALL\n"))?;
    for home in ["root", &format!("home/{SUDOER}")] {
        let ssh = root.join(home).join(".ssh");
        fs::create_dir_all(&ssh)?;
        fs::set_permissions(&ssh, fs::Permissions::from_mode(0o700))?;
        fs::copy(base.join("keys/operator.pub"), ssh.join("authorized_keys"))?;
    }
    chroot(&["sh", "-c", &format!("chown --recursive {SUDOER} ~{SUDOER}")])?;
    fs::write(
        root.join("etc/ssh/sshd_config.d/lab.conf"),
        "HostKey /etc/ssh/ssh_host_ed25519_key\nMaxStartups 100\n",
    )?;
    let sources = root.join("etc/apt/sources.list.d");
    for entry in fs::read_dir(&sources)? {
        fs::remove_file(entry?.path())?;
    }
    let switch = inside(SWITCH);
    let mirror =
        format!("deb [trusted=yes] http://{}:{MIRROR_PORT}/{} ./\n", plain(&switch[0]), debian.suite());
    fs::write(root.join("etc/apt/sources.list"), mirror)?;
    let wheels = format!(
        "[global]\nno-index = true\nfind-links = http://{0}:{MIRROR_PORT}/wheels/\ntrusted-host = {0}\n",
        plain(&switch[0])
    );
    fs::write(root.join("etc/pip.conf"), wheels)?;
    fs::create_dir_all(root.join("var/log/journal"))?;
    chroot(&["systemctl", "-q", "enable", "systemd-networkd", "ssh"])?;
    chroot(&["systemctl", "-q", "mask", "systemd-networkd-wait-online.service"])?;
    Ok(())
}

/// Makes the folder of packages a repository (Debian's repository format, flat).
fn index(repository: &Path, debian: Debian) -> Result<()> {
    let packages =
        output(Command::new("dpkg-scanpackages").current_dir(repository).args(["-m", ".", "/dev/null"]))?;
    fs::write(repository.join("Packages"), &packages)?;
    let sum = output(Command::new("sha256sum").current_dir(repository).arg("Packages"))?;
    let sum = sum.split_whitespace().next().context("sha256sum printed nothing")?;
    let date = output(Command::new("date").env("LC_ALL", "C").arg("-Ru"))?;
    let release = format!(
        "Origin: lab\nLabel: lab\nSuite: {0}\nCodename: {0}\nArchitectures: amd64 all\nDate: {date}SHA256:\n {sum} {1} Packages\n",
        debian.suite(),
        packages.len()
    );
    Ok(fs::write(repository.join("Release"), release)?)
}
