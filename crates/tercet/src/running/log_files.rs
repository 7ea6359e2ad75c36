//! The log files of `tercet up`, as one stream in the order of time.

use std::fs::{self, File};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tercet_fleet::logs::{Line, Selection, level_of};

use super::tier;

/// The machine in the lines: this one.
const MACHINE: &str = "here";
/// The extension of log files.
const EXTENSION: &str = "log";
/// How many of the last lines `--follow` shows first.
const LAST: usize = 20;
/// The interval at which the files are read for new lines.
const TICK: Duration = Duration::from_millis(100);
/// The longest line that is read; a part's lines are shorter.
const LONGEST: usize = 64 << 10;

/// The selected lines, oldest first.
///
/// # Errors
/// There is no log, it cannot be read, or `since` is no time.
pub(crate) fn read(folder: &Path, selection: &Selection) -> Result<Vec<Line>> {
    let since = since(selection, Timestamp::now())?;
    let mut lines = Vec::new();
    for path in files(folder)? {
        let mut parser = Parser::of(&path);
        for file in rotated_and_present(&path)? {
            lines.extend(parser.lines(BufReader::new(file)));
        }
    }
    lines.retain(|line| line.time >= since && takes(selection, line));
    lines.sort_by_key(|line| line.time);
    Ok(lines)
}

/// The last lines, and then each new one, until `stop` is set.
///
/// # Errors
/// There is no log, or what `each` returns.
pub(crate) fn follow(
    folder: &Path,
    selection: &Selection,
    stop: &AtomicBool,
    mut each: impl FnMut(&Line) -> Result<()>,
) -> Result<()> {
    let mut followed: Vec<Followed> = Vec::new();
    let mut first = true;
    while !stop.load(Ordering::Relaxed) {
        // A part that is started later has a new file.
        for path in files(folder)? {
            if !followed.iter().any(|it| it.path == path) {
                followed.push(Followed::of(path));
            }
        }
        let mut lines: Vec<Line> = followed.iter_mut().flat_map(Followed::new_lines).collect();
        lines.retain(|line| takes(selection, line));
        lines.sort_by_key(|line| line.time);
        let skipped = if first { lines.len().saturating_sub(LAST) } else { 0 };
        lines[skipped..].iter().try_for_each(&mut each)?;
        first = false;
        std::thread::sleep(TICK);
    }
    Ok(())
}

fn takes(selection: &Selection, line: &Line) -> bool {
    let of_tier = selection.tier.is_none_or(|wanted| tier(&line.part) == Some(wanted));
    of_tier && selection.takes(line)
}

/// The log files, one a part.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            anyhow::bail!("there is no log in {}\nhint: tercet up writes it", folder.display())
        }
        entries => entries.with_context(|| folder.display().to_string())?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| folder.display().to_string())?;
        let path = entry.path();
        if path.extension().is_some_and(|it| it == EXTENSION) && entry.file_type()?.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The rotated file of a part and the present one, as far as they exist.
fn rotated_and_present(path: &Path) -> Result<Vec<File>> {
    let open = |path: &Path| match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some).with_context(|| path.display().to_string()),
    };
    let number = |file: &File| file.metadata().map(|it| it.ino()).ok();
    let present = open(path)?;
    let rotated = open(&path.with_added_extension("1"))?;
    // It was rotated in between: there is another one in its place.
    let is_same =
        present.as_ref().zip(rotated.as_ref()).is_some_and(|(one, other)| number(one) == number(other));
    let present = if is_same { open(path)? } else { present };
    Ok(rotated.into_iter().chain(present).collect())
}

/// A file that is followed, also when it is rotated.
struct Followed {
    path: PathBuf,
    file: Option<File>,
    parser: Parser,
    /// The beginning of a line that is not complete yet.
    rest: Vec<u8>,
}

