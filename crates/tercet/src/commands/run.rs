//! `tercet run`: a command of the user's own program on this machine, with what the command of `migrate` gets.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::Context as _;
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
    let url = database_url(&project)?;
    let variables = environment::variables(&project, &url)
        .map_err(|error| Failure::input_message(format!("{error:#}")))?;
    let error = Command::new(program).args(rest).current_dir(&project.folder).envs(variables).exec();
    Err(anyhow::Error::from(error).context(format!("{} cannot be run", program.display())).into())
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
