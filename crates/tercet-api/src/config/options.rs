//! Options as they are written: where each comes from and what type it must have. Mistakes are collected.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use toml::{Table, Value};

use super::ConfigError;

/// Options of some PostgREST that are not here: to ignore one would be to do something else than was asked for.
const NOT_IMPLEMENTED: [&str; 6] = [
    "admin-server-config-enabled",
    "db-load-guc-config",
    "db-use-legacy-gucs",
    "jwt-cache-max-lifetime",
    "raw-media-types",
    "server-proxy-uri",
];

const APP_SETTINGS: &str = "app.settings.";

/// All sources of options, the strongest first: the database, the environment, the file.
pub(super) struct Options<'a> {
    source: &'a Path,
    file: BTreeMap<String, Value>,
    environment: &'a BTreeMap<String, String>,
    database: &'a BTreeMap<String, String>,
    known: BTreeSet<&'static str>,
    mistakes: Vec<String>,
}

impl<'a> Options<'a> {
    pub(super) fn new(
        source: &'a Path,
        file: &str,
        environment: &'a BTreeMap<String, String>,
        database: &'a BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let table: Table =
            file.parse().map_err(|error| ConfigError(vec![format!("{}: {error}", source.display())]))?;
        let mut flat = BTreeMap::new();
        flatten("", table, &mut flat);
        Ok(Self { source, file: flat, environment, database, known: BTreeSet::new(), mistakes: Vec::new() })
    }

