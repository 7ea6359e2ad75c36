//! Dependency directions: the table in ARCHITECTURE.md, compared with cargo's metadata.

use anyhow::{Result, bail};

use crate::workspace::{Package, Workspace};

/// Every crate of the product, and the crates of the product it may import.
const ARROWS: &[(&str, &[&str])] = &[
    (
        "tercet",
        &[
            "tercet-api",
            "tercet-balancer",
            "tercet-config",
            "tercet-database",
            "tercet-fleet",
            "tercet-observe",
            "tercet-options",
            "tercet-postgres",
        ],
    ),
    ("tercet-api", &["tercet-observe", "tercet-options", "tercet-postgres"]),
    ("tercet-balancer", &["tercet-observe", "tercet-options"]),
    ("tercet-config", &["tercet-options"]),
    ("tercet-database", &["tercet-postgres"]),
    (
        "tercet-fleet",
        &["tercet-config", "tercet-database", "tercet-machine", "tercet-options", "tercet-postgres"],
    ),
    ("tercet-machine", &["tercet-postgres"]),
    ("tercet-observe", &[]),
    ("tercet-options", &[]),
    ("tercet-postgres", &[]),
];

/// An error that names every edge against the direction, and every crate the map does not know.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let wrong = violations(&workspace.packages);
    if !wrong.is_empty() {
        bail!("{}\nhint: ARCHITECTURE.md has the allowed dependencies", wrong.join("\n"));
    }
    Ok(())
}

fn violations(packages: &[Package]) -> Vec<String> {
    let mut wrong = Vec::new();
    for package in packages.iter().filter(|it| it.name != "xtask") {
        let Some((name, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
            wrong.push(format!("{} is not on the map", package.name));
            continue;
        };
        for dependency in package.dependencies.iter().map(|it| it.name.as_str()) {
            let product = dependency == "tercet" || dependency.starts_with("tercet-");
            if product && !allowed.contains(&dependency) {
                wrong.push(format!("{name} may not import {dependency}"));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn check(name: &str, dependency: &str, expected: &[&str]) {
        let dependency = Dependency { name: dependency.to_owned() };
        let package =
            Package { name: name.to_owned(), version: String::new(), dependencies: vec![dependency] };
        assert_eq!(violations(&[package]), expected);
    }

    #[test]
    fn only_the_arrows_of_the_map_are_allowed() {
        check("tercet", "tercet-config", &[]);
        check("tercet-api", "tercet-observe", &[]);
        check("tercet-api", "tokio", &[]);
        check("tercet-api", "tercet-config", &["tercet-api may not import tercet-config"]);
        check("tercet-observe", "tercet", &["tercet-observe may not import tercet"]);
        check("tercet-postgres", "tercet-observe", &["tercet-postgres may not import tercet-observe"]);
        check("tercet-new", "tokio", &["tercet-new is not on the map"]);
    }
}
