//! The data API understands every option that tercet.toml passes on.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use tercet_api::config::ConfigSource;

fn api_offers() -> serde_json::Map<String, Json> {
    let schema = tercet_config::json_schema();
    let mut offered = schema["properties"]["api"]["properties"].as_object().unwrap().clone();
    offered.remove("app").unwrap();
    offered
}

/// Every value of a kind, as TOML.
fn values(name: &str, rule: &Json) -> Vec<String> {
    if let Some(choices) = rule["oneOf"].as_array() {
        return choices.iter().map(|choice| choice["const"].to_string()).collect();
    }
    let text = match name {
        "openapi-server-proxy-uri" => "https://example.com/api",
        "jwks-url" | "jwt-issuer" => "https://id.example.com",
        "jwt-role-claim-key" => ".role",
        "jwt-secret" => "ten times ten is a hundred, more or less",
        "server-cors-allowed-origins" => "https://example.com",
        _ if rule["format"] == "duration" => "2s",
        _ => "name",
    };
    match rule["type"].as_str().unwrap_or("string") {
        "boolean" => vec!["true".to_owned(), "false".to_owned()],
        "integer" => {
            let bounds = ["minimum", "maximum"].into_iter().filter_map(|bound| rule.get(bound));
            bounds.map(ToString::to_string).collect()
        }
        _ => vec![format!("{text:?}")],
    }
}

fn read(text: &str) -> Result<tercet_api::config::Config, tercet_options::Mistakes> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("api.conf");
    std::fs::write(&file, format!("db-uri = \"postgres://authenticator@127.0.0.1/shop\"\n{text}")).unwrap();
    ConfigSource { file: Some(file), environment: BTreeMap::new() }.read()
}

#[test]
fn the_data_api_accepts_all_offered_options() {
    for (name, rule) in api_offers() {
        for value in values(&name, &rule) {
            let line = format!("{name} = {value}\n");
            let origin = tercet_config::Origin { file: "tercet.toml", folder: "shop" };
            let topology = tercet_config::parse(&format!("[api]\n{line}"), origin).unwrap();
            let tercet_config::Server::Api(api) = &topology.applications()[0].server else { unreachable!() };
            let lowered = if name == "jwt-secret" { line } else { api.options.to_string() };
            read(&lowered).unwrap_or_else(|error| panic!("{lowered}: {}", error.lines()));
        }
    }
}
