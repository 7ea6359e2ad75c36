//! `tercet maintenance`: turns the balancer's maintenance on and off, by a file that the balancer looks for.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context as _;
use tercet_balancer::config;
use tercet_fleet::ssh::shell_words;

use crate::cli::{Maintenance, MaintenanceOf};
use crate::failure::{Failure, Outcome};
use crate::fleet::Machines;
use crate::project::{MAINTENANCE, Project, STATE};

#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
pub(crate) fn run(verb: &Maintenance) -> Outcome {
    let (on, arguments) = match verb {
        Maintenance::On(arguments) => (true, arguments),
        Maintenance::Off(arguments) => (false, arguments),
    };
    let places = turn(on, arguments)?;
    let effect = if on { "on: requests get 503" } else { "off: requests are served" };
    for place in places {
        println!("maintenance {effect} within a second ({place})");
    }
    Ok(())
}

/// Turns it on or off; returns where.
fn turn(on: bool, arguments: &MaintenanceOf) -> Result<Vec<String>, Failure> {
    if let Some(file) = &arguments.config {
        let file = config::load(file).map_err(Failure::input)?.maintenance.file;
        return here(on, &file);
    }
    let project = Project::open(&arguments.machines.folder)?;
    if project.topology.only_this_machine() {
        let folder = project.folder.join(STATE);
        if !folder.exists() {
            return Err(Failure::input_message(format!(
                "{}: there is no such folder\nhint: `tercet up` makes it; --config names the file of `tercet balancer`",
                folder.display()
            )));
        }
        return here(on, &folder.join(MAINTENANCE));
    }
    let command = if on {
        shell_words(&["touch", tercet_fleet::MAINTENANCE].map(str::to_owned))
    } else {
        shell_words(&["rm", "-f", tercet_fleet::MAINTENANCE].map(str::to_owned))
    };
    let mut machines = Vec::new();
    for (machine, remote) in
        Machines::without_certificates(&arguments.machines)?.remotes(&["balancer".to_owned()])?
    {
        remote.run(&command, b"")?;
        machines.push(machine.name.clone());
    }
    Ok(machines)
}

/// On this machine.
fn here(on: bool, file: &Path) -> Result<Vec<String>, Failure> {
    if on { create(file) } else { remove(file) }.with_context(|| file.display().to_string())?;
    Ok(vec![file.display().to_string()])
}

fn create(file: &Path) -> std::io::Result<()> {
    fs::File::options().create(true).append(true).open(file).map(drop)
}

fn remove(file: &Path) -> std::io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
