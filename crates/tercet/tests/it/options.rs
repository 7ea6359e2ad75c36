//! tercet.toml offers the options that the data API and the balancer have, and no others.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use tercet_api::config::ConfigSource;

/// Options that cannot be set in `[api]`, because tercet sets them.
const API_DECIDED: [&str; 14] = [
    "admin-server-host",
    "admin-server-port",
    "admin-server-unix-socket",
    "admin-server-unix-socket-mode",
    "db-uri",
    "server-host",
    "server-otel-enabled",
    "server-port",
    "server-reuseport",
    "server-stop-timeout",
    "server-trace-header",
    "server-unix-socket",
    "server-unix-socket-mode",
    "url-use-legacy-target-names",
];

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
        "jwt-role-claim-key" => ".role",
        "jwt-secret" => "ten times ten is a hundred, more or less",
        "server-cors-allowed-origins" => "https://example.com",
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

fn read(text: &str) -> Result<tercet_api::config::Config, tercet_api::config::ConfigError> {
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
            let tercet_config::Server::Api(api) = &topology.application().server else { unreachable!() };
            let lowered = if name == "jwt-secret" { line } else { api.options.to_string() };
            read(&lowered).unwrap_or_else(|error| panic!("{lowered}: {error}"));
        }
    }
}

#[test]
fn all_options_of_the_data_api_are_offered() {
    let offered = api_offers();
    let options: toml::Table = read("").unwrap().dump().parse().unwrap();
    for name in options.keys().filter(|name| *name != "app") {
        assert!(offered.contains_key(name) != API_DECIDED.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn the_balancers_options_are_offered_with_their_defaults() {
    let schema = tercet_config::json_schema();
    let offered = &schema["properties"]["balancer"]["properties"];
    let defaults = toml::Table::try_from(tercet_balancer::config::Config::default()).unwrap();
    for table in ["health", "retries", "limits", "timeouts"] {
        let mut has = defaults[table].as_table().unwrap().clone();
        if table == "health" {
            // `health` in [application]
            has.remove("path");
        }
        let offered = offered[table]["properties"].as_object().unwrap();
        let offered: toml::Table = offered
            .iter()
            .map(|(name, rule)| (name.clone(), toml::Value::try_from(&rule["default"]).unwrap()))
            .collect();
        assert_eq!(offered, has, "[balancer.{table}]");
    }
}

#[test]
fn the_same_amounts_are_understood_in_both_files() {
    let numbers = [
        "0",
        "1",
        "007",
        "250",
        "4294967296",
        "18446744073709551615",
        "18446744073709551616",
        "",
        "-1",
        "+1",
        "1.5",
        "1e3",
        " 1",
    ];
    let units = [
        "", "ms", "s", "m", "h", "d", " s", "  KiB", "w", "S", "sec", "B", "kB", "MB", "GB", "KiB", "MiB",
        "GiB", "KB", "kib", "s ",
    ];
    for (key, accepted) in [("timeouts.idle", 5 + 1), ("limits.body", 7 + 1)] {
        let mut understood = std::collections::BTreeSet::<&str>::new();
        for (number, unit) in numbers.iter().flat_map(|number| units.iter().map(move |unit| (number, unit))) {
            let line = format!("{key} = \"{number}{unit}\"");
            let origin = tercet_config::Origin { file: "tercet.toml", folder: "shop" };
            let here = tercet_config::parse(&format!("balancer.{line}"), origin).is_ok();
            assert_eq!(here, toml::from_str::<tercet_balancer::config::Config>(&line).is_ok(), "{line}");
            understood.extend(here.then_some(*unit));
        }
        assert_eq!(understood.len(), accepted, "{key}: {understood:?}");
    }
}
