//! Tier 1: the HTTP balancer: listener, router, upstream pool, health, forwarding, drain, access log.

pub mod config;
pub mod http1;

pub use config::Config;
