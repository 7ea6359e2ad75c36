//! The environment variables of a program of the user's: DATABASE_URL, `env` and `env-file`.

use std::ffi::OsString;

use anyhow::anyhow;

use tercet_config::Application;

use crate::project::Project;

/// The variables of an application, for connections with `database_url`. The user's own precede the program's environment.
pub(crate) fn variables(
    project: &Project,
    application: &Application,
    database_url: &str,
) -> anyhow::Result<Vec<(OsString, OsString)>> {
    let environment = &application.environment;
    let mut variables: Vec<(OsString, OsString)> =
        environment.variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
    variables
        .extend(of_file(project, application)?.into_iter().map(|(name, value)| (name.into(), value.into())));
    variables.push(("DATABASE_URL".into(), database_url.into()));
    Ok(variables)
}

/// The variables of an application's `env-file`.
pub(crate) fn of_file(project: &Project, application: &Application) -> anyhow::Result<Vec<(String, String)>> {
    let Some(file) = &application.environment.file else { return Ok(Vec::new()) };
    let path = project.folder.join(file);
    let text = std::fs::read_to_string(&path).map_err(|error| {
        let section = application.section();
        anyhow!("{} can't be read: {error}\nhint: env-file in {section} names it", path.display())
    })?;
    let variables = tercet_config::environment::variables(&text)
        .map_err(|line| anyhow!("{}:{line}: not NAME=value", path.display()))?;
    Ok(variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}
