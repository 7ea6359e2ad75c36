//! The tiers' own configurations, as far as a topology decides them: the same under `tercet up` and on machines.
//!
//! Addresses and paths are parameters: the modules do not depend on where a tier runs.

pub mod api;
pub mod balancer;