    pub(super) fn environment(&self) -> &'a BTreeMap<String, String> {
        self.environment
    }

    pub(super) fn mistake(&mut self, name: &str, problem: &str) {
        self.mistakes.push(format!("{}: {name}: {problem}", self.source.display()));
    }

    /// All mistakes, unknown options last; and warnings. The environment is not ours alone (Kubernetes names a
    /// service `pgrst` by `PGRST_PORT`): a variable is a mistake only where PostgREST would understand it.
    pub(super) fn finish(mut self) -> (Vec<String>, Vec<String>) {
        let unknown = |name: &str| format!("{name}: not an option that is known or implemented");
        let mut warnings = Vec::new();
        for name in self.file.keys() {
            if !self.known.contains(name.as_str()) && !name.starts_with(APP_SETTINGS) {
                self.mistakes.push(format!("{}: {}", self.source.display(), unknown(name)));
            }
        }
        for variable in self.environment.keys() {
            if let Some(name) = variable.strip_prefix("PGRST_")
                && !name.starts_with("APP_SETTINGS_")
                && let name = name.to_ascii_lowercase().replace('_', "-")
                && !self.known.contains(name.as_str())
            {
                if NOT_IMPLEMENTED.contains(&name.as_str()) {
                    self.mistakes.push(unknown(variable));
                } else {
                    warnings.push(format!("{variable}: not an option, it is ignored"));
                }
            }
        }
        (self.mistakes, warnings)
    }

    /// The option as text, whatever it was written as; an empty one is none.
    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        self.raw(name).filter(|value| !value.is_empty())
    }

    pub(super) fn text_or_alias(&mut self, name: &'static str, alias: &'static str) -> Option<String> {
        let (named, aliased) = (self.text(name), self.text(alias));
        named.or(aliased)
    }

    pub(super) fn integer<T: FromStr>(&mut self, name: &'static str) -> Option<T> {
        let text = self.text(name)?;
        let parsed = text.trim().parse().ok();
        if parsed.is_none() {
            self.mistake(name, &format!("\"{text}\" is not a whole number in its range"));
        }
        parsed
    }

    pub(super) fn integer_or_alias<T: FromStr>(
        &mut self,
        name: &'static str,
        alias: &'static str,
    ) -> Option<T> {
        let (named, aliased) = (self.integer(name), self.integer(alias));
        named.or(aliased)
    }

    pub(super) fn seconds(&mut self, name: &'static str, default: u64) -> Duration {
        Duration::from_secs(self.integer(name).unwrap_or(default))
    }

    pub(super) fn boolean(&mut self, name: &'static str, default: bool) -> bool {
        let Some(text) = self.text(name) else {
            return default;
        };
        match text.trim().trim_matches('"').to_ascii_lowercase().as_str() {
            "true" => true,
            "false" => false,
            number => number.parse::<i64>().map_or_else(
                |_| {
                    self.mistake(name, &format!("\"{text}\" is neither true nor false"));
                    default
                },
                |number| number > 0,
            ),
        }
    }

    pub(super) fn boolean_or_alias(
        &mut self,
        name: &'static str,
        alias: &'static str,
        default: bool,
    ) -> bool {
        let aliased = self.boolean(alias, default);
        self.boolean(name, aliased)
    }

    /// A comma-separated list; written and empty it is empty, not the default.
    pub(super) fn list_or(
        &mut self,
        name: &'static str,
        aliases: &[&'static str],
        default: &[&str],
    ) -> Vec<String> {
        let mut text = self.raw(name);
        for alias in aliases {
            let aliased = self.raw(alias);
            text = text.or(aliased);
        }
        match text {
            Some(text) if text.is_empty() => Vec::new(),
            Some(text) => text.split(',').map(|item| item.trim().to_owned()).collect(),
            None => default.iter().map(ToString::to_string).collect(),
        }
    }

    /// One of several words; the first is the default.
    pub(super) fn one_of<T: Clone>(&mut self, name: &'static str, words: &[(&str, T)]) -> T {
        let fallback = words[0].1.clone();
        let Some(text) = self.text(name) else {
            return fallback;
        };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return value.clone();
        }
        let allowed: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        self.mistake(name, &format!("\"{text}\" is none of {}", allowed.join(", ")));
        fallback
    }

    /// The content of the file when `value` is `@FILE`, else `value` itself; `None` when the file cannot be
    /// read, which is a mistake.
    pub(super) fn secret(&mut self, name: &'static str, value: String) -> Option<Vec<u8>> {
        let Some(path) = value.strip_prefix('@') else {
            return Some(value.into_bytes());
        };
        match std::fs::read(path) {
            Ok(mut content) => {
                if content.last() == Some(&b'\n') {
                    content.pop();
                }
                Some(content)
            }
            Err(error) => {
                self.mistake(name, &format!("{path}: {error}"));
                None
            }
        }
    }

    /// `app.settings.*` by full name; the environment's `PGRST_APP_SETTINGS_NAME` wins.
    pub(super) fn app_settings(&self) -> BTreeMap<String, String> {
        let from_file = self
            .file
            .iter()
            .filter(|(name, _)| name.starts_with(APP_SETTINGS))
            .map(|(name, value)| (name.clone(), self.interpolate(&text_of(value))));
        let from_environment = self.environment.iter().filter_map(|(variable, value)| {
            let name = variable.strip_prefix("PGRST_APP_SETTINGS_")?;
            Some((format!("{APP_SETTINGS}{name}"), value.clone()))
        });
        from_file.chain(from_environment).collect()
    }

    fn raw(&mut self, name: &'static str) -> Option<String> {
        self.known.insert(name);
        let underscored = name.replace('-', "_");
        let variable = format!("PGRST_{}", underscored.to_ascii_uppercase());
        self.database
            .get(&underscored)
            .or_else(|| self.environment.get(&variable))
            .cloned()
            .or_else(|| self.file.get(name).map(|value| self.interpolate(&text_of(value))))
    }

    /// Replaces `$(NAME)` by the environment variable of that name, as configuration files of PostgREST may
    /// have it; what is not in the environment stays as it is written. `$$(` is `$(` itself.
    fn interpolate(&self, text: &str) -> String {
        let mut result = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("$(") {
            if let Some(before) = before.strip_suffix('$') {
                result.push_str(before);
                result.push_str("$(");
                rest = after;
                continue;
            }
            result.push_str(before);
            match after.split_once(')') {
                Some((name, after)) if self.environment.contains_key(name) => {
                    result.push_str(&self.environment[name]);
                    rest = after;
                }
                _ => {
                    result.push_str("$(");
                    rest = after;
                }
            }
        }
        result.push_str(rest);
        result
    }
}

/// `app.settings.x = …` is a table in a table to TOML.
fn flatten(prefix: &str, table: Table, flat: &mut BTreeMap<String, Value>) {
    for (name, value) in table {
        let name = format!("{prefix}{name}");
        match value {
            Value::Table(table) => flatten(&format!("{name}."), table, flat),
            value => drop(flat.insert(name, value)),
        }
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text_of).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
