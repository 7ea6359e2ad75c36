//! Refuses words that were coined in this code base: the field has a term for each, and engineers search for that.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::workspace::Workspace;

/// A word or phrase between word boundaries, and the term to use instead. Lower-case entries match in any case; capitalised ones
/// are names of types, and match exactly.
const COINED: &[(&str, &str)] = &[
    ("strict turn", "strict round-robin"),
    ("whose turn", "the next server by round-robin"),
    ("asker", "client"),
    ("askers", "clients"),
    ("whoever", "the noun: client, caller, operator, process, …"),
    ("somebody", "the noun: client, caller, operator, process, …"),
    ("someone", "the noun: client, caller, operator, process, …"),
    ("nobody", "no client, no caller, no process, …"),
    ("anybody", "any client, any caller, …"),
    ("everybody", "every client, all users, …"),
    ("nobody listens", "connection refused"),
    ("nobody understands", "incompatible agent version; unexpected message"),
    ("absences", "invariants"),
    ("what came of", "the result, the outcome"),
    ("ssh is not let in", "SSH authentication failed"),
    ("for steering", "admin socket"),
    ("Shelf", "connection pool, idle connections"),
    ("Stock", "buffer pool"),
    ("Scratch", "request buffers"),
    ("Door", "listener, bind address"),
    ("Doors", "listeners, bind addresses"),
    ("Ticket", "pipeline slot"),
    ("Keeper", "background task"),
    ("steward", "housekeeping task"),
    ("bury", "reap"),
    ("Wish", "lease operation"),
    ("Journey", "request trace"),
    ("Paces", "latency estimates"),
    ("Happening", "event"),
    ("Dialogue", "startup handshake"),
    ("World", "release state, deployed state"),
    ("Trial", "check, probe result"),
    ("Ill", "health check failure"),
    ("Patience", "timeout, user timeout"),
];

/// The system user of that name, in code and in prose.
const USER: &[&str] = &["\"nobody\"", "`nobody`", "runuser -u nobody"];

/// Files that may contain them: the list itself, and the changes of earlier versions.
const EXEMPT: &[&str] = &["xtask/src/ci/words.rs", "CHANGELOG.md"];

/// Fails with every place of such a word, and its replacement.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let mut wrong = Vec::new();
    for path in workspace.files()? {
        let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
        if EXEMPT.contains(&path.as_str()) || !matches!(extension, "rs" | "md" | "toml") {
            continue;
        }
        let text = fs::read_to_string(workspace.root.join(&path))
            .with_context(|| format!("{path}: cannot be read"))?;
        wrong.extend(coined(&path, &text));
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

fn coined(path: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = USER.iter().fold(line.to_owned(), |line, user| line.replace(user, ""));
        for (word, instead) in COINED.iter().filter(|(word, _)| has(&line, word)) {
            wrong.push(format!("{path}:{number}: `{word}`; say: {instead}"));
        }
    }
    wrong
}

/// Whether `line` contains `word` with no letter, digit or `_` on either side.
fn has(line: &str, word: &str) -> bool {
    let is_type = word.starts_with(char::is_uppercase);
    let lower = if is_type { None } else { Some(line.to_lowercase()) };
    let line = lower.as_deref().unwrap_or(line);
    let joins = |it: char| it.is_alphanumeric() || it == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(joins) && !line[at + word.len()..].starts_with(joins))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coined_word_is_refused_with_its_replacement() {
        assert_eq!(
            coined("a.rs", "//! One.\n/// A Door.\n"),
            ["a.rs:2: `Door`; say: listener, bind address"]
        );
    }

    #[test]
    fn other_words_pass() {
        assert_eq!(coined("a.rs", "struct Doorway; let x = Doors_; a door"), [""; 0]);
    }

    #[test]
    fn prose_is_refused_in_any_case() {
        assert_eq!(
            coined("a.md", "Nobody\n"),
            ["a.md:1: `nobody`; say: no client, no caller, no process, …"]
        );
    }
}
