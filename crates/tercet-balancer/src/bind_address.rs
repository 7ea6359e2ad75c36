//! Bind addresses: the configuration of each listener, with its certificates loaded.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::{Config, Listen};
use crate::tls::{Tls, TlsError};

/// One configured bind address.
#[derive(Debug)]
pub(crate) struct BindAddress {
    pub(crate) listen: Listen,
    pub(crate) tls: Option<Arc<Tls>>,
}

/// All bind addresses of a configuration.
#[derive(Debug)]
pub(crate) struct BindAddresses(Vec<Arc<BindAddress>>);

impl BindAddresses {
    /// Loads the certificates of the configured addresses; those that `before` has loaded are reused.
    ///
    /// # Errors
    /// A certificate cannot be used.
    pub(crate) fn load(config: &Config, before: Option<&Self>) -> Result<Self, TlsError> {
        let load = |listen: &Listen| {
            let tls = if listen.certificates.is_empty() {
                None
            } else if let Some(tls) = before.and_then(|before| before.tls_of(listen)) {
                Some(tls)
            } else {
                Some(Arc::new(Tls::load(&listen.certificates)?))
            };
            Ok(Arc::new(BindAddress { listen: listen.clone(), tls }))
        };
        Ok(Self(config.listen.iter().map(load).collect::<Result<_, _>>()?))
    }

    fn tls_of(&self, listen: &Listen) -> Option<Arc<Tls>> {
        let same = |bind_address: &&Arc<BindAddress>| bind_address.listen.certificates == listen.certificates;
        self.0.iter().find(same)?.tls.clone()
    }

    /// The bind address with this configured address.
    pub(crate) fn at(&self, address: SocketAddr) -> Option<Arc<BindAddress>> {
        self.0.iter().find(|bind_address| bind_address.listen.address == address).cloned()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<BindAddress>> {
        self.0.iter()
    }
}
