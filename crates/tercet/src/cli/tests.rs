//! The command line is consistent, and the commands that documentation and messages show are commands of it.

use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::*;

#[test]
fn the_command_line_is_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn commands_that_the_documentation_shows_are_valid() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut pages = vec![root.join("README.md"), root.join("CHANGELOG.md")];
    for folder in ["docs/guide", "examples"] {
        add_files(&root.join(folder), "md", &mut pages);
    }
    check(&root, &pages, shown_by_page, 250);
}

/// Hints of errors, the texts of alerts, comments.
#[test]
fn commands_that_the_sources_mention_are_valid() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut sources = Vec::new();
    for entry in root.join("crates").read_dir().unwrap() {
        add_files(&entry.unwrap().path().join("src"), "rs", &mut sources);
    }
    check(&root, &sources, mentioned_by_source, 250);
}

/// Asserts that there are at least so many commands, and that the command line accepts each.
fn check(root: &Path, files: &[PathBuf], shown: fn(&str) -> Vec<Shown>, least: usize) {
    let (mut count, mut wrong) = (0, Vec::new());
    for file in files {
        for Shown { line, text, is_whole } in shown(&std::fs::read_to_string(file).unwrap()) {
            count += 1;
            if let Err(reason) = parses(&text, is_whole) {
                let file = file.strip_prefix(root).unwrap().display();
                wrong.push(format!("{file}:{line}: {text}\n    {reason}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count} commands are not valid:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= least, "only {count} commands were found");
}

fn add_files(folder: &Path, extension: &str, files: &mut Vec<PathBuf>) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            add_files(&path, extension, files);
        } else if path.extension().is_some_and(|it| it == extension) {
            files.push(path);
        }
    }
}

/// A command that a file shows.
struct Shown {
    line: usize,
    text: String,
    /// To be typed as it is; another one is mentioned in a sentence, and may lack arguments.
    is_whole: bool,
}

impl Shown {
    fn new(index: usize, text: &str, is_whole: bool) -> Self {
        Self { line: index + 1, text: command(text).to_owned(), is_whole }
    }
}

/// The commands of a page in Markdown: those in its blocks for a shell, and those mentioned in its text.
fn shown_by_page(page: &str) -> Vec<Shown> {
    let mut shown = Vec::new();
    // Within a fenced block: whether it is one of a shell.
    let mut fence = None;
    for (index, line) in page.lines().enumerate() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            fence = fence.is_none().then_some(matches!(language, "" | "console" | "sh"));
        } else if fence == Some(true) || fence.is_none() && line.starts_with("    ") {
            shown.extend(typed(line).map(|text| Shown::new(index, text, true)));
        } else if fence.is_none() {
            shown.extend(mentioned(line).map(|text| Shown::new(index, text, false)));
        }
    }
    shown
}

/// The commands that the comments and texts of a source file mention.
fn mentioned_by_source(source: &str) -> Vec<Shown> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (index, line) in source.lines().enumerate() {
        match lines.last_mut() {
            // A text that goes on in the next line.
            Some((_, text)) if text.ends_with('\\') => {
                text.pop();
                text.push_str(line.trim_start());
            }
            _ => lines.push((index, line.to_owned())),
        }
    }
    lines
        .iter()
        .flat_map(|(index, line)| mentioned(line).map(|text| Shown::new(*index, text, false)))
        .collect()
}

/// What follows each `tercet` of a line that can begin a command: at its start, after a prompt, a bracket or an operator.
fn typed(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("tercet ").filter_map(|(at, name)| {
        let before = line[..at].trim_end();
        let begins = before.is_empty() || before.ends_with(['$', '(', '|', ';', '&']);
        begins.then_some(&line[at + name.len()..])
    })
}

/// What follows `tercet` in each span of code that begins with it.
fn mentioned(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2).filter_map(|span| span.strip_prefix("tercet "))
}

/// The text up to the end of a command of a shell.
fn command(text: &str) -> &str {
    let mut quote = None;
    let mut previous = ' ';
    for (at, character) in text.char_indices() {
        let ends = match character {
            ')' | ';' | '<' | '>' => true,
            // Between words: the bar in `on|off` is an alternative.
            '&' | '|' | '#' => previous == ' ',
            _ => false,
        };
        match (quote, character) {
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), _) if open == character => quote = None,
            (None, _) if ends => return text[..at].trim_end(),
            _ => {}
        }
        previous = character;
    }
    text.trim_end()
}

/// Whether the command line accepts each of a command's alternatives.
fn parses(text: &str, is_whole: bool) -> Result<(), String> {
    let words = shlex::split(text).ok_or("a quote is not closed")?;
    let mut all = vec![vec!["tercet".to_owned()]];
    for word in words {
        // `[ID]` may be left out, N is a number.
        let word = word.trim_matches(['[', ']']);
        let choices: Vec<&str> = if word == "N" { vec!["1"] } else { word.split('|').collect() };
        let extended = all.iter().flat_map(|words| {
            choices.iter().map(move |choice| [&words[..], &[(*choice).to_owned()]].concat())
        });
        all = extended.collect();
    }
    all.into_iter().try_for_each(|words| parse(words, is_whole))
}

fn parse(words: Vec<String>, is_whole: bool) -> Result<(), String> {
    let Err(error) = Arguments::try_parse_from(words) else { return Ok(()) };
    let lacks_value = || matches!(error.get(ContextKind::InvalidValue), Some(ContextValue::String(value)) if value.is_empty());
    let is_fine = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => true,
        ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => !is_whole,
        ErrorKind::InvalidValue => !is_whole && lacks_value(),
        _ => false,
    };
    if is_fine { Ok(()) } else { Err(error.to_string().lines().next().unwrap_or_default().to_owned()) }
}
