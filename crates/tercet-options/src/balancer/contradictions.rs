//! Contradictions between options of the balancer, names that must differ, and ports that must be given.

mod pools;

use std::collections::HashSet;

use super::{Acme, Compress, Compression, Config, Directory};
use crate::document::Section;

impl Config {
    /// Reports every contradiction, except those between routes and backend pools: see
    /// [`check_destinations`](Self::check_destinations). `section` is the table in which these options are written.
    pub fn check(&self, section: &mut Section<'_>) {
        self.check_listen(section);
        self.check_servers(section);
        self.check_routes(section);
        self.check_domains(section);
        self.check_compression(section);
        if self.error_pages.replace_servers && !section.is_written("error-pages.folder") {
            section
                .mistake("error-pages.replace-servers", "has no effect without pages", "without folder")
                .hint("add folder = \"errors\" with pages such as 404.html, or leave it out");
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
        pools::check_health("health", &self.health, section);
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

    fn check_compression(&self, section: &mut Section<'_>) {
        let codings = &self.compression.codings;
        for (index, coding) in codings.iter().enumerate() {
            if codings[..index].contains(coding) {
                section
                    .mistake(&format!("compression.codings[{index}]"), "is there again", "again")
                    .hint("remove one of the two");
            }
        }
        let is_on = |compress: Compress| compress != Compress::Off;
        let used = is_on(self.compress) || self.route.iter().any(|route| route.compress.is_some_and(is_on));
        let used = used || section.is_written("compress");
        if !used && self.compression != Compression::default() {
            section
                .mistake("compression", "has no effect without compress", "for compressed responses")
                .hint("set compress = \"on\", here or in a route; or leave it out");
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
        if self.domains.is_empty() && self.acme != Acme::default() && !section.is_written("domains") {
            section
                .mistake("acme", "has no effect without domains", "for domains")
                .hint("name the domains: domains = [\"shop.example.com\"]; or leave acme out");
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
            for (index, network) in route.allow.iter().enumerate() {
                if let Some(denied) = route.deny.iter().find(|denied| denied.contains(network)) {
                    section
                        .mistake(
                            &option(&format!("allow[{index}]")),
                            &format!("is in the network {denied} of deny, which precedes"),
                            "denied",
                        )
                        .hint("remove it from one of the two");
                }
            }
            if route.files.is_some() {
                if route.to.is_some() {
                    section
                        .mistake(&option("to"), "has no effect with files", "and files")
                        .hint("keep one of the two");
                }
                if route.compress.is_some() {
                    section
                        .mistake(&option("compress"), "has no effect with files", "for responses of servers")
                        .hint("compress the files beforehand: FILE.br and FILE.gz beside FILE");
                }
                if route.buffer_requests {
                    section
                        .mistake(&option("buffer-requests"), "has no effect with files", "for servers")
                        .hint("leave it out");
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
