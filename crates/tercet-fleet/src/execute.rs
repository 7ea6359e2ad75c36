//! Executing a plan: the only code that changes anything.
//!
//! It acquires the leases, surveys the fleet again, and executes the confirmed plan if it is still the same. When an
//! operation of a rollout fails, the inverse operations are executed in reverse order.

mod survey;

use std::collections::BTreeSet;
use std::sync::Mutex;

use anyhow::{Context as _, Result, anyhow};

use self::survey::survey;
use crate::agent::{Change, Query, Reply};
use crate::at_once::at_once;
use crate::backup::Task;
use crate::fenced::{Leases, with_leases};
use crate::fleet::Fleet;
use crate::intent::Wanted;
use crate::operation::{Action, Operation, Request};
use crate::plan::{ExecutionPlan, plan};
use crate::progress::{Listener, Progress};
use crate::secrets;

/// The outcome of a confirmed plan.
#[derive(Debug)]
pub enum Executed {
    /// It was executed; the errors of the leaving machines that could not be cleaned up.
    Done(Vec<String>),
    /// Nothing was executed, since the plan is a different one by now.
    Changed(ExecutionPlan),
}

/// Computes the plan. Changes nothing.
///
/// # Errors
/// A machine cannot be read, or the intent cannot be reached.
pub fn plan_of(fleet: &Fleet<'_>, wanted: &Wanted) -> Result<ExecutionPlan> {
    plan(&fleet.project()?, &survey(fleet, wanted)?, &wanted.intent)
}

/// Executes a confirmed plan.
///
/// # Errors
/// An operation failed: the application servers from before still serve; the next apply completes the change.
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
        let gone = execution.gone.into_inner().expect("no thread panicked while holding it");
        fleet.remember(&gone, true)?;
        Ok(Executed::Done(execution.failed.into_inner().expect("no thread panicked while holding it")))
    })
}

/// The state of an execution.
struct Execution<'e, 'b, 'a> {
    fleet: &'b Fleet<'a>,
    wanted: &'e Wanted,
    leases: &'e Leases<'b, 'a>,
    listener: Listener<'e>,
    /// The ids of the erased machines.
    gone: Mutex<BTreeSet<String>>,
    /// The errors of leaving machines that could not be cleaned up.
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
        // After an interrupt or a lost lease nothing more is changed.
        execution.leases.check().with_context(|| format!("{error:#}"))?;
        if stage.iter().all(Operation::is_a_task) {
            return Err(error.context("a task failed; the application servers are not affected"));
        }
        return Err(undo(execution, &plan.stages[..=place], error));
    }
    Ok(())
}

/// Executes the inverse operations; returns the error to report.
fn undo(execution: &Execution<'_, '_, '_>, stages: &[Vec<Operation>], error: anyhow::Error) -> anyhow::Error {
    let inverses: Vec<Operation> = stages.iter().rev().flatten().flat_map(Operation::undo).collect();
    if inverses.is_empty() {
        return error;
    }
    (execution.listener)(Progress::Reverting { why: format!("{error:#}") });
    for operation in inverses {
        (execution.listener)(Progress::Undo { operation: operation.to_string() });
        match execution.run(&operation) {
            // The health of the application servers from before is not the cause.
            Err(waited) if operation.only_waits() => {
                (execution.listener)(Progress::Note { note: format!("{waited:#}") });
            }
            Err(failed) => return anyhow!("{failed:#}\nwhile undoing after: {error:#}"),
            Ok(()) => {}
        }
    }
    error.context("the release failed; the previous application servers serve again")
}

impl Execution<'_, '_, '_> {
    /// When a leaving machine fails, its remaining operations are skipped and the others continue; the next apply repeats it.
    fn spare_the_others(&self, operation: &Operation, done: Result<()>) -> Result<()> {
        let Err(error) = done else { return Ok(()) };
        if !self.fleet.is_leaving(&operation.machine) || self.leases.check().is_err() {
            return Err(error);
        }
        self.leases.drop_machine(&operation.machine);
        (self.listener)(Progress::Note { note: format!("{error:#}; the other machines continue") });
        self.failed.lock().expect("no thread panics while holding it").push(format!("{error:#}"));
        Ok(())
    }

    fn run(&self, operation: &Operation) -> Result<()> {
        self.leases.check()?;
        if self.leases.has_dropped(&operation.machine) {
            return Ok(());
        }
        match (&operation.action, operation.request()) {
            (Action::AwaitReady { instance, .. }, Some(Request::Query(query))) => self
                .ask(operation, query)
                .with_context(|| format!("{}, release {}, is not ready", instance.part, instance.release)),
            (Action::AwaitTask { task }, Some(_)) => self.await_task(&operation.machine, task),
            (_, Some(Request::Query(query))) => self.ask(operation, query),
            (Action::Ship { .. }, Some(Request::Change(change))) => {
                self.change(operation, change, &self.wanted.archive)
            }
            (Action::ShipWebsite { .. }, Some(Request::Change(change))) => {
                self.change(operation, change, &self.wanted.website)
            }
            (_, Some(Request::Change(change))) => self.change(operation, change, b""),
            (Action::RecordData { from, database }, None) => {
                let data = self.fleet.data(from, database)?;
                self.change(operation, Change::RecordData(data.clone()), b"")?;
                secrets::record_data(self.fleet.folder, &data)
            }
            (_, None) => self.erase(operation),
        }
    }

    /// Removes tercet's last files from a machine, and forgets the machine.
    fn erase(&self, operation: &Operation) -> Result<()> {
        let fenced = self.leases.machine(&operation.machine)?;
        // The change also removes its lease, so it must not be renewed.
        self.leases.drop_machine(&operation.machine);
        fenced.change(Change::Erase, b"", |_| Ok(()))?;
        let id = self.fleet.member(&operation.machine)?.system.id.clone();
        let mut gone = self.gone.lock().expect("no thread panics while holding it");
        gone.insert(id);
        self.fleet.remember(&gone, false)
    }

    /// Waits until a task has ended, and passes its lines on. An interrupt ends the wait, not the task.
    fn await_task(&self, machine: &str, task: &Task) -> Result<()> {
        self.fleet.await_task(machine, task, &mut |line| {
            (self.listener)(Progress::Step { machine: machine.to_owned(), step: line.to_owned() });
            self.leases.check()
        })
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
