//! The crates that are built into the binary, and their licences.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::command::output;
use crate::workspace::Workspace;

/// A crate of another project that is built into tercet.
#[derive(Deserialize)]
pub(super) struct Dependency {
    id: String,
    pub(super) name: String,
    pub(super) version: String,
    #[serde(default)]
    pub(super) license: Option<String>,
    source: Option<String>,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Dependency>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    kind: Option<String>,
}

/// The crates that `tercet` depends on for a target, but those only its build or tests need, by name.
pub(super) fn dependencies(workspace: &Workspace, target: &str) -> Result<Vec<Dependency>> {
    let json = output(workspace.command("cargo").args([
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--filter-platform",
        target,
    ]))?;
    let Metadata { packages, resolve } =
        serde_json::from_str(&json).context("cargo metadata: unknown form")?;
    let nodes: BTreeMap<&str, &Node> = resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let tercet = packages.iter().find(|package| package.name == "tercet" && package.source.is_none());
    let mut waiting = vec![tercet.context("the workspace has no tercet")?.id.clone()];
    let mut reached = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if reached.insert(id.clone())
            && let Some(node) = nodes.get(id.as_str())
        {
            let normal =
                node.deps.iter().filter(|edge| edge.dep_kinds.iter().any(|kind| kind.kind.is_none()));
            waiting.extend(normal.map(|edge| edge.pkg.clone()));
        }
    }
    let mut found: Vec<Dependency> = packages
        .into_iter()
        .filter(|package| package.source.is_some() && reached.contains(&package.id))
        .collect();
    found.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(found)
}

/// The licences of the dependencies, each text once with the crates it is of.
pub(super) fn text(dependencies: &[Dependency]) -> Result<String> {
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for dependency in dependencies {
        let folder = dependency.manifest_path.parent().context("a manifest has a folder")?;
        let name = format!("{} {}", dependency.name, dependency.version);
        for licence in files(folder)? {
            let text = String::from_utf8_lossy(&fs::read(folder.join(licence))?).trim().replace("\r\n", "\n");
            let crates = texts.entry(text).or_default();
            if !crates.contains(&name) {
                crates.push(name.clone());
            }
        }
    }
    let mut all = "tercet is built with these crates:\n\n".to_owned();
    for dependency in dependencies {
        let licence = dependency.license.as_deref().unwrap_or("see its text");
        let _ = writeln!(all, "  {} {}: {licence}", dependency.name, dependency.version);
    }
    let mut texts: Vec<_> = texts.into_iter().map(|(text, crates)| (crates, text)).collect();
    texts.sort();
    for (crates, text) in texts {
        let _ = write!(all, "\n{}\n\n{}:\n\n{text}\n", "-".repeat(80), crates.join(", "));
    }
    Ok(all)
}

/// The names of the files with a licence in a folder.
fn files(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let upper = name.to_uppercase();
        let is_licence =
            ["LICENSE", "LICENCE", "COPYING", "NOTICE"].iter().any(|word| upper.starts_with(word));
        if is_licence && entry.file_type()?.is_file() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
