//! What the types of a configuration cannot say: ranges, contradictions, names that must differ.

use std::collections::HashSet;
use std::time::Duration;

use super::problem::Found;
use super::problem::Step::{Index, Key};
use super::{Config, Policy};

impl Config {
    /// Finds everything that is wrong with the values.
    pub(super) fn validate(&self) -> Result<(), Found> {
        let mut found = Found::default();
        self.validate_listen(&mut found);
        self.validate_servers(&mut found);
        self.validate_policy(&mut found);
        self.validate_limits(&mut found);
        self.validate_times(&mut found);
        if self.served_by.as_ref().is_some_and(|name| !crate::http1::is_token(name.as_bytes())) {
            found.push(
                &[Key("served-by")],
                "`served-by` is no name of a header",
                "write it like \"x-served-by\"",
            );
        }
        if self.workers > 1024 {
            found.push(&[Key("workers")], "more than 1024 workers", "0 starts one per core");
        }
        let is_path = |path: &str| path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
        if let Some(path) = self.health.path.as_ref().filter(|path| !is_path(path)) {
            found.push(
                &[Key("health"), Key("path")],
                format!("`{}` is no path", path.escape_default()),
                "start it with / and encode what is not ASCII",
            );
        }
        if found.is_empty() { Ok(()) } else { Err(found) }
    }

    fn validate_listen(&self, found: &mut Found) {
        if self.listen.is_empty() {
            found.push(&[Key("listen")], "no address to listen on", "for example: listen = [\"0.0.0.0:80\"]");
        }
        let mut seen = HashSet::new();
        for (index, listen) in self.listen.iter().enumerate() {
            let at = [Key("listen"), Index(index)];
            if listen.address.port() != 0 && !seen.insert(listen.address) {
                found.push(&at, format!("{} is listed twice", listen.address), "remove one of them");
            }
            let is_plain = listen.certificates.is_empty();
            if listen.redirect_to_https && !is_plain {
                found.push(
                    &[at[0], at[1], Key("redirect-to-https")],
                    format!("{} speaks TLS and would redirect to itself", listen.address),
                    "set redirect-to-https on the address without certificates",
                );
            }
            if listen.hsts.is_some() && is_plain {
                found.push(
                    &[at[0], at[1], Key("hsts")],
                    format!("{} has no certificates, and browsers ignore hsts without TLS", listen.address),
                    "set hsts on the address with certificates",
                );
            }
        }
    }

    fn validate_servers(&self, found: &mut Found) {
        if self.servers.is_empty() {
            found.push(&[Key("servers")], "no server", "for example: servers = [\"127.0.0.1:3000\"]");
        }
        let mut names = HashSet::new();
        for (index, server) in self.servers.iter().enumerate() {
            let at = |key| [Key("servers"), Index(index), Key(key)];
            let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:[]".contains(&byte);
            if server.name.is_empty() || server.name.len() > 64 || !server.name.bytes().all(is_fit) {
                found.push(
                    &at("name"),
                    format!("`{}` is no name for a server", server.name.escape_default()),
                    "use 1 to 64 letters, digits and . _ - : [ ]",
                );
            }
            if !names.insert(&server.name) {
                found.push(
                    &at("name"),
                    format!("two servers are called {}", server.name),
                    "give each its own name",
                );
            }
            if !(1..=256).contains(&server.weight) {
                found.push(
                    &at("weight"),
                    format!("the weight of {} is not between 1 and 256", server.name),
                    "drain a server to give it no requests",
                );
            }
            if !(1..=64).contains(&server.pipeline) {
                found.push(
                    &at("pipeline"),
                    format!("the pipeline of {} is not between 1 and 64", server.name),
                    "1 gives each request a connection of its own, 16 is plenty",
                );
            }
            let addresses = [("address", Some(server.address)), ("health-address", server.health_address)];
            for (key, address) in addresses {
                if let Some(address) = address.filter(|address| address.port() == 0) {
                    let message = format!("{address} has port 0");
                    found.push(&at(key), message, "give the port the server listens on");
                }
            }
        }
    }

    fn validate_policy(&self, found: &mut Found) {
        if self.hash_on.is_some() && self.policy != Policy::Hash {
            found.push(
                &[Key("hash-on")],
                "`hash-on` means nothing with this policy",
                "set policy = \"hash\" or remove it",
            );
        }
        if self.retries.budget_percent > 100 {
            let at = [Key("retries"), Key("budget-percent")];
            found.push(&at, "a retry budget over 100 percent", "20 is usual");
        }
    }

    fn validate_limits(&self, found: &mut Found) {
        let limits = &self.limits;
        for (key, size) in [("head", limits.head), ("response-head", limits.response_head)] {
            if !(1 << 10..=1 << 20).contains(&size) {
                let message = format!("`limits.{key}` is not between 1KiB and 1MiB");
                found.push(&[Key("limits"), Key(key)], message, "32KiB is usual");
            }
        }
        if !(1..=1000).contains(&limits.headers) {
            let at = [Key("limits"), Key("headers")];
            found.push(&at, "`limits.headers` is not between 1 and 1000", "100 is usual");
        }
        if limits.target == 0 || limits.target > limits.head {
            let at = [Key("limits"), Key("target")];
            let message = "`limits.target` is zero or more than the whole head may have";
            found.push(&at, message, "raise limits.head as well");
        }
        if limits.requests_per_second > 0 && limits.request_burst == 0 {
            let at = [Key("limits"), Key("request-burst")];
            found.push(&at, "a burst of 0 lets no request through", "set it to 1 or more");
        }
        if !(1..=10_000).contains(&limits.http2_streams) {
            let at = [Key("limits"), Key("http2-streams")];
            found.push(&at, "`limits.http2-streams` is not between 1 and 10000", "128 is usual");
        }
    }

    fn validate_times(&self, found: &mut Found) {
        let (health, timeouts) = (&self.health, &self.timeouts);
        for (table, key, duration) in [
            ("health", "interval", health.interval),
            ("health", "timeout", health.timeout),
            ("health", "ejection-time", health.ejection_time),
            ("timeouts", "handshake", timeouts.handshake),
            ("timeouts", "head", timeouts.head),
            ("timeouts", "body", timeouts.body),
            ("timeouts", "send", timeouts.send),
            ("timeouts", "idle", timeouts.idle),
            ("timeouts", "connect", timeouts.connect),
            ("timeouts", "response", timeouts.response),
            ("timeouts", "response-body", timeouts.response_body),
            ("timeouts", "upgrade", timeouts.upgrade),
            ("timeouts", "server-idle", timeouts.server_idle),
            ("timeouts", "queue", timeouts.queue),
        ] {
            if duration.is_zero() || duration > Duration::from_secs(366 * 86_400) {
                found.push(
                    &[Key(table), Key(key)],
                    format!("`{table}.{key}` is zero or longer than a year"),
                    "give a duration like \"5s\"",
                );
            }
        }
        if health.ejection_time_max < health.ejection_time {
            let at = [Key("health"), Key("ejection-time-max")];
            found.push(&at, "`health.ejection-time-max` is less than `health.ejection-time`", "raise it");
        }
    }
}
