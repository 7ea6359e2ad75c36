//! Progress of long preparations: a progress bar on a terminal, log events elsewhere.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tercet_database::installation;
use tercet_observe::event::SupervisorEvent;

use crate::output::{Output, Style};

/// A progress bar that is removed when the work is done.
pub(super) struct Progress<'a> {
    output: &'a Output,
    bar: Option<ProgressBar>,
    doing: &'static str,
}

impl<'a> Progress<'a> {
    pub(super) fn new(output: &'a Output) -> Self {
        let brief = matches!(output.style(), Style::Text { verbose: false, .. });
        let watched = brief && std::io::stderr().is_terminal();
        let bar = watched.then(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { output, bar, doing: "" }
    }

    /// Shows a step without a measurable length.
    pub(super) fn step(&self, doing: &'static str) {
        match &self.bar {
            Some(bar) => bar.set_message(doing),
            None => self.output.own_log().event(SupervisorEvent::Preparing { doing }),
        }
    }

    /// Shows the progress of downloading PostgreSQL.
    pub(super) fn show(&mut self, step: installation::Progress) {
        let new = self.doing != step.doing;
        self.doing = step.doing;
        if new {
            self.step(step.doing);
        }
        let Some(bar) = &self.bar else { return };
        if let Some(total) = step.total {
            if new {
                let shape = ProgressStyle::with_template("{spinner} {msg} {bar:30} {bytes}/{total_bytes}");
                bar.set_style(shape.expect("the template is right"));
            }
            bar.set_length(total);
            bar.set_position(step.bytes);
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
