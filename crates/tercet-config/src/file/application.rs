//! The `[application]` section: the keys of the only application, or an `[application.NAME]` for each of several.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, IntoDeserializer as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::json;
use tercet_options::{Duration, schema};

use super::Located;

/// What `[application.NAME]` is, for the reference and for editors.
const NAMED: &str = "One of several applications, which share the machines, the balancer and the database. The keys are those of \
    `[application]`. The name is what `to` of a `[[balancer.route]]` sends requests to; its servers are `app-NAME-1`, \
    `app-NAME-2` and so on. At most one application has no `run`: it is the data API.";

/// The sections of all applications. A key that is none of an application's is a name.
#[derive(Debug, Default)]
pub(crate) struct Applications {
    only: Application,
    /// A key of `only` that is written.
    written: Option<String>,
    named: Vec<(String, Located<Application>)>,
}

impl Applications {
    /// The section of each application with its name, in the order of the file; the only application has none.
    pub(crate) fn sections(&self) -> Vec<(Option<&str>, &Application)> {
        if self.named.is_empty() {
            return vec![(None, &self.only)];
        }
        self.named.iter().map(|(name, section)| (Some(name.as_str()), &**section)).collect()
    }

    /// The named applications.
    pub(crate) fn named(&self) -> &[(String, Located<Application>)] {
        &self.named
    }

    /// A key that is written in `[application]` itself.
    pub(crate) fn written(&self) -> Option<&str> {
        self.written.as_deref()
    }
}

impl<'de> Deserialize<'de> for Applications {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sections;

        impl<'de> Visitor<'de> for Sections {
            type Value = Applications;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Applications, M::Error> {
                let mut sections = Applications::default();
                let Applications { written, named, .. } = &mut sections;
                let keys = Keys { map, known: known(), written, named };
                sections.only = Application::deserialize(MapAccessDeserializer::new(keys))?;
                sections.named.sort_by_key(|(_, section)| section.span().start);
                Ok(sections)
            }
        }

        deserializer.deserialize_map(Sections)
    }
}

/// The keys of an application.
fn known() -> BTreeSet<String> {
    let rules = schema::of::<Application>();
    rules["properties"].as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
}

/// The keys of an application in a table; what has another name is put aside.
struct Keys<'a, M> {
    map: M,
    known: BTreeSet<String>,
    written: &'a mut Option<String>,
    named: &'a mut Vec<(String, Located<Application>)>,
}

impl<'de, M: MapAccess<'de>> MapAccess<'de> for Keys<'_, M> {
    type Error = M::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, M::Error> {
        while let Some(key) = self.map.next_key::<String>()? {
            if self.known.contains(&key) {
                self.written.get_or_insert_with(|| key.clone());
                return seed.deserialize(key.into_deserializer()).map(Some);
            }
            let section = self.map.next_value()?;
            self.named.push((key, section));
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, M::Error> {
        self.map.next_value_seed(seed)
    }
}

impl JsonSchema for Applications {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Applications".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut rules = Application::json_schema(generator);
        let mut named = rules.clone();
        named.insert("description".to_owned(), NAMED.into());
        rules.insert("additionalProperties".to_owned(), named.to_value());
        rules.insert("propertyNames".to_owned(), json!({ "format": "pool name" }));
        rules
    }
}

/// An application: what answers requests.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Application {
    /// How many servers. Default: 2; with `[[machine]]`s one on each application machine.
    #[schemars(range(min = 1, max = 64))]
    pub(crate) servers: Option<Located<u16>>,
    /// On machines, how many servers a release replaces at the same time: a number, or a share of them such as `25%`, rounded
    /// down and at least one. Default: `1`, one after the other.
    #[schemars(extend("examples" = ["25%"]))]
    pub(crate) rollout: Option<Located<String>>,
    /// The command that starts your own program, instead of the data API. It is run as it stands, without a
    /// shell, in the folder of `tercet.toml`, with HOST, PORT and DATABASE_URL in its environment; `{host}` and
    /// `{port}` in it are replaced.
    #[schemars(extend("examples" = ["uvicorn main:app --host {host} --port {port}"]))]
    pub(crate) run: Option<Located<String>>,
    /// On machines, the command that prepares your program's folder there, once for each release, before it
    /// starts: it installs what the program needs. Run as it stands, without a shell, in that folder.
    #[schemars(extend("examples" = ["./prepare.sh"]))]
    pub(crate) build: Option<Located<String>>,
    /// The command that migrates the database for your own program: `alembic upgrade head`, `manage.py migrate`. It runs with
    /// the owner's DATABASE_URL after the SQL migrations and before any server: `tercet up` runs it once at each start; on machines
    /// each new release runs it once, on the first application machine. Run as it stands, without a shell.
    #[schemars(extend("examples" = [".venv/bin/alembic upgrade head"]))]
    pub(crate) migrate: Option<Located<String>>,
    /// What the role `authenticated`, which your own program begins as, may do with tables that `migrate` creates:
    /// `authenticated` grants it to read and write them, `none` grants nothing. Default: `authenticated`, if there is `migrate`.
    pub(crate) grants: Option<Located<Grants>>,
    /// Environment variables of your own program and of `migrate`. They are no secrets: use `env-file` for those.
    pub(crate) env: Option<Located<BTreeMap<String, String>>>,
    /// A file with more environment variables, one `NAME=value` a line. A leading `@` may be written, as for other files.
    #[schemars(extend("examples" = ["@secrets/app.env"]))]
    pub(crate) env_file: Option<Located<String>>,
    /// How long a server of your own program may take until it is ready. Default: `60s`.
    pub(crate) start_timeout: Option<Located<Duration>>,
    /// The path your own program is asked whether it can take requests: not while it answers with a status of 500
    /// or more, or not at all. Default: it can while it accepts connections. The data API has its own path.
    #[schemars(extend("examples" = ["/health"]))]
    pub(crate) health: Option<Located<String>>,
    /// On machines, what your own program may connect to besides the edges of the topology: networks, ports, or both, and name
    /// servers if there are any. `[]` allows nothing more. Default: everything. The data API connects to what its options name.
    #[schemars(extend("examples" = [["10.0.0.30:6379", "*:443"]]))]
    pub(crate) egress: Option<Located<Vec<Located<String>>>>,
    /// The port of the first server on a machine; further ones there take the next ports. Default: 8081, or the
    /// next free one; of several applications, each takes ports of its own.
    #[schemars(range(min = 1))]
    pub(crate) port: Option<Located<u16>>,
}

/// What your own program may do with the tables of its `migrate`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Grants {
    /// Read and write them.
    Authenticated,
    /// Nothing that no migration grants.
    None,
}
