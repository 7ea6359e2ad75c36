//! Reads the machines for a plan; changes nothing.

use anyhow::{Result, bail};
use tercet_config::Tier;
use tercet_machine::{Desired, Facts};

use crate::agent::{Query, Reply};
use crate::at_once::at_once;
use crate::fleet::{Fleet, Member, unexpected};
use crate::intent::{Intent, Wanted};
use crate::plan::destroy::locked;
use crate::plan::{desired_of, leaving};
use crate::report::Report;
use crate::survey::{Leaving, Survey, Surveyed};

/// Reads everything, changes nothing.
///
/// # Errors
/// A machine cannot be read.
pub(super) fn survey(fleet: &Fleet<'_>, wanted: &Wanted) -> Result<Survey> {
    let surveyed = |member: &Member<'_>, report: Report| Surveyed {
        name: member.machine.name.clone(),
        system: member.system.clone(),
        report,
        facts: Facts::default(),
    };
    let reports = at_once(&fleet.members().collect::<Vec<_>>(), |member| fleet.report(member))?;
    let mut all = fleet.members().zip(reports).map(|(member, report)| surveyed(member, report));
    let machines: Vec<Surveyed> = all.by_ref().take(fleet.machines.len()).collect();
    let leaving = fleet.leaving.iter().zip(all);
    let leaving = leaving
        .map(|(it, surveyed)| Leaving { remembered: it.remembered.clone(), surveyed })
        .collect::<Vec<_>>();
    let mut survey = Survey {
        machines,
        database: None,
        leaving,
        unreached: fleet.unreached.clone(),
        moved: fleet.moved.iter().map(|it| (*it).clone()).collect(),
    };
    let mut desired = match wanted.intent {
        Intent::Destroy { .. } | Intent::Task(_) | Intent::Restore(_) => Vec::new(),
        _ => desired_of(&fleet.project()?, &survey, &wanted.intent)?,
    };
    desired.extend(survey.leaving.iter().map(|it| {
        let report = &it.surveyed.report;
        Desired { cluster: report.inventory.cluster.map(locked), ..leaving::gone(leaving::whole(report)) }
    }));
    let pairs: Vec<_> = fleet.members().zip(desired).collect();
    let facts = at_once(&pairs, |(member, desired)| {
        let desired: Desired = desired.clone();
        match fleet.agent(member).ask(Query::Probe { desired })? {
            Reply::Facts(facts) => Ok(facts),
            _ => bail!(unexpected(&member.machine.name)),
        }
    })?;
    let all = survey.machines.iter_mut().chain(survey.leaving.iter_mut().map(|it| &mut it.surveyed));
    for (machine, facts) in all.zip(facts) {
        machine.facts = facts;
    }
    if let Some((migrate, member)) = wanted.intent.migrate().zip(fleet.carrying(Tier::Database).next()) {
        survey.database = match fleet.agent(member).ask(Query::Database(migrate.clone()))? {
            Reply::Database(state) => Some(state),
            _ => bail!(unexpected(&member.machine.name)),
        };
    }
    Ok(survey)
}
