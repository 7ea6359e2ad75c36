//! The log events of all processes, as one closed type.
//!
//! Code that logs an event builds a value of this type; the log line (text or JSON) is formatted here. The names in JSON are
//! stable and documented in `docs/guide/log-events.md`. Requests are not events: they are [`AccessRecord`](crate::AccessRecord)s.

pub mod api;
pub mod balancer;
pub mod process;
pub mod supervisor;

use std::fmt;

use serde::Serialize;

pub use self::api::ApiEvent;
pub use self::balancer::BalancerEvent;
pub use self::process::ProcessEvent;
pub use self::supervisor::SupervisorEvent;
use crate::format::{Format, push_display, push_json_string, push_now};

/// The severity of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Detail for debugging.
    Debug,
    /// Normal operation.
    Info,
    /// A fault that tercet handles.
    Warn,
    /// A fault that makes requests fail.
    Error,
}

impl Level {
    /// The level's name in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// An event.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Event<'a> {
    /// Of any process: started, listening, reloaded, stopped.
    Process(ProcessEvent<'a>),
    /// Of the balancer: its servers, its worker.
    Balancer(BalancerEvent<'a>),
    /// Of the data API: its connections, its schema cache.
    Api(ApiEvent<'a>),
    /// Of `tercet up`: the processes it supervises.
    Supervisor(SupervisorEvent<'a>),
}

impl Event<'_> {
    /// Its severity.
    pub fn level(&self) -> Level {
        match self {
            Self::Process(event) => event.level(),
            Self::Balancer(event) => event.level(),
            Self::Api(event) => event.level(),
            Self::Supervisor(event) => event.level(),
        }
    }

    /// Appends the event as one line without a line end; `part` is the name of the process.
    pub fn push(&self, line: &mut Vec<u8>, part: &str, format: Format) {
        match format {
            Format::Text => {
                push_now(line);
                push_display(line, format_args!(" {:5} {part}: ", self.level().as_str()));
                // An event may quote input from the network: escape line ends.
                let message = self.to_string();
                for character in message.chars() {
                    if character.is_control() {
                        push_display(line, character.escape_default());
                    } else {
                        line.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                }
            }
            Format::Json => {
                line.extend_from_slice(b"{\"time\":\"");
                push_now(line);
                push_display(line, format_args!("\",\"level\":\"{}\",\"part\":", self.level().as_str()));
                push_json_string(line, part.as_bytes());
                line.extend_from_slice(b",\"message\":");
                push_json_string(line, self.to_string().as_bytes());
                let fields = serde_json::to_string(self).expect("events serialise to plain maps");
                if let Some(rest) = fields.strip_prefix('{').filter(|rest| *rest != "}") {
                    line.push(b',');
                    line.extend_from_slice(rest.as_bytes());
                } else {
                    line.push(b'}');
                }
            }
        }
    }
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(event) => event.fmt(f),
            Self::Balancer(event) => event.fmt(f),
            Self::Api(event) => event.fmt(f),
            Self::Supervisor(event) => event.fmt(f),
        }
    }
}

impl<'a> From<ProcessEvent<'a>> for Event<'a> {
    fn from(event: ProcessEvent<'a>) -> Self {
        Self::Process(event)
    }
}

impl<'a> From<BalancerEvent<'a>> for Event<'a> {
    fn from(event: BalancerEvent<'a>) -> Self {
        Self::Balancer(event)
    }
}

impl<'a> From<ApiEvent<'a>> for Event<'a> {
    fn from(event: ApiEvent<'a>) -> Self {
        Self::Api(event)
    }
}

impl<'a> From<SupervisorEvent<'a>> for Event<'a> {
    fn from(event: SupervisorEvent<'a>) -> Self {
        Self::Supervisor(event)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
    fn check(event: impl Into<Event<'static>>, format: Format, expected: Expect) {
        let mut line = Vec::new();
        event.into().push(&mut line, "balancer", format);
        let line = String::from_utf8(line).unwrap();
        let instant = &line[line.find("20").unwrap()..][.."2026-01-01T00:00:00.000Z".len()];
        expected.assert_eq(&line.replace(instant, "TIME"));
    }

    #[test]
    fn an_event_is_one_line_in_either_format() {
        let down =
            BalancerEvent::ServerDown { pool: "application", server: "app-1", reason: "refused\nforged" };
        check(
            down.clone(),
            Format::Text,
            expect![[r"TIME warn  balancer: server app-1 is down: refused\nforged"]],
        );
        check(
            down,
            Format::Json,
            expect![[
                r#"{"time":"TIME","level":"warn","part":"balancer","message":"server app-1 is down: refused\nforged","event":"server_down","pool":"application","server":"app-1","reason":"refused\nforged"}"#
            ]],
        );
    }
    /// The events of a type, each with its fields.
    fn documented<E: schemars::JsonSchema>() -> Vec<(String, Vec<String>)> {
        let schema = schemars::schema_for!(E);
        let properties = |variant: &serde_json::Value| {
            let properties = variant["properties"].as_object().unwrap();
            let name = properties["event"]["const"].as_str().unwrap().to_owned();
            (name, properties.keys().filter(|field| *field != "event").cloned().collect())
        };
        schema.get("oneOf").unwrap().as_array().unwrap().iter().map(properties).collect()
    }

    #[test]
    fn the_guide_lists_every_event_with_its_fields() {
        let guide = include_str!("../../../docs/guide/log-events.md");
        let events = [
            documented::<ApiEvent<'_>>(),
            documented::<BalancerEvent<'_>>(),
            documented::<ProcessEvent<'_>>(),
            documented::<SupervisorEvent<'_>>(),
        ];
        assert!(events.iter().all(|events| events.len() > 5));
        for (name, fields) in events.concat() {
            let is_of_event = |row: &&str| {
                row.split('|').nth(1).is_some_and(|column| column.contains(&format!("`{name}`")))
            };
            let rows: Vec<_> = guide.lines().filter(is_of_event).collect();
            let has_fields = |row: &&str| fields.iter().all(|field| row.contains(&format!("`{field}`")));
            assert!(rows.iter().any(has_fields), "{name} with {fields:?}: {rows:?}");
        }
    }
}
