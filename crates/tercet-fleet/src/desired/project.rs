//! The input of a desired state: the same for all machines of a project.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use tercet_config::Topology;
use tercet_postgres::Target;

use crate::secrets::Secrets;
use crate::{instance, libpq};

/// What all machines of a project share.
#[derive(Debug)]
pub struct Project<'a> {
    /// The topology of `tercet.toml`.
    pub topology: &'a Topology,
    /// The secrets and certificates, kept by the operator.
    pub secrets: &'a Secrets,
    /// Where tercet's own binary is on every machine.
    pub program: &'a str,
    /// The project's own checks of restored copies: the name and text of each SQL file.
    pub checks: &'a [(String, String)],
}

/// The variables of a program's unit, which the file of variables would override (systemd.exec(5), `EnvironmentFile=`).
const OF_THE_UNIT: [&str; 6] = ["HOST", "PGPASSFILE", "PGSSLCERT", "PGSSLKEY", "PGSSLROOTCERT", "PORT"];

impl Project<'_> {
    /// The existing database that the servers of an application connect to, as its URL and their environment say.
    ///
    /// # Errors
    /// The URL cannot be parsed.
    pub(crate) fn existing_database(&self, application: Option<&str>) -> Result<Option<Target>> {
        let Some(url) = &self.secrets.database_url else { return Ok(None) };
        let mut environment = BTreeMap::new();
        let own = self.topology.application(application);
        if let Some(own) = own.filter(|it| it.data_api().is_none()) {
            environment.extend(own.environment.variables.clone());
            let of_the_file =
                self.own_variables(application).map(|(name, value)| (name.to_owned(), value.to_owned()));
            environment.extend(of_the_file);
        }
        let of_the_unit = libpq::variables("application").map(|(name, value)| (name.to_owned(), value));
        environment.extend(of_the_unit);
        // Set by systemd (systemd.exec(5), "Environment variables in spawned processes").
        environment.insert("USER".to_owned(), instance::ACCOUNT.to_owned());
        Target::parse(url.reveal().trim(), &environment).map(Some).context("url in [database]")
    }

    /// The secret variables of an application that its units have.
    pub(super) fn own_variables(&self, application: Option<&str>) -> impl Iterator<Item = (&str, &str)> {
        let application = application.map(str::to_owned);
        let all = self
            .secrets
            .variables
            .get(&application)
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.as_str(), value.reveal()));
        all.filter(|(name, _)| !OF_THE_UNIT.contains(name))
    }
}
