//! The data API's options, by PostgREST's names.

use tercet_config::Api;

/// The path of its admin endpoint that answers 200 when it can take requests.
pub const READY: &str = "/ready";

/// The person's own options, and what ties a server's log lines to the balancer's.
pub fn options(api: &Api) -> toml::Table {
    let mut options = api.options.clone();
    options.insert("server-trace-header".to_owned(), "x-request-id".into());
    options
}
