//! The route table: which requests are answered with files, and which go to a backend pool.
//!
//! Matching allocates nothing, and judges the path that is sent on: a path with more than one reading is refused.

use crate::access::Access;
use crate::config::{APPLICATION, Compress, Config, Route as Options};
use crate::files::Files;
use crate::http1::{self, Refusal};
use crate::path;
use crate::users::UsersError;

/// The routes of a configuration.
#[derive(Debug)]
pub struct Routes {
    /// In the order of their precedence.
    list: Vec<Route>,
    /// Where requests without a route go.
    otherwise: Option<Destination>,
}

/// A route.
#[derive(Debug)]
pub struct Route {
    host: Host,
    path: Box<[u8]>,
    strip: bool,
    to: Option<Destination>,
    /// Whether responses of servers are compressed, if it says so.
    pub(crate) compress: Option<Compress>,
    /// Whether a server is selected only once the whole body has arrived.
    pub(crate) buffers_requests: bool,
    /// Which clients have access; `None`: all.
    pub(crate) access: Option<Access>,
}

/// What answers the requests of a route.
#[derive(Debug)]
pub(crate) enum Destination {
    /// Static files.
    Files(Files),
    /// The servers of a backend pool: its position in [`Config::pools`].
    Pool(usize),
}

/// The hosts of a route.
#[derive(Debug, PartialEq, Eq)]
enum Host {
    /// This name.
    Exact(Box<[u8]>),
    /// The names that end with this: a dot and a domain.
    Below(Box<[u8]>),
    Any,
}

/// The route of a request.
#[derive(Clone, Copy, Debug)]
pub struct Selected<'a> {
    /// `None`: no route matches.
    pub route: Option<&'a Route>,
    /// `None`: nothing answers the request.
    pub(crate) to: Option<&'a Destination>,
    /// The bytes at the front of the path that are not sent on.
    pub stripped: usize,
}

impl<'a> Selected<'a> {
    /// The selection of a request that is refused.
    pub(crate) const NONE: Self = Self { route: None, to: None, stripped: 0 };

    /// The access rules of the route.
    pub(crate) fn access(&self) -> Option<&'a Access> {
        self.route?.access.as_ref()
    }

    /// Whether a server is selected only once the whole body has arrived.
    pub(crate) fn buffers_requests(&self) -> bool {
        self.route.is_some_and(|route| route.buffers_requests)
    }
}

impl Routes {
    /// The routes of a configuration.
    ///
    /// # Errors
    /// A file with users cannot be used.
    pub fn load(config: &Config) -> Result<Self, UsersError> {
        let pools = config.pools();
        let pool = |name: &str| pools.iter().position(|pool| pool.name == name).map(Destination::Pool);
        let load = |options: &Options| {
            let to = match &options.files {
                Some(folder) => Some(Destination::Files(Files::new(folder, options))),
                None => pool(options.to.as_deref().unwrap_or(APPLICATION)),
            };
            Route::load(options, to)
        };
        let mut list = config.route.iter().map(load).collect::<Result<Vec<_>, _>>()?;
        list.sort_by_key(|route| std::cmp::Reverse(route.precedence()));
        Ok(Self { list, otherwise: pool(APPLICATION) })
    }

    /// The route of a request with this host and this target: a path, and perhaps a query. Without routes every target is
    /// accepted.
    ///
    /// # Errors
    /// The path or the host has more than one reading.
    #[inline]
    pub fn select(&self, host: Option<&[u8]>, target: &[u8]) -> Result<Selected<'_>, Refusal> {
        if self.list.is_empty() {
            return Ok(self.without_route());
        }
        // `OPTIONS *` concerns the whole site, and its rules hold.
        self.select_among(host, if target == b"*" { b"/" } else { target })
    }

    fn select_among(&self, host: Option<&[u8]>, target: &[u8]) -> Result<Selected<'_>, Refusal> {
        let path = path::of_target(target);
        path::check(path)?;
        let host = host.map(http1::without_port).unwrap_or_default();
        if host.contains(&b'%') {
            return Err(Refusal::bad("Host is percent-encoded"));
        }
        // The root of the domain name system may be written (RFC 3986, section 3.2.2).
        let host = host.strip_suffix(b".").unwrap_or(host);
        let selected = self.find(host, path);
        if let Some(plain) = path::without_parameters(path) {
            let address = |selected: Selected<'_>| selected.route.map(std::ptr::from_ref);
            if address(selected) != address(self.find(host, &plain)) {
                return Err(Refusal::bad("the path has parameters (;) where its route ends"));
            }
        }
        Ok(selected)
    }

    /// The first route for this host and this path.
    fn find(&self, host: &[u8], path: &[u8]) -> Selected<'_> {
        let found = self.list.iter().find_map(|route| {
            let length = route.host.matches(host).then(|| path::prefix(path, &route.path)).flatten()?;
            let stripped = if route.strip { length } else { 0 };
            Some(Selected { route: Some(route), to: route.to.as_ref(), stripped })
        });
        found.unwrap_or_else(|| self.without_route())
    }

    fn without_route(&self) -> Selected<'_> {
        Selected { route: None, to: self.otherwise.as_ref(), stripped: 0 }
    }
}

