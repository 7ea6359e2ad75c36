//! What a listening address asks of connections: the configuration of each, with its certificates loaded.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::{Config, Listen};
use crate::tls::{Tls, TlsError};

/// One listening address as it is configured.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) listen: Listen,
    pub(crate) tls: Option<Arc<Tls>>,
}

/// All doors of a configuration.
#[derive(Debug)]
pub(crate) struct Doors(Vec<Arc<Door>>);

impl Doors {
    /// Loads what the configuration's addresses need; certificates that `before` has already stay loaded.
    ///
    /// # Errors
    /// Certificates that cannot be used.
    pub(crate) fn load(config: &Config, before: Option<&Self>) -> Result<Self, TlsError> {
        let load = |listen: &Listen| {
            let tls = if listen.certificates.is_empty() {
                None
            } else if let Some(tls) = before.and_then(|before| before.tls_of(listen)) {
                Some(tls)
            } else {
                Some(Arc::new(Tls::load(&listen.certificates)?))
            };
            Ok(Arc::new(Door { listen: listen.clone(), tls }))
        };
        Ok(Self(config.listen.iter().map(load).collect::<Result<_, _>>()?))
    }

    fn tls_of(&self, listen: &Listen) -> Option<Arc<Tls>> {
        let same = |door: &&Arc<Door>| door.listen.certificates == listen.certificates;
        self.0.iter().find(same)?.tls.clone()
    }

    /// The door at this configured address.
    pub(crate) fn at(&self, address: SocketAddr) -> Option<Arc<Door>> {
        self.0.iter().find(|door| door.listen.address == address).cloned()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Door>> {
        self.0.iter()
    }
}