impl Followed {
    fn of(path: PathBuf) -> Self {
        let parser = Parser::of(&path);
        Self { file: None, path, parser, rest: Vec::new() }
    }

    /// The lines that were written since the last time. A file that cannot be read now is read the next time.
    fn new_lines(&mut self) -> Vec<Line> {
        let mut lines = Vec::new();
        loop {
            if self.file.is_none() {
                self.file = File::open(&self.path).ok();
            }
            let Some(file) = &mut self.file else { return lines };
            // Before it is read: what was written until it was rotated is read then, too.
            let in_place = fs::metadata(&self.path).ok();
            let mut bytes = std::mem::take(&mut self.rest);
            let _ = file.read_to_end(&mut bytes);
            let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            self.rest = bytes.split_off(end);
            self.rest.truncate(LONGEST);
            lines.extend(self.parser.lines(&bytes[..]));
            let opened = file.metadata().map(|it| it.ino()).ok();
            let Some(in_place) = in_place else { return lines };
            if Some(in_place.ino()) == opened {
                // It was emptied.
                if file
                    .metadata()
                    .is_ok_and(|it| file.stream_position().is_ok_and(|position| position > it.len()))
                {
                    let _ = file.seek(SeekFrom::Start(0));
                    self.rest.clear();
                }
                return lines;
            }
            // It was rotated, and another one is in its place.
            self.file = None;
        }
    }
}

/// Reads the lines of one part.
struct Parser {
    part: String,
    /// The time of the last line, which a line without a time has as well.
    time: u64,
}

impl Parser {
    fn of(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Self { part: name.split('.').next().unwrap_or_default().to_owned(), time: 0 }
    }

    fn lines(&mut self, text: impl io::BufRead) -> Vec<Line> {
        let lines = text.split(b'\n').map_while(io::Result::ok);
        lines.map(|line| self.line(&String::from_utf8_lossy(&line))).collect()
    }

    fn line(&mut self, text: &str) -> Line {
        let mut message = text;
        let mut level = None;
        if let Ok(record) = serde_json::from_str::<serde_json::Value>(text) {
            let said = |name: &str| record.get(name).and_then(serde_json::Value::as_str);
            level = said("level").map(str::to_owned);
            self.set_time(said("time").unwrap_or_default());
        } else if let Some((time, rest)) = text.split_once(' ')
            && self.set_time(time)
        {
            message = rest;
        }
        Line {
            time: self.time,
            machine: MACHINE.to_owned(),
            part: self.part.clone(),
            level: level.unwrap_or_else(|| level_of(message).unwrap_or("info").to_owned()),
            message: message.to_owned(),
        }
    }

    fn set_time(&mut self, text: &str) -> bool {
        let time = text.parse::<Timestamp>().ok().and_then(|time| u64::try_from(time.as_microsecond()).ok());
        self.time = time.unwrap_or(self.time);
        time.is_some()
    }
}

/// The time of `--since` in microseconds since the Unix epoch; without it an hour ago, or a day for a request.
fn since(selection: &Selection, now: Timestamp) -> Result<u64> {
    let hours = |hours| now - SignedDuration::from_hours(hours);
    let since = match &selection.since {
        None if selection.request_id.is_some() => hours(24),
        None => hours(1),
        Some(text) => time(text, now).with_context(|| {
            format!(
                "{text} is no time\nhint: -30min, -2h, -1d, today, yesterday, \"2026-11-30 10:00\" (in UTC), or RFC 3339"
            )
        })?,
    };
    Ok(u64::try_from(since.as_microsecond()).unwrap_or_default())
}

