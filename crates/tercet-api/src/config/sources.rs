//! The sources of options: a file, the environment and the database, each with options as texts.

use std::collections::BTreeMap;
use std::ops::Range;

use tercet_options::api::{Options, rules};
use tercet_options::document::flat::{self, Written};
use tercet_options::reference::properties;
use tercet_options::{Mistakes, Section, Spans};

/// Options of PostgREST that are not implemented. They are mistakes: ignoring one would change the meaning of a configuration.
const NOT_IMPLEMENTED: [&str; 6] = [
    "admin-server-config-enabled",
    "db-load-guc-config",
    "db-use-legacy-gucs",
    "jwt-cache-max-lifetime",
    "raw-media-types",
    "server-proxy-uri",
];

const APP_SETTINGS: &str = "app.settings.";

/// All sources of options, and the mistakes found in them.
pub(super) struct Sources<'a> {
    file: BTreeMap<String, Written>,
    environment: &'a BTreeMap<String, String>,
    database: &'a BTreeMap<String, String>,
    /// The positions of the options that are in effect from the file.
    spans: Spans,
    mistakes: Mistakes,
}

impl<'a> Sources<'a> {
    /// Reads the text of the file called `name`.
    ///
    /// # Errors
    /// The text is not TOML.
    pub(super) fn read(
        name: &str,
        text: &str,
        environment: &'a BTreeMap<String, String>,
        database: &'a BTreeMap<String, String>,
    ) -> Result<Self, Mistakes> {
        let (file, mistakes) = flat::read(text, name, rules());
        let sources = Self { file, environment, database, spans: Spans::default(), mistakes };
        if sources.mistakes.is_empty() { Ok(sources) } else { Err(sources.mistakes) }
    }

    pub(super) fn environment(&self) -> &'a BTreeMap<String, String> {
        self.environment
    }

    /// Reports a mistake of the option, at its position if that is in the file.
    pub(super) fn mistake(&mut self, name: &str, problem: &str) {
        self.section().mistake(name, problem, "here");
    }

    fn section(&mut self) -> Section<'_> {
        Section { mistakes: &mut self.mistakes, spans: &self.spans, path: "" }
    }

    /// All options. An invalid one has its default, and a mistake is reported.
    pub(super) fn options(&mut self) -> Options {
        let mut options = toml::Table::new();
        for (name, rule) in properties(rules()).into_iter().filter(|(name, _)| *name != "app") {
            let names = [name.as_str()].into_iter().chain(flat::aliases(rule));
            let mut found = names.filter_map(|name| self.find(name));
            let found = found.find(|(text, _)| !text.is_empty() || flat::may_be_empty(rule));
            let Some((text, span)) = found else { continue };
            if let Some(span) = span {
                self.spans.insert(name.clone(), span);
            }
            match flat::value(rule, &text) {
                Err(refusal) => {
                    self.section().mistake(name, &refusal.message, "here").hint(refusal.hint);
                }
                Ok(value) => {
                    let alone = toml::Table::from_iter([(name.clone(), value.clone())]);
                    match alone.try_into::<Options>() {
                        Ok(_) => drop(options.insert(name.clone(), value)),
                        Err(_) => self.mistake(name, "is out of range"),
                    }
                }
            }
        }
        let options: Options = options.try_into().unwrap_or_default();
        options.check(&mut self.section());
        options
    }

    /// All mistakes, and warnings. Other programs set variables too (Kubernetes sets `PGRST_PORT` for a service `pgrst`), so
    /// an unknown variable is a mistake only if it is an option of PostgREST.
    pub(super) fn finish(mut self) -> (Mistakes, Vec<String>) {
        flat::check_names(&self.file, rules(), APP_SETTINGS, &mut self.mistakes);
        let mut warnings = Vec::new();
        let known = |name: &str| {
            properties(rules())
                .into_iter()
                .any(|(known, rule)| known == name || flat::aliases(rule).any(|alias| alias == name))
        };
        for variable in self.environment.keys() {
            if let Some(name) = variable.strip_prefix("PGRST_")
                && !name.starts_with("APP_SETTINGS_")
                && let name = name.to_ascii_lowercase().replace('_', "-")
                && !known(&name)
            {
                if NOT_IMPLEMENTED.contains(&name.as_str()) {
                    self.mistakes.add_without_position(format!("{variable} is not implemented"));
                } else {
                    warnings.push(format!("{variable}: not an option, it is ignored"));
                }
            }
        }
        (self.mistakes, warnings)
    }

    /// The content of the file when `value` is `@FILE`, else `value` itself; `None` when the file cannot be
    /// read, which is a mistake.
    pub(super) fn content(&mut self, name: &str, value: &str) -> Option<Vec<u8>> {
        let Some(path) = value.strip_prefix('@') else {
            return Some(value.as_bytes().to_vec());
        };
        match std::fs::read(path) {
            Ok(mut content) => {
                if content.last() == Some(&b'\n') {
                    content.pop();
                }
                Some(content)
            }
            Err(error) => {
                self.mistake(name, &format!("names a file that cannot be read: {path}: {error}"));
                None
            }
        }
    }

    /// `app.settings.*` by full name; the environment's `PGRST_APP_SETTINGS_NAME` overrides the file.
    pub(super) fn app_settings(&self) -> BTreeMap<String, String> {
        let from_file = self
            .file
            .iter()
            .filter(|(name, _)| name.starts_with(APP_SETTINGS))
            .map(|(name, written)| (name.clone(), self.interpolate(&written.text)));
        let from_environment = self.environment.iter().filter_map(|(variable, value)| {
            let name = variable.strip_prefix("PGRST_APP_SETTINGS_")?;
            Some((format!("{APP_SETTINGS}{name}"), value.clone()))
        });
        from_file.chain(from_environment).collect()
    }

    /// The text of an option: from the database, else the environment, else the file, with its position there.
    fn find(&self, name: &str) -> Option<(String, Option<Range<usize>>)> {
        let underscored = name.replace('-', "_");
        let variable = format!("PGRST_{}", underscored.to_ascii_uppercase());
        if let Some(text) = self.database.get(&underscored).or_else(|| self.environment.get(&variable)) {
            return Some((text.clone(), None));
        }
        let written = self.file.get(name)?;
        Some((self.interpolate(&written.text), Some(written.span.clone())))
    }

    /// Replaces `$(NAME)` by the environment variable of that name, as in PostgREST's
    /// configuration files; an unset variable stays as it is written. `$$(` stands for `$(`.
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
