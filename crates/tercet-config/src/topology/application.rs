//! Tier 2: the applications, each the data API or a program of the user's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tercet_options::api;
use tercet_options::balancer::APPLICATION;

use super::{Destination, Egress, Program, Rollout, Secret};

/// An application: its servers run the same program.
#[derive(Clone, Debug)]
pub struct Application {
    /// Its name; `None` if the file has one application, without a name.
    pub name: Option<String>,
    /// The data API or the user's program.
    pub server: Server,
    /// What surrounds the user's program.
    pub environment: Environment,
    /// How many servers are replaced at the same time.
    pub rollout: Rollout,
    /// What the user's program may connect to.
    pub egress: Egress,
}

impl Application {
    /// Its section of the file, for messages: `[application]` or `[application.NAME]`.
    pub fn section(&self) -> String {
        self.name.as_ref().map_or("[application]".to_owned(), |name| format!("[application.{name}]"))
    }

    /// The backend pool of its servers.
    pub fn pool(&self) -> &str {
        self.name.as_deref().unwrap_or(APPLICATION)
    }

    /// Where its servers connect to besides the edges.
    pub(super) fn destinations(&self) -> Egress {
        let Server::Api(api) = &self.server else { return self.egress.clone() };
        let urls =
            ["jwks-url", "jwt-issuer"].into_iter().filter_map(|option| api.options.get(option)?.as_str());
        // The metadata of an issuer name the URL of its keys, which may have another port.
        let ports: BTreeSet<u16> = urls.flat_map(|url| [api::https_port(url), 443]).collect();
        Egress::Only(ports.into_iter().map(Destination::port).collect())
    }

    /// The data API, if that is what it is.
    pub fn data_api(&self) -> Option<&Api> {
        match &self.server {
            Server::Api(api) => Some(api),
            Server::Own { .. } => None,
        }
    }
}

/// What surrounds the user's program.
#[derive(Clone, Default)]
pub struct Environment {
    /// The command that migrates the database, as its owner.
    pub migrate: Option<Program>,
    /// Whether `authenticated` may use the tables that the owner creates; `None` leaves the privileges as they are.
    pub grants: Option<bool>,
    /// Environment variables.
    pub variables: BTreeMap<String, String>,
    /// The file with more of them, relative to the folder of `tercet.toml`.
    pub file: Option<PathBuf>,
    /// How long a server may take until it is ready.
    pub start_timeout: Option<Duration>,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.variables.keys().collect();
        f.debug_struct("Environment")
            .field("migrate", &self.migrate)
            .field("variables", &names)
            .finish_non_exhaustive()
    }
}

/// The program of an application server.
#[derive(Clone, Debug)]
pub enum Server {
    /// The built-in data API.
    Api(Api),
    /// The user's program.
    Own {
        /// The command.
        program: Program,
        /// The command that prepares the shipped folder on each machine, before a release starts.
        build: Option<Program>,
        /// The path of its health check; starts with `/`. Without one, a server is healthy when it accepts
        /// connections.
        health: Option<String>,
    },
}

/// The options of the data API.
#[derive(Clone)]
pub struct Api {
    /// PostgREST's options as written in the file, without the token secret, and those of traces. `db-anon-role` is always set.
    /// `app.settings` may contain secrets.
    pub options: toml::Table,
    /// The secret or keys that verify tokens (`jwt-secret`).
    pub jwt_secret: Option<Secret>,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<_> = self.options.iter().filter(|(name, _)| *name != "app").collect();
        f.debug_struct("Api")
            .field("options", &shown)
            .field("jwt_secret", &self.jwt_secret)
            .finish_non_exhaustive()
    }
}
