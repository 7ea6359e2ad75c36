//! The log lines of all machines' parts, read from their journals and merged.

use std::io::BufRead as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tercet_config::{Machine, Tier};

use crate::at_once::outcomes;
use crate::ssh::{Remote, Silent, Started, shell_words};

/// Which lines to show.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only of this tier.
    pub tier: Option<Tier>,
    /// Only those that matter at least as much: `debug`, `info`, `warn`, `error`.
    pub level: Option<String>,
    /// Only those about this request.
    pub request_id: Option<String>,
    /// None about a request that has ended well: there may be thousands in a second.
    pub events: bool,
    /// How far back, as journalctl understands it: `-1h`, `today`, `2026-11-24 10:00`. Without it, an hour; those of a request
    /// from when its id was made, or a day.
    pub since: Option<String>,
}

/// A span of time, as journalctl understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    since: String,
    until: Option<String>,
}

/// How far the clocks of machines may be apart, in seconds.
const CLOCKS: u64 = 60;

/// How long most requests take at most, in seconds.
const MOST: u64 = 600;

/// One line of one machine's journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Microseconds since the Unix epoch, by the machine's clock.
    pub time: u64,
    /// The machine.
    pub machine: String,
    /// The part: `balancer`, `app-1`, `database`.
    pub part: String,
    /// `debug`, `info`, `warn`, `error`.
    pub level: String,
    /// The message, unchanged.
    pub message: String,
}

