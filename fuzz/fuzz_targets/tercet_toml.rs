//! Any text is a topology or a list of errors, each with a position.
#![no_main]

use libfuzzer_sys::fuzz_target;
use miette::NarratableReportHandler;
use tercet_config::{Origin, parse};

fuzz_target!(|text: &str| {
    match parse(text, Origin { file: "tercet.toml", folder: "bookshop" }) {
        Ok(topology) => {
            for edge in topology.edges() {
                assert!(!edge.why.is_empty());
            }
        }
        Err(mistakes) => {
            let lines = text.lines().count().max(1);
            assert!(mistakes.iter().count() > 0);
            for mistake in mistakes.iter() {
                assert!(
                    mistake.line().is_none_or(|line| line <= lines),
                    "line {:?} of {lines}",
                    mistake.line()
                );
            }
            let mut shown = String::new();
            NarratableReportHandler::new()
                .render_report(&mut shown, &mistakes)
                .expect("a report can be shown");
        }
    }
});
