//! The capability to change machines: the leases of all of them, held and renewed while a plan is executed.
//!
//! Only [`with_leases`] makes a [`Fenced`], and only a `Fenced` can change a machine: every change carries the lease's
//! fencing number, and the machine refuses an older one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tercet_machine::Secret;

use crate::agent::{Change, Connection, Reply, Request};
use crate::at_once::at_once;
use crate::fleet::{Fleet, Member, unexpected};
use crate::lease::{LEASE_SECONDS, Lease, LeaseOperation, LeaseRequest};
use crate::progress::{Listener, Progress};

/// The leases of a fleet.
#[derive(Debug)]
pub(crate) struct Leases<'b, 'a> {
    fleet: &'b Fleet<'a>,
    owner: String,
    token: Secret,
    fences: BTreeMap<String, u64>,
    /// Machines that are not used any more: erased, or leaving the project and failed.
    dropped: Mutex<BTreeSet<String>>,
    lost: AtomicBool,
}

/// A machine whose lease is held. Only it can be changed.
#[derive(Debug)]
pub(crate) struct Fenced<'l, 'b, 'a> {
    leases: &'l Leases<'b, 'a>,
    member: &'b Member<'a>,
    fence: u64,
}

/// Acquires the lease of every machine, does `work`, releases them.
///
/// # Errors
/// Another operator has one of them; or what `work` returns.
pub(crate) fn with_leases<R>(
    fleet: &Fleet<'_>,
    listener: Listener<'_>,
    work: impl FnOnce(&Leases<'_, '_>) -> Result<R>,
) -> Result<R> {
    let mut leases = Leases {
        fleet,
        owner: fleet.operator.clone(),
        token: Secret::new(tercet_database::Password::generate().context("no random numbers")?.reveal()),
        fences: BTreeMap::new(),
        dropped: Mutex::default(),
        lost: AtomicBool::new(false),
    };
    // One after the other, in the order of the file: of two operators at once, one gets the first.
    for member in fleet.members() {
        match leases.ask(member, LeaseOperation::Acquire) {
            Ok(lease) => {
                let machine = member.machine.name.clone();
                leases.fences.insert(machine.clone(), lease.fence);
                if let Some(from) = lease.taken_over_from {
                    listener(Progress::LeaseTakenOver { machine, from });
                }
            }
            Err(error) => {
                leases.release()?;
                return Err(error);
            }
        }
    }
    let (stop, stopped) = channel::<()>();
    let result = std::thread::scope(|scope| {
        let leases = &leases;
        scope.spawn(move || {
            while stopped.recv_timeout(Duration::from_secs(LEASE_SECONDS / 3))
                == Err(RecvTimeoutError::Timeout)
            {
                let renewed = at_once(&leases.held(), |it| {
                    let renewed = leases.ask(it, LeaseOperation::Renew);
                    // A machine that leaves the project delays no other: only its own changes fail.
                    if leases.fleet.is_leaving(&it.machine.name) { Ok(()) } else { renewed.map(drop) }
                });
                if renewed.is_err() {
                    leases.lost.store(true, Ordering::Relaxed);
                }
            }
        });
        let result = work(leases);
        drop(stop);
        result
    });
    // Released also when it failed: the next operator need not wait.
    let released = leases.release();
    let done = result?;
    released?;
    Ok(done)
}

impl<'b, 'a> Leases<'b, 'a> {
    /// The capability to change the machine of this name.
    pub(crate) fn machine<'l>(&'l self, name: &str) -> Result<Fenced<'l, 'b, 'a>> {
        let member = self.fleet.member(name)?;
        let fence =
            self.fences.get(name).copied().with_context(|| format!("{name}: its lease is not held"))?;
        Ok(Fenced { leases: self, member, fence })
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
                "the lease of a machine could not be renewed\nhint: another operator may be applying; apply again"
            );
        }
        Ok(())
    }

    fn ask(&self, member: &Member<'_>, operation: LeaseOperation) -> Result<Lease> {
        let request = LeaseRequest { operation, owner: self.owner.clone(), token: self.token.clone() };
        let mut lease = None;
        self.fleet.agent(member).send(&Request::Lease(request), b"", Connection::Shared, |reply| {
            if let Reply::Lease(it) = reply {
                lease = Some(it);
            }
            Ok(())
        })?;
        lease.ok_or_else(|| unexpected(&member.machine.name))
    }

    fn release(&self) -> Result<()> {
        at_once(&self.held(), |member| {
            // Asked twice: an agent that is killed, or a connection that breaks, here would block others for a minute.
            let release = || self.ask(member, LeaseOperation::Release);
            let released = release().or_else(|_| release());
            if self.fleet.is_leaving(&member.machine.name) { Ok(()) } else { released.map(drop) }
        })
        .map(drop)
    }

    /// The machines with held leases.
    fn held(&self) -> Vec<&'b Member<'a>> {
        let dropped = self.dropped.lock().expect("no thread panics while holding it");
        let is_held = |name: &String| self.fences.contains_key(name) && !dropped.contains(name);
        self.fleet.members().filter(|member| is_held(&member.machine.name)).collect()
    }

    /// Stops using a machine and its lease.
    pub(crate) fn drop_machine(&self, name: &str) {
        self.dropped.lock().expect("no thread panics while holding it").insert(name.to_owned());
    }

    /// Whether a machine's lease was given up.
    pub(crate) fn has_dropped(&self, name: &str) -> bool {
        self.dropped.lock().expect("no thread panics while holding it").contains(name)
    }
}

impl Fenced<'_, '_, '_> {
    /// Makes a change; `payload` follows the request. Each reply but the last is handed over.
    ///
    /// # Errors
    /// The lease is lost, the machine cannot be reached, or the change fails there; the error names the machine.
    pub(crate) fn change(
        &self,
        change: Change,
        payload: &[u8],
        mut each: impl FnMut(Reply) -> Result<()>,
    ) -> Result<()> {
        self.leases.check()?;
        let mut unconfirmed = None;
        self.send(change, payload, Connection::Shared, |reply| {
            if let Reply::Unconfirmed(firewall) = reply {
                unconfirmed = Some(firewall);
                return Ok(());
            }
            each(reply)
        })?;
        // The new firewall rules stay only if a connection opened after them still gets in.
        match unconfirmed {
            Some(firewall) => self.send(Change::KeepFirewall(firewall), b"", Connection::New, each),
            None => Ok(()),
        }
    }

    fn send(
        &self,
        change: Change,
        payload: &[u8],
        connection: Connection,
        mut each: impl FnMut(Reply) -> Result<()>,
    ) -> Result<()> {
        let mut done = false;
        let request = Request::Change { fence: self.fence, project: self.leases.fleet.project_id()?, change };
        self.leases.fleet.agent(self.member).send(&request, payload, connection, |reply| match reply {
            Reply::Done => {
                done = true;
                Ok(())
            }
            reply => each(reply),
        })?;
        if !done {
            bail!("{}: ended without an answer", self.member.machine.name);
        }
        Ok(())
    }
}
