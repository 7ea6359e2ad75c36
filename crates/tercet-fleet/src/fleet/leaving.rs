//! The machines of a project that are no longer in its file, and all of them when it is destroyed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use tercet_config::{Machine, Topology};

use super::{Fleet, Member, Operator, remote};
use crate::at_once::outcomes;
use crate::identity::{self, Identity};
use crate::operator_folder::FOLDER;
use crate::progress::{Listener, Progress};
use crate::remembered::{self, Remembered, Unreached};
use crate::secrets::{self, Secrets};
use crate::ssh::Ssh;
use crate::system;

/// A machine that leaves the project.
#[derive(Debug)]
pub(crate) struct Leaving<'a> {
    pub(crate) member: Member<'a>,
    pub(crate) remembered: &'a Remembered,
}

impl<'a> Fleet<'a> {
    /// Opens every machine of the project that can be reached, in the file or remembered, to destroy it.
    ///
    /// # Errors
    /// There is no state of the project here, or the project's secrets cannot be read.
    pub fn open_to_destroy(
        topology: &'a Topology,
        folder: &'a Path,
        ssh: &'a Ssh,
        operator: &Operator<'a>,
        listener: Listener<'_>,
    ) -> Result<Self> {
        if !secrets::are_kept(folder) {
            bail!(
                "this folder has no operator state: nothing was applied from it, or the project was destroyed\n\
                 hint: copy .tercet from the folder it was applied from"
            );
        }
        let mut fleet = Self::of(topology, folder, operator, Vec::new())?;
        fleet.secrets = Some(Secrets::kept_in(folder, topology)?);
        let known = |machine: &Machine| {
            let mut remembered = operator.remembered.iter().map(|it| &it.machine);
            remembered.any(|it| it.name == machine.name && it.address == machine.address)
        };
        let unknown = topology.machines().iter().filter(|machine| !known(machine));
        let unknown =
            unknown.map(|machine| Remembered { machine: machine.clone(), id: String::new(), cut_off: None });
        let all = operator.remembered.iter().cloned().chain(unknown).collect();
        fleet.look_at_gone(operator.gone.get_or_init(|| all), ssh, listener)?;
        Ok(fleet)
    }

    /// Connects to the machines that were applied to and are not in the file.
    pub(super) fn look_for_gone(
        &mut self,
        ssh: &'a Ssh,
        operator: &Operator<'a>,
        listener: Listener<'_>,
    ) -> Result<()> {
        let present = self.present();
        self.moved = operator
            .remembered
            .iter()
            .filter(|it| {
                present.iter().any(|(machine, id)| *id == it.id && machine.address != it.machine.address)
            })
            .collect();
        let gone = operator.gone.get_or_init(|| remembered::gone(operator.remembered, &present));
        let unknown = operator.forget.iter().find(|name| !gone.iter().any(|it| it.machine.name == **name));
        if let Some(name) = unknown {
            let names: Vec<&str> = gone.iter().map(|it| it.machine.name.as_str()).collect();
            bail!(
                "--forget {name}: no machine of this name left the project\nhint: {}",
                if names.is_empty() {
                    "there is none".to_owned()
                } else {
                    format!("there are {}", names.join(", "))
                }
            );
        }
        self.look_at_gone(gone, ssh, listener)
    }

