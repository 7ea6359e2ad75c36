//! Why a command did not do what it was asked, and how a person and the shell hear of it.
//!
//! Exit codes: 0 done; 1 it failed, and what was running before still runs; 2 the input is wrong and nothing
//! was touched.

use std::process::ExitCode;

use miette::Report;

/// What a command returns.
pub(crate) type Outcome = Result<(), Failure>;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What the person wrote is wrong, and nothing was touched: exit code 2.
    Input(Report),
    /// Something went wrong on the way: exit code 1.
    Failed(anyhow::Error),
}

impl Failure {
    /// The input is wrong; `diagnostic` may underline it.
    pub(crate) fn input(diagnostic: impl miette::Diagnostic + Send + Sync + 'static) -> Self {
        Self::Input(Report::new(diagnostic))
    }

    /// The input is wrong, in words.
    pub(crate) fn input_message(message: impl Into<String>) -> Self {
        Self::Input(Report::msg(message.into()))
    }

    /// The same where only an error can be returned.
    pub(crate) fn into_error(self) -> anyhow::Error {
        match self {
            Self::Input(report) => anyhow::anyhow!("{report}"),
            Self::Failed(error) => error,
        }
    }

    /// Tells the person on standard error; the code is for the shell.
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

/// `?` on any error is a failure; wrong input is always said by name.
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
