//! The configuration in force: the options, and what is made of them once instead of for each request.

use std::ops::Deref;

use crate::config::Config;
use crate::routes::Routes;

/// The configuration in force.
#[derive(Debug)]
pub(crate) struct Active {
    options: Config,
    pub(crate) routes: Routes,
}

impl From<Config> for Active {
    fn from(options: Config) -> Self {
        let routes = Routes::new(&options.route);
        Self { options, routes }
    }
}

impl Deref for Active {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.options
    }
}
