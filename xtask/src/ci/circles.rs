//! Modules of a crate that import each other in a circle.
//!
//! A module imports the modules that its paths name: `use crate::a::B`, `super::B`, `a::f()`. A re-export stands for the
//! module it names. A module and its submodules are one: imports between them do not count, and an import from or into a
//! submodule counts for the module beside the other's. Tests do not count.

mod imports;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, Result, bail};

use self::imports::Module;
use crate::workspace::Workspace;

/// The sources of one crate by their module's path: `[]` for the root, `["a", "b"]` for `a/b.rs`.
type Sources = BTreeMap<Vec<String>, Module>;

/// An error that names the modules of each circle and the lines of their imports.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let mut wrong = Vec::new();
    let files: BTreeSet<String> = workspace.files()?.into_iter().collect();
    let is_root = |path: &&String| path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs");
    for root in files.iter().filter(is_root) {
        let read = |path: &str| {
            let is_known = files.contains(path);
            is_known
                .then(|| fs::read_to_string(workspace.root.join(path)).context(path.to_owned()))
                .transpose()
        };
        let found = circles(&sources(root, &read)?);
        wrong.extend(found.into_iter().map(|circle| format!("{root}: {circle}")));
    }
    if !wrong.is_empty() {
        bail!("{}\nhint: move what both need to a module that imports neither", wrong.join("\n"));
    }
    Ok(())
}

/// Reads the modules of a crate from its root file, as `mod` lines name them.
fn sources(root: &str, read: &dyn Fn(&str) -> Result<Option<String>>) -> Result<Sources> {
    let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut sources = Sources::new();
    let mut open = vec![Vec::new()];
    while let Some(path) = open.pop() {
        let file = if path.is_empty() { root.to_owned() } else { format!("{folder}/{}.rs", path.join("/")) };
        let Some(text) = read(&file)? else { continue };
        let module = Module::parse(&text);
        open.extend(module.children.iter().map(|child| [path.clone(), vec![child.clone()]].concat()));
        sources.insert(path, module);
    }
    Ok(sources)
}

/// One line for each set of modules that reach each other by imports.
fn circles(sources: &Sources) -> Vec<String> {
    let mut edges: BTreeMap<&[String], BTreeMap<&[String], String>> = BTreeMap::new();
    for (from, module) in sources {
        for (line, path) in &module.imports {
            let Some(to) = target(sources, from, path, 0) else { continue };
            let shared = from.iter().zip(to).take_while(|(a, b)| a == b).count();
            if shared < from.len().min(to.len()) {
                let why = || format!("{}:{line} imports {}", from.join("::"), to.join("::"));
                edges.entry(&from[..=shared]).or_default().entry(&to[..=shared]).or_insert_with(why);
            }
        }
    }
    let reach: BTreeMap<&[String], BTreeSet<&[String]>> =
        edges.keys().map(|from| (*from, reachable(&edges, from))).collect();
    let mutual = |a: &[String], b: &[String]| {
        reach.get(a).is_some_and(|it| it.contains(b)) && reach.get(b).is_some_and(|it| it.contains(a))
    };
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for from in edges.keys().filter(|it| mutual(it, it)) {
        if seen.insert(*from) {
            let circle: Vec<&[String]> = edges.keys().copied().filter(|it| mutual(from, it)).collect();
            seen.extend(&circle);
            let lines = circle.iter().flat_map(|it| &edges[it]).filter(|(to, _)| circle.contains(to));
            found.push(lines.map(|(_, why)| why.as_str()).collect::<Vec<_>>().join(", "));
        }
    }
    found
}

fn reachable<'s>(
    edges: &BTreeMap<&'s [String], BTreeMap<&'s [String], String>>,
    from: &[String],
) -> BTreeSet<&'s [String]> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&'s [String]> = edges.get(from).into_iter().flatten().map(|(to, _)| *to).collect();
    while let Some(next) = open.pop() {
        if reached.insert(next) {
            open.extend(edges.get(next).into_iter().flatten().map(|(to, _)| *to));
        }
    }
    reached
}

