//! Routes: an API and a website on one address.

use std::fs;

use crate::backend::Backend;
use crate::files::{VERSIONS, curl};
use crate::running::{Running, config};

#[test]
fn the_path_that_a_server_gets_is_the_one_that_was_judged() {
    let website = tempfile::tempdir().unwrap();
    fs::write(website.path().join("index.html"), "home").unwrap();
    let server = Backend::responding("api");
    let routes = format!(
        "route = [{{ path = '/', files = '{0}', fallback = 'index.html' }}, {{ path = '/api', strip = true }},\n\
         {{ path = '/docs', files = '{0}', strip = true }}, {{ path = '/raw', to = 'application' }}, {{ path = '/', host = '*.api.example.com' }}]",
        website.path().display()
    );
    let balancer = Running::with(config(&[&server], &routes));
    for version in VERSIONS {
        for (host, target, status, body, seen) in [
            ("a", "/", 200, "home", None),
            ("a", "/orders", 200, "home", None),
            ("a", "/API/orders", 200, "home", None),
            ("a", "/apis", 200, "home", None),
            ("a", "/api/orders?a=%2F..", 200, "api", Some("/orders?a=%2F..")),
            ("a", "/api", 200, "api", Some("/")),
            ("a", "/api/", 200, "api", Some("/")),
            ("a", "/api?a=b", 200, "api", Some("/?a=b")),
            ("a", "/%61pi/a%20b", 200, "api", Some("/a%20b")),
            ("a", "/raw/%61", 200, "api", Some("/raw/%61")),
            // The links of the page are relative to /docs/.
            ("a", "/docs", 301, "ends with /", None),
            ("a", "/docs?a=b", 301, "ends with /", None),
            ("a", "/docs/", 200, "home", None),
            ("a", "/docs/?a=b", 200, "home", None),
            ("v1.api.example.com", "/orders", 200, "api", Some("/orders")),
            ("api.example.com", "/orders", 200, "home", None),
            ("a", "/api/../raw", 400, "segment", None),
            ("a", "/api/..%2Fraw", 400, "encoded", None),
            ("a", "/api//raw", 400, "empty segment", None),
            ("a", "//api", 400, "empty segment", None),
            ("a", "/raw/%2e%2e/api", 400, "segment", None),
        ] {
            let before = server.requests().len();
            let answer = curl(&balancer, version, target, &["-H", &format!("host: {host}")]);
            assert_eq!(answer.status, status, "{version} {host} {target}");
            assert!(answer.text().contains(body), "{version} {host} {target} {}", answer.text());
            let requests = server.requests();
            let new: Vec<&str> =
                requests[before..].iter().filter_map(|it| it.line().split(' ').nth(1)).collect();
            assert_eq!(new, Vec::from_iter(seen), "{version} {host} {target}");
        }
    }
    let log = balancer.stop();
    assert!(
        log.contains("\"GET /api/orders?a=%2F.. HTTP/1.1\" 200 3 "),
        "the log has the client's target: {log}"
    );
}

#[test]
fn without_routes_every_target_is_forwarded_unchanged() {
    let server = Backend::responding("api");
    let balancer = Running::start(&[&server], "");
    for target in ["/a/../b", "//a", "/a%2Fb", "/a/./b?c"] {
        assert_eq!(curl(&balancer, "--http1.1", target, &[]).status, 200, "{target}");
        assert!(server.requests().last().unwrap().line().contains(&format!(" {target} ")));
    }
}
