//! The environment variables of the user's program: DATABASE_URL, `env` and `env-file`.

use std::ffi::OsString;

use anyhow::anyhow;

use crate::project::Project;

/// The variables, for connections with `database_url`. The user's own precede the program's environment.
pub(crate) fn variables(project: &Project, database_url: &str) -> anyhow::Result<Vec<(OsString, OsString)>> {
    let environment = &project.topology.application().environment;
    let mut variables: Vec<(OsString, OsString)> =
        environment.variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
    variables.extend(of_file(project)?.into_iter().map(|(name, value)| (name.into(), value.into())));
    variables.push(("DATABASE_URL".into(), database_url.into()));
    Ok(variables)
}

/// The variables of `env-file`.
pub(crate) fn of_file(project: &Project) -> anyhow::Result<Vec<(String, String)>> {
    let Some(file) = &project.topology.application().environment.file else { return Ok(Vec::new()) };
    let path = project.folder.join(file);
    let text = std::fs::read_to_string(&path).map_err(|error| {
        anyhow!("{} can't be read: {error}\nhint: env-file in [application] names it", path.display())
    })?;
    let variables = tercet_config::environment::variables(&text)
        .map_err(|line| anyhow!("{}:{line}: not NAME=value", path.display()))?;
    Ok(variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}
