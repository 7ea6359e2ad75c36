//! How long the stages of a request took, for `Server-Timing` ([Server Timing](https://www.w3.org/TR/server-timing/)).

use std::time::Duration;

use http::header::{HeaderName, HeaderValue};

use super::Response;

/// Durations of the stages a request went through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timing {
    /// Checking the token.
    pub jwt: Option<Duration>,
    /// Reading the request.
    pub parse: Option<Duration>,
    /// Finding out what it means.
    pub plan: Option<Duration>,
    /// The database.
    pub transaction: Option<Duration>,
    /// Making the response.
    pub response: Option<Duration>,
}

impl Timing {
    /// Says it in a response, in milliseconds.
    pub fn add_to(&self, response: &mut Response) {
        let stages = [
            ("jwt", self.jwt),
            ("parse", self.parse),
            ("plan", self.plan),
            ("transaction", self.transaction),
            ("response", self.response),
        ];
        let stages: Vec<String> = stages
            .into_iter()
            .filter_map(|(name, duration)| Some((name, duration?)))
            .map(|(name, duration)| format!("{name};dur={:.1}", duration.as_secs_f64() * 1000.0))
            .collect();
        if stages.is_empty() {
            return;
        }
        if let Ok(value) = HeaderValue::from_str(&stages.join(", ")) {
            response.headers.insert(HeaderName::from_static("server-timing"), value);
        }
    }
}