/// A time in the forms of systemd.time(7) that are used most.
fn time(text: &str, now: Timestamp) -> Option<Timestamp> {
    let day = TimeZone::UTC.to_datetime(now).date();
    let midnight = TimeZone::UTC.to_timestamp(DateTime::from(day)).ok()?;
    match text {
        "now" => return Some(now),
        "today" => return Some(midnight),
        "yesterday" => return Some(midnight - SignedDuration::from_hours(24)),
        _ => {}
    }
    if let Some(span) = text.strip_prefix('-') {
        let digits = span.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = span.split_at(digits);
        let seconds = match unit.trim_start() {
            "s" | "sec" => 1,
            "m" | "min" => 60,
            "h" | "hour" | "hours" => 3600,
            "d" | "day" | "days" => 86_400,
            "w" | "week" | "weeks" => 604_800,
            _ => return None,
        };
        let seconds = number.parse::<i64>().ok()?.checked_mul(seconds)?;
        return now.checked_sub(SignedDuration::from_secs(seconds)).ok();
    }
    let of_day = || text.parse::<jiff::civil::Date>().ok().map(DateTime::from);
    let of_text = || text.parse::<DateTime>().ok();
    let in_utc = || TimeZone::UTC.to_timestamp(of_text().or_else(of_day)?).ok();
    text.parse().ok().or_else(in_utc)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn lines_of_all_files_are_in_the_order_of_time() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let request =
            r#"{"time":"2026-11-30T10:00:02.000Z","level":"info","event":"request","request_id":"r1"}"#;
        write("balancer.log.1", "2026-11-30T10:00:00.500Z first\n");
        write("balancer.log", &format!("{request}\n"));
        write("database.log", "2026-11-30T10:00:01.000Z ERROR:  no\nDETAIL:  why\n");
        write("notes.txt", "no log\n");
        let shown = |selection: &Selection| -> Vec<String> {
            let since = Some("2026-11-30".to_owned());
            let lines = read(folder.path(), &Selection { since, ..selection.clone() }).unwrap();
            lines.iter().map(|line| format!("{} {} {}", line.part, line.level, line.message)).collect()
        };
        let all = [
            "balancer info first".to_owned(),
            "database error ERROR:  no".to_owned(),
            "database info DETAIL:  why".to_owned(),
            format!("balancer info {request}"),
        ];
        assert_eq!(shown(&Selection::default()), all);
        let request_id = Some("r1".to_owned());
        assert_eq!(shown(&Selection { request_id, ..Selection::default() }), all[3..]);
        let tier = Some(tercet_config::Tier::Database);
        assert_eq!(shown(&Selection { tier, ..Selection::default() }), all[1..3]);
    }

    #[test]
    fn a_rotated_file_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app-1.log");
        let append = |text: &str| {
            let mut file = File::options().append(true).create(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let mut followed = Followed::of(path.clone());
        let mut messages = || followed.new_lines().into_iter().map(|line| line.message).collect::<Vec<_>>();
        append("one\ntw");
        assert_eq!(messages(), ["one"]);
        append("o\n");
        fs::rename(&path, path.with_added_extension("1")).unwrap();
        append("three\n");
        assert_eq!(messages(), ["two", "three"]);
        assert!(messages().is_empty());
        File::create(&path).unwrap();
        assert!(messages().is_empty());
        append("four\n");
        assert_eq!(messages(), ["four"]);
    }

    #[test]
    fn times_are_relative_or_absolute() {
        let now: Timestamp = "2026-11-30T10:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("-90s", "2026-11-30T09:58:30Z"),
            ("-2h", "2026-11-30T08:00:00Z"),
            ("today", "2026-11-30T00:00:00Z"),
            ("yesterday", "2026-11-29T00:00:00Z"),
            ("2026-11-29", "2026-11-29T00:00:00Z"),
            ("2026-11-29 08:30", "2026-11-29T08:30:00Z"),
            ("2026-11-29T08:30:00+01:00", "2026-11-29T07:30:00Z"),
        ] {
            assert_eq!(time(text, now), Some(expected.parse().unwrap()), "{text}");
        }
        for refused in ["", "-", "-5 moons", "soon"] {
            assert_eq!(time(refused, now), None, "{refused}");
        }
    }
}
