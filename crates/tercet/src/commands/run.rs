//! `tercet run`: a command of the user's own program on this machine, with what the command of `migrate` gets.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::Context as _;
use tercet_config::{Application, Topology};
use tercet_database::Password;

use crate::cli;
use crate::commands::backup::here::block_on;
use crate::commands::backup::here::live::Live;
use crate::commands::up::{database, environment};
use crate::failure::{Failure, Outcome};
use crate::project::{Project, STATE};

pub(crate) fn run(arguments: &cli::Run) -> Outcome {
    let project = Project::open(&arguments.folder)?;
    let [program, rest @ ..] = arguments.command.as_slice() else {
        return Err(Failure::input_message("no command to run"));
    };
    let application = application(&project.topology, arguments.application.as_deref())?;
    let url = database_url(&project)?;
    let variables = environment::variables(&project, application, &url)
        .map_err(|error| Failure::input_message(format!("{error:#}")))?;
    let error = Command::new(program).args(rest).current_dir(&project.folder).envs(variables).exec();
    Err(anyhow::Error::from(error).context(format!("{} cannot be run", program.display())).into())
}

/// The application with this name; without one the only application, or the only one that is a program.
fn application<'t>(topology: &'t Topology, name: Option<&str>) -> Result<&'t Application, Failure> {
    let all = topology.applications();
    let names = || all.iter().filter_map(|it| it.name.as_deref()).collect::<Vec<_>>().join(", ");
    if let Some(name) = name {
        return topology.application(Some(name)).ok_or_else(|| match &names()[..] {
            "" => Failure::input_message(format!(
                "there is no application {name}\nhint: the only one has no name, leave --application out"
            )),
            names => Failure::input_message(format!(
                "there is no application {name}\nhint: tercet.toml has {names}"
            )),
        });
    }
    let programs: Vec<&Application> = all.iter().filter(|it| it.data_api().is_none()).collect();
    match (all, &programs[..]) {
        ([only], _) => Ok(only),
        (_, [only]) => Ok(*only),
        _ => Err(Failure::input_message(format!(
            "there are several applications\nhint: say whose environment the command gets, --application NAME of {}",
            names()
        ))),
    }
}

/// The URL of the owner's connections.
fn database_url(project: &Project) -> Result<String, Failure> {
    if let Some(url) = &project.topology.database().url {
        #[cfg(target_os = "linux")]
        {
            use crate::commands::up::privileges::{Running, drop_root};
            drop_root(project, Running::Allowed)?;
        }
        return project.reveal(url);
    }
    let live = Live::open(project)?;
    if !live.is_up() {
        let hint = format!("hint: tercet up {} starts it", project.folder.display());
        return Err(
            anyhow::anyhow!("{} is not up, and the command needs its database\n{hint}", live.name).into()
        );
    }
    let port = block_on(async { Ok(live.serve().await?.port()) })?;
    let path = project.folder.join(STATE).join("secrets/owner");
    let password = Password::kept_in(&path).with_context(|| path.display().to_string())?;
    Ok(database::owner_url(&password, port, &live.name))
}
