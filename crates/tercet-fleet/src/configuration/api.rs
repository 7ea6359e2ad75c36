//! The data API's configuration: the options of `tercet.toml`, and those that tercet sets.

use tercet_config::Api;

/// The readiness path of its admin endpoint.
pub const READY: &str = "/ready";

/// Escapes the strings of a table: in the data API's configuration `$(NAME)` is an environment variable.
fn plain(table: toml::Table) -> toml::Table {
    let value = |value| match value {
        toml::Value::String(text) => plain_text(&text).into(),
        toml::Value::Table(table) => plain(table).into(),
        other => other,
    };
    table.into_iter().map(|(name, it)| (name, value(it))).collect()
}

/// Escapes a text for the data API's configuration.
pub fn plain_text(text: &str) -> String {
    text.replace("$(", "$$(")
}

/// The options of `tercet.toml`, the durations of the stages for the balancer, and the project's name as the title of the API.
pub fn options(api: &Api, project: &str) -> toml::Table {
    let mut options = plain(api.options.clone());
    options.entry("openapi-title").or_insert_with(|| project.into());
    options.insert("server-stages-header".to_owned(), true.into());
    options
}