impl Route {
    fn load(options: &Options, to: Option<Destination>) -> Result<Self, UsersError> {
        let host = match options.host.as_deref().map(str::to_ascii_lowercase) {
            None => Host::Any,
            Some(host) => match host.strip_prefix('*') {
                Some(domain) => Host::Below(domain.as_bytes().into()),
                None => Host::Exact(host.into_bytes().into()),
            },
        };
        Ok(Self {
            host,
            path: options.path.as_bytes().into(),
            strip: options.strip,
            to,
            compress: options.compress,
            buffers_requests: options.buffer_requests,
            access: Access::load(options)?,
        })
    }

    /// Orders routes: an exact host, the longer domain, the longer path.
    fn precedence(&self) -> (bool, usize, usize) {
        let domain = match &self.host {
            Host::Below(domain) => domain.len(),
            Host::Exact(_) | Host::Any => 0,
        };
        (matches!(self.host, Host::Exact(_)), domain, self.path.len())
    }
}

impl Host {
    fn matches(&self, host: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(name) => name.eq_ignore_ascii_case(host),
            Self::Below(domain) => {
                host.len() > domain.len() && host[host.len() - domain.len()..].eq_ignore_ascii_case(domain)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(text: &str) -> Routes {
        let text = format!("servers = [\"127.0.0.1:1\"]\n{text}");
        let config = Config::parse(&text, "test.toml");
        Routes::load(&config.unwrap_or_else(|mistakes| panic!("{}", mistakes.lines()))).unwrap()
    }

    /// The path of the selected route, and the path that is sent on.
    fn selected(routes: &Routes, host: &str, target: &str) -> Result<(String, String), &'static str> {
        let selected =
            routes.select(Some(host.as_bytes()), target.as_bytes()).map_err(|refusal| refusal.reason)?;
        let route = selected.route.map_or("none".into(), |route| {
            let host = match &route.host {
                Host::Any => String::new(),
                Host::Exact(name) => String::from_utf8_lossy(name).into_owned(),
                Host::Below(domain) => format!("*{}", String::from_utf8_lossy(domain)),
            };
            format!("{host}{}", String::from_utf8_lossy(&route.path))
        });
        let sent = path::stripped(target.as_bytes(), selected.stripped);
        Ok((route, String::from_utf8_lossy(&sent).into_owned()))
    }

    #[test]
    fn the_longest_prefix_of_whole_segments_wins() {
        let routes = routes(
            "route = [{ path = \"/\" }, { path = \"/api\", strip = true }, { path = \"/api/v1/files\" }, { path = \"/caf\u{e9}\" }]",
        );
        for (target, route, sent) in [
            ("/", "/", "/"),
            ("/index.html", "/", "/index.html"),
            ("/api", "/api", "/"),
            ("/api?a=b", "/api", "/?a=b"),
            ("/api/", "/api", "/"),
            ("/api/orders?a=b/../c", "/api", "/orders?a=b/../c"),
            ("/apis", "/", "/apis"),
            ("/API/orders", "/", "/API/orders"),
            ("/api/v1/files/a", "/api/v1/files", "/api/v1/files/a"),
            ("/api/v1/filesa", "/api", "/v1/filesa"),
            // The reading of a percent-encoded character is that of the character, as the server's is.
            ("/%61p%69/orders", "/api", "/orders"),
            ("/%41pi", "/", "/%41pi"),
            ("/caf%C3%A9/a", "/caf\u{e9}", "/caf%C3%A9/a"),
            ("*", "/", "*"),
            ("/api/orders;a=b", "/api", "/orders;a=b"),
            ("/other;a/b", "/", "/other;a/b"),
        ] {
            let found = selected(&routes, "a", target).unwrap();
            assert_eq!((found.0.as_str(), found.1.as_str()), (route, sent), "{target}");
        }
        // Servers that leave parameters out would see the path of another route.
        for target in ["/api;a=b", "/api;/orders", "/%61pi%3B/orders", "/api/v1;a/files", "/api/v1/files;a"] {
            let refused = Err("the path has parameters (;) where its route ends");
            assert_eq!(selected(&routes, "a", target), refused, "{target}");
        }
    }

    #[test]
    fn the_exact_host_precedes_the_wildcard_and_that_precedes_no_host() {
        let routes = routes(
            r#"route = [
                { path = "/a", host = "*.example.com" },
                { path = "/a/b/c" },
                { path = "/", host = "Shop.example.com" },
                { path = "/", host = "*.eu.example.com" },
                { path = "/", host = "[::1]" },
            ]"#,
        );
        for (host, target, route) in [
            ("shop.example.com", "/a/b/c", "shop.example.com/"),
            ("SHOP.example.COM:8080", "/", "shop.example.com/"),
            ("shop.example.com.", "/", "shop.example.com/"),
            ("club.example.com", "/a/b/c", "*.example.com/a"),
            ("club.example.com", "/b", "none"),
            ("club.eu.example.com", "/a", "*.eu.example.com/"),
            ("example.com", "/a/b/c", "/a/b/c"),
            ("evilexample.com", "/a", "none"),
            ("[::1]:80", "/x", "[::1]/"),
            ("", "/a/b/c", "/a/b/c"),
        ] {
            assert_eq!(selected(&routes, host, target).unwrap().0, route, "{host} {target}");
        }
        assert_eq!(selected(&routes, "%73hop.example.com", "/"), Err("Host is percent-encoded"));
    }

    #[test]
    fn without_routes_every_path_is_accepted() {
        assert_eq!(selected(&routes(""), "a", "//a/../b%2F").unwrap().0, "none");
    }
}
