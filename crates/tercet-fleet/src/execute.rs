//! Executing a plan: the only code that changes anything.
//!
//! The leases are acquired, the fleet is looked at again, and what was confirmed is executed if it is still what there
//! is to do. What fails while application servers are rolled is undone by the inverse operations in the reverse order.

use std::collections::BTreeSet;
use std::sync::Mutex;

use anyhow::{Context as _, Result, anyhow};

use crate::agent::{Change, Query, Reply};
use crate::at_once::at_once;
use crate::fenced::{Leases, with_leases};
use crate::fleet::Fleet;
use crate::intent::Wanted;
use crate::operation::{Action, Operation};
use crate::plan::{ExecutionPlan, plan};
use crate::progress::{Listener, Progress};
use crate::secrets;
use crate::survey::survey;

/// Seconds a new server may take until it is ready.
const READY_SECONDS: u64 = 60;
/// Seconds the balancer may take until it has found a ready server healthy.
const ROTATION_SECONDS: u64 = 20;

/// What came of a confirmed plan.
#[derive(Debug)]
pub enum Executed {
    /// It was executed; the machines that were to leave and could not be cleaned up, and why.
    Done(Vec<String>),
    /// Nothing was done, since meanwhile there is something else to do.
    Changed(ExecutionPlan),
}

/// What there is to do. Changes nothing.
///
/// # Errors
/// A machine cannot be read, or what is wanted cannot be done.
pub fn plan_of(fleet: &Fleet<'_>, wanted: &Wanted) -> Result<ExecutionPlan> {
    plan(&fleet.project()?, &survey(fleet, wanted)?, &wanted.intent)
}

/// Executes what was confirmed.
///
/// # Errors
/// Something failed: what served before still serves; a further apply goes on from where this one ended.
pub fn execute(
    fleet: &Fleet<'_>,
    wanted: &Wanted,
    confirmed: &ExecutionPlan,
    listener: Listener<'_>,
) -> Result<Executed> {
    // Another operator may have removed it since.
    fleet.upload(listener)?;
    with_leases(fleet, listener, |leases| {
        let plan = plan_of(fleet, wanted)?;
        if plan != *confirmed {
            return Ok(Executed::Changed(plan));
        }
        fleet.remember(&BTreeSet::new(), false)?;
        let execution =
            Execution { fleet, wanted, leases, listener, gone: Mutex::default(), failed: Mutex::default() };
        run(&execution, &plan)?;
        let gone = execution.gone.into_inner().expect("nobody panicked while holding it");
        fleet.remember(&gone, true)?;
        Ok(Executed::Done(execution.failed.into_inner().expect("nobody panicked while holding it")))
    })
}

/// What operations are executed with.
struct Execution<'e, 'b, 'a> {
    fleet: &'b Fleet<'a>,
    wanted: &'e Wanted,
    leases: &'e Leases<'b, 'a>,
    listener: Listener<'e>,
    /// The ids of machines that have nothing of the project any more.
    gone: Mutex<BTreeSet<String>>,
    /// Machines that were to leave and could not be cleaned up, and why.
    failed: Mutex<Vec<String>>,
}

fn run(execution: &Execution<'_, '_, '_>, plan: &ExecutionPlan) -> Result<()> {
    let total = plan.operations().count();
    let mut number = 0;
    for (place, stage) in plan.stages.iter().enumerate() {
        let numbered: Vec<(usize, &Operation)> = stage
            .iter()
            .map(|operation| {
                number += 1;
                (number, operation)
            })
            .collect();
        let done = at_once(&numbered, |(number, operation)| {
            (execution.listener)(Progress::Operation {
                number: *number,
                total,
                operation: operation.to_string(),
            });
            let done = execution
                .run(operation)
                .with_context(|| format!("operation {number} of {total}, {operation}"));
            execution.spare_the_others(operation, done)
        });
        let Err(error) = done else { continue };
        // Who was told to stop, or has lost the lease, changes nothing any more.
        execution.leases.check().with_context(|| format!("{error:#}"))?;
        return Err(undo(execution, &plan.stages[..=place], error));
    }
    Ok(())
}

/// Puts back what served before; the error that is to be reported.
fn undo(execution: &Execution<'_, '_, '_>, stages: &[Vec<Operation>], error: anyhow::Error) -> anyhow::Error {
    let inverses: Vec<Operation> = stages.iter().rev().flatten().flat_map(Operation::undo).collect();
    if inverses.is_empty() {
        return error;
    }
    (execution.listener)(Progress::Reverting { why: format!("{error:#}") });
    for operation in inverses {
        (execution.listener)(Progress::Undo { operation: operation.to_string() });
        match execution.run(&operation) {
            // The health of what served before is not what this is about.
            Err(waited) if operation.only_waits() => {
                (execution.listener)(Progress::Note { note: format!("{waited:#}") });
            }
            Err(failed) => return anyhow!("{failed:#}\nwhile this was put back: {error:#}"),
            Ok(()) => {}
        }
    }
    error.context("the release failed, and what served before serves again")
}

