//! A lab: four Debian machines and a fifth for backups, an operator and an internet client on one Linux host, without virtualisation.
//!
//! Each machine is a systemd-nspawn container with systemd as PID 1, its own address, sshd and firewall, on an
//! overlay over a shared base. The whole lab lives in one private mount, pid and network namespace, so that
//! killing one process removes all of it. Root and a few Debian packages are needed; the host is not changed.

mod base;
mod guest;
mod inside;
mod machines;
mod network;
mod scenario;
mod traffic;

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

pub(crate) use self::machines::Debian;
use self::machines::{MACHINES, Machine, all};
use crate::command::output;
use crate::workspace::Workspace;

/// What to do with the lab.
#[derive(clap::Subcommand)]
pub(crate) enum Lab {
    /// Start the machines; the first time builds their base, in about a minute.
    Up,
    /// Remove the machines and all that was on them.
    Down,
    /// Show the machines.
    Status,
    /// Open a shell on a machine, or run a command there, over ssh from the operator.
    Ssh {
        /// lb, app1, app2, db, vault, next, app3, …
        machine: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Run a command where the operator or the internet client is.
    In {
        /// operator or internet.
        place: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Reboot a machine and wait until it answers again.
    Reboot {
        /// lb, app1, app2, db, vault, next, app3, …
        machine: String,
    },
    /// Cut a machine's power: it stops at once and stays off.
    Cut {
        /// lb, app1, app2, db, vault, next, app3, …
        machine: String,
    },
    /// Start a machine that was cut, and wait until it answers.
    Start {
        /// lb, app1, app2, db, vault, next, app3, …
        machine: String,
    },
    /// Run the whole-system test: bare machines to a proven system, releases, reboots, power cuts.
    Test {
        /// Only stages whose name has this in it; each one's first apply comes before.
        only: Option<String>,
        /// Leave out the stages that take minutes each; the gate does.
        #[arg(long)]
        short: bool,
        /// Go on with the next stage after one that failed, unless it is the first apply.
        #[arg(long)]
        keep_going: bool,
    },
    /// Measure what backups cost: the same load with the archive on another machine, data checksums and
    /// `wal_level = logical`, and without. Writes docs/benchmarks.md.
    Cost(scenario::cost::Arguments),
    /// Measure what machines cost: survey, first and second apply, release and proof with 2, 8 and 16 application machines. Writes
    /// docs/benchmarks.md.
    Scale(scenario::scale::Arguments),
    /// Clients of the whole-system test.
    #[command(hide = true)]
    Traffic { kind: traffic::Kind, address: std::net::SocketAddr, path: String, first: u64 },
    /// The first process inside the lab's namespaces.
    #[command(hide = true)]
    Inside {
        /// End when standard input ends.
        #[arg(long)]
        tied: bool,
    },
}

impl Lab {
    pub(crate) fn run(self, workspace: &Workspace) -> Result<()> {
        let lab = Folders::of(workspace);
        match self {
            Self::Up => {
                base::build(&lab, workspace)?;
                lab.up(Life::OfItsOwn).map(|lab| println!("{}", lab.how_to_use()))
            }
            Self::Down => lab.down(),
            Self::Status => {
                lab.running()?.print_status();
                Ok(())
            }
            // They become the command, so that its exit code is theirs.
            Self::Ssh { machine, command } => {
                Err(lab.running()?.ssh(Machine::named(&machine)?).args(command).exec().into())
            }
            Self::In { place, command } => Err(lab.running()?.at(&place)?.args(command).exec().into()),
            Self::Reboot { machine } => lab.running()?.reboot(Machine::named(&machine)?),
            Self::Cut { machine } => lab.running()?.cut(Machine::named(&machine)?),
            Self::Start { machine } => {
                let machine = Machine::named(&machine)?;
                base::build_root(&lab, machine.debian)?;
                lab.running()?.start(machine)
            }
            Self::Test { only, short, keep_going } => {
                base::build(&lab, workspace)?;
                let only = only.as_deref().unwrap_or_default();
                scenario::run(workspace, &lab, &scenario::Choice { only, short, keep_going })
            }
            Self::Cost(arguments) => {
                base::build(&lab, workspace)?;
                scenario::cost::run(workspace, &lab, &arguments)
            }
            Self::Scale(arguments) => {
                base::build(&lab, workspace)?;
                scenario::scale::run(workspace, &lab, &arguments)
            }
            Self::Traffic { kind, address, path, first } => traffic::run(kind, address, &path, first),
            Self::Inside { tied } => inside::run(&lab, tied),
        }
    }
}

/// A bare Debian, and a repository of packages for it; built if they are missing.
pub(crate) fn bare_debian(workspace: &Workspace, debian: Debian) -> Result<base::Root> {
    let lab = Folders::of(workspace);
    base::build(&lab, workspace)?;
    base::build_root(&lab, debian)
}

/// How long a lab lives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Until it is taken down.
    OfItsOwn,
    /// As long as the process that started it, however that ends.
    OfItsStarter,
}

/// Where the lab keeps things, all under cargo's target folder.
pub(crate) struct Folders {
    /// Base image, package repository and keys: built once.
    base: PathBuf,
    /// What a running lab writes; gone with it.
    run: PathBuf,
}

impl Folders {
    fn of(workspace: &Workspace) -> Self {
        let folder = workspace.target.join("lab");
        Self { base: folder.join("base"), run: folder.join("run") }
    }

