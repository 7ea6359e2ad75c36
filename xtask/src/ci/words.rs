//! Words that were coined here once and must not come back: the field has a term for each, and people search for that.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::workspace::Workspace;

/// A word or phrase, as it stands between word boundaries, and what to say instead.
const COINED: &[(&str, &str)] = &[
    ("strict turn", "round-robin, strict round-robin"),
    ("whose turn", "the next server by round-robin"),
    ("asker", "client"),
    ("askers", "clients"),
    ("whoever", "the noun: client, caller, operator, …"),
    ("somebody", "the noun: client, caller, operator, …"),
    ("nobody listens", "connection refused"),
    ("nobody understands", "incompatible agent version; unexpected message"),
    ("absences", "invariants"),
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
    ("World", "release state"),
    ("Trial", "check, probe result"),
];

/// Where the words may stand: the list itself, and the changes of earlier versions.
const EXEMPT: &[&str] = &["xtask/src/ci/words.rs", "CHANGELOG.md"];

/// An error that names every place with such a word, and its replacement.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let mut wrong = Vec::new();
    for path in workspace.files()? {
        let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
        if EXEMPT.contains(&path.as_str()) || !matches!(extension, "rs" | "md" | "toml") {
            continue;
        }
        let text =
            fs::read_to_string(workspace.root.join(&path)).with_context(|| format!("{path}: cannot be read"))?;
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
        for (word, instead) in COINED.iter().filter(|(word, _)| has(line, word)) {
            wrong.push(format!("{path}:{number}: `{word}`; say: {instead}"));
        }
    }
    wrong
}

/// Whether `line` has `word` with no letter, digit or `_` on either side.
fn has(line: &str, word: &str) -> bool {
    let joins = |it: char| it.is_alphanumeric() || it == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(joins) && !line[at + word.len()..].starts_with(joins)
    })
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
    fn parts_of_other_words_are_not_meant() {
        assert_eq!(coined("a.rs", "struct Doorway; let x = Doors_"), [""; 0]);
    }
}
