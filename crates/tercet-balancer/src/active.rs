//! The configuration in force: the options, and what is made of them once instead of for each request.

use std::io;
use std::ops::Deref;
use std::sync::Arc;

use tercet_observe::LogHandle;
use tercet_observe::traces::Tracer;

use crate::config::{self, Config, HashOn, Policy};
use crate::pages::Pages;
use crate::routes::Routes;
use crate::servers::Servers;
use crate::traces;

/// The configuration in force.
#[derive(Debug)]
pub(crate) struct Active {
    options: Config,
    pub(crate) routes: Routes,
    /// The backend pools that the routes send requests to.
    pub(crate) backend_pools: Vec<BackendPool>,
    pub(crate) pages: Pages,
    /// Traces requests, if a collector is named.
    pub(crate) tracer: Option<Arc<Tracer>>,
}

/// A backend pool, as this configuration has it.
#[derive(Debug)]
pub(crate) struct BackendPool {
    pub(crate) servers: Arc<Servers>,
    /// The input of the hash, if the policy is `hash`.
    pub(crate) hash_on: Option<HashOn>,
}

impl Active {
    /// What is made of these options, in force from now on in place of the configuration `before`. `pools` has the servers of
    /// each backend pool, in their order.
    ///
    /// # Errors
    /// A file that they name cannot be used, or traces cannot be sent.
    pub(crate) fn load(
        options: Config,
        pools: &[Arc<Servers>],
        before: Option<&Self>,
        log: &LogHandle,
    ) -> io::Result<Self> {
        let routes = Routes::load(&options)?;
        let backend_pool = |(of_pool, servers): (config::BackendPool<'_>, &Arc<Servers>)| BackendPool {
            servers: Arc::clone(servers),
            hash_on: (of_pool.policy == Policy::Hash)
                .then(|| of_pool.hash_on.cloned().unwrap_or(HashOn::Client)),
        };
        let backend_pools = options.pools().into_iter().zip(pools).map(backend_pool).collect();
        let pages = Pages::load(options.error_pages.folder.as_deref(), options.error_pages.replace_servers)
            .map_err(io::Error::other)?;
        let before = before.and_then(|before| before.tracer.as_ref());
        let tracer = traces::tracer(&options.otlp, before, log)?;
        Ok(Self { options, routes, backend_pools, pages, tracer })
    }
}

impl Deref for Active {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.options
    }
}