    fn machine(&self, machine: Machine) -> PathBuf {
        self.run.join(machine.name)
    }

    /// The ssh configuration of the operator: `ssh -F FILE`.
    pub(crate) fn ssh_config(&self) -> PathBuf {
        self.run.join("ssh_config")
    }

    fn running(&self) -> Result<Running<'_>> {
        let pid = std::fs::read_to_string(self.run.join("pid")).unwrap_or_default();
        let pid: u32 = pid.trim().parse().ok().context("the lab is not up\nhint: cargo xtask lab up")?;
        // The process id may have been reused.
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if !command.contains("\0lab\0inside\0") {
            bail!("the lab is not up any more\nhint: cargo xtask lab up");
        }
        Ok(Running { folders: self, pid, _tie: None })
    }

    /// Starts the lab and waits until every machine answers to ssh.
    pub(crate) fn up(&self, life: Life) -> Result<Running<'_>> {
        if self.running().is_ok() {
            bail!("the lab is up already\nhint: cargo xtask lab down");
        }
        self.down()?;
        std::fs::create_dir_all(&self.run)?;
        self.write_ssh_config()?;
        let log = std::fs::File::create(self.run.join("lab.log"))?;
        let mut unshare = Command::new("setsid")
            .args(["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child=KILL", "--mount-proc"])
            .args(["--propagation", "private", "--"])
            .arg(std::env::current_exe()?)
            .args(["lab", "inside"])
            .args((life == Life::OfItsStarter).then_some("--tied"))
            .stdin(if life == Life::OfItsStarter { Stdio::piped() } else { Stdio::null() })
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let ready = self.run.join("ready");
        until("the lab's network", Duration::from_secs(20), || {
            if let Some(status) = unshare.try_wait()? {
                let log = std::fs::read_to_string(self.run.join("lab.log"))?;
                bail!("the lab ended at once ({status}):\n{log}");
            }
            Ok(ready.exists())
        })?;
        let children = format!("/proc/{0}/task/{0}/children", unshare.id());
        let pid = std::fs::read_to_string(&children).with_context(|| children.clone())?;
        std::fs::write(self.run.join("pid"), pid.trim())?;
        let running = Running { _tie: unshare.stdin.take(), ..self.running()? };
        for machine in MACHINES {
            running.wait_for(machine)?;
        }
        Ok(running)
    }

    /// Kills the lab, if it is there, and removes what it wrote.
    pub(crate) fn down(&self) -> Result<()> {
        if let Ok(running) = self.running() {
            output(Command::new("kill").args(["-KILL", &running.pid.to_string()]))?;
            let process = PathBuf::from(format!("/proc/{}", running.pid));
            until("the lab's end", Duration::from_secs(20), || Ok(!process.exists()))?;
        }
        guest::remove_control_groups()?;
        match std::fs::remove_dir_all(&self.run) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn write_ssh_config(&self) -> Result<()> {
        let mut known = String::new();
        for machine in all() {
            let key = std::fs::read_to_string(self.base.join(format!("keys/host_{}.pub", machine.name)))?;
            known += &format!("{},{} {key}", machine.name, machine.address());
        }
        std::fs::write(self.run.join("known_hosts"), known)?;
        let mut config = String::new();
        for machine in all() {
            config += &format!("Host {}\n  HostName {}\n", machine.name, machine.address());
        }
        config += &format!(
            "Host *\n  User root\n  IdentityFile {}\n  IdentitiesOnly yes\n  UserKnownHostsFile {}\n  \
             StrictHostKeyChecking yes\n  ConnectTimeout 5\n  LogLevel ERROR\n",
            self.base.join("keys/operator").display(),
            self.run.join("known_hosts").display(),
        );
        Ok(std::fs::write(self.ssh_config(), config)?)
    }
}

