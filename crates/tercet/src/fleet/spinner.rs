//! Progress of work on machines: a spinner with lines above it on a terminal, plain lines elsewhere.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tercet_fleet::Progress;

/// Shows progress on standard error; standard output is for results.
pub(crate) struct Spinner {
    bar: Option<ProgressBar>,
}

impl Spinner {
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
        Self { bar: spinner }
    }

    /// Prints what happens.
    pub(crate) fn print(&self, progress: &Progress) {
        self.line(&progress.to_string());
    }

    /// Prints one line of text.
    #[expect(clippy::print_stderr, reason = "the command is the one place that prints")]
    pub(crate) fn line(&self, text: &str) {
        match &self.bar {
            Some(spinner) => spinner.println(text),
            None => eprintln!("{text}"),
        }
    }

    /// Removes the spinner, before a result or a prompt is printed.
    pub(crate) fn finish(&self) {
        if let Some(spinner) = &self.bar {
            spinner.finish_and_clear();
        }
    }
}

/// Formats rows as a table: each column as wide as its widest cell, the last one not padded.
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
