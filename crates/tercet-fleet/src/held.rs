//! The leases of all machines, held and renewed while something is changed, given back at the end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tercet_machine::Secret;

use crate::agent::{Reply, Request};
use crate::at_once::at_once;
use crate::fleet::{Fleet, Member, unexpected};
use crate::lease::{Lease, LeaseRequest, SECONDS, Wish};
use crate::progress::{Listener, Progress};

/// The leases of a fleet.
#[derive(Debug)]
pub(crate) struct Held<'b, 'a> {
    fleet: &'b Fleet<'a>,
    owner: String,
    token: Secret,
    fences: BTreeMap<String, u64>,
    lost: AtomicBool,
}

/// Takes the lease of every machine, does `work`, gives them back.
///
/// # Errors
/// Another operator has one of them; or what `work` returns.
pub(crate) fn holding<R>(
    fleet: &Fleet<'_>,
    listener: Listener<'_>,
    work: impl FnOnce(&Held<'_, '_>) -> Result<R>,
) -> Result<R> {
    let mut held = Held {
        fleet,
        owner: fleet.operator.clone(),
        token: Secret::new(tercet_database::Password::generate().context("no random numbers")?.reveal()),
        fences: BTreeMap::new(),
        lost: AtomicBool::new(false),
    };
    // One after the other, in the order of the file: of two operators at once, one gets the first.
    for member in &fleet.machines {
        match held.ask(member, Wish::Take) {
            Ok(lease) => {
                let machine = member.machine.name.clone();
                held.fences.insert(machine.clone(), lease.fence);
                if let Some(from) = lease.taken_over_from {
                    listener(Progress::LeaseTakenOver { machine, from });
                }
            }
            Err(error) => {
                held.release()?;
                return Err(error);
            }
        }
    }
    let (stop, stopped) = channel::<()>();
    let result = std::thread::scope(|scope| {
        let held = &held;
        scope.spawn(move || {
            while stopped.recv_timeout(Duration::from_secs(SECONDS / 3)) == Err(RecvTimeoutError::Timeout) {
                if at_once(&held.fleet.machines, |member| held.ask(member, Wish::Renew)).is_err() {
                    held.lost.store(true, Ordering::Relaxed);
                }
            }
        });
        let result = work(held);
        drop(stop);
        result
    });
    // Given back also when it failed: the next operator need not wait.
    let released = held.release();
    let done = result?;
    released?;
    Ok(done)
}

impl Held<'_, '_> {
    /// The fencing number of a machine's lease.
    pub(crate) fn fence(&self, machine: &str) -> u64 {
        self.fences.get(machine).copied().unwrap_or_default()
    }

    /// Whether to go on.
    ///
    /// # Errors
    /// The person wants to stop, or a lease could not be renewed.
    pub(crate) fn check(&self) -> Result<()> {
        if self.fleet.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted\nhint: what is half done is finished by the next apply");
        }
        if self.lost.load(Ordering::Relaxed) {
            bail!(
                "the lease of a machine could not be renewed\nhint: is somebody else applying? apply again"
            );
        }
        Ok(())
    }

    fn ask(&self, member: &Member<'_>, wish: Wish) -> Result<Lease> {
        let request = LeaseRequest { wish, owner: self.owner.clone(), token: self.token.clone() };
        match self.fleet.agent(member).ask(&Request::Lease(request))? {
            Reply::Lease(lease) => Ok(lease),
            _ => Err(unexpected(&member.machine.name)),
        }
    }

    fn release(&self) -> Result<()> {
        let taken: Vec<&Member<'_>> = self
            .fleet
            .machines
            .iter()
            .filter(|member| self.fences.contains_key(&member.machine.name))
            .collect();
        at_once(&taken, |member| self.ask(member, Wish::Release)).map(drop)
    }
}
