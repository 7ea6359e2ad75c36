//! One request's timeline: the time in the balancer, on the network, in the data API and in PostgreSQL, from its log records.
//!
//! All durations were measured by a process for its own part, so clocks of machines that differ do not matter. The children of
//! a span add up to it.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

/// The timeline of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Timeline {
    /// The request's id.
    pub(crate) request_id: String,
    /// Its method.
    pub(crate) method: String,
    /// Its target.
    pub(crate) target: String,
    /// The status of the response.
    pub(crate) status: u64,
    /// The server that answered.
    pub(crate) server: Option<String>,
    /// The rows in the response, or affected.
    pub(crate) rows: Option<u64>,
    /// When it ended, as in the log.
    pub(crate) ended: String,
    /// The statement, without its values, if it was logged.
    pub(crate) sql: Option<String>,
    /// The stages, each after the one that contains it; the first is the whole request.
    pub(crate) spans: Vec<Span>,
}

/// A stage of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Span {
    /// Its name.
    pub(crate) name: String,
    /// How many spans contain it.
    pub(crate) depth: usize,
    /// Microseconds from the start of the request.
    pub(crate) start: u64,
    /// Its duration in microseconds.
    pub(crate) duration: u64,
}

/// The columns in front of the bars.
const BEFORE_BARS: u64 = 43;
/// The columns of the whole request's bar.
const SHORTEST: u64 = 12;
const LONGEST: u64 = 40;

impl Timeline {
    /// The timeline of the request that these log records are about: that of the balancer, or else of the data API alone.
    pub(crate) fn of(records: &[Value]) -> Option<Self> {
        let text = |record: &Value, name: &str| record.get(name)?.as_str().map(str::to_owned);
        let of_balancer = |record: &&Value| is_request(record) && record.get("queue_seconds").is_some();
        let with_stages = |record: &&Value| record.get("database_seconds").is_some();
        let record = records
            .iter()
            .find(of_balancer)
            .or_else(|| records.iter().find(with_stages))
            .or_else(|| records.iter().find(|record| is_request(record)))?;
        let is_slow = |record: &Value| record["event"] == "slow_request";
        Some(Self {
            request_id: text(record, "request_id")?,
            method: text(record, "method").unwrap_or_default(),
            target: text(record, "target").unwrap_or_default(),
            status: record.get("status")?.as_u64()?,
            server: text(record, "upstream").filter(|server| server != "-" && of_balancer(&record)),
            rows: record.get("rows").and_then(Value::as_u64),
            ended: text(record, "time").unwrap_or_default(),
            sql: records.iter().find(|record| is_slow(record)).and_then(|record| text(record, "sql")),
            spans: spans(record)?,
        })
    }

    /// The timeline as text of so many columns, with a bar for each span.
    pub(crate) fn draw(&self, columns: u64) -> String {
        let Self { request_id, method, target, status, server, rows, ended, sql, spans } = self;
        let by = server.as_ref().map(|server| format!(" by {server}")).unwrap_or_default();
        let rows = rows.map(|rows| format!(", {rows} rows")).unwrap_or_default();
        let mut text = format!("{method} {target} → {status}{by}{rows}\n{request_id}, ended at {ended}\n\n");
        let whole = spans.first().map_or(1, |span| span.duration.max(1));
        let width = columns.saturating_sub(BEFORE_BARS).clamp(SHORTEST, LONGEST);
        for Span { name, depth, start, duration } in spans {
            let column = |at: u64| (at * width + whole / 2) / whole;
            let from = column(*start).min(width - 1);
            let to = column(start + duration).clamp(from + 1, width);
            let name = format!("{}{name}", "  ".repeat(*depth));
            let bar = "━".repeat((to - from) as usize);
            let space = " ".repeat(from as usize);
            let milliseconds = *duration as f64 / 1000.0;
            let _ = writeln!(text, "{name:28} {milliseconds:9.3} ms  {space}{bar}");
        }
        if let Some(sql) = sql {
            let _ = writeln!(text, "\n{sql}");
        }
        text
    }
}

fn is_request(record: &Value) -> bool {
    record["event"] == "request"
}

