//! Bind addresses: the configuration of each listener, with its certificates loaded.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::challenges::Challenges;
use crate::config::{Config, Listen};
use crate::tls::{Obtained, Sources, Tls, TlsError};
use crate::x509::Leaf;

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
    pub(crate) fn load(
        config: &Config,
        challenges: &Arc<Challenges>,
        before: Option<&Self>,
    ) -> Result<Self, TlsError> {
        let load = |listen: &Listen| {
            let sources = Sources::of(config, listen);
            let tls = if !listen.is_tls() {
                None
            } else if let Some(tls) = before.and_then(|before| before.tls_of(&sources)) {
                Some(tls)
            } else {
                Some(Arc::new(Tls::load_sources(sources, Arc::clone(challenges))?))
            };
            Ok(Arc::new(BindAddress { listen: listen.clone(), tls }))
        };
        Ok(Self(config.listen.iter().map(load).collect::<Result<_, _>>()?))
    }

    fn tls_of(&self, sources: &Sources) -> Option<Arc<Tls>> {
        let mut loaded = self.0.iter().filter_map(|bind_address| bind_address.tls.as_ref());
        loaded.find(|tls| tls.sources() == sources).cloned()
    }

    /// Whether a client that requests this host by https would get a certificate.
    pub(crate) fn have_certificate(&self, host: &[u8]) -> bool {
        let mut loaded = self.0.iter().filter_map(|bind_address| bind_address.tls.as_ref());
        let host = str::from_utf8(host).unwrap_or_default();
        loaded.any(|tls| tls.has_certificate(host))
    }

    /// The certificates in use.
    pub(crate) fn certificates(&self) -> Vec<Leaf> {
        let loaded = self.0.iter().filter_map(|bind_address| bind_address.tls.as_ref());
        loaded.flat_map(|tls| tls.certificates()).collect()
    }

    /// The certificates of domains, which all TLS listeners share.
    pub(crate) fn obtained(&self) -> Vec<Obtained> {
        let first = self.0.iter().find_map(|bind_address| bind_address.tls.as_ref());
        first.map_or_else(Vec::new, |tls| tls.obtained())
    }

    /// The bind address with this configured address.
    pub(crate) fn at(&self, address: SocketAddr) -> Option<Arc<BindAddress>> {
        self.0.iter().find(|bind_address| bind_address.listen.address == address).cloned()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<BindAddress>> {
        self.0.iter()
    }
}