    fn look_at_gone(&mut self, gone: &'a [Remembered], ssh: &'a Ssh, listener: Listener<'_>) -> Result<()> {
        let mut remotes = Vec::new();
        for it in gone {
            if self.forget.contains(&it.machine.name) {
                self.unreached.push(Unreached { remembered: it.clone(), why: "--forget".to_owned() });
            } else {
                remotes.push((it, remote(ssh, &it.machine)?));
            }
        }
        let looks = outcomes(&remotes, |(it, remote)| {
            let system = system::look(remote)?;
            if !it.id.is_empty() && system.id != it.id {
                bail!("{}: ssh connects to a different machine (another machine-id)", it.machine.name);
            }
            let text = remote.run(&format!("cat {} 2>/dev/null || true", identity::FILE), b"")?;
            // An unreadable identity may be this project's: only a machine without one, or of another project, is dropped.
            let identity: Option<Identity> = match text.trim() {
                "" => None,
                text => Some(
                    serde_json::from_str(text)
                        .with_context(|| format!("{}: {}", it.machine.name, identity::FILE))?,
                ),
            };
            listener(Progress::Surveyed {
                machine: it.machine.name.clone(),
                system: "reached; it leaves the project".to_owned(),
            });
            Ok((system, identity))
        });
        let project = self.project()?.secrets.project.clone();
        for ((remembered, remote), look) in remotes.into_iter().zip(looks) {
            match look {
                Err(error) => {
                    self.unreached
                        .push(Unreached { remembered: remembered.clone(), why: format!("{error:#}") });
                }
                Ok((_, identity)) if identity.as_ref().is_none_or(|it| it.project != project) => {
                    self.departed.push(remembered);
                }
                Ok((system, _)) if self.leaving.iter().any(|it| it.member.system.id == system.id) => {}
                Ok((system, _)) => {
                    let member = Member { machine: &remembered.machine, remote, system };
                    self.leaving.push(Leaving { member, remembered });
                }
            }
        }
        self.upload(listener)
    }

    /// The machines of the file with their machine ids.
    fn present(&self) -> Vec<(&'a Machine, String)> {
        self.machines.iter().map(|it| (it.machine, it.system.id.clone())).collect()
    }

    /// Whether this machine leaves the project.
    pub(crate) fn is_leaving(&self, name: &str) -> bool {
        self.leaving.iter().any(|it| it.member.machine.name == name)
    }

    /// Records the machines that the project is applied to, before any of them is changed; without the erased ones, whose
    /// ids are in `gone`.
    ///
    /// # Errors
    /// The folder of the operator's state cannot be written to.
    pub(crate) fn remember(&self, gone: &BTreeSet<String>, cut_off: bool) -> Result<()> {
        let mut all = remembered::updated(self.remembered, &self.present());
        let departed = |it: &Remembered| {
            self.departed.iter().any(|other| other.id == it.id && other.machine.address == it.machine.address)
        };
        all.retain(|it| !gone.contains(&it.id) && !departed(it));
        if cut_off {
            let now = crate::now();
            for unreached in &self.unreached {
                let is = |it: &Remembered| {
                    it.id == unreached.remembered.id
                        && it.machine.address == unreached.remembered.machine.address
                };
                if self.forget.contains(&unreached.remembered.machine.name) {
                    all.retain(|it| !is(it));
                }
                let it = all.iter_mut().find(|it| is(it));
                if let Some(it) = it {
                    it.cut_off.get_or_insert_with(|| now.clone());
                }
            }
        }
        remembered::write(self.folder, &all)
    }

    /// Records that the fleet has converged: unreachable machines have no access to the database, and the machines of
    /// `--forget` are forgotten.
    ///
    /// # Errors
    /// The folder of the operator's state cannot be written to.
    pub fn settle(&self) -> Result<()> {
        self.remember(&BTreeSet::new(), true)
    }

    /// Moves the operator state of a destroyed project aside and returns its new path.
    ///
    /// # Errors
    /// It cannot be moved.
    pub fn move_state_aside(&self) -> Result<PathBuf> {
        let from = self.folder.join(FOLDER);
        let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let to = from.with_file_name(format!("fleet-destroyed-{now}"));
        std::fs::rename(&from, &to).with_context(|| from.display().to_string())?;
        Ok(to)
    }

    /// Whether unreachable machines remain.
    pub fn has_unreached(&self) -> bool {
        self.unreached.iter().any(|it| !self.forget.contains(&it.remembered.machine.name))
    }
}
