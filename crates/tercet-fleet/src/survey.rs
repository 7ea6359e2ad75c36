//! What the machines are, read before anything is decided: the whole input of a plan besides what the person wants.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use tercet_config::Tier;
use tercet_machine::{Desired, Facts};

use crate::agent::{Query, Reply};
use crate::at_once::at_once;
use crate::fleet::{Fleet, unexpected};
use crate::intent::Wanted;
use crate::migrate::DatabaseState;
use crate::plan::desired_of;
use crate::report::Report;
use crate::system::System;

/// A fleet as it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Survey {
    /// The machines, in the order of the file.
    pub machines: Vec<Surveyed>,
    /// How far the database is, when it is the project's own.
    pub database: Option<DatabaseState>,
}

/// A machine as it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    let reports = fleet.reports()?;
    let mut survey = Survey {
        machines: fleet
            .machines
            .iter()
            .zip(reports)
            .map(|(member, report)| Surveyed {
                name: member.machine.name.clone(),
                system: member.system.clone(),
                report,
                facts: Facts::default(),
            })
            .collect(),
        database: None,
    };
    let desired = desired_of(&fleet.project()?, &survey, &wanted.intent)?;
    let pairs: Vec<_> = fleet.machines.iter().zip(desired).collect();
    let facts = at_once(&pairs, |(member, desired)| {
        let desired: Desired = desired.clone();
        match fleet.agent(member).ask(Query::Probe { desired })? {
            Reply::Facts(facts) => Ok(facts),
            _ => bail!(unexpected(&member.machine.name)),
        }
    })?;
    for (machine, facts) in survey.machines.iter_mut().zip(facts) {
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
