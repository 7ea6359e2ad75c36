//! Tier 1: the HTTP balancer: listener, router, upstream pool, health, forwarding, drain, access log.

pub mod config;
pub mod forwarded;
pub mod http1;
pub mod proxy_protocol;
pub mod tls;

pub use config::Config;