/// The lines there are, oldest first, of all machines that can be reached; and why others cannot.
pub fn read(remotes: &[(&Machine, Remote<'_>)], selection: &Selection) -> (Vec<Line>, Vec<anyhow::Error>) {
    let mut found = (Vec::new(), Vec::new());
    for span in selection.spans() {
        found = read_span(remotes, selection, &span);
        // The balancer logs a request when it has ended.
        if found.0.iter().any(|line| line.part == "balancer") {
            break;
        }
    }
    found
}

fn read_span(
    remotes: &[(&Machine, Remote<'_>)],
    selection: &Selection,
    span: &Span,
) -> (Vec<Line>, Vec<anyhow::Error>) {
    let outcomes = outcomes(remotes, |(machine, remote)| {
        let mut lines = Vec::new();
        let Some(command) = command(machine, selection, Reading::Past(span)) else { return Ok(lines) };
        let read = remote.converse(&command, b"", |text| {
            let line = parse(&machine.name, text).map(|(line, _)| line);
            lines.extend(line.filter(|line| selection.takes(line)));
            Ok(())
        });
        match read {
            Err(error) if (selection.request_id.is_some() || selection.events) && has_none(&error) => {}
            read => read?,
        }
        Ok(lines)
    });
    let (mut lines, mut errors) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        match outcome {
            Ok(some) => lines.extend(some),
            Err(error) => errors.push(error),
        }
    }
    lines.sort_by_key(|line| line.time);
    (lines, errors)
}

/// Whether journalctl has found no line: with `--grep` it then fails with this status and says nothing.
fn has_none(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Silent>().is_some_and(|it| it.status.code() == Some(1))
}

/// The lines as they come, until `stop` is set. A machine that goes away is followed again from where it ended when it
/// is back; `lost` hears of it once.
///
/// # Errors
/// What `each` returns.
pub fn follow(
    remotes: &[(&Machine, Remote<'_>)],
    selection: &Selection,
    stop: &AtomicBool,
    mut each: impl FnMut(&Line) -> Result<()>,
    mut lost: impl FnMut(&anyhow::Error),
) -> Result<()> {
    let slots: Vec<Mutex<Option<Started<'_>>>> = remotes.iter().map(|_| Mutex::new(None)).collect();
    let (sender, receiver) = channel();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for ((machine, remote), slot) in remotes.iter().zip(&slots) {
            let (sender, done) = (sender.clone(), &done);
            scope.spawn(move || follow_one(machine, remote, selection, slot, done, &sender));
        }
        drop(sender);
        let result = loop {
            let heard = receiver.recv_timeout(ATTENTION);
            if stop.load(Ordering::Relaxed) {
                break Ok(());
            }
            match heard {
                Ok(Followed::Line(line)) if selection.takes(&line) => {
                    if let Err(error) = each(&line) {
                        break Err(error);
                    }
                }
                Ok(Followed::Line(_)) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Followed::Lost(error)) => lost(&error),
                Err(RecvTimeoutError::Disconnected) => break Ok(()),
            }
        };
        done.store(true, Ordering::Relaxed);
        // The commands end, and with them what reads from them.
        for slot in &slots {
            drop(slot.lock().expect("no thread panics while holding it").take());
        }
        result
    })
}

/// The interval at which an interrupt is noticed.
const ATTENTION: Duration = Duration::from_millis(100);

/// How long to wait before a machine that went away is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// An event of a followed machine.
enum Followed {
    Line(Line),
    /// The machine went away.
    Lost(anyhow::Error),
}

/// Follows one machine until `done`. The command that runs there is kept in `slot`, so that it can be ended.
fn follow_one<'a>(
    machine: &Machine,
    remote: &'a Remote<'_>,
    selection: &Selection,
    slot: &Mutex<Option<Started<'a>>>,
    done: &AtomicBool,
    sender: &Sender<Followed>,
) {
    let (mut cursor, mut told) = (None, false);
    let taken = || slot.lock().expect("no thread panics while holding it");
    let stopped = || done.load(Ordering::Relaxed);
    while let Some(command) = command(machine, selection, Reading::Follow(cursor.as_deref())) {
        let ended = match remote.start(&command) {
            Err(error) => Err(error),
            Ok(mut started) => {
                let output = started.stdout();
                *taken() = Some(started);
                if stopped() {
                    drop(taken().take());
                    return;
                }
                for text in output.lines().map_while(Result::ok) {
                    let Some((line, at)) = parse(&machine.name, &text) else { continue };
                    (cursor, told) = (at.or(cursor), false);
                    // The receiver may be closed.
                    if sender.send(Followed::Line(line)).is_err() {
                        return;
                    }
                }
                let started = taken().take();
                started.map_or(Ok(()), |mut started| started.end())
            }
        };
        if stopped() {
            return;
        }
        let gone = ended.err().unwrap_or_else(|| anyhow::anyhow!("{}: its journal ended", machine.name));
        if !told && sender.send(Followed::Lost(gone.context("connecting again"))).is_err() {
            return;
        }
        told = true;
        for _ in 0..AGAIN.as_millis() / ATTENTION.as_millis() {
            if stopped() {
                return;
            }
            std::thread::sleep(ATTENTION);
        }
    }
}

/// What no line of a request is like (a pattern of pcre2pattern(3)).
const EVENTS: &str = r#"^(?!.*"event":"request")"#;

/// The fields that are read of a journal entry.
#[derive(Clone, Copy)]
enum Reading<'a> {
    /// What there is of this time.
    Past(&'a Span),
    /// What comes: after this cursor, or after the last few lines.
    Follow(Option<&'a str>),
}

/// The command that reads a machine's journal; `None` when nothing selected runs there.
fn command(machine: &Machine, selection: &Selection, reading: Reading<'_>) -> Option<String> {
    let mut words: Vec<String> =
        ["journalctl", "--output=json", "--no-pager", "--quiet", "--utc"].map(str::to_owned).into();
    words.extend(match reading {
        Reading::Past(Span { since, until }) => {
            let until = until.iter().map(|until| format!("--until={until}"));
            [format!("--since={since}")].into_iter().chain(until).collect()
        }
        Reading::Follow(None) => vec!["--follow".to_owned(), "--lines=20".to_owned()],
        Reading::Follow(Some(cursor)) => {
            vec!["--follow".to_owned(), "--no-tail".to_owned(), format!("--after-cursor={cursor}")]
        }
    });
    if let Some(id) = &selection.request_id {
        // The machine finds its lines, so that no other crosses the network.
        let pattern: String =
            id.split("\\E").map(|part| format!("\\Q{part}\\E")).collect::<Vec<_>>().join("\\\\E");
        words.extend(["--case-sensitive=yes".to_owned(), format!("--grep={pattern}")]);
    }
    if selection.events {
        words.push(format!("--grep={EVENTS}"));
    }
    let units = machine.tiers.iter().filter(|tier| selection.tier.is_none_or(|wanted| wanted == **tier));
    let units: Vec<&str> = units
        .flat_map(|tier| match tier {
            Tier::Balancer => &["--unit=tercet-balancer.service"][..],
            Tier::Application => &["--unit=tercet-app-*"],
            Tier::Database => &["--unit=postgresql@*", "--unit=tercet-heartbeat.service"],
            Tier::Backup => &["--unit=tercet-backup-*", "--unit=tercet-pgbackrest.service"],
            Tier::Monitor => &["--unit=tercet-prometheus.service", "--unit=tercet-alertmanager.service"],
        })
        .copied()
        .collect();
    words.extend(units.iter().map(|unit| (*unit).to_owned()));
    words.push("--unit=tercet-check.service".to_owned());
    (!units.is_empty()).then(|| shell_words(&words))
}

/// The level of a message of PostgreSQL, by its severity; `None` for others.
pub fn level_of(message: &str) -> Option<&'static str> {
    let has = |word: &str| message.contains(word);
    if has("ERROR: ") || has("FATAL: ") || has("PANIC: ") {
        Some("error")
    } else {
        has("WARNING: ").then_some("warn")
    }
}

/// A line of `journalctl --output=json` and its cursor; one that is no such line is nothing.
fn parse(machine: &str, text: &str) -> Option<(Line, Option<String>)> {
    #[derive(Deserialize)]
    struct Entry {
        #[serde(rename = "__REALTIME_TIMESTAMP")]
        time: String,
        #[serde(rename = "__CURSOR")]
        cursor: Option<String>,
        #[serde(rename = "_SYSTEMD_UNIT", default)]
        unit: String,
        /// The unit that a message of systemd is about (systemd.journal-fields(7)).
        #[serde(rename = "UNIT")]
        about: Option<String>,
        #[serde(rename = "PRIORITY", default)]
        priority: String,
        #[serde(rename = "MESSAGE", default)]
        message: serde_json::Value,
    }
    let entry: Entry = serde_json::from_str(text).ok()?;
    let message = match entry.message {
        serde_json::Value::String(message) => message,
        // journalctl gives bytes that are no text as an array of numbers (systemd.journal-fields(7)).
        serde_json::Value::Array(bytes) => {
            let bytes: Vec<u8> = bytes.iter().filter_map(|byte| byte.as_u64()?.try_into().ok()).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        _ => return None,
    };
    let unit = entry.about.unwrap_or(entry.unit);
    let unit = unit.trim_end_matches(".service");
    let part = match unit.strip_prefix("tercet-") {
        Some(part) => part.split('@').next().unwrap_or(part),
        None => "database",
    };
    let said: Option<String> = serde_json::from_str::<serde_json::Value>(&message)
        .ok()
        .and_then(|value| value.get("level")?.as_str().map(str::to_owned));
    let level = said.unwrap_or_else(|| {
        // PostgreSQL has its own severity levels, which syslog's are below.
        let of_priority = match entry.priority.as_str() {
            "0" | "1" | "2" | "3" => "error",
            "4" => "warn",
            "7" => "debug",
            _ => "info",
        };
        level_of(&message).unwrap_or(of_priority).to_owned()
    });
    let line = Line {
        time: entry.time.parse().ok()?,
        machine: machine.to_owned(),
        part: part.to_owned(),
        level,
        message,
    };
    Some((line, entry.cursor))
}

impl Selection {
    /// The spans of time to read, each if the one before does not have the request.
    fn spans(&self) -> Vec<Span> {
        let from = |since: &str| Span { since: since.to_owned(), until: None };
        let made = self.request_id.as_deref().and_then(made_at);
        match (&self.since, &self.request_id, made) {
            (Some(since), ..) => vec![from(since)],
            (None, Some(_), Some(made)) => {
                let since = format!("@{}", made.saturating_sub(CLOCKS));
                let until = Some(format!("@{}", made + MOST));
                vec![Span { since: since.clone(), until }, Span { since, until: None }]
            }
            (None, Some(_), None) => vec![from("-1d")],
            (None, None, _) => vec![from("-1h")],
        }
    }

    /// Whether a line has the level and the request, if they are selected.
    pub fn takes(&self, line: &Line) -> bool {
        const LEVELS: [&str; 4] = ["debug", "info", "warn", "error"];
        let rank = |level: &str| LEVELS.iter().position(|it| *it == level).unwrap_or(1);
        self.level.as_ref().is_none_or(|level| rank(&line.level) >= rank(level))
            && self.request_id.as_ref().is_none_or(|id| line.message.contains(id.as_str()))
    }
}

/// When an id was made, in seconds since the Unix epoch, if the balancer made it: a UUID of version 7 (RFC 9562, section 5.7), of
/// which the first 13 characters are enough.
fn made_at(id: &str) -> Option<u64> {
    let (high, rest) = id.split_at_checked(8)?;
    let low = rest.strip_prefix('-')?.get(..4)?;
    let version = id.get(14..15).unwrap_or("7");
    let milliseconds = u64::from_str_radix(&format!("{high}{low}"), 16).ok()?;
    (version == "7").then_some(milliseconds / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_id_says_when_its_lines_were_written() {
        let spans = |id: Option<&str>, since: Option<&str>| {
            let (request_id, since) = (id.map(str::to_owned), since.map(str::to_owned));
            let spans = Selection { request_id, since, ..Selection::default() }.spans();
            spans.into_iter().map(|it| (it.since, it.until.unwrap_or_default())).collect::<Vec<_>>()
        };
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(since, until)| ((*since).to_owned(), (*until).to_owned())).collect()
        };
        let made = pairs(&[("@1764458940", "@1764459600"), ("@1764458940", "")]);
        assert_eq!(spans(Some("019ad1f3-b0c0-7bd9-814b-78a671acad39"), None), made);
        assert_eq!(spans(Some("019ad1f3-b0c0"), None), made);
        // Of another version, or a client's own.
        assert_eq!(spans(Some("019ad1f3-b0c0-4bd9-814b-78a671acad39"), None), pairs(&[("-1d", "")]));
        assert_eq!(spans(Some("order-4711"), None), pairs(&[("-1d", "")]));
        assert_eq!(spans(Some("019ad1f3-b0c0"), Some("-2h")), pairs(&[("-2h", "")]));
        assert_eq!(spans(None, None), pairs(&[("-1h", "")]));
    }

    #[test]
    fn the_machine_looks_for_the_request_itself() {
        let machine = Machine {
            name: "lb".to_owned(),
            reach: tercet_config::Reach::ThisMachine,
            address: [127, 0, 0, 1].into(),
            tiers: vec![Tier::Balancer],
        };
        let selection = Selection { request_id: Some("a.b\\Ec".to_owned()), ..Selection::default() };
        let span = Span { since: "@1".to_owned(), until: Some("@2".to_owned()) };
        let command = command(&machine, &selection, Reading::Past(&span)).unwrap();
        assert!(command.contains(r"'--grep=\Qa.b\E\\E\Qc\E'"), "{command}");
        assert!(command.contains("'--since=@1' '--until=@2'"), "{command}");
        let events = Selection { events: true, ..Selection::default() };
        let command = super::command(&machine, &events, Reading::Follow(None)).unwrap();
        assert!(command.contains(r#"'--grep=^(?!.*"event":"request")'"#), "{command}");
    }

    #[test]
    fn a_search_without_a_result_is_no_error_and_a_failure_is_one() {
        use std::os::unix::process::ExitStatusExt as _;
        let silent = |code: i32| {
            let status = std::process::ExitStatus::from_raw(code << 8);
            anyhow::Error::from(Silent { machine: "lb".to_owned(), status })
        };
        assert!(has_none(&silent(1)) && !has_none(&silent(2)));
        assert!(!has_none(&anyhow::anyhow!("lb: Failed to open files: Too many open files")));
        // As journalctl behaves: the lines of a folder without a journal.
        let folder = tempfile::tempdir().unwrap();
        let directory = format!("--directory={}", folder.path().display());
        let status = |arguments: &[&str]| {
            std::process::Command::new("journalctl").arg(&directory).args(arguments).output().unwrap().status
        };
        assert_eq!(status(&["--quiet", "--grep=x"]).code(), Some(1));
        let output =
            std::process::Command::new("journalctl").arg(&directory).arg(format!("--grep={EVENTS}")).output();
        let errors = String::from_utf8(output.unwrap().stderr).unwrap();
        assert!(!errors.contains("pattern"), "{errors}");
        assert_eq!(status(&["--quiet"]).code(), Some(0));
    }

    #[test]
    fn journal_lines_are_read_and_chosen() {
        let json = r#"{"__REALTIME_TIMESTAMP":"5","_SYSTEMD_UNIT":"tercet-app-1@abc.service","PRIORITY":"6","MESSAGE":"{\"level\":\"warn\",\"request_id\":\"r1\"}"}"#;
        let (line, _) = parse("app1", json).unwrap();
        assert_eq!((line.time, &*line.part, &*line.level), (5, "app-1", "warn"));
        let takes = |level: Option<&str>, id: Option<&str>| {
            let (level, request_id) = (level.map(str::to_owned), id.map(str::to_owned));
            Selection { level, request_id, ..Selection::default() }.takes(&line)
        };
        assert!(takes(Some("info"), Some("r1")) && !takes(Some("error"), None) && !takes(None, Some("r2")));

        let bytes = r#"{"__REALTIME_TIMESTAMP":"5","_SYSTEMD_UNIT":"postgresql@15-main.service","PRIORITY":"4","MESSAGE":[69,82,82,79,82,58,32]}"#;
        let (line, _) = parse("db", bytes).unwrap();
        assert_eq!((&*line.part, &*line.level, &*line.message), ("database", "error", "ERROR: "));
        assert_eq!(parse("db", "no json"), None);

        let systemd = r#"{"__REALTIME_TIMESTAMP":"5","_SYSTEMD_UNIT":"init.scope","UNIT":"tercet-app-1@abc.service","MESSAGE":"Started"}"#;
        assert_eq!(parse("app1", systemd).unwrap().0.part, "app-1");
    }
}
