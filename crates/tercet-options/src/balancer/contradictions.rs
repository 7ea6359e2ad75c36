//! Contradictions between options of the balancer, names that must differ, and ports that must be given.

use std::collections::HashSet;

use super::{APPLICATION, Config, Directory, Policy, ServerAddress};
use crate::document::Section;

impl Config {
    /// Reports every contradiction. `section` is the table in which these options are written.
    pub fn check(&self, section: &mut Section<'_>) {
        self.check_listen(section);
        self.check_servers(section);
        self.check_routes(section);
        self.check_domains(section);
        if self.hash_on.is_some() && self.policy != Policy::Hash {
            section
                .mistake("hash-on", "has no effect with this policy", "for policy = \"hash\"")
                .hint("set policy = \"hash\", or leave it out");
        }
        if self.limits.target > self.limits.head {
            section
                .mistake("limits.target", "is more than limits.head", "longer than a whole head")
                .hint("raise limits.head as well");
        }
        if self.limits.requests_per_second > 0 && self.limits.request_burst == 0 {
            section
                .mistake("limits.request-burst", "is 0, which refuses every request", "0 requests")
                .hint("set it to 1 or more");
        }
        if *self.health.ejection_time_max < *self.health.ejection_time {
            section
                .mistake("health.ejection-time-max", "is less than health.ejection-time", "less")
                .hint("raise it");
        }
    }

    fn check_listen(&self, section: &mut Section<'_>) {
        let mut seen = HashSet::new();
        for (index, listen) in self.listen.iter().enumerate() {
            let option = |name: &str| format!("listen[{index}]{name}");
            let address = listen.address;
            if address.port() != 0 && !seen.insert(address) {
                section
                    .mistake(&option(""), &format!("is {address} again"), "again")
                    .hint("remove one of the two");
            }
            let plain = !listen.is_tls();
            if listen.redirect_to_https && !plain {
                section
                    .mistake(&option(".redirect-to-https"), "would redirect TLS to itself", "with TLS")
                    .hint("set redirect-to-https on the address without TLS");
            }
            if listen.hsts.is_some() && plain {
                section
                    .mistake(&option(".hsts"), "has no effect without TLS", "without TLS")
                    .hint("set hsts on the address with TLS");
            }
        }
    }

    fn check_domains(&self, section: &mut Section<'_>) {
        let mut seen = HashSet::new();
        for (index, domain) in self.domains.iter().enumerate() {
            if !seen.insert(domain) {
                section
                    .mistake(&format!("domains[{index}]"), &format!("is {domain} again"), "again")
                    .hint("remove one of the two");
            }
        }
        if self.acme.directory == Directory::ZeroSsl && self.acme.eab.is_none() {
            section.mistake("acme.directory", "needs an account at ZeroSSL", "without eab").hint(
                "add eab = { kid = \"…\", hmac-key-file = \"FILE\" } with the credentials that ZeroSSL shows",
            );
        }
    }

    /// Reports contradictions between `domains` and the listeners of the balancer's own file.
    pub(super) fn check_tls(&self, section: &mut Section<'_>) {
        if !self.domains.is_empty() && !self.listen.iter().any(super::Listen::is_tls) {
            section
                .mistake("domains", "has no listener with TLS", "for a listener with TLS")
                .hint("add { address = \"0.0.0.0:443\", tls = true } to listen");
        }
        for (index, listen) in self.listen.iter().enumerate() {
            if listen.tls && listen.certificates.is_empty() && self.domains.is_empty() {
                section
                    .mistake(&format!("listen[{index}].tls"), "has no certificate", "without a certificate")
                    .hint("name the domains: domains = [\"shop.example.com\"]; or add certificates");
            }
        }
    }

    fn check_servers(&self, section: &mut Section<'_>) {
        let mut names = HashSet::new();
        for (index, server) in self.servers.iter().enumerate() {
            let option = |name: &str| format!("servers[{index}].{name}");
            if !names.insert(&server.name) {
                section
                    .mistake(&option("name"), &format!("is {} again", server.name), "again")
                    .hint("give each server a different name");
            }
            let health = server.health_address.map(ServerAddress::from);
            for (name, address) in [("address", Some(&server.address)), ("health-address", health.as_ref())] {
                if address.is_some_and(ServerAddress::has_no_port) {
                    section
                        .mistake(&option(name), "has port 0", "port 0")
                        .hint("give the port that the server listens on");
                }
            }
        }
    }

    fn check_routes(&self, section: &mut Section<'_>) {
        let mut seen = HashSet::new();
        for (index, route) in self.route.iter().enumerate() {
            let option = |name: &str| format!("route[{index}].{name}");
            if !seen.insert((route.host.as_ref().map(|host| host.to_ascii_lowercase()), &route.path)) {
                section
                    .mistake(&option("path"), "has the host and path of an earlier route", "again")
                    .hint("remove one of the two");
            }
            if route.strip && route.path == "/" {
                section
                    .mistake(&option("strip"), "has no effect with the path /", "nothing to remove")
                    .hint("leave it out");
            }
            if let Some(to) = route.to.as_ref().filter(|to| *to != APPLICATION) {
                section
                    .mistake(&option("to"), &format!("names no backend pool: {to}"), "unknown")
                    .hint(format!("write \"{APPLICATION}\""));
            }
            if route.files.is_some() {
                if route.to.is_some() {
                    section
                        .mistake(&option("to"), "has no effect with files", "and files")
                        .hint("keep one of the two");
                }
                continue;
            }
            let of_files =
                [("fallback", route.fallback.is_some()), ("cache-control", route.cache_control.is_some())];
            for (name, _) in of_files.into_iter().filter(|(_, written)| *written) {
                section
                    .mistake(&option(name), "has no effect without files", "for files")
                    .hint("add files = \"FOLDER\", or leave it out");
            }
        }
    }
}
