//! The durations of a request's stages, for `Server-Timing` ([Server Timing](https://www.w3.org/TR/server-timing/)).

use std::time::Duration;

use http::header::{HeaderName, HeaderValue};

use super::Response;

/// The durations of a request's stages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timing {
    /// Token verification.
    pub jwt: Option<Duration>,
    /// Parsing.
    pub parse: Option<Duration>,
    /// Planning.
    pub plan: Option<Duration>,
    /// The transaction.
    pub transaction: Option<Duration>,
    /// Building the response.
    pub response: Option<Duration>,
}

impl Timing {
    /// Adds `Server-Timing`, in milliseconds.
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
