//! One machine: its disk, its control group, its container, booted again when it asks to be.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::machines::{Machine, OBJECT_STORE, SWITCH, inside, outside, plain};
use super::network::{plug_in, unplug};
use super::{Folders, base, until};
use crate::command::output;

/// The exit code by which systemd-nspawn says that the machine wants to boot again.
const REBOOT: i32 = 133;

/// A line in the console log for each boot.
const BOOT: &str = "=== boot";

/// Joins a control group of the machine's own on every hierarchy (else four systemds share one), then becomes
/// the container: `$1` is the machine's name, the rest the command.
const JOIN_AND_EXEC: &str = r#"
name=$1; shift
while IFS=: read -r _ controllers path; do
  case $controllers in
    "") base=/sys/fs/cgroup/unified; [ -d $base ] || base=/sys/fs/cgroup;;
    name=systemd) base=/sys/fs/cgroup/systemd;;
    *) base=/sys/fs/cgroup/$controllers;;
  esac
  group=$base$path/tercet-lab-$name
  mkdir -p $group 2>/dev/null || continue
  if [ "$controllers" = cpuset ]; then
    cat $base$path/cpuset.cpus >$group/cpuset.cpus; cat $base$path/cpuset.mems >$group/cpuset.mems
  fi
  echo $$ >$group/cgroup.procs 2>/dev/null || true
done </proc/self/cgroup
exec "$@"
"#;

/// The machine's first process: where the host still has version-1 control groups, nspawn mounts them read-only
/// and limits would be ignored silently.
const FIRST_PROCESS: &str = "#!/bin/sh
for c in memory pids cpu cpuacct blkio; do
  [ -d /sys/fs/cgroup/$c ] && mount -o remount,bind,rw /sys/fs/cgroup/$c
done
# systemd 256 and later refuses version-1 control groups without it.
[ -d /sys/fs/cgroup/memory ] && set -- SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1 systemd.unified_cgroup_hierarchy=0 \"$@\"
exec /lib/systemd/systemd \"$@\"
";

/// Boots the machine whenever it should be on, `on` from the start, until the lab ends.
pub(super) fn keep_running(folders: &Folders, machine: Machine, on: bool) -> Result<()> {
    let folder = folders.machine(machine);
    fs::create_dir_all(&folder)?;
    if on {
        turn_on(folders, machine)?;
    }
    let mut has_disk = false;
    loop {
        while !is_on(folders, machine) {
            std::thread::sleep(Duration::from_millis(50));
        }
        if !has_disk {
            make_disk(folders, machine)?;
            has_disk = true;
        }
        plug_in(machine)?;
        let mut console =
            fs::OpenOptions::new().append(true).create(true).open(folder.join("console.log"))?;
        writeln!(console, "{BOOT}")?;
        let mut container = container(folders, machine)
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console)
            .spawn()?;
        fs::write(folder.join("container"), container.id().to_string())?;
        let status = container.wait()?;
        unplug(machine);
        if status.code() != Some(REBOOT) {
            fs::remove_file(folder.join("on"))?;
        }
    }
}

fn container(folders: &Folders, machine: Machine) -> Command {
    let folder = folders.machine(machine);
    let mut command = Command::new("sh");
    command
        .args(["-c", JOIN_AND_EXEC, "sh", machine.name, "systemd-nspawn"])
        .args([
            "--quiet",
            "--keep-unit",
            "--register=no",
            "--settings=no",
            "--resolv-conf=off",
            "--timezone=off",
        ])
        .args(["--link-journal=no", "--console=read-only", "--rlimit=NOFILE=1024:1048576"])
        .args(["--capability=CAP_NET_ADMIN", "--kill-signal=SIGRTMIN+3", "--machine", machine.name])
        .arg(format!("--network-namespace-path=/run/netns/{}", machine.name))
        .arg(format!("--bind-ro={}:/run/host/first", folder.join("first").display()))
        .arg("--directory")
        .arg(folder.join("root"))
        .arg("/run/host/first")
        .env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "network");
    command
}

