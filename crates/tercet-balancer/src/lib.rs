//! Tier 1: the HTTP balancer: listener, router, upstream pool, health, forwarding, drain, access log.

mod admin;
mod answer;
pub mod balancer;
mod buffer;
mod client;
mod clock;
pub mod config;
mod connection;
mod door;
mod exchange;
pub mod forwarded;
mod health;
pub mod http1;
mod http2;
mod limits;
mod listener;
mod metrics;
mod pipeline;
mod pool;
pub mod proxy_protocol;
mod recent;
mod rotation;
mod scratch;
mod server;
mod servers;
mod socket;
pub mod supervisor;
pub mod tls;
mod worker;

pub use balancer::{Balancer, Listening, ReloadReply};
pub use config::Config;
pub use supervisor::Supervisor;