impl Execution<'_, '_, '_> {
    /// A machine that is to leave and fails holds up nobody: nothing more is done to it, and the next apply goes on.
    fn spare_the_others(&self, operation: &Operation, done: Result<()>) -> Result<()> {
        let Err(error) = done else { return Ok(()) };
        if !self.fleet.is_leaving(&operation.machine) || self.leases.check().is_err() {
            return Err(error);
        }
        self.leases.drop_machine(&operation.machine);
        (self.listener)(Progress::Note { note: format!("{error:#}; the others go on") });
        self.failed.lock().expect("nobody panics while holding it").push(format!("{error:#}"));
        Ok(())
    }

    fn run(&self, operation: &Operation) -> Result<()> {
        self.leases.check()?;
        if self.leases.has_dropped(&operation.machine) {
            return Ok(());
        }
        match &operation.action {
            Action::AwaitReady { instance, address, path } => {
                let query = Query::AwaitReady {
                    address: *address,
                    path: path.clone(),
                    seconds: READY_SECONDS,
                    unit: instance.unit(),
                };
                self.ask(operation, query)
                    .with_context(|| format!("{}, release {}, is not ready", instance.part, instance.release))
            }
            Action::AwaitRotation { servers, gone } => {
                let (servers, gone) = (servers.clone(), gone.clone());
                self.ask(operation, Query::AwaitRotation { servers, gone, seconds: ROTATION_SECONDS })
            }
            Action::EndSessions { from, port } => {
                let addresses = from.iter().map(|(_, address)| *address).collect();
                self.change(operation, Change::EndSessions { port: *port, addresses }, b"")
            }
            Action::DropDatabase { data, port } => {
                self.change(operation, Change::DropDatabase { data: data.clone(), port: *port }, b"")
            }
            Action::Erase => self.erase(operation),
            Action::Ship { release } => {
                self.change(operation, Change::Ship(release.clone()), &self.wanted.archive)
            }
            Action::Build { release } => self.change(operation, Change::Build(release.clone()), b""),
            Action::MarkUsed { release } => self.change(operation, Change::MarkUsed(release.clone()), b""),
            Action::Migrate { migrate, .. } => self.change(operation, Change::Migrate(migrate.clone()), b""),
            Action::Identify { identity, take_over } => {
                let change = Change::Identify { identity: identity.clone(), take_over: *take_over };
                self.change(operation, change, b"")
            }
            Action::RecordData { from, database } => {
                let data = self.fleet.data(from, database)?;
                self.change(operation, Change::RecordData(data.clone()), b"")?;
                secrets::record_data(self.fleet.folder, &data)
            }
            Action::Converge { .. }
            | Action::Retire { .. }
            | Action::Start { .. }
            | Action::Rotate { .. }
            | Action::Stop { .. }
            | Action::CleanUp { .. } => {
                let desired = operation.desired().context("it has a desired state")?;
                let expects = match &operation.action {
                    Action::Start { expects, .. } => expects.clone(),
                    _ => "/".into(),
                };
                let data = match &operation.action {
                    Action::Converge { data, .. } => data.clone(),
                    _ => None,
                };
                self.change(operation, Change::Converge { desired, expects, data }, b"")
            }
        }
    }

    /// Removes the last of the project from a machine, and forgets the machine.
    fn erase(&self, operation: &Operation) -> Result<()> {
        let fenced = self.leases.machine(&operation.machine)?;
        // Its lease is gone with the rest, and so is what would renew it.
        self.leases.drop_machine(&operation.machine);
        fenced.change(Change::Erase, b"", |_| Ok(()))?;
        let id = self.fleet.member(&operation.machine)?.system.id.clone();
        let mut gone = self.gone.lock().expect("nobody panics while holding it");
        gone.insert(id);
        self.fleet.remember(&gone, false)
    }

    fn ask(&self, operation: &Operation, query: Query) -> Result<()> {
        self.fleet.agent(self.fleet.member(&operation.machine)?).ask(query).map(drop)
    }

    fn change(&self, operation: &Operation, change: Change, payload: &[u8]) -> Result<()> {
        self.leases.machine(&operation.machine)?.change(change, payload, |reply| {
            match reply {
                Reply::Progress(step) => {
                    (self.listener)(Progress::Step { machine: operation.machine.clone(), step });
                }
                Reply::Migrated(count) => (self.listener)(Progress::Migrated { count }),
                _ => {}
            }
            Ok(())
        })
    }
}
