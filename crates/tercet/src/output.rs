//! What `tercet up` and its parts say: one merged log on standard output, one bounded file per part on disk.
//!
//! Text has each line prefixed with who says it; JSON is one object a line. A terminal that stands still never
//! holds up a part: lines are written by threads of their own.

mod journal;
mod line;

use std::cell::RefCell;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Context as _;
use tercet_observe::event::{Event, SupervisorEvent};
use tercet_observe::log::Destination;
use tercet_observe::{Format, Log, LogHandle};

use self::journal::Journal;
pub(crate) use self::line::{Colour, push_text};

/// Who speaks for `tercet up` itself.
const OWN: &str = "up";

/// How standard output is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// For people.
    Text {
        /// Whether escape sequences may be used.
        colour: bool,
    },
    /// For programs.
    Json,
}

impl Style {
    /// JSON when asked for or when nobody watches; colours only for who watches and has nothing against them
    /// (<https://no-color.org>).
    pub(crate) fn of_standard_output(json: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        if json || !terminal {
            return Self::Json;
        }
        Self::Text { colour: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }
}

/// Standard output and the folder of the log files.
#[derive(Clone)]
pub(crate) struct Output(Rc<Shared>);

struct Shared {
    /// Dropped, it writes what is still waiting.
    _log: Log,
    terminal: LogHandle,
    style: Style,
    folder: PathBuf,
    width: usize,
    own: Rc<RefCell<Journal>>,
}

/// One part's way into the log.
#[derive(Clone)]
pub(crate) struct Voice {
    name: Rc<str>,
    colour: Colour,
    output: Output,
    journal: Rc<RefCell<Journal>>,
}

impl Output {
    /// Standard output in this style; files go into `folder`, which exists. `names` are those who will speak.
    pub(crate) fn open(style: Style, folder: &Path, names: &[&str]) -> anyhow::Result<Self> {
        let format = if style == Style::Json { Format::Json } else { Format::Text };
        let log = Log::open(OWN, Destination::Stdout, format).context("cannot write to standard output")?;
        let terminal = log.handle();
        let width = names.iter().map(|name| name.len()).max().unwrap_or(0).max(OWN.len());
        let own = journal(folder, OWN)?;
        Ok(Self(Rc::new(Shared { _log: log, terminal, style, folder: folder.to_owned(), width, own })))
    }

    pub(crate) fn style(&self) -> Style {
        self.0.style
    }

    /// The voice of a part; its file is `NAME.log`.
    pub(crate) fn voice(&self, name: &str) -> anyhow::Result<Voice> {
        let journal = journal(&self.0.folder, name)?;
        Ok(Voice { name: name.into(), colour: Colour::of(name), output: self.clone(), journal })
    }

    /// The voice of `tercet up` itself.
    pub(crate) fn own_voice(&self) -> Voice {
        let journal = Rc::clone(&self.0.own);
        Voice { name: OWN.into(), colour: Colour::of(OWN), output: self.clone(), journal }
    }

    /// A few lines for people; nothing in JSON, where an event says the same.
    pub(crate) fn block(&self, text: &str) {
        if self.0.style != Style::Json {
            self.0.terminal.line(|line| line.extend_from_slice(text.trim_end().as_bytes()));
        }
    }
}

fn journal(folder: &Path, name: &str) -> anyhow::Result<Rc<RefCell<Journal>>> {
    let path = folder.join(format!("{name}.log"));
    let journal = Journal::open(&path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Rc::new(RefCell::new(journal)))
}

impl Voice {
    /// Something this part said; `json`: whether it speaks JSON when standard output does.
    pub(crate) fn line(&mut self, said: &[u8], json: bool) {
        let said = said.strip_suffix(b"\r").unwrap_or(said);
        self.journal.borrow_mut().line(said);
        let shared = &self.output.0;
        shared.terminal.line(|line| match shared.style {
            Style::Text { colour } => {
                line::push_prefix(line, &self.name, shared.width, colour.then_some(self.colour));
                push_text(line, said, colour);
            }
            Style::Json if json && said.starts_with(b"{") => line.extend_from_slice(said),
            Style::Json => line::push_json(line, &self.name, said),
        });
    }

    /// Something that happened.
    pub(crate) fn event(&self, event: SupervisorEvent<'_>) {
        let event = Event::from(event);
        let mut text = Vec::new();
        event.push(&mut text, &self.name, Format::Text);
        self.journal.borrow_mut().line(&text);
        let shared = &self.output.0;
        shared.terminal.line(|line| match shared.style {
            Style::Text { colour } => {
                line::push_prefix(line, &self.name, shared.width, colour.then_some(self.colour));
                push_text(line, event.to_string().as_bytes(), false);
            }
            Style::Json => event.push(line, &self.name, Format::Json),
        });
    }

    /// The last thing this part said, for an error that has to explain itself.
    pub(crate) fn last_words(&self) -> Option<String> {
        let journal = self.journal.borrow();
        let last = journal.last();
        (!last.is_empty()).then(|| last.chars().filter(|character| !character.is_control()).collect())
    }
}
