//! Why a command failed: the report on standard error and the exit code.
//!
//! Exit codes: 0 success; 1 failure, and what was running before still runs; 2 the input is invalid and nothing
//! was changed.

use std::process::ExitCode;

use miette::Report;

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
    pub(crate) fn input(diagnostic: impl miette::Diagnostic + Send + Sync + 'static) -> Self {
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

    /// Prints it on standard error and returns the exit code.
    #[expect(clippy::print_stderr, reason = "the command is the one place that prints")]
    pub(crate) fn report(self) -> ExitCode {
        let (code, report) = match self {
            Self::Input(report) => (2, report),
            Self::Failed(error) => (1, chain(&error)),
        };
        eprintln!("{report:?}");
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
