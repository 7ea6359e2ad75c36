//! `tercet monitoring`: files for a monitoring system of the user's own.

use std::fs;

use anyhow::Context as _;
use tercet_fleet::monitor::export;

use crate::cli;
use crate::failure::{Failure, Outcome};
use crate::project::Project;

#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
pub(crate) fn export(arguments: &cli::MonitoringExport) -> Outcome {
    let project = Project::open(&arguments.folder)?;
    let Some(files) = export::files(&project.topology) else {
        return Err(Failure::input_message(
            "the machines' metrics are open to no Prometheus\n\
             hint: name its private address, prometheus = \"10.0.0.99\" in [monitoring], and apply; or give a machine the tier \"monitor\"",
        ));
    };
    let folder = &arguments.target;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for (name, text) in files {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        println!("wrote {}", path.display());
    }
    Ok(())
}
