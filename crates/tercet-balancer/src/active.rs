//! The configuration in force: the options, and what is made of them once instead of for each request.

use std::io;
use std::ops::Deref;
use std::sync::Arc;

use tercet_observe::LogHandle;
use tercet_observe::traces::Tracer;

use crate::config::Config;
use crate::pages::Pages;
use crate::routes::Routes;
use crate::traces;

/// The configuration in force.
#[derive(Debug)]
pub(crate) struct Active {
    options: Config,
    pub(crate) routes: Routes,
    pub(crate) pages: Pages,
    /// Traces requests, if a collector is named.
    pub(crate) tracer: Option<Arc<Tracer>>,
}

impl Active {
    /// What is made of these options, in force from now on in place of the configuration `before`.
    ///
    /// # Errors
    /// A file that they name cannot be used, or traces cannot be sent.
    pub(crate) fn load(options: Config, before: Option<&Self>, log: &LogHandle) -> io::Result<Self> {
        let routes = Routes::load(&options.route)?;
        let pages = Pages::load(options.error_pages.folder.as_deref(), options.error_pages.replace_servers)
            .map_err(io::Error::other)?;
        let before = before.and_then(|before| before.tracer.as_ref());
        let tracer = traces::tracer(&options.otlp, before, log)?;
        Ok(Self { options, routes, pages, tracer })
    }
}

impl Deref for Active {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.options
    }
}
