//! A backend pool: servers, and how requests are balanced over them.

use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::entry::{self, EntryOrAddress};
use super::{Config, HashOn, Health, Policy, Server};

/// The backend pool of the servers in `servers`: it gets the requests that no route sends elsewhere.
pub const APPLICATION: &str = "application";

/// A backend pool besides `application`, for the routes with `to = "NAME"`: lower case letters, digits and `-`, a letter first, at
/// most 40. Without `servers` outside, a pool may have the name `application`. The order of the requests, the health checks, the
/// queue and the retries of a pool do not depend on other pools, and a request is retried in its own pool only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Pool {
    /// The servers of the pool, as in `servers` outside. Their names differ from those in all other pools. Required.
    #[serde(deserialize_with = "entry::list")]
    #[schemars(
        with = "Vec<EntryOrAddress<Server>>",
        length(min = 1),
        extend("examples" = [["127.0.0.1:8081"]])
    )]
    pub servers: Vec<Server>,
    /// The balancing policy. Default: `policy` outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// The input of the hash when the policy is `hash`. Default: `hash-on` outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["authorization"]))]
    pub hash_on: Option<HashOn>,
    /// Health checks and ejection of the pool's servers: the options of `[health]`. Default of each: its value there.
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    #[schemars(with = "Health")]
    pub health: Overrides<Health>,
}

/// The options of a table that are written where its defaults are another table of the same type.
#[derive(Clone, Debug, PartialEq)]
pub struct Overrides<T> {
    written: toml::Table,
    table: PhantomData<T>,
}

impl<T> Overrides<T> {
    /// Whether no option is written.
    pub fn is_empty(&self) -> bool {
        self.written.is_empty()
    }
}

impl<T: Serialize + DeserializeOwned> Overrides<T> {
    /// The options, with those of `outside` where they are not written.
    pub fn over(&self, outside: &T) -> T {
        let mut options = toml::Table::try_from(outside).expect("options are a table");
        options.extend(self.written.clone());
        options.try_into().expect("each option was read as the one of its type")
    }
}

impl<T> Default for Overrides<T> {
    fn default() -> Self {
        Self { written: toml::Table::new(), table: PhantomData }
    }
}

impl<T> Serialize for Overrides<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.written.serialize(serializer)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Overrides<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = toml::Table::deserialize(deserializer)?;
        written.clone().try_into::<T>().map_err(de::Error::custom)?;
        Ok(Self { written, table: PhantomData })
    }
}

/// A backend pool with the options that hold for it.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendPool<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its servers.
    pub servers: &'a [Server],
    /// The balancing policy.
    pub policy: Policy,
    /// The input of the hash when the policy is `hash`; `None`: the client's address.
    pub hash_on: Option<&'a HashOn>,
    /// Health checks and ejection.
    pub health: Health,
}

impl Config {
    /// The backend pools, `application` first.
    pub fn pools(&self) -> Vec<BackendPool<'_>> {
        let application = (!self.servers.is_empty()).then(|| BackendPool {
            name: APPLICATION,
            servers: &self.servers,
            policy: self.policy,
            hash_on: self.hash_on.as_ref(),
            health: self.health.clone(),
        });
        let others = self.pool.iter().map(|(name, pool)| BackendPool {
            name,
            servers: &pool.servers,
            policy: pool.policy.unwrap_or(self.policy),
            hash_on: pool.hash_on.as_ref().or(self.hash_on.as_ref()),
            health: pool.health.over(&self.health),
        });
        application.into_iter().chain(others).collect()
    }

    /// Whether a route sends its requests to this backend pool.
    pub fn has_route_to(&self, pool: &str) -> bool {
        let mut routes = self.route.iter().filter(|route| route.files.is_none());
        routes.any(|route| route.to.as_deref().unwrap_or(APPLICATION) == pool)
    }
}
