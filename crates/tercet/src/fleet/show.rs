//! What happens on the machines, on the terminal: plain lines, or a spinner with the latest above it.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tercet_fleet::Progress;

/// Where progress is shown: standard error, so that standard output is the result's.
pub(crate) struct Show {
    spinner: Option<ProgressBar>,
}

impl Show {
    /// A spinner on a terminal, plain lines elsewhere.
    pub(crate) fn new(doing: &'static str) -> Self {
        let spinner = std::io::stderr().is_terminal().then(|| {
            let spinner = ProgressBar::new_spinner().with_message(doing);
            spinner.set_style(
                ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("a valid template"),
            );
            spinner.enable_steady_tick(Duration::from_millis(100));
            spinner
        });
        Self { spinner }
    }

    /// Shows one line.
    #[expect(clippy::print_stderr, reason = "the command is the one place that prints")]
    pub(crate) fn tell(&self, progress: &Progress) {
        match &self.spinner {
            Some(spinner) => spinner.println(progress.to_string()),
            None => eprintln!("{progress}"),
        }
    }

    /// Ends the spinner: what comes next is the result, or a question.
    pub(crate) fn done(&self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

/// Rows as columns as wide as their widest cell; the last column is not padded.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|it| it.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["from", "to", "outcome"]), row(["ä", "database", ""])];
        assert_eq!(table(&rows), "from  to        outcome\nä     database\n");
    }
}
