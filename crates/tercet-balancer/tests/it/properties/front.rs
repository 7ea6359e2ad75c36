//! Properties of routing and content negotiation for arbitrary bytes; shared with the fuzz targets.

use std::io::Read as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tercet_balancer::Config;
use tercet_balancer::accept_encoding::{AcceptEncoding, Coding};
use tercet_balancer::compression::encoder::Encoders;
use tercet_balancer::config::{APPLICATION, Compression};
use tercet_balancer::range::{self, Part};
use tercet_balancer::routes::Routes;
use tercet_balancer::{pages, path, users};

const ROUTES: &str = r#"
    servers = ["127.0.0.1:1"]
    route = [
        { path = "/", host = "shop.example.com" },
        { path = "/api", host = "*.example.com", strip = true, to = "api" },
        { path = "/api", strip = true },
        { path = "/api/v1", to = "api" },
    ]
    pool.api.servers = ["127.0.0.1:2"]
"#;

/// The bytes are a host, a line feed and a target.
pub(crate) fn route(bytes: &[u8]) {
    let config = Config::parse(ROUTES, "routes.toml").expect("it is valid");
    let routes = Routes::load(&config).expect("no file is named");
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

/// A text is a configuration whose backend pools and routes fit together, or a list of mistakes, each with its line.
pub(crate) fn configuration(text: &str) {
    let config = match Config::parse(text, "balancer.toml") {
        Ok(config) => config,
        Err(mistakes) => {
            let lines = text.lines().count().max(1);
            assert!(mistakes.iter().count() > 0);
            assert!(
                mistakes.iter().all(|it| it.line().is_none_or(|line| line <= lines)),
                "{}",
                mistakes.lines()
            );
            return;
        }
    };
    let pools = config.pools();
    let is_pool = |name: &str| pools.iter().any(|pool| pool.name == name);
    let sent = config.route.iter().filter(|route| route.files.is_none());
    assert!(sent.map(|route| route.to.as_deref().unwrap_or(APPLICATION)).all(is_pool), "{text}");
    assert!(pools.iter().all(|pool| pool.name == APPLICATION || config.has_route_to(pool.name)), "{text}");
    let mut names: Vec<&str> =
        pools.iter().flat_map(|pool| pool.servers).map(|it| it.name.as_str()).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert!(count > 0 && names.len() == count, "{text}");
    let written = toml::to_string(&config).expect("it can be written");
    assert_eq!(Config::parse(&written, "balancer.toml").ok().as_ref(), Some(&config), "{text}");
}

/// The bytes are the value of `Range`, `Accept-Encoding`, `Accept` and `Authorization`, and basic credentials themselves.
pub(crate) fn negotiation(bytes: &[u8]) {
    for length in [0, 1, 100, u64::MAX] {
        if let Part::Bytes(first, last) = range::parse(bytes, length) {
            assert!(first <= last && last < length, "{first}-{last} of {length}");
        }
    }
    let offered = [Coding::Brotli, Coding::Gzip];
    let accepted = AcceptEncoding::parse(std::iter::once(bytes));
    assert!(accepted.best(offered).is_none_or(|coding| offered.contains(&coding)));
    assert_eq!(accepted.best([]), None);
    // What follows in another line does not make JSON less preferred.
    let prefers_html = |more: &[u8]| pages::prefers_html([bytes, more].into_iter());
    assert!(!prefers_html(b"application/json, text/html;q=0") || prefers_html(b"text/html"));
    let basic = |credentials: &[u8]| [b"Basic ", BASE64_STANDARD.encode(credentials).as_bytes()].concat();
    for value in [bytes.to_vec(), basic(bytes)] {
        let Some((name, password)) = users::credentials(&value) else { continue };
        assert!(!name.contains(':'));
        let again = [name.as_bytes(), b":", &password].concat();
        assert_eq!(users::credentials(&basic(&again)), Some((name, password)), "{value:?}");
    }
}

/// The bytes are a body in pieces: the first byte of each says its length, and whether it is flushed. A client that has what
/// was flushed decodes all of it.
pub(crate) fn compression(bytes: &[u8]) {
    let encoders = Encoders::new(1);
    for coding in [Coding::Gzip, Coding::Brotli, Coding::Zstandard] {
        let mut encoder = encoders.start(coding, &Compression::default()).expect("there is memory for one");
        let (mut body, mut sent, mut rest) = (Vec::new(), Vec::new(), bytes);
        while let Some((first, after)) = rest.split_first() {
            let (piece, after) = after.split_at(usize::from(first >> 1).min(after.len()));
            encoder.write(piece).expect("it encodes");
            body.extend_from_slice(piece);
            if first & 1 == 1 {
                encoder.flush().expect("it encodes");
                sent.append(encoder.encoded());
                assert!(decoded(coding, &sent, body.len()) == body, "{coding:?}: not all is flushed");
            }
            rest = after;
        }
        sent.append(&mut encoder.finish().expect("it encodes"));
        assert!(decoded(coding, &sent, body.len() + 1) == body, "{coding:?}");
    }
}

/// The first `length` bytes of the content.
fn decoded(coding: Coding, sent: &[u8], length: usize) -> Vec<u8> {
    let reader: Box<dyn std::io::Read + '_> = match coding {
        Coding::Gzip => Box::new(flate2::read::GzDecoder::new(sent)),
        Coding::Brotli => Box::new(brotli::Decompressor::new(sent, 4096)),
        Coding::Zstandard => Box::new(zstd::Decoder::new(sent).expect("a decoder")),
    };
    let mut content = Vec::new();
    reader.take(length as u64).read_to_end(&mut content).expect("it decodes");
    content
}