fn spans(record: &Value) -> Option<Vec<Span>> {
    let microseconds =
        |name: &str| record.get(name).and_then(Value::as_f64).map(|seconds| (seconds * 1e6).round() as u64);
    let mut spans = Vec::new();
    let mut span = |name: &str, depth, start, duration| {
        spans.push(Span { name: name.to_owned(), depth, start, duration });
    };
    let whole = microseconds("seconds")?;
    let stages = |span: &mut dyn FnMut(&str, usize, u64, u64), depth: usize, from: u64, api: u64| {
        span("data API", depth, from, api);
        let mut at = 0;
        for (name, field) in [
            ("read and parse", "parse_seconds"),
            ("plan", "plan_seconds"),
            ("wait for a connection", "pool_seconds"),
            ("PostgreSQL", "database_seconds"),
        ] {
            let duration = microseconds(field).unwrap_or_default().min(api - at);
            span(name, depth + 1, from + at, duration);
            at += duration;
        }
        span("build the response", depth + 1, from + at, api - at);
    };
    let Some(queue) = microseconds("queue_seconds").map(|queue| queue.min(whole)) else {
        // Of the data API alone, or answered by the balancer itself.
        if microseconds("database_seconds").is_some() {
            stages(&mut span, 0, 0, whole);
        } else {
            span("balancer", 0, 0, whole);
        }
        return Some(spans);
    };
    span("balancer", 0, 0, whole);
    span("select and connect", 1, 0, queue);
    let upstream = microseconds("upstream_seconds").unwrap_or(whole - queue).min(whole - queue);
    span(record.get("upstream").and_then(Value::as_str).unwrap_or("server"), 1, queue, upstream);
    if let Some(api) = microseconds("api_seconds").map(|api| api.min(upstream)) {
        let way = (upstream - api) / 2;
        span("network", 2, queue, way);
        stages(&mut span, 2, queue + way, api);
        span("network", 2, queue + way + api, upstream - api - way);
    }
    span("response to the client", 1, queue + upstream, whole - queue - upstream);
    Some(spans)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    fn record() -> Value {
        json!({
            "time": "2026-11-30T10:00:02.000Z", "event": "request", "part": "balancer", "request_id": "r-1234567",
            "method": "GET", "target": "/todo", "upstream": "app-1", "status": 200, "seconds": 0.01, "queue_seconds": 0.001,
            "upstream_seconds": 0.008, "api_seconds": 0.007, "parse_seconds": 0.0005, "plan_seconds": 0.0005,
            "pool_seconds": 0.002, "database_seconds": 0.0035, "rows": 3
        })
    }

    #[test]
    fn the_children_of_a_span_add_up_to_it() {
        let timeline = Timeline::of(&[record()]).unwrap();
        for (index, parent) in timeline.spans.iter().enumerate() {
            let inside = timeline.spans[index + 1..].iter().take_while(|span| span.depth > parent.depth);
            let children: Vec<&Span> = inside.filter(|span| span.depth == parent.depth + 1).collect();
            if let (Some(first), Some(last)) = (children.first(), children.last()) {
                assert_eq!(first.start, parent.start);
                assert_eq!(last.start + last.duration, parent.start + parent.duration);
                assert_eq!(children.iter().map(|span| span.duration).sum::<u64>(), parent.duration);
            }
        }
        expect![[r"
            GET /todo → 200 by app-1, 3 rows
            r-1234567, ended at 2026-11-30T10:00:02.000Z

            balancer                        10.000 ms  ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━
              select and connect             1.000 ms  ━━━━
              app-1                          8.000 ms      ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━
                network                      0.500 ms      ━━
                data API                     7.000 ms        ━━━━━━━━━━━━━━━━━━━━━━━━━━━━
                  read and parse             0.500 ms        ━━
                  plan                       0.500 ms          ━━
                  wait for a connection      2.000 ms            ━━━━━━━━
                  PostgreSQL                 3.500 ms                    ━━━━━━━━━━━━━━
                  build the response         0.500 ms                                  ━━
                network                      0.500 ms                                    ━━
              response to the client         1.000 ms                                      ━━━━
        "]]
        .assert_eq(&timeline.draw(200));
        let narrow = timeline.draw(60);
        assert!(narrow.lines().all(|line| line.chars().count() <= 60), "{narrow}");
    }

    #[test]
    fn a_request_without_a_server_or_a_balancer_has_a_timeline_as_well() {
        let refused = json!({ "event": "request", "request_id": "r", "status": 503, "seconds": 0.001 });
        assert_eq!(Timeline::of(&[refused]).unwrap().spans.len(), 1);
        let slow = json!({ "event": "slow_request", "request_id": "r", "status": 200, "seconds": 1.0,
            "database_seconds": 0.9, "sql": "select 1", "rows": 1 });
        let timeline = Timeline::of(std::slice::from_ref(&slow)).unwrap();
        assert_eq!((timeline.spans[0].name.as_str(), timeline.spans[0].duration), ("data API", 1_000_000));
        // The balancer's record is the whole request.
        let timeline = Timeline::of(&[slow, record()]).unwrap();
        assert_eq!((timeline.sql.as_deref(), timeline.server.as_deref()), (Some("select 1"), Some("app-1")));
        assert_eq!(Timeline::of(&[json!({ "event": "up" })]), None);
    }

    #[test]
    fn durations_that_contradict_each_other_are_cut() {
        let mut record = record();
        for (name, value) in [("queue_seconds", 9.0), ("upstream_seconds", 9.0), ("api_seconds", 9.0)] {
            record[name] = value.into();
        }
        let timeline = Timeline::of(&[record]).unwrap();
        assert!(timeline.spans.iter().all(|span| span.start + span.duration <= 10_000), "{timeline:?}");
    }
}
