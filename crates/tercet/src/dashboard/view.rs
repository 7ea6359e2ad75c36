//! What the page shows, as JSON.

use jiff::Timestamp;
use serde_json::{Value, json};
use tercet_fleet::logs::level_of;
use tokio::time::Instant;

use super::server::Source;
use super::{Dashboard, Redaction};
use crate::output::{RecentLine, plain};
use crate::timeline::Timeline;

/// The requests that are shown.
pub(super) const REQUESTS: usize = 25;
/// The points of the history.
pub(super) const POINTS: usize = 300;
/// The most log lines in one answer.
pub(super) const LINES: usize = 200;

impl Source for Dashboard {
    fn watch(&self) {
        self.seen.set(Some(Instant::now()));
    }

    fn state(&self, after: u64) -> Value {
        let state = self.output.board().state();
        let samples = self.samples.borrow();
        let recent = self.output.recent();
        let requests = recent.requests.iter().rev().take(REQUESTS);
        let lines: Vec<&RecentLine> =
            recent.lines.iter().rev().take_while(|line| line.number > after).take(LINES).collect();
        json!({
            "name": state.name,
            "url": state.url,
            "since": state.since,
            "applications": self.applications,
            "parts": state.parts,
            "golden": samples.last(),
            "servers": samples.servers(),
            "database": match &*self.database.borrow() {
                Ok(database) => database.clone(),
                Err(reason) => json!({ "reason": self.redaction.apply(reason) }),
            },
            "machine": *self.machine.borrow(),
            "certificates": *self.certificate_ends.borrow(),
            "backups": *self.backups.borrow(),
            "requests": requests.filter_map(|line| request(line, &self.redaction)).collect::<Vec<_>>(),
            "notable": recent.notable.iter().rev().filter_map(|line| request(line, &self.redaction)).collect::<Vec<_>>(),
            "lines": lines.iter().rev().map(|line| self::line(line, &self.redaction)).collect::<Vec<_>>(),
            "last": recent.last(),
        })
    }

    fn history(&self) -> Value {
        json!(self.samples.borrow().history(POINTS))
    }
}

/// A request with its timeline, without credentials.
fn request(line: &RecentLine, redaction: &Redaction) -> Option<Timeline> {
    of_record(&serde_json::from_slice(&line.text).ok()?, redaction)
}

/// A request's record with its timeline, without credentials.
pub(super) fn of_record(record: &Value, redaction: &Redaction) -> Option<Timeline> {
    let mut timeline = Timeline::of(std::slice::from_ref(record))?;
    timeline.target = redaction.apply(&timeline.target);
    timeline.sql = timeline.sql.map(|sql| redaction.apply(&sql));
    Some(timeline)
}

/// A log line: its message, with control characters escaped, and without credentials.
pub(super) fn line(line: &RecentLine, redaction: &Redaction) -> Value {
    let text = String::from_utf8_lossy(&line.text);
    let record: Option<Value> = serde_json::from_str(&text).ok().filter(Value::is_object);
    let said = |name: &str| record.as_ref()?.get(name)?.as_str();
    let message = said("message").unwrap_or(&text);
    json!({
        "number": line.number,
        "part": &*line.part,
        "time": said("time").map_or_else(|| printed_at(line), str::to_owned),
        "level": said("level").or_else(|| level_of(message)).unwrap_or("info"),
        "message": redaction.apply(&plain(message)),
    })
}

/// When a line without a time was printed.
fn printed_at(line: &RecentLine) -> String {
    Timestamp::try_from(line.at).map(|time| time.to_string()).unwrap_or_default()
}
