//! What a source file says about modules: its children, and the paths it names. A scanner, not a parser.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;

/// What a file says about modules.
#[derive(Debug, Default)]
pub(super) struct Module {
    /// The names of its `mod name;` lines.
    pub(super) children: BTreeSet<String>,
    /// The names of the items it defines.
    items: BTreeSet<String>,
    /// Names that a `use` brings in, and the paths they stand for.
    pub(super) aliases: BTreeMap<String, Vec<String>>,
    /// The paths of `use path::*`.
    pub(super) globs: Vec<Vec<String>>,
    /// Paths whose module it imports, and their lines.
    pub(super) imports: Vec<(usize, Vec<String>)>,
}

/// What precedes the name of an item.
const ITEMS: &[&str] = &["const", "enum", "fn", "static", "struct", "trait", "type", "union"];

type Token = (usize, String);

impl Module {
    /// Whether `name` is an item, a child or an import of the module.
    pub(super) fn names(&self, name: &str) -> bool {
        self.items.contains(name) || self.children.contains(name) || self.aliases.contains_key(name)
    }

    /// Reads a file without its tests.
    pub(super) fn parse(text: &str) -> Self {
        let tokens = without_tests(&tokens(text));
        let mut module = Self::default();
        let mut re_exports: Vec<(usize, Vec<String>)> = Vec::new();
        let mut named = BTreeSet::new();
        let mut at = 0;
        while let Some((line, token)) = tokens.get(at) {
            let previous = at.checked_sub(1).map_or("", |before| tokens[before].1.as_str());
            let next = tokens.get(at + 1).map_or("", |token| token.1.as_str());
            match token.as_str() {
                "mod" if tokens.get(at + 2).is_some_and(|token| token.1 == ";") => {
                    module.children.insert(next.to_owned());
                    at += 3;
                }
                "use" => {
                    let end = tokens[at..]
                        .iter()
                        .position(|token| token.1 == ";")
                        .map_or(tokens.len(), |it| at + it);
                    let mut tree = tokens[at + 1..end].iter().peekable();
                    let imports =
                        if matches!(previous, "pub" | ")") { &mut re_exports } else { &mut module.imports };
                    read_tree(&mut tree, &[], &mut module.aliases, &mut module.globs, imports);
                    at = end;
                }
                first if next == "::" && previous != "::" && previous != "in" && is_name(first) => {
                    let mut path = vec![first.to_owned()];
                    while let [(_, colons), (_, name), ..] = &tokens[at + 1..]
                        && colons == "::"
                        && is_name(name)
                    {
                        path.push(name.clone());
                        at += 2;
                    }
                    named.insert(first.to_owned());
                    module.imports.push((*line, path));
                    at += 1;
                }
                name if ITEMS.contains(&previous) => {
                    module.items.insert(name.to_owned());
                    at += 1;
                }
                name => {
                    named.insert(name.to_owned());
                    at += 1;
                }
            }
        }
        // A re-export is an import, too, where the module itself uses the name.
        let is_used = |path: &[String]| path.last().is_some_and(|name| named.contains(name));
        module.imports.extend(re_exports.into_iter().filter(|(_, path)| is_used(path)));
        module
    }
}

/// Reads `a::{b, c as d, e::*}` below `prefix`.
fn read_tree<'t>(
    tokens: &mut Peekable<impl Iterator<Item = &'t Token>>,
    prefix: &[String],
    aliases: &mut BTreeMap<String, Vec<String>>,
    globs: &mut Vec<Vec<String>>,
    imports: &mut Vec<(usize, Vec<String>)>,
) {
    let mut path = prefix.to_vec();
    while let Some((line, token)) = tokens.next() {
        match token.as_str() {
            "::" => {}
            "{" => loop {
                read_tree(tokens, &path, aliases, globs, imports);
                if tokens.next().is_none_or(|token| token.1 == "}") {
                    return;
                }
            },
            "*" => {
                imports.push((*line, [path.as_slice(), &["*".to_owned()]].concat()));
                globs.push(path.clone());
            }
            "as" => {
                if let (Some((_, alias)), Some(stands_for)) = (tokens.next(), imports.last()) {
                    aliases.insert(alias.clone(), stands_for.1.clone());
                }
            }
            name => {
                if name != "self" || path.is_empty() {
                    path.push(name.to_owned());
                }
                if tokens.peek().is_none_or(|token| token.1 != "::") {
                    imports.push((*line, path.clone()));
                    if let Some(last) = path.last().filter(|last| *last != "self") {
                        aliases.insert(last.clone(), path.clone());
                    }
                }
            }
        }
        if tokens.peek().is_some_and(|token| matches!(token.1.as_str(), "," | "}")) {
            return;
        }
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Drops every item after `#[cfg(test)]`.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let is_test =
            tokens.len() - at > TEST.len() && TEST.iter().zip(&tokens[at..]).all(|(a, b)| *a == b.1);
        if !is_test {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        at += TEST.len();
        let mut depth = 0_usize;
        for (_, token) in &tokens[at..] {
            at += 1;
            match token.as_str() {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && matches!(token.as_str(), "}" | ";") {
                break;
            }
        }
    }
    kept
}

/// Names, `::` and single characters with their lines; no comments, no text of strings.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    let is = |at: usize, wanted: char| chars.get(at) == Some(&wanted);
    while at < chars.len() {
        let begin = at;
        match chars[at] {
            '/' if is(at + 1, '/') => {
                while at < chars.len() && !is(at, '\n') {
                    at += 1;
                }
            }
            '/' if is(at + 1, '*') => {
                while at < chars.len() && !(is(at, '*') && is(at + 1, '/')) {
                    at += 1;
                }
                at += 2;
            }
            '"' => at = end_of_string(&chars, at + 1),
            'r' if is(at + 1, '"') || is(at + 1, '#') && (is(at + 2, '"') || is(at + 2, '#')) => {
                let hashes = chars[at + 1..].iter().take_while(|it| **it == '#').count();
                let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                at += hashes + 2;
                while at < chars.len() && !chars[at..].starts_with(&end) {
                    at += 1;
                }
                at += end.len();
            }
            '\'' if is(at + 1, '\\') => {
                at += 3;
                while at < chars.len() && !is(at, '\'') {
                    at += 1;
                }
                at += 1;
            }
            '\'' if is(at + 2, '\'') => at += 3,
            ':' if is(at + 1, ':') => {
                tokens.push((line, "::".to_owned()));
                at += 2;
            }
            first if first.is_alphanumeric() || first == '_' => {
                while chars.get(at).is_some_and(|it| it.is_alphanumeric() || *it == '_') {
                    at += 1;
                }
                tokens.push((line, chars[begin..at].iter().collect()));
            }
            other => {
                if !other.is_whitespace() {
                    tokens.push((line, other.to_string()));
                }
                at += 1;
            }
        }
        line += chars[begin..at.min(chars.len())].iter().filter(|it| **it == '\n').count();
    }
    tokens
}

fn end_of_string(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}
