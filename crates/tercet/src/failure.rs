//! Why a command failed: the report on standard error and the exit code.
//!
//! Exit codes: 0 success; 1 failure, and what was running before still runs; 2 the input is invalid and nothing
//! was changed; 141 the reader of what the command prints is gone.

use std::process::ExitCode;

use miette::{Diagnostic, Report};
use serde_json::{Map, Value, json};

use crate::standard_output;

/// What a command returns.
pub(crate) type Outcome = Result<(), Failure>;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The user's input is invalid, and nothing was changed: exit code 2.
    Input(Report),
    /// The command failed while it ran: exit code 1.
    Failed(anyhow::Error),
}

impl Failure {
    /// Invalid input, with a diagnostic that can underline it.
    pub(crate) fn input(diagnostic: impl Diagnostic + Send + Sync + 'static) -> Self {
        Self::Input(Report::new(diagnostic))
    }

    /// Invalid input, with a message.
    pub(crate) fn input_message(message: impl Into<String>) -> Self {
        Self::Input(Report::msg(message.into()))
    }

    /// Converts it to an error, for callers that cannot return a `Failure`.
    pub(crate) fn into_error(self) -> anyhow::Error {
        match self {
            Self::Input(report) => anyhow::anyhow!("{report}"),
            Self::Failed(error) => error,
        }
    }

    /// All of it in one line.
    pub(crate) fn one_line(&self) -> String {
        let report = match self {
            Self::Input(report) => {
                let related = report.related().into_iter().flatten();
                let mistakes: Vec<String> = related.map(one_line).collect();
                if mistakes.is_empty() { report.to_string() } else { mistakes.join("; ") }
            }
            Self::Failed(error) => format!("{error:#}"),
        };
        report.replace('\n', "; ")
    }

    /// Prints it on standard error, with `json` as a JSON object in one line, and returns the exit code.
    #[expect(clippy::print_stderr, reason = "the command is the one place that prints")]
    pub(crate) fn report(self, json: bool) -> ExitCode {
        let (code, report) = match self {
            Self::Failed(error) if standard_output::is_closed(&error) => {
                return ExitCode::from(standard_output::READER_IS_GONE);
            }
            Self::Input(report) => (2, report),
            Self::Failed(error) => (1, chain(&error)),
        };
        if json {
            eprintln!("{}", line(&report, code));
        } else {
            eprintln!("{report:?}");
        }
        ExitCode::from(code)
    }
}

/// `?` converts any error to [`Failure::Failed`]; invalid input is always constructed explicitly.
impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// The error and its causes as one report.
fn chain(error: &anyhow::Error) -> Report {
    let mut messages = error.chain().map(ToString::to_string).rev();
    let innermost = Report::msg(messages.next().expect("a chain starts with the error itself"));
    messages.fold(innermost, Report::wrap_err)
}

/// The event `failed` of a report, in one line.
fn line(report: &Report, code: u8) -> String {
    let mut time = Vec::new();
    tercet_observe::format::push_now(&mut time);
    let causes: Vec<String> = report.chain().map(ToString::to_string).collect();
    let text = causes.join(": ");
    let (message, hint) = split(&text);
    let mut object = json!({
        "time": String::from_utf8_lossy(&time),
        "level": "error",
        "event": "failed",
        "message": message,
        "code": code,
    });
    if let Some(hint) = hint.or_else(|| report.help().map(|help| help.to_string())) {
        object["hint"] = hint.into();
    }
    let mistakes: Vec<Value> = report.related().into_iter().flatten().map(mistake).collect();
    if !mistakes.is_empty() {
        object["mistakes"] = mistakes.into();
    }
    object.to_string()
}

/// A mistake in a file, with its line and column from 1.
fn mistake(diagnostic: &dyn Diagnostic) -> Value {
    let mut object = Map::new();
    let mut set = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
    set("message", diagnostic.to_string().into());
    let span = diagnostic.labels().and_then(|mut labels| Some(*labels.next()?.inner()));
    if let (Some(source), Some(span)) = (diagnostic.source_code(), span)
        && let Ok(content) = source.read_span(&span, 0, 0)
    {
        set("line", (content.line() + 1).into());
        set("column", (content.column() + 1).into());
        if let Some(file) = content.name() {
            set("file", file.into());
        }
    }
    if let Some(help) = diagnostic.help() {
        set("hint", help.to_string().into());
    }
    object.into()
}

/// A mistake with its place and hint.
fn one_line(mistake: &dyn Diagnostic) -> String {
    let object = self::mistake(mistake);
    let text = |name: &str| object[name].as_str();
    let place = text("file").map(|file| format!("{file}:{}:{}: ", object["line"], object["column"]));
    let hint = text("hint").map(|hint| format!("; hint: {hint}"));
    format!("{}{mistake}{}", place.unwrap_or_default(), hint.unwrap_or_default())
}

/// A message without its hint, and the hint.
pub(crate) fn split(message: &str) -> (&str, Option<String>) {
    match message.split_once("hint: ") {
        Some((message, hint)) => (message.trim_end().trim_end_matches(';'), Some(hint.to_owned())),
        None => (message, None),
    }
}
