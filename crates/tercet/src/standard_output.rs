//! Standard output that cannot be written to: a command ends without a word when its reader, such as `head`, is gone, as by SIGPIPE, and
//! with an error when the disk is full.

use std::io;
use std::panic::{set_hook, take_hook};
use std::process::exit;

/// The exit code of a command whose reader is gone: that of SIGPIPE in a shell. What it did may not be complete.
pub(crate) const READER_IS_GONE: u8 = 141;

/// What `print!` panics with, in front of the error.
const PRINTING: &str = "failed printing to stdout: ";

/// Whether an error is that of writing to a pipe whose reader is gone. Errors of other pipes say what they were for.
pub(crate) fn is_closed(error: &anyhow::Error) -> bool {
    let is_alone = error.chain().count() == 1;
    let error = error.downcast_ref::<io::Error>();
    is_alone && error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Ends the process when `print!` fails, in place of a panic. Not for commands whose work goes on without a reader.
#[expect(clippy::print_stderr, reason = "nothing else can be printed any more")]
pub(crate) fn end_when_it_fails() {
    let otherwise = take_hook();
    set_hook(Box::new(move |panic| {
        match panic.payload_as_str().and_then(|text| text.strip_prefix(PRINTING)) {
            None => otherwise(panic),
            Some(reason) if reason.contains("Broken pipe") => exit(READER_IS_GONE.into()),
            Some(reason) => {
                eprintln!("error: standard output cannot be written: {reason}");
                exit(1)
            }
        }
    }));
}
