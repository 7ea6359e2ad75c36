//! What holds for an option that is not set.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use super::{AccessLog, Admin, Config, Health, Limits, Listen, Policy, Retries, Timeouts};

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![Listen::on(SocketAddr::from(([127, 0, 0, 1], 8080)))],
            servers: Vec::new(),
            policy: Policy::default(),
            hash_on: None,
            trusted_proxies: Vec::new(),
            served_by: None,
            workers: 0,
            drain: Duration::from_secs(30),
            health: Health::default(),
            retries: Retries::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            access_log: AccessLog::default(),
            admin: Admin::default(),
        }
    }
}

impl Default for Health {
    fn default() -> Self {
        const ONCE: NonZeroU32 = NonZeroU32::MIN;
        Self {
            path: None,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
            rise: ONCE.saturating_add(1),
            fall: ONCE.saturating_add(2),
            ejection_failures: ONCE.saturating_add(2),
            ejection_time: Duration::from_secs(1),
            ejection_time_max: Duration::from_secs(60),
            slow_start: Duration::from_secs(5),
        }
    }
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts: 2, budget_percent: 20, budget_minimum: 3 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: 32 << 10,
            headers: 100,
            target: 8 << 10,
            body: 64 << 20,
            response_head: 64 << 10,
            connections: 65_536,
            connections_per_client: 16_384,
            requests_per_second: 0,
            request_burst: 100,
            queue: 1024,
            http2_streams: 128,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            body: Duration::from_secs(30),
            send: Duration::from_secs(30),
            idle: Duration::from_secs(75),
            connect: Duration::from_secs(2),
            response: Duration::from_secs(60),
            response_body: Duration::from_secs(60),
            upgrade: Duration::from_secs(3600),
            server_idle: Duration::from_secs(4),
            queue: Duration::from_secs(5),
        }
    }
}
