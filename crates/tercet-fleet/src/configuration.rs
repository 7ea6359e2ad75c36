//! The tiers' own configurations, as far as a topology decides them: the same under `tercet up` and on machines.
//!
//! Where something runs is handed in as a plain value; which of the two it is, nobody here knows.

pub mod api;
pub mod balancer;
