//! `tercet init`: writes a project that `tercet up` can run, as a starting point.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;

use crate::cli;
use crate::failure::{Failure, Outcome};
use crate::output::quoted;

/// The files to write, by path in the folder.
const FILES: [(&str, &str); 3] = [
    (tercet_config::FILE, tercet_config::EXAMPLE),
    ("migrations/0001_todo.sql", include_str!("init/0001_todo.sql")),
    (".gitignore", include_str!("init/gitignore")),
];

pub(crate) fn run(arguments: &cli::Init) -> Outcome {
    let folder = &arguments.folder;
    refuse_to_overwrite(folder)?;
    let mut out = std::io::stdout();
    fs::create_dir_all(folder)
        .with_context(|| format!("{} could not be written", folder.join(FILES[0].0).display()))?;
    let absolute = folder.canonicalize().with_context(|| folder.display().to_string())?;
    let project = tercet_config::name_of(&absolute.file_name().unwrap_or_default().to_string_lossy());
    for (name, text) in FILES {
        let path = folder.join(name);
        let failed = || format!("{} could not be written", path.display());
        fs::create_dir_all(path.parent().expect("every name lies in the folder")).with_context(failed)?;
        // Never overwrites a file that was created meanwhile, nor follows a link.
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path).with_context(failed)?;
        file.write_all(named(text, &project).as_bytes()).with_context(failed)?;
        writeln!(out, "wrote {}", path.display())?;
    }
    writeln!(out, "\nstart it with: tercet up {}", quoted(folder))?;
    Ok(())
}

/// The text with the project's name, which then survives a renamed folder.
fn named(text: &str, project: &str) -> String {
    text.replacen("# name = \"bookshop\"\n", &format!("name = \"{project}\"\n"), 1)
}

/// Fails if a file exists already, before anything is written.
fn refuse_to_overwrite(folder: &Path) -> Outcome {
    let names = FILES.iter().map(|(name, _)| folder.join(name));
    let mut present: Vec<String> =
        names.filter(|path| path.symlink_metadata().is_ok()).map(|path| path.display().to_string()).collect();
    let migrations = folder.join("migrations");
    if present.is_empty() && migrations.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        present.push(migrations.display().to_string());
    }
    if present.is_empty() {
        return Ok(());
    }
    Err(Failure::input_message(format!(
        "{} already there, and nothing is overwritten\nhint: name another folder: tercet init DIR; for a program that is here already, write tercet.toml \
         yourself, with run in [application]",
        match &present[..] {
            [one] => format!("{one} is"),
            several => format!("{} are", several.join(", ")),
        }
    )))
}
