//! The index of docs/decisions: one line per decision, from the pages' own titles.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;

/// The whole of docs/decisions/README.md.
pub(crate) fn text(workspace: &Workspace) -> Result<String> {
    let folder = workspace.root.join("docs/decisions");
    let mut pages: Vec<String> = folder
        .read_dir()?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    pages.retain(|page| page.starts_with(|first: char| first.is_ascii_digit()));
    pages.sort();

    let mut index = String::from(
        "# Decisions\n\nDesign decisions and their reasons, one page each. A decision that no longer holds is replaced by a\nnew page, which links to it. Written by `cargo xtask generate`.\n\n",
    );
    for page in pages {
        let text = fs::read_to_string(folder.join(&page))?;
        let title = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("# "))
            .with_context(|| format!("docs/decisions/{page}: the first line is not `# title`"))?;
        writeln!(index, "- [{}]({page}): {title}", &page[..4])?;
    }
    Ok(index)
}
