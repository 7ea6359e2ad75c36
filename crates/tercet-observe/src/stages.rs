//! A data API server's share of a request: the durations of its stages, which it tells the balancer in a response header.
//!
//! The balancer logs them in its line about the request and removes the header, so that one line has the whole request.

use std::time::Duration;

/// The name of the response header. Only tercet's balancer reads it; no client gets it.
pub const HEADER: &str = "x-tercet-stages";

/// The durations of a request's stages at a data API server, in microseconds, and its rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// From the head of the request to its complete response.
    pub total: u32,
    /// Verification of the token, reading the body, and parsing.
    pub parse: u32,
    /// Planning.
    pub plan: u32,
    /// Waiting for a connection of the pool.
    pub pool: u32,
    /// The transaction in PostgreSQL, with the way there and back.
    pub database: u32,
    /// The rows in the response, or affected.
    pub rows: u32,
}

impl Stages {
    /// Appends the value of the header: six whole numbers, separated by spaces.
    pub fn push(&self, value: &mut impl Extend<u8>) {
        for (index, number) in self.numbers().into_iter().enumerate() {
            if index > 0 {
                value.extend([b' ']);
            }
            value.extend(itoa::Buffer::new().format(number).bytes());
        }
    }

    /// Parses the value of the header; `None` if it has another form.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut numbers = [0_u32; 6];
        let mut fields = value.split(|byte| *byte == b' ');
        for number in &mut numbers {
            *number = str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        }
        let [total, parse, plan, pool, database, rows] = numbers;
        fields.next().is_none().then_some(Self { total, parse, plan, pool, database, rows })
    }

    /// The fields of a JSON log line: their names, and their durations.
    pub fn durations(&self) -> [(&'static str, Duration); 5] {
        [
            ("api_seconds", self.total),
            ("parse_seconds", self.parse),
            ("plan_seconds", self.plan),
            ("pool_seconds", self.pool),
            ("database_seconds", self.database),
        ]
        .map(|(name, microseconds)| (name, Duration::from_micros(microseconds.into())))
    }

    fn numbers(&self) -> [u32; 6] {
        [self.total, self.parse, self.plan, self.pool, self.database, self.rows]
    }
}

/// A duration in microseconds; more than 71 minutes are 71 minutes.
pub fn microseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_six_numbers_and_nothing_else_is_read() {
        let stages = Stages { total: 900, parse: 20, plan: 30, pool: 0, database: 800, rows: 2 };
        let mut value = Vec::new();
        stages.push(&mut value);
        assert_eq!(value, b"900 20 30 0 800 2");
        assert_eq!(Stages::parse(&value), Some(stages));
        for refused in
            ["", "1 2 3 4 5", "1 2 3 4 5 6 7", "1 2 3 4 5 x", "1  2 3 4 5", "1 2 3 4 5 99999999999"]
        {
            assert_eq!(Stages::parse(refused.as_bytes()), None, "{refused}");
        }
    }
}