/// The module that `path`, as written in the module `from`, imports; `None` for another crate, and for a module itself.
fn target<'s>(sources: &'s Sources, from: &[String], path: &[String], depth: usize) -> Option<&'s [String]> {
    let (first, mut rest) = path.split_first()?;
    let module = sources.get(from)?;
    let mut at: Vec<String> = match first.as_str() {
        "crate" => Vec::new(),
        "self" => from.to_vec(),
        "super" => from.split_last()?.1.to_vec(),
        child if module.children.contains(child) => {
            rest = path;
            from.to_vec()
        }
        name => return follow(sources, from, name, rest, depth),
    };
    while let Some((next, after)) = rest.split_first() {
        let here = sources.get(&at)?;
        if next == "*" {
            break;
        } else if next == "super" {
            at.pop()?;
        } else if here.children.contains(next) {
            at.push(next.clone());
        } else {
            return follow(sources, &at, next, after, depth)
                .or_else(|| sources.get_key_value(&at).map(|(key, _)| key.as_slice()));
        }
        rest = after;
    }
    // A path to a module imports nothing yet: those that lead through it do.
    rest.first().and_then(|_| sources.get_key_value(&at)).map(|(key, _)| key.as_slice())
}

/// What the name `alias` that a `use` brought into the module `at` stands for.
fn follow<'s>(
    sources: &'s Sources,
    at: &[String],
    alias: &str,
    rest: &[String],
    depth: usize,
) -> Option<&'s [String]> {
    let module = sources.get(at).filter(|_| depth < 8)?;
    if let Some(path) = module.aliases.get(alias) {
        return target(sources, at, &[path.as_slice(), rest].concat(), depth + 1);
    }
    let mut globs = module
        .globs
        .iter()
        .filter_map(|glob| target(sources, at, &[glob.as_slice(), &["*".to_owned()]].concat(), depth + 1));
    let from = globs.find(|from| sources.get(*from).is_some_and(|it| it.names(alias)))?;
    target(sources, from, &[&["self".to_owned(), alias.to_owned()], rest].concat(), depth + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], expected: &[&str]) {
        let read = |path: &str| {
            let file = files.iter().find(|(name, _)| *name == path.trim_start_matches("src/"));
            Ok(file.map(|(_, text)| (*text).to_owned()))
        };
        let files = sources("src/lib.rs", &read).unwrap();
        assert_eq!(circles(&files), expected);
    }

    #[test]
    fn finds_modules_that_import_each_other() {
        let root = ("lib.rs", "mod a;\nmod b;\n");
        check(&[root, ("a.rs", "use crate::b::B;\n"), ("b.rs", "pub struct B;\n")], &[]);
        let circle = "a:1 imports b, b:2 imports a";
        check(&[root, ("a.rs", "use crate::b::B;\n"), ("b.rs", "\nuse crate::a::A;\n")], &[circle]);
        check(
            &[root, ("a.rs", "use crate::{b::B, c};\n"), ("b.rs", "\nfn f() { super::a::f() }\n")],
            &[circle],
        );
        check(
            &[root, ("a.rs", "use crate::b; fn f() { b::g() }"), ("b.rs", "\nuse super::a::*;\n")],
            &[circle],
        );
    }

    #[test]
    fn follows_re_exports() {
        let root = ("lib.rs", "mod a;\nmod b;\npub use b::B;\npub use a::*;\n");
        check(&[root, ("a.rs", "use crate::B;\n"), ("b.rs", "pub struct B;\n")], &[]);
        check(
            &[root, ("a.rs", "use crate::B;\n"), ("b.rs", "use crate::a::A;\n")],
            &["a:1 imports b, b:1 imports a"],
        );
    }

    #[test]
    fn a_module_and_its_submodules_are_one() {
        let root = ("lib.rs", "mod a;\nmod b;\n");
        let a = ("a.rs", "mod c;\nmod d;\nfn f() { c::g() }");
        check(&[root, a, ("a/c.rs", "use super::f;\n"), ("a/d.rs", "use super::c::C;\n"), ("b.rs", "")], &[]);
        check(
            &[root, a, ("a/c.rs", "use crate::b::B;\n"), ("a/d.rs", ""), ("b.rs", "use crate::a::d::D;\n")],
            &["a::c:1 imports b, b:1 imports a::d"],
        );
        check(
            &[root, a, ("a/c.rs", "use super::d::D;\n"), ("a/d.rs", "use super::c::C;\n"), ("b.rs", "")],
            &["a::c:1 imports a::d, a::d:1 imports a::c"],
        );
    }

    #[test]
    fn tests_comments_and_strings_do_not_count() {
        let root = ("lib.rs", "mod a;\nmod b;\n");
        let b = "// use crate::a::A;\nconst T: &str = \"use crate::a::A;\";\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n";
        check(&[root, ("a.rs", "use crate::b::B;\n"), ("b.rs", b)], &[]);
    }
}
