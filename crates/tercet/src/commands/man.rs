//! `tercet man`.

use std::io::Write as _;

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::cli;
use crate::failure::Outcome;

pub(crate) fn run(arguments: &cli::Man) -> Outcome {
    let command = cli::Arguments::command();
    if let Some(folder) = &arguments.folder {
        std::fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
        clap_mangen::generate_to(command, folder)
            .with_context(|| format!("could not write manual pages into {}", folder.display()))?;
    } else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        std::io::stdout().write_all(&page)?;
    }
    Ok(())
}
