//! What the machines are, read before anything is decided: the whole input of a plan besides what the person wants.

use anyhow::{Result, bail};
use tercet_config::Tier;
use tercet_machine::{Desired, Facts};

use crate::agent::{Query, Reply};
use crate::at_once::at_once;
use crate::fleet::{Fleet, Member, unexpected};
use crate::intent::{Intent, Wanted};
use crate::migrate::DatabaseState;
use crate::plan::destroy::locked;
use crate::plan::{desired_of, leaving};
use crate::remembered::Remembered;
use crate::report::Report;
use crate::system::System;

/// A fleet as it is.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// The machines, in the order of the file.
    pub machines: Vec<Surveyed>,
    /// How far the database is, when it is the project's own.
    pub database: Option<DatabaseState>,
    /// Machines that are to be the project's no more.
    pub leaving: Vec<Leaving>,
    /// Those of them that cannot be reached.
    pub lost: Vec<Lost>,
    /// Machines of the file as they were, where they had another address.
    pub moved: Vec<Remembered>,
}

/// A machine that is to be the project's no more.
#[derive(Clone, Debug)]
pub struct Leaving {
    /// As it was in the file.
    pub remembered: Remembered,
    /// As it is.
    pub surveyed: Surveyed,
}

/// A machine that is the project's no more and cannot be reached.
#[derive(Clone, Debug)]
pub struct Lost {
    /// As it was in the file.
    pub remembered: Remembered,
    /// Why it cannot be cleaned up.
    pub why: String,
}

/// A machine as it is.
#[derive(Clone, Debug)]
pub struct Surveyed {
    /// Its name in the file.
    pub name: String,
    /// Its system.
    pub system: System,
    /// Its own account of tercet's parts on it.
    pub report: Report,
    /// What its desired state is compared with.
    pub facts: Facts,
}

/// Reads everything, changes nothing.
///
/// # Errors
/// A machine cannot be read.
pub(crate) fn survey(fleet: &Fleet<'_>, wanted: &Wanted) -> Result<Survey> {
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
        lost: fleet.lost.clone(),
        moved: fleet.moved.iter().map(|it| (*it).clone()).collect(),
    };
    let mut desired = match wanted.intent {
        Intent::Destroy { .. } => Vec::new(),
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
