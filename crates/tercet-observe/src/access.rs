//! The access log: one line per answered request, in the same format on every tier.

use std::net::IpAddr;
use std::time::Duration;

use crate::format::{Format, push_address, push_display, push_escaped, push_json_string, push_now};
use crate::stages::Stages;

/// The fields of one request's line in the access log. Borrowed fields may come from the network and are
/// escaped; times are measured by the caller.
#[derive(Clone, Debug)]
pub struct AccessRecord<'a> {
    /// The client's address; `None` on a Unix socket.
    pub client: Option<IpAddr>,
    /// The request id, the same on every tier.
    pub request_id: &'a [u8],
    /// The method as sent.
    pub method: &'a [u8],
    /// The request target as sent.
    pub target: &'a [u8],
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: &'static str,
    /// The response's status.
    pub status: u16,
    /// Body bytes sent to the client.
    pub bytes: u64,
    /// From the first byte of the request to the last of the answer.
    pub duration: Duration,
    /// The server that answered (balancer) or the database role (API); `-` when none.
    pub upstream: &'a str,
    /// From the first byte of the request until it was sent to the server that answered: the time in the balancer's queue, of
    /// connecting, and of earlier attempts.
    pub queue_duration: Option<Duration>,
    /// From forwarding the request to the first byte of the server's answer, if there was one.
    pub upstream_duration: Option<Duration>,
    /// The stages at the data API server that answered; at the balancer, as that server told them.
    pub stages: Option<Stages>,
    /// The `Referer` header.
    pub referer: Option<&'a [u8]>,
    /// The `User-Agent` header.
    pub user_agent: Option<&'a [u8]>,
}

impl AccessRecord<'_> {
    /// Appends the record as one line without a line end. Text is the combined log format followed by
    /// `upstream upstream_seconds seconds request_id`.
    pub fn push(&self, line: &mut Vec<u8>, part: &str, format: Format) {
        match format {
            Format::Text => self.push_combined(line),
            Format::Json => self.push_json(line, part),
        }
    }

    fn push_combined(&self, line: &mut Vec<u8>) {
        match self.client {
            Some(client) => push_address(line, client),
            None => line.push(b'-'),
        }
        line.extend_from_slice(b" - - [");
        push_now(line);
        line.extend_from_slice(b"] \"");
        push_escaped(line, self.method);
        line.push(b' ');
        push_escaped(line, self.target);
        line.push(b' ');
        line.extend_from_slice(self.version.as_bytes());
        line.extend_from_slice(b"\" ");
        line.extend_from_slice(itoa::Buffer::new().format(self.status).as_bytes());
        line.push(b' ');
        line.extend_from_slice(itoa::Buffer::new().format(self.bytes).as_bytes());
        for header in [self.referer, self.user_agent] {
            line.extend_from_slice(b" \"");
            push_escaped(line, header.unwrap_or(b"-"));
            line.push(b'"');
        }
        line.push(b' ');
        push_escaped(line, self.upstream.as_bytes());
        line.push(b' ');
        match self.upstream_duration {
            Some(duration) => push_seconds(line, duration),
            None => line.push(b'-'),
        }
        line.push(b' ');
        push_seconds(line, self.duration);
        line.push(b' ');
        push_escaped(line, self.request_id);
    }

    fn push_json(&self, line: &mut Vec<u8>, part: &str) {
        line.extend_from_slice(b"{\"time\":\"");
        push_now(line);
        line.extend_from_slice(b"\",\"level\":\"info\",\"event\":\"request\",\"part\":");
        push_json_string(line, part.as_bytes());
        line.extend_from_slice(b",\"client\":");
        match self.client {
            Some(client) => {
                line.push(b'"');
                push_address(line, client);
                line.push(b'"');
            }
            None => line.extend_from_slice(b"null"),
        }
        for (name, value) in [
            ("request_id", Some(self.request_id)),
            ("method", Some(self.method)),
            ("target", Some(self.target)),
            ("version", Some(self.version.as_bytes())),
            ("upstream", Some(self.upstream.as_bytes())),
            ("referer", self.referer),
            ("user_agent", self.user_agent),
        ] {
            if let Some(value) = value {
                push_display(line, format_args!(",\"{name}\":"));
                push_json_string(line, value);
            }
        }
        push_display(line, format_args!(",\"status\":{},\"bytes\":{},\"seconds\":", self.status, self.bytes));
        push_seconds(line, self.duration);
        if let Some(duration) = self.queue_duration {
            line.extend_from_slice(b",\"queue_seconds\":");
            push_seconds(line, duration);
        }
        if let Some(duration) = self.upstream_duration {
            line.extend_from_slice(b",\"upstream_seconds\":");
            push_seconds(line, duration);
        }
        if let Some(stages) = &self.stages {
            for (name, duration) in stages.durations() {
                line.extend_from_slice(b",\"");
                line.extend_from_slice(name.as_bytes());
                line.extend_from_slice(b"\":");
                push_seconds(line, duration);
            }
            line.extend_from_slice(b",\"rows\":");
            line.extend_from_slice(itoa::Buffer::new().format(stages.rows).as_bytes());
        }
        line.push(b'}');
    }
}

/// Seconds with microseconds, without floating point.
fn push_seconds(line: &mut Vec<u8>, duration: Duration) {
    line.extend_from_slice(itoa::Buffer::new().format(duration.as_secs()).as_bytes());
    let mut micros = duration.subsec_micros();
    let mut digits = *b".000000";
    for digit in digits[1..].iter_mut().rev() {
        *digit = b'0' + (micros % 10) as u8;
        micros /= 10;
    }
    line.extend_from_slice(&digits);
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
    fn check(format: Format, expected: Expect) {
        let record = AccessRecord {
            client: Some([192, 0, 2, 1].into()),
            request_id: b"id-1",
            method: b"GET",
            target: b"/a\"b",
            version: "HTTP/1.1",
            status: 200,
            bytes: 12,
            duration: Duration::from_micros(1_500),
            upstream: "app-1",
            queue_duration: Some(Duration::from_micros(100)),
            upstream_duration: Some(Duration::from_micros(900)),
            stages: Some(Stages { total: 850, parse: 20, plan: 30, pool: 0, database: 700, rows: 2 }),
            referer: None,
            user_agent: Some(b"curl\r\n"),
        };
        let mut line = Vec::new();
        record.push(&mut line, "balancer", format);
        let line = String::from_utf8(line).unwrap();
        let instant = &line[line.find("20").unwrap()..][.."2026-01-01T00:00:00.000Z".len()];
        expected.assert_eq(&line.replace(instant, "TIME"));
    }

    #[test]
    fn a_request_is_one_line_in_either_format() {
        check(
            Format::Text,
            expect![[
                r#"192.0.2.1 - - [TIME] "GET /a\x22b HTTP/1.1" 200 12 "-" "curl\x0D\x0A" app-1 0.000900 0.001500 id-1"#
            ]],
        );
        check(
            Format::Json,
            expect![[
                r#"{"time":"TIME","level":"info","event":"request","part":"balancer","client":"192.0.2.1","request_id":"id-1","method":"GET","target":"/a\"b","version":"HTTP/1.1","upstream":"app-1","user_agent":"curl\r\n","status":200,"bytes":12,"seconds":0.001500,"queue_seconds":0.000100,"upstream_seconds":0.000900,"api_seconds":0.000850,"parse_seconds":0.000020,"plan_seconds":0.000030,"pool_seconds":0.000000,"database_seconds":0.000700,"rows":2}"#
            ]],
        );
    }
}