/// A lab that is up.
pub(crate) struct Running<'a> {
    folders: &'a Folders,
    pid: u32,
    /// The other end of its first process's standard input.
    _tie: Option<ChildStdin>,
}

impl Running<'_> {
    /// A command in the lab's namespaces, where the network's switch is.
    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid.to_string(), "-m", "-p", "-n", "--", program]);
        command
    }

    /// A command where `operator`, `internet` or a machine's network is; the host's files.
    pub(crate) fn at(&self, place: &str) -> Result<Command> {
        if !matches!(place, "operator" | "internet") {
            Machine::named(place).context("or operator, or internet")?;
        }
        let mut command = self.inside("nsenter");
        command.args([&format!("--net=/run/netns/{place}"), "--"]);
        Ok(command)
    }

    /// A command on a machine, over ssh from the operator.
    pub(crate) fn ssh(&self, machine: Machine) -> Command {
        let mut command = self.at("operator").expect("the operator has a namespace");
        command.args(["ssh", "-F"]).arg(self.folders.ssh_config()).arg(machine.name);
        command
    }

    fn wait_for(&self, machine: Machine) -> Result<()> {
        until(&format!("{}'s ssh", machine.name), Duration::from_secs(60), || {
            Ok(output(self.ssh(machine).arg("true")).is_ok())
        })
    }

    pub(crate) fn reboot(&self, machine: Machine) -> Result<()> {
        let boots = || guest::boots(self.folders, machine);
        let before = boots();
        // A moment later, so that the connection does not break before the answer comes.
        output(self.ssh(machine).arg("systemd-run --quiet --on-active=100ms systemctl reboot"))?;
        until(&format!("{}'s reboot", machine.name), Duration::from_secs(60), || Ok(boots() > before))?;
        self.wait_for(machine)
    }

    pub(crate) fn cut(&self, machine: Machine) -> Result<()> {
        let leader =
            guest::leader(self.folders, machine).with_context(|| format!("{} is off", machine.name))?;
        output(self.inside("kill").args(["-KILL", &leader]))?;
        until(&format!("{}'s power cut", machine.name), Duration::from_secs(10), || {
            Ok(!guest::is_on(self.folders, machine))
        })
    }

    pub(crate) fn start(&self, machine: Machine) -> Result<()> {
        guest::turn_on(self.folders, machine)?;
        self.wait_for(machine)
    }

    /// The machines that are on, or booting.
    pub(crate) fn on(&self) -> impl Iterator<Item = Machine> {
        all().filter(|machine| guest::is_on(self.folders, *machine))
    }

    fn print_status(&self) {
        for machine in all() {
            let state = if guest::is_on(self.folders, machine) { "on" } else { "off" };
            println!(
                "{:<5} {:<13} {state}, booted {} times",
                machine.name,
                machine.address(),
                guest::boots(self.folders, machine)
            );
        }
    }

    fn how_to_use(&self) -> String {
        format!(
            "lb, app1, app2 and db are on, vault is off; the operator's ssh configuration is {}\n\
             cargo xtask lab ssh lb               a shell on a machine\n\
             cargo xtask lab start vault          turn it on\n\
             cargo xtask lab in operator COMMAND  where the operator is\n\
             cargo xtask lab in internet COMMAND  where the internet client is\n\
             cargo xtask lab down                 remove it all",
            self.folders.ssh_config().display()
        )
    }
}

/// Kills, without a word, what runs by one of [`Running`]'s commands.
pub(crate) fn kill(nsenter: &mut Child) -> Result<()> {
    signal(nsenter, "KILL")?;
    nsenter.wait()?;
    Ok(())
}

/// Sends a signal to what runs by one of [`Running`]'s commands: nsenter's child, since only a child can be in another
/// process namespace.
pub(crate) fn signal(nsenter: &Child, name: &str) -> Result<()> {
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", nsenter.id()))?;
    let mut kill = Command::new("kill");
    kill.args(["-s", name]).args(children.split_whitespace());
    // nsenter stops with its child, and does not go on with it.
    kill.args((name == "CONT").then(|| nsenter.id().to_string()));
    output(&mut kill).map(drop)
}

/// Polls every 50 ms until the condition holds, or fails after `limit`.
pub(crate) fn until(what: &str, limit: Duration, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !is_so()? {
        if begin.elapsed() > limit {
            bail!("timed out after {limit:?}: {what}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
