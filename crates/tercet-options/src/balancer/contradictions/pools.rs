//! Contradictions between backend pools, their servers, and the routes to them.

use std::collections::HashSet;

use super::super::{APPLICATION, Config, Health, Policy, Server, ServerAddress};
use crate::document::{Section, nearest};

impl Config {
    /// Reports routes that send requests to no backend pool. `pools` are the names of all that there are.
    pub fn check_destinations(&self, pools: &[&str], section: &mut Section<'_>) {
        for (index, route) in self.route.iter().enumerate() {
            let option = format!("route[{index}].to");
            match route.to.as_deref() {
                Some(to) if !pools.contains(&to) => {
                    let hint = match (nearest(to, pools.iter().copied()), pools) {
                        (Some(near), _) => format!("did you mean {near:?}?"),
                        (None, []) => "leave it out".to_owned(),
                        (None, [pool]) => format!("write {pool:?}"),
                        (None, _) => format!("the backend pools are {}", pools.join(", ")),
                    };
                    section.mistake(&option, &format!("names no backend pool: {to}"), "unknown").hint(hint);
                }
                None if route.files.is_none() && !pools.contains(&APPLICATION) => {
                    let hint = match pools.first() {
                        Some(pool) => format!("add to = {pool:?}, or files"),
                        None => "add files".to_owned(),
                    };
                    section
                        .mistake(&option, &format!("is missing: no backend pool is {APPLICATION}"), "no to")
                        .hint(hint);
                }
                _ => {}
            }
        }
    }

    /// Reports contradictions of the backend pools of the balancer's own file.
    pub(in crate::balancer) fn check_pools(&self, section: &mut Section<'_>) {
        let has_application = !self.servers.is_empty() || section.is_written("servers");
        if has_application && self.pool.contains_key(APPLICATION) {
            section
                .mistake(&format!("pool.{APPLICATION}"), "is the backend pool of servers already", "again")
                .hint("give it another name, or leave servers out");
        }
        if !has_application && self.pool.is_empty() && !section.is_written("pool") {
            section
                .mistakes
                .add_without_position("missing key servers at the top of the file")
                .hint("for example: servers = [\"127.0.0.1:3000\"]");
            return;
        }
        let mut names: Vec<&str> = has_application.then_some(APPLICATION).into_iter().collect();
        names.extend(self.pool.keys().map(String::as_str));
        // A pool with a mistake is not in the configuration, and is there all the same.
        for name in self.route.iter().filter_map(|route| route.to.as_deref()).chain([APPLICATION]) {
            if section.is_written(&format!("pool.{name}")) && !names.contains(&name) {
                names.push(name);
            }
        }
        self.check_destinations(&names, section);
        // Routes with a mistake are not in the configuration, and a misspelt name may be meant for any pool.
        let is_misspelt = |to: &str| !names.contains(&to);
        if self.route.iter().filter_map(|route| route.to.as_deref()).any(is_misspelt)
            || self.route.is_empty() && section.is_written("route")
        {
            return;
        }
        for name in self.pool.keys().filter(|name| *name != APPLICATION && !self.has_route_to(name)) {
            section
                .mistake(&format!("pool.{name}"), "gets no requests: no route sends them there", "unused")
                .hint(format!("add a [[route]] with to = {name:?}, or leave the pool out"));
        }
    }

    /// Reports contradictions within each backend pool, and names of servers that occur twice.
    pub(super) fn check_servers(&self, section: &mut Section<'_>) {
        let mut names = HashSet::new();
        let mut check = |path: &str, servers: &[Server], section: &mut Section<'_>| {
            for (index, server) in servers.iter().enumerate() {
                if !names.insert(server.name.clone()) {
                    section
                        .mistake(
                            &format!("{path}[{index}].name"),
                            &format!("is {} again", server.name),
                            "again",
                        )
                        .hint("give each server a different name");
                }
            }
            check_addresses(path, servers, section);
            check_backups(path, servers, section);
        };
        check("servers", &self.servers, section);
        for (name, pool) in &self.pool {
            check(&format!("pool.{name}.servers"), &pool.servers, section);
        }
        self.check_policies(section);
    }

    fn check_policies(&self, section: &mut Section<'_>) {
        let mut takes_from_outside = self.policy == Policy::Hash;
        for (name, pool) in &self.pool {
            let has_hash = pool.policy.unwrap_or(self.policy) == Policy::Hash;
            takes_from_outside |= has_hash && pool.hash_on.is_none();
            if pool.hash_on.is_some() && !has_hash {
                hash_on_without_hash(&format!("pool.{name}.hash-on"), section);
            }
            if !pool.health.is_empty() {
                check_health(&format!("pool.{name}.health"), &pool.health.over(&self.health), section);
            }
        }
        if self.hash_on.is_some() && !takes_from_outside {
            hash_on_without_hash("hash-on", section);
        }
    }
}

