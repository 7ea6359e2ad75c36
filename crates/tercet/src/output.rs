//! The log of `tercet up` and its parts: one merged log on standard output, one bounded log file per part.
//!
//! Text lines are prefixed with the part's name; JSON is one object a line. While the parts start, a terminal gets one line a
//! part, and the log files get everything. A blocked terminal never blocks a part: lines are written by separate threads.

mod line;
mod log_file;
mod recent;

use std::cell::{Cell, Ref, RefCell};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Context as _;
use tercet_observe::event::{Event, SupervisorEvent};
use tercet_observe::log::Destination;
use tercet_observe::{Format, Log, LogHandle};

pub(crate) use self::line::{Colour, plain, push_text};
use self::log_file::LogFile;
pub(crate) use self::recent::{Recent, RecentLine};
use crate::running::Board;

/// The name of `tercet up` itself in the log.
const OWN: &str = "up";

/// The beginnings of lines of PostgreSQL that only its log file gets.
const DETAILS: [&str; 1] = ["LOG:  checkpoint "];

/// How standard output is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Lines of text, for a terminal.
    Text {
        /// Whether escape sequences may be used.
        colour: bool,
        /// Whether the lines of starting parts are shown.
        verbose: bool,
    },
    /// One JSON object a line.
    Json,
}

impl Style {
    /// JSON if requested or if standard output is not a terminal; colours unless `NO_COLOR` is set
    /// (<https://no-color.org>).
    pub(crate) fn of_standard_output(json: bool, verbose: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        if json || !terminal {
            return Self::Json;
        }
        Self::Text { colour: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()), verbose }
    }
}

/// Standard output and the log files' folder.
#[derive(Clone)]
pub(crate) struct Output(Rc<Shared>);

struct Shared {
    /// Flushes when dropped.
    _log: Log,
    terminal: LogHandle,
    style: Style,
    folder: PathBuf,
    width: usize,
    /// Whether all parts have started.
    started: Cell<bool>,
    /// The part that did not start, whose last lines were shown: those of others are mostly the same.
    explained: RefCell<Option<Rc<str>>>,
    board: Board,
    recent: RefCell<Recent>,
    own: Rc<RefCell<LogFile>>,
}

/// The log of one part.
#[derive(Clone)]
pub(crate) struct PartLog {
    name: Rc<str>,
    colour: Colour,
    output: Output,
    file: Rc<RefCell<LogFile>>,
}

impl Output {
    /// Opens standard output in this style; log files go to `folder`, which must exist. `names` are the parts' names, and
    /// `board` gets the events about them.
    pub(crate) fn open(style: Style, folder: &Path, names: &[&str], board: Board) -> anyhow::Result<Self> {
        let format = if style == Style::Json { Format::Json } else { Format::Text };
        let log = Log::open(OWN, Destination::Stdout, format).context("cannot write to standard output")?;
        let terminal = log.handle();
        let width = names.iter().map(|name| name.len()).max().unwrap_or(0).max(OWN.len());
        let own = log_file(folder, OWN)?;
        Ok(Self(Rc::new(Shared {
            _log: log,
            terminal,
            style,
            folder: folder.to_owned(),
            width,
            started: Cell::new(false),
            explained: RefCell::default(),
            board,
            recent: RefCell::default(),
            own,
        })))
    }

    /// The run state of the parts.
    pub(crate) fn board(&self) -> &Board {
        &self.0.board
    }

    /// The last lines of all parts.
    pub(crate) fn recent(&self) -> Ref<'_, Recent> {
        self.0.recent.borrow()
    }

    pub(crate) fn style(&self) -> Style {
        self.0.style
    }

    /// The log of a part; its file is `NAME.log`.
    pub(crate) fn part_log(&self, name: &str) -> anyhow::Result<PartLog> {
        let file = log_file(&self.0.folder, name)?;
        Ok(PartLog { name: name.into(), colour: Colour::of(name), output: self.clone(), file })
    }

    /// The log of `tercet up` itself.
    pub(crate) fn own_log(&self) -> PartLog {
        let file = Rc::clone(&self.0.own);
        PartLog { name: OWN.into(), colour: Colour::of(OWN), output: self.clone(), file }
    }

    /// From now on a terminal gets every line.
    pub(crate) fn started(&self) {
        self.0.started.set(true);
    }

    /// Whether a terminal gets one line a part only.
    fn is_brief(&self) -> bool {
        matches!(self.0.style, Style::Text { verbose: false, .. }) && !self.0.started.get()
    }

    /// Prints a block of text; nothing in JSON, where an event has the same content.
    pub(crate) fn block(&self, text: &str) {
        if self.0.style != Style::Json {
            self.0.terminal.line(|line| line.extend_from_slice(text.trim_end().as_bytes()));
        }
    }
}

