//! The machines of a project, reached and looked at.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use tercet_config::{Machine, Reach, Tier, Topology};

use crate::agent::{Agent, Reply, Request};
use crate::at_once::{all_in_one, at_once, outcomes};
use crate::desired::Project;
use crate::paths::{self, PROGRAM_DIGITS};
use crate::progress::{Listener, Progress};
use crate::report::Report;
use crate::secrets::Secrets;
use crate::ssh::{Remote, Ssh};
use crate::survey::{self, Survey};

/// The machines of a project, all reached, all fit, tercet's binary on each.
#[derive(Debug)]
pub struct Fleet<'a> {
    pub(crate) topology: &'a Topology,
    /// The project's folder.
    pub(crate) folder: &'a Path,
    pub(crate) machines: Vec<Member<'a>>,
    /// Where the binary is on every machine.
    pub(crate) program: String,
    pub(crate) secrets: Secrets,
    /// Who applies: user and host, for other operators' messages.
    pub(crate) operator: String,
    /// Set when the person wants to stop.
    pub(crate) interrupted: &'a AtomicBool,
}

/// What the balancer says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BalancerState {
    /// Its servers.
    pub servers: Vec<ServerState>,
}

/// What the balancer says of one of its servers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServerState {
    /// Its name.
    pub name: String,
    /// Address and port.
    pub address: String,
    /// `up`, `down`, `ejected`, `draining`.
    pub state: String,
    /// Requests handed to it since the balancer started.
    pub requests: u64,
    /// Those that failed on it.
    #[serde(rename = "failures")]
    pub failed: u64,
}

/// Who opens a fleet.
#[derive(Debug)]
pub struct Operator<'a> {
    /// User and host, for other operators' messages.
    pub name: String,
    /// This tercet's own file, which is copied to the machines.
    pub binary: &'a Path,
    /// Set when the person wants to stop: the step at hand is finished, then everything ends in order.
    pub interrupted: &'a AtomicBool,
}

/// One machine of a fleet.
#[derive(Debug)]
pub(crate) struct Member<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) remote: Remote<'a>,
    pub(crate) survey: Survey,
}

impl<'a> Fleet<'a> {
    /// Reaches every machine at once and looks at it; then copies the binary where it is not yet.
    ///
    /// # Errors
    /// Any machine cannot be reached or used: all of them are named, and none was changed.
    pub fn open(
        topology: &'a Topology,
        folder: &'a Path,
        ssh: &'a Ssh,
        operator: &Operator<'a>,
        listener: Listener<'_>,
    ) -> Result<Self> {
        let (fleet, missing) = Self::look(topology, folder, ssh, operator, listener)?;
        if missing.is_empty() {
            fleet.upload(operator.binary, listener)?;
            return Ok(fleet);
        }
        Err(all_in_one(missing.iter().map(|(_, error)| error)))
    }

    /// The same with those machines that can be reached and used, and why each of the others cannot: to look at, not
    /// to change.
    ///
    /// # Errors
    /// No machine is named, or the project's secrets cannot be read.
    pub fn open_what_is_there(
        topology: &'a Topology,
        folder: &'a Path,
        ssh: &'a Ssh,
        operator: &Operator<'a>,
        listener: Listener<'_>,
    ) -> Result<(Self, Vec<(String, anyhow::Error)>)> {
        let (fleet, missing) = Self::look(topology, folder, ssh, operator, listener)?;
        fleet.upload(operator.binary, listener)?;
        Ok((fleet, missing))
    }

    fn look(
        topology: &'a Topology,
        folder: &'a Path,
        ssh: &'a Ssh,
        operator: &Operator<'a>,
        listener: Listener<'_>,
    ) -> Result<(Self, Vec<(String, anyhow::Error)>)> {
        let mut remotes = Vec::new();
        for machine in topology.machines() {
            let Reach::Ssh(destination) = &machine.reach else {
                bail!(
                    "tercet.toml names no machines\nhint: add a [[machine]] for each; `tercet up` runs everything on this one"
                );
            };
            remotes.push((machine, ssh.to(&machine.name, destination)));
        }
        let surveys = outcomes(&remotes, |(machine, remote)| {
            let survey = survey::look(remote)?;
            let system = format!("{} {}, {} MiB", survey.system.0, survey.system.1, survey.memory_kib >> 10);
            listener(Progress::Surveyed { machine: machine.name.clone(), system });
            Ok(survey)
        });
        let (mut machines, mut missing) = (Vec::new(), Vec::new());
        for ((machine, remote), survey) in remotes.into_iter().zip(surveys) {
            match survey {
                Ok(survey) => machines.push(Member { machine, remote, survey }),
                Err(error) => missing.push((machine.name.clone(), error)),
            }
        }
        let secrets = Secrets::kept_in(folder, topology)?;
        let bytes = std::fs::read(operator.binary).with_context(|| operator.binary.display().to_string())?;
        let program = paths::program(&crate::digest(&bytes)[..PROGRAM_DIGITS]);
        let interrupted = operator.interrupted;
        let operator = operator.name.clone();
        Ok((Self { topology, folder, machines, program, secrets, operator, interrupted }, missing))
    }

    /// Copies the binary to every machine where it is not yet.
    fn upload(&self, binary: &Path, listener: Listener<'_>) -> Result<()> {
        let program = &self.program;
        at_once(&self.machines, |member| {
            if member.remote.run(&format!("test -x {program} && echo there || true"), b"")?.trim() != "there"
            {
                listener(Progress::Uploading { machine: member.machine.name.clone() });
                member.remote.upload(binary, program, 0o755)?;
            }
            Ok(())
        })
        .map(drop)
    }

    pub(crate) fn project(&self) -> Project<'_> {
        Project { topology: self.topology, secrets: &self.secrets, program: &self.program }
    }

    pub(crate) fn agent<'b>(&self, member: &'b Member<'a>) -> Agent<'b>
    where
        'a: 'b,
    {
        Agent::new(&member.remote, self.program.clone())
    }

    /// Every machine's account of itself, in the order of the file.
    ///
    /// # Errors
    /// A machine cannot be reached.
    pub fn reports(&self) -> Result<Vec<Report>> {
        at_once(&self.machines, |member| match self.agent(member).ask(&Request::Report)? {
            Reply::Report(report) => Ok(report),
            _ => Err(unexpected(&member.machine.name)),
        })
    }

    /// What the balancer says of its servers; `None` before it is there.
    ///
    /// # Errors
    /// Its machine cannot be reached.
    pub fn balancer(&self) -> Result<Option<BalancerState>> {
        let Some(member) = self.machines.iter().find(|member| member.machine.tiers.contains(&Tier::Balancer))
        else {
            return Ok(None);
        };
        let request = Request::Balancer { method: "GET".to_owned(), target: "/servers".to_owned() };
        match self.agent(member).ask(&request)? {
            Reply::Balancer { status: 200, body } => Ok(serde_json::from_str(&body)?),
            Reply::Balancer { .. } => Ok(None),
            _ => Err(unexpected(&member.machine.name)),
        }
    }

    /// The machines' names, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.machines.iter().map(|member| member.machine.name.as_str())
    }
}

pub(crate) fn unexpected(machine: &str) -> anyhow::Error {
    anyhow!("{machine}: gave an answer to another question")
}
