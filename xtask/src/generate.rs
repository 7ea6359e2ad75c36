//! Generated files, one generator each; `cargo xtask ci` fails if one is out of date.

mod decisions;
mod guide;

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::workspace::Workspace;

/// A file and the function that generates its text.
struct Generated {
    /// Relative to the root.
    path: &'static str,
    text: fn(&Workspace) -> Result<String>,
}

const FILES: &[Generated] = &[
    Generated { path: "docs/decisions/README.md", text: decisions::text },
    Generated { path: "docs/guide/balancer-options.md", text: guide::balancer_options },
    Generated { path: "docs/guide/reference.md", text: guide::reference },
    Generated { path: "docs/guide/tercet.schema.json", text: guide::schema },
];

/// Writes every file that is out of date.
pub(crate) fn write(workspace: &Workspace) -> Result<()> {
    for (path, text) in stale(workspace)? {
        fs::write(workspace.root.join(path), text).with_context(|| format!("{path}: cannot be written"))?;
        println!("wrote {path}");
    }
    Ok(())
}

/// Returns an error that names every file that is out of date.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let stale: Vec<_> = stale(workspace)?.into_iter().map(|(path, _)| path).collect();
    if !stale.is_empty() {
        bail!("not as generated: {}\nhint: cargo xtask generate", stale.join(", "));
    }
    Ok(())
}

fn stale(workspace: &Workspace) -> Result<Vec<(&'static str, String)>> {
    let mut stale = Vec::new();
    for file in FILES {
        let text = (file.text)(workspace).with_context(|| format!("{} cannot be generated", file.path))?;
        if !fs::read(workspace.root.join(file.path)).is_ok_and(|present| present == text.as_bytes()) {
            stale.push((file.path, text));
        }
    }
    Ok(stale)
}