fn log_file(folder: &Path, name: &str) -> anyhow::Result<Rc<RefCell<LogFile>>> {
    let path = folder.join(format!("{name}.log"));
    let file = LogFile::open(&path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Rc::new(RefCell::new(file)))
}

impl PartLog {
    /// Logs a line of the part's output; `json`: whether the part logs JSON.
    pub(crate) fn line(&mut self, output: &[u8], json: bool) {
        let output = output.strip_suffix(b"\r").unwrap_or(output);
        self.file.borrow_mut().line(output, json && output.starts_with(b"{"));
        self.output.0.recent.borrow_mut().push(&self.name, output);
        let is_detail = matches!(self.output.style(), Style::Text { verbose: false, .. })
            && DETAILS.iter().any(|detail| output.starts_with(detail.as_bytes()));
        if !self.output.is_brief() && !is_detail {
            self.show(output, json);
        }
    }

    fn show(&self, output: &[u8], json: bool) {
        let shared = &self.output.0;
        shared.terminal.line(|line| match shared.style {
            Style::Text { colour, .. } => {
                line::push_prefix(line, &self.name, shared.width, colour.then_some(self.colour));
                if let Some(text) = json.then(|| line::readable(output)).flatten() {
                    push_text(line, text.as_bytes(), false);
                } else {
                    line::push_clock(line);
                    push_text(line, output, colour);
                }
            }
            Style::Json if json && output.starts_with(b"{") => line.extend_from_slice(output),
            Style::Json => line::push_json(line, &self.name, output),
        });
    }

    /// Logs an event.
    pub(crate) fn event(&self, event: SupervisorEvent<'_>) {
        self.output.0.board.observe(&event);
        let brief = self.output.is_brief().then(|| line::brief(&event));
        let event = Event::from(event);
        let mut text = Vec::new();
        event.push(&mut text, &self.name, Format::Json);
        self.file.borrow_mut().line(&text, true);
        self.output.0.recent.borrow_mut().push(&self.name, &text);
        let shared = &self.output.0;
        match (shared.style, brief) {
            (_, Some(None)) => {}
            (_, Some(Some(brief))) => shared.terminal.line(|line| push_text(line, brief.as_bytes(), false)),
            // The summary says the same.
            (Style::Text { .. }, None) if matches!(event, Event::Supervisor(SupervisorEvent::Up { .. })) => {}
            (Style::Text { colour, .. }, None) => shared.terminal.line(|line| {
                line::push_prefix(line, &self.name, shared.width, colour.then_some(self.colour));
                line::push_clock(line);
                push_text(line, event.to_string().as_bytes(), false);
            }),
            (Style::Json, None) => shared.terminal.line(|line| event.push(line, &self.name, Format::Json)),
        }
    }

    /// Shows the part's last lines, if a terminal has not got them: it did not start, and is the first that did not.
    pub(crate) fn show_last_lines(&self, json: bool) {
        let mut explained = self.output.0.explained.borrow_mut();
        if self.output.is_brief() && *explained.get_or_insert_with(|| Rc::clone(&self.name)) == self.name {
            for last in self.last_lines() {
                self.show(last.as_bytes(), json);
            }
        }
    }

    /// The part's last lines, the oldest first, for the error if it does not start.
    pub(crate) fn last_lines(&self) -> Vec<String> {
        self.file.borrow().last().map(str::to_owned).collect()
    }
}

/// A path as a word of a command for the shell.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    // A path has no NUL, which is all that cannot be quoted.
    shlex::try_quote(&text).map(std::borrow::Cow::into_owned).unwrap_or_default()
}
