//! Rules that the compiler does not check: only the command reads the environment or exits; file names are specific; long
//! files have a reason; no file has a path of a developer's machine.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::workspace::Workspace;

/// A Rust file with more lines carries a line `//! Long because …`.
const LONG: usize = 600;

/// Functions that only `crates/tercet` may call: a library leaves them to its caller.
const OF_THE_COMMAND: &[&str] =
    &["env::args", "env::current_dir", "env::set_var", "env::var", "process::exit"];

/// File names that do not describe the content.
const EMPTY_NAMES: &[&str] = &["common", "helper", "helpers", "manager", "misc", "mod", "util", "utils"];

/// Folders that exist on a developer's machine only.
const HOMES: &[&str] = &["/home/", "/root/", "/Users/"];

/// An error that names every file and line against a rule.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let here = format!("{}/", workspace.root.display());
    let mut wrong = Vec::new();
    for path in workspace.files()? {
        let bytes =
            fs::read(workspace.root.join(&path)).with_context(|| format!("{path}: cannot be read"))?;
        let Ok(text) = String::from_utf8(bytes) else { continue };
        wrong.extend(violations(&path, &text, &here));
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

fn violations(path: &str, text: &str, here: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let is_rust = Path::new(path).extension().is_some_and(|it| it == "rs");
    let name = Path::new(path).file_stem().and_then(|it| it.to_str()).unwrap_or_default();
    if is_rust && EMPTY_NAMES.contains(&name) {
        wrong.push(format!("{path}: `{name}` does not describe the content"));
    }
    let product = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    if is_rust && product.lines().count() > LONG && !text.contains("//! Long because ") {
        wrong.push(format!("{path}: over {LONG} lines without a line `//! Long because …`"));
    }
    let library =
        path.starts_with("crates/tercet-") && path.contains("/src/") && !path.ends_with("/tests.rs");
    if is_rust && library {
        for (number, line) in (1..).zip(product.lines()) {
            let code = line.split("//").next().unwrap_or_default();
            for forbidden in OF_THE_COMMAND.iter().filter(|it| code.contains(*it)) {
                wrong.push(format!("{path}:{number}: `{forbidden}` is for crates/tercet only"));
            }
        }
    }
    let own_words = path == "xtask/src/ci/sources.rs";
    for (number, line) in (1..).zip(text.lines()).filter(|_| !own_words) {
        if line.contains(here) || HOMES.iter().any(|home| line.contains(home)) {
            wrong.push(format!("{path}:{number}: a path of one machine"));
        }
        if path.ends_with("package-lock.json") && line.trim_start().starts_with("\"resolved\"") {
            wrong.push(format!("{path}:{number}: names a registry's host"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, expected: &[&str]) {
        assert_eq!(violations(path, text, "/srv/clone/"), expected);
    }

    #[test]
    fn only_the_command_touches_the_process() {
        let code = "let home = std::env::var(\"HOME\");\n";
        check("crates/tercet/src/main.rs", code, &[]);
        check("crates/tercet-api/src/a.rs", "// std::env::var is not for us\n", &[]);
        check("crates/tercet-api/src/a.rs", &format!("#[cfg(test)]\nmod tests {{\n{code}}}\n"), &[]);
        check(
            "crates/tercet-api/src/a.rs",
            code,
            &["crates/tercet-api/src/a.rs:1: `env::var` is for crates/tercet only"],
        );
    }

    #[test]
    fn a_long_file_says_why() {
        let lines = "let x = 1;\n".repeat(LONG + 1);
        check(
            "xtask/src/a.rs",
            &lines,
            &["xtask/src/a.rs: over 600 lines without a line `//! Long because …`"],
        );
        check("xtask/src/a.rs", &format!("//! Long because it is one table.\n{lines}"), &[]);
    }

    #[test]
    fn a_file_says_what_is_inside() {
        check(
            "crates/tercet/src/utils.rs",
            "",
            &["crates/tercet/src/utils.rs: `utils` does not describe the content"],
        );
        check(
            "crates/tercet/src/pool/mod.rs",
            "",
            &["crates/tercet/src/pool/mod.rs: `mod` does not describe the content"],
        );
        check("crates/tercet/src/pool.rs", "", &[]);
    }

    #[test]
    fn nothing_names_a_machine() {
        check("README.md", "cd /srv/clone/target", &["README.md:1: a path of one machine"]);
        check("README.md", "cd /home/me", &["README.md:1: a path of one machine"]);
        check(
            "a/package-lock.json",
            "  \"resolved\": \"https://registry.example/\"",
            &["a/package-lock.json:1: names a registry's host"],
        );
    }
}
