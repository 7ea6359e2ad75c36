//! Prompts on the terminal, with and without echo, and passphrases from a file.

use std::fs::File;
use std::io::{IsTerminal as _, Read, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

use crate::failure::Failure;

/// The longest passphrase in bytes.
const LONGEST: usize = 1024;

/// Prompts on the terminal and returns the trimmed answer. `instead` is the option to pass if there is no terminal.
///
/// # Errors
/// There is no terminal, or it cannot be read.
#[expect(clippy::print_stdout, reason = "a prompt is printed")]
pub(crate) fn ask(question: &str, instead: &str) -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::input_message(format!("not interactive: pass {instead}")));
    }
    print!("{question}");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}

/// Asks on the terminal whether to `verb`.
///
/// # Errors
/// There is no terminal, or it cannot be read.
pub(crate) fn confirm(verb: &str) -> Result<bool, Failure> {
    let answer = ask(&format!("{verb}? [y/N] "), "--yes")?;
    Ok(matches!(&*answer, "y" | "Y" | "yes"))
}

/// Prompts on the terminal without echo; Ctrl-C aborts and restores the terminal.
///
/// # Errors
/// There is no terminal, or no answer.
pub(crate) fn ask_hidden(question: &str) -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::input_message(format!(
            "not interactive: pass --passphrase-file FILE for {question}\nhint: /dev/stdin is a file, too"
        )));
    }
    let terminal = File::options().read(true).write(true).open("/dev/tty").context("/dev/tty")?;
    let answer = {
        // Switch echo off before the prompt: earlier input is not lost, and later input is not shown.
        let _raw = Raw::of(&terminal)?;
        write!(&terminal, "{question}: ")?;
        read_line(&mut &terminal)
    };
    writeln!(&terminal)?;
    Ok(answer?)
}

/// A terminal without echo, line mode and signals until this is dropped. With signals, one could leave it without echo.
struct Raw<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Raw<'a> {
    fn of(terminal: &'a File) -> anyhow::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut raw = before.clone();
        raw.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(terminal, OptionalActions::Flush, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // Fails only if the terminal is closed.
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}

/// Reads one line of keys: Backspace and Ctrl-U erase, Ctrl-C aborts.
fn read_line(input: &mut impl Read) -> anyhow::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        let ended = input.read(&mut byte).context("the terminal")? == 0;
        match byte[0] {
            _ if ended => break,
            b'\r' | b'\n' | 0x04 => break,
            0x03 => bail!("interrupted"),
            0x15 => line.clear(),
            0x08 | 0x7f => {
                // A whole character: its last byte, and those before that only continue it (RFC 3629).
                while line.pop().is_some_and(|byte: u8| byte & 0xc0 == 0x80) {}
            }
            byte => line.push(byte),
        }
        if line.len() > LONGEST {
            bail!("a passphrase has at most {LONGEST} bytes");
        }
    }
    String::from_utf8(line).ok().context("a passphrase is text")
}

/// The first line of a file, which may be a pipe.
///
/// # Errors
/// It cannot be read.
pub(crate) fn passphrase_in(path: &Path) -> anyhow::Result<String> {
    let named = || path.display().to_string();
    let mut text = String::new();
    let file = File::open(path).with_context(named)?;
    file.take(LONGEST as u64 + 1).read_to_string(&mut text).with_context(named)?;
    match text.lines().next() {
        Some(line) if !line.is_empty() && line.len() <= LONGEST => Ok(line.to_owned()),
        _ => bail!("{}: no passphrase in its first line", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_edited_by_keys() {
        let read = |keys: &str| read_line(&mut keys.as_bytes()).map_err(|error| error.to_string());
        assert_eq!(read("five words\rmore"), Ok("five words".to_owned()));
        assert_eq!(read("aé\u{7f}\u{8}\u{7f}b\n"), Ok("b".to_owned()));
        assert_eq!(read("wrong\u{15}right"), Ok("right".to_owned()));
        assert_eq!(read("half\u{3}"), Err("interrupted".to_owned()));
        assert!(read(&"x".repeat(LONGEST + 1)).is_err());
    }
}
