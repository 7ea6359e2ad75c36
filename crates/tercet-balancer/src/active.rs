//! The configuration in force: the options, and what is made of them once instead of for each request.

use std::io;
use std::ops::Deref;

use crate::config::Config;
use crate::pages::Pages;
use crate::routes::Routes;

/// The configuration in force.
#[derive(Debug)]
pub(crate) struct Active {
    options: Config,
    pub(crate) routes: Routes,
    pub(crate) pages: Pages,
}

impl Active {
    /// What is made of these options.
    ///
    /// # Errors
    /// A file that they name cannot be used.
    pub(crate) fn load(options: Config) -> io::Result<Self> {
        let routes = Routes::load(&options.route)?;
        let pages = Pages::load(options.error_pages.folder.as_deref(), options.error_pages.replace_servers)
            .map_err(io::Error::other)?;
        Ok(Self { options, routes, pages })
    }
}

impl Deref for Active {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.options
    }
}
