//! The traces of requests that are sent to an OpenTelemetry collector.

use crate::quantity::Duration;
use crate::share::Share;

options! {
    /// Traces of requests for an OpenTelemetry collector (OTLP, protobuf over HTTP).
    #[derive(Eq)]
    pub struct Otlp {
        /// The URL of the collector; `/v1/traces` is appended. Default: no traces are sent.
        #[schemars(extend("format" = "collector url", "examples" = ["http://127.0.0.1:4318"]))]
        endpoint: Option<String> = None,
        /// The share of requests that are traced, of those whose client does not decide it (`traceparent`).
        sample: Share = Share::percent(1),
        /// Requests that take at least this long are always traced, and so are those that are answered with a status of 500 or more.
        slow: Duration = Duration::seconds(1),
    }
}