/// The machine's disk: an overlay over the shared base, with its own names, keys and addresses.
fn make_disk(folders: &Folders, machine: Machine) -> Result<()> {
    let folder = folders.machine(machine);
    let [root, upper, work] = ["root", "upper", "work"].map(|name| folder.join(name));
    for path in [&root, &upper, &work] {
        fs::create_dir_all(path)?;
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        base::root(folders, machine.debian).display(),
        upper.display(),
        work.display()
    );
    output(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(&root))?;
    let first = folder.join("first");
    fs::write(&first, FIRST_PROCESS)?;
    fs::set_permissions(&first, fs::Permissions::from_mode(0o755))?;
    let name = machine.name;
    fs::write(root.join("etc/hostname"), format!("{name}\n"))?;
    let [switch, _] = inside(SWITCH);
    let store = format!("{} {OBJECT_STORE}\n", plain(&switch));
    let hosts = format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {name}\n{store}");
    fs::write(root.join("etc/hosts"), hosts)?;
    for suffix in ["", ".pub"] {
        let key = folders.base.join(format!("keys/host_{name}{suffix}"));
        fs::copy(key, root.join(format!("etc/ssh/ssh_host_ed25519_key{suffix}")))?;
    }
    write_network(&root, "eth0", &inside(machine.host), Some(&inside(SWITCH)))?;
    if machine.public {
        write_network(&root, "eth1", &outside(machine.host), None)?;
    }
    Ok(())
}

fn write_network(
    root: &Path,
    interface: &str,
    addresses: &[String; 2],
    gateways: Option<&[String; 2]>,
) -> Result<()> {
    let mut text = format!("[Match]\nName={interface}\n[Network]\nIPv6AcceptRA=no\n");
    for address in addresses {
        text += &format!("[Address]\nAddress={address}\nDuplicateAddressDetection=none\n");
    }
    for gateway in gateways.into_iter().flatten() {
        text += &format!("[Route]\nGateway={}\n", plain(gateway));
    }
    let folder = root.join("etc/systemd/network");
    fs::create_dir_all(&folder)?;
    Ok(fs::write(folder.join(format!("10-{interface}.network")), text)?)
}

/// Whether the machine is on, or booting.
pub(super) fn is_on(folders: &Folders, machine: Machine) -> bool {
    folders.machine(machine).join("on").exists()
}

/// Has the machine boot.
pub(super) fn turn_on(folders: &Folders, machine: Machine) -> Result<()> {
    Ok(fs::write(folders.machine(machine).join("on"), "")?)
}

/// How often the machine has booted.
pub(super) fn boots(folders: &Folders, machine: Machine) -> usize {
    let console = fs::read_to_string(folders.machine(machine).join("console.log")).unwrap_or_default();
    console.lines().filter(|line| line.starts_with(BOOT)).count()
}

/// The process that is PID 1 of the machine, numbered as the lab sees it.
pub(super) fn leader(folders: &Folders, machine: Machine) -> Result<String> {
    let container = fs::read_to_string(folders.machine(machine).join("container"))?;
    let running = folders.running()?;
    let mut leader = String::new();
    until("the machine's first process", Duration::from_secs(5), || {
        let children = format!("/proc/{container}/task/{container}/children");
        let children = output(running.inside("cat").arg(&children))?;
        let own = output(running.inside("readlink").arg("/proc/self/ns/pid"))?;
        for child in children.split_whitespace() {
            let namespace =
                output(running.inside("readlink").arg(format!("/proc/{child}/ns/pid"))).unwrap_or_default();
            if !namespace.is_empty() && namespace != own {
                child.clone_into(&mut leader);
            }
        }
        Ok(!leader.is_empty())
    })
    .with_context(|| format!("{}: no first process", machine.name))?;
    Ok(leader)
}

/// Removes the control groups that machines leave behind: they can outlive their processes.
pub(super) fn remove_control_groups() -> Result<()> {
    let groups = output(Command::new("find").args([
        "/sys/fs/cgroup",
        "-depth",
        "-type",
        "d",
        "-path",
        "*/tercet-lab-*",
    ]))
    .unwrap_or_default();
    for group in groups.lines() {
        until(&format!("the end of {group}"), Duration::from_secs(5), || {
            Ok(fs::remove_dir(group).is_ok() || !Path::new(group).exists())
        })?;
    }
    Ok(())
}
