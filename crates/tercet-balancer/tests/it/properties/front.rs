//! Properties of routing and content negotiation for arbitrary bytes; shared with the fuzz targets.

use tercet_balancer::accept_encoding::{AcceptEncoding, Coding};
use tercet_balancer::path;
use tercet_balancer::range::{self, Part};
use tercet_balancer::routes::Routes;

const ROUTES: &str = r#"
    servers = ["127.0.0.1:1"]
    route = [
        { path = "/", host = "shop.example.com" },
        { path = "/api", host = "*.example.com", strip = true },
        { path = "/api", strip = true },
        { path = "/api/v1" },
    ]
"#;

/// The bytes are a host, a line feed and a target.
pub(crate) fn route(bytes: &[u8]) {
    let config = tercet_balancer::Config::parse(ROUTES, "routes.toml").expect("it is valid");
    let routes = Routes::new(&config.route);
    let (host, target) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (&b"a"[..], bytes),
    };
    let Ok(selected) = routes.select(Some(host), target) else { return };
    if target == b"*" {
        return;
    }
    let received = path::of_target(target);
    let decoded: Vec<u8> = path::Decoded(received).collect();
    let segments: Vec<&[u8]> = decoded.split(|byte| *byte == b'/').skip(1).collect();
    let (last, others) = segments.split_last().expect("it starts with /");
    assert!(others.iter().all(|segment| !matches!(*segment, b"" | b"." | b"..")), "{target:?}");
    assert!(!matches!(*last, b"." | b".."), "{target:?}");
    let slashes = |bytes: &[u8]| bytes.split(|byte| *byte == b'/').count();
    assert_eq!(slashes(&decoded), slashes(received), "{target:?}");
    let is_below = |prefix: &[u8]| {
        decoded.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    };
    let sent = path::stripped(target, selected.stripped);
    assert!(path::check(path::of_target(&sent)).is_ok(), "the path that is sent has one reading, too");
    if selected.stripped > 0 {
        let rest: Vec<u8> = path::Decoded(path::of_target(&sent)).collect();
        let whole = if rest == b"/" { b"/api".to_vec() } else { [b"/api", &rest[..]].concat() };
        assert!(is_below(b"/api") && (decoded == whole || decoded == b"/api/"), "{target:?}");
    }
}

/// The bytes are the value of `Range` and that of `Accept-Encoding`.
pub(crate) fn negotiation(bytes: &[u8]) {
    for length in [0, 1, 100, u64::MAX] {
        if let Part::Bytes(first, last) = range::parse(bytes, length) {
            assert!(first <= last && last < length, "{first}-{last} of {length}");
        }
    }
    let offered = [Coding::Brotli, Coding::Gzip];
    let accepted = AcceptEncoding::parse(std::iter::once(bytes));
    assert!(accepted.best(&offered).is_none_or(|coding| offered.contains(&coding)));
    assert_eq!(accepted.best(&[]), None);
}