/// Reports contradictions between the options of health checks at this path.
pub(super) fn check_health(path: &str, health: &Health, section: &mut Section<'_>) {
    if *health.ejection_time_max < *health.ejection_time {
        section
            .mistake(
                &format!("{path}.ejection-time-max"),
                &format!("is less than {path}.ejection-time"),
                "less",
            )
            .hint("raise it");
    }
}

fn hash_on_without_hash(option: &str, section: &mut Section<'_>) {
    section
        .mistake(option, "has no effect with this policy", "for policy = \"hash\"")
        .hint("set policy = \"hash\", or leave it out");
}

fn check_addresses(path: &str, servers: &[Server], section: &mut Section<'_>) {
    for (index, server) in servers.iter().enumerate() {
        let health = server.health_address.map(|address| address.port());
        for (name, port) in [("address", server.address.port()), ("health-address", health)] {
            if port == Some(0) {
                section
                    .mistake(&format!("{path}[{index}].{name}"), "has port 0", "port 0")
                    .hint("give the port that the server listens on");
            }
        }
    }
}

fn check_backups(path: &str, servers: &[Server], section: &mut Section<'_>) {
    if !servers.is_empty() && servers.iter().all(|server| server.backup) {
        section
            .mistake(path, "are all backups, for no other server", "only backups")
            .hint("leave out backup for the servers that get the requests");
    }
    for (index, server) in servers.iter().enumerate() {
        if server.pipeline > 1 && matches!(server.address, ServerAddress::Name(..)) {
            section
                .mistake(
                    &format!("{path}[{index}].pipeline"),
                    "needs an IP address or a Unix socket",
                    "for a server with a name",
                )
                .hint("leave it out: the address of a name may change while requests share a connection");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::HashOn;
    use super::*;
    use crate::{Duration, Timeout};

    const TWO: &str = "servers = ['127.0.0.1:1']\n[pool.api]\nservers = ['127.0.0.1:2']\n";
    const ROUTE: &str = "[[route]]\npath = '/api'\nto = 'api'\n";

    fn mistakes(text: &str) -> String {
        Config::parse(text, "b").map_or_else(|mistakes| mistakes.lines(), |_| String::new())
    }

    #[test]
    fn the_defaults_of_a_pool_are_the_options_outside() {
        let text = format!(
            "policy = 'hash'\nhash-on = 'x-tenant'\nhealth = {{ path = '/outside', interval = '3s' }}\n{TWO}\
             [pool.api.health]\npath = '/ready'\n[pool.own]\nservers = ['127.0.0.1:3']\npolicy = 'random-two'\n\
             [[route]]\npath = '/own'\nto = 'own'\n{ROUTE}"
        );
        let config = Config::parse(&text, "b").unwrap();
        assert_eq!(Config::parse(&toml::to_string(&config).unwrap(), "b").unwrap(), config);
        let tenant = HashOn::Header("x-tenant".to_owned());
        let found: Vec<_> = config
            .pools()
            .into_iter()
            .map(|pool| (pool.name, pool.servers.len(), pool.policy, pool.health.path.unwrap_or_default()))
            .collect();
        assert_eq!(
            found,
            [
                ("application", 1, Policy::Hash, "/outside".to_owned()),
                ("api", 1, Policy::Hash, "/ready".to_owned()),
                ("own", 1, Policy::RandomTwo, "/outside".to_owned()),
            ]
        );
        let pools = config.pools();
        assert_eq!(pools[1].hash_on, Some(&tenant));
        assert_eq!(pools[1].health.interval, Timeout::seconds(3));
        assert_eq!(pools[1].health.slow_start, Duration::seconds(5));
        assert!(config.has_route_to("api") && !config.has_route_to("application"));
    }

    #[test]
    fn a_pool_may_be_the_only_one() {
        for text in [
            "[pool.api]\nservers = ['127.0.0.1:2']\n[[route]]\nto = 'api'\n",
            "[pool.api]\nservers = ['127.0.0.1:2']\n[[route]]\nfiles = '.'\n[[route]]\npath = '/api'\nto = 'api'\n",
            "[pool.application]\nservers = ['127.0.0.1:2']\n[[route]]\npath = '/a'\n",
            "[pool.application]\nservers = ['127.0.0.1:2']\n",
        ] {
            assert_eq!(mistakes(text), "", "{text}");
        }
    }

    #[test]
    fn contradictions_of_pools_name_their_line() {
        for (text, expected) in [
            (
                String::new(),
                "b: missing key servers at the top of the file\nhint: for example: servers = [\"127.0.0.1:3000\"]",
            ),
            (
                TWO.to_owned(),
                "b:2: pool.api gets no requests: no route sends them there\nhint: add a [[route]] with to = \"api\", or leave the pool out",
            ),
            (
                format!("{TWO}{ROUTE}[[route]]\npath = '/x'\nto = 'apu'"),
                "b:9: route[1].to names no backend pool: apu\nhint: did you mean \"api\"?",
            ),
            (
                format!("{TWO}[[route]]\npath = '/x'\nto = 'apu'"),
                "b:6: route[0].to names no backend pool: apu\nhint: did you mean \"api\"?",
            ),
            (
                format!("{TWO}{ROUTE}[[route]]\npath = '/x'\nto = 'shop'"),
                "b:9: route[1].to names no backend pool: shop\nhint: the backend pools are application, api",
            ),
            (
                "servers = ['127.0.0.1:1']\n[[route]]\npath = '/x'\nto = 'shop'".to_owned(),
                "b:4: route[0].to names no backend pool: shop\nhint: write \"application\"",
            ),
            (
                format!("[pool.api]\nservers = ['127.0.0.1:2']\n{ROUTE}[[route]]\npath = '/x'\n"),
                "b:6: route[1].to is missing: no backend pool is application\nhint: add to = \"api\", or files",
            ),
            (
                format!("{TWO}[pool.application]\nservers = ['127.0.0.1:3']\n{ROUTE}"),
                "b:4: pool.application is the backend pool of servers already\nhint: give it another name, or leave servers out",
            ),
            (
                "servers = ['127.0.0.1:1']\n[pool.Api]\nservers = ['127.0.0.1:2']\n".to_owned(),
                "b:2: pool can't be named \"Api\"\nhint: use lower case letters, digits and -, a letter first, at most 40",
            ),
            // It is there, and so is the route's pool.
            (
                format!("[pool.api]\nservers = ['127.0.0.1']\n{ROUTE}"),
                "b:2: pool.api.servers can't be \"127.0.0.1\"\nhint: write it like 10.0.0.11:8080, app.internal:8080 or unix:/run/app.sock",
            ),
            (
                format!("[pool.api]\n{ROUTE}"),
                "b:1: missing key servers in [pool.api]\nhint: for example: servers = [\"127.0.0.1:8081\"]",
            ),
            (
                format!("[pool.api]\nservers = []\n{ROUTE}"),
                "b:2: pool.api.servers is empty\nhint: for example: [\"127.0.0.1:8081\"]",
            ),
            (
                format!("{TWO}weight = 2\n{ROUTE}"),
                "b:4: unknown key weight in [pool.api]\nhint: the keys in [pool.api] are hash-on, health, policy, servers",
            ),
            (
                format!("{TWO}health.pth = '/a'\n{ROUTE}"),
                "b:4: unknown key pth in [pool.api.health]\nhint: did you mean path?",
            ),
            // A mistake in a route is the only one.
            (
                format!("{TWO}[[route]]\npath = 'api'\nto = 'api'\n"),
                "b:5: route.path can't be \"api\"\nhint: write it like /api: from / on, decoded, without an empty segment, `.`, `..`, %, ? or #, and without / at its end",
            ),
            (
                format!("{TWO}hash-on = 'client'\n{ROUTE}"),
                "b:4: pool.api.hash-on has no effect with this policy\nhint: set policy = \"hash\", or leave it out",
            ),
            (
                format!("hash-on = 'client'\n{TWO}{ROUTE}"),
                "b:1: hash-on has no effect with this policy\nhint: set policy = \"hash\", or leave it out",
            ),
            (format!("hash-on = 'client'\n{TWO}policy = 'hash'\n{ROUTE}"), ""),
            (
                format!("{TWO}health.ejection-time = '2m'\n{ROUTE}"),
                "b:4: pool.api.health.ejection-time-max is less than pool.api.health.ejection-time\nhint: raise it",
            ),
            (
                format!("servers = ['127.0.0.1:2']\n[pool.api]\nservers = ['127.0.0.1:2']\n{ROUTE}"),
                "b:3: pool.api.servers[0].name is 127.0.0.1:2 again\nhint: give each server a different name",
            ),
            (
                format!(
                    "[pool.api]\nservers = [{{ address = 'a:0', backup = true, pipeline = 2 }}]\n{ROUTE}"
                ),
                "b:2: pool.api.servers are all backups, for no other server\nhint: leave out backup for the servers that get the requests\n\
                 b:2: pool.api.servers[0].address has port 0\nhint: give the port that the server listens on\n\
                 b:2: pool.api.servers[0].pipeline needs an IP address or a Unix socket\n\
                 hint: leave it out: the address of a name may change while requests share a connection",
            ),
        ] {
            assert_eq!(mistakes(&text), expected, "{text}");
        }
    }

    #[test]
    fn a_mistake_in_a_pool_shows_its_text_and_no_secret() {
        let text = format!("{TWO}health.interval = 'soon'\npassword = 'hunter2'\n{ROUTE}");
        let mistakes = Config::parse(&text, "b").unwrap_err();
        let mut shown = String::new();
        let handler = miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::none());
        handler.render_report(&mut shown, &mistakes).unwrap();
        assert!(shown.contains("health.interval = 'soon'") && !shown.contains("hunter2"), "{shown}");
    }
}
