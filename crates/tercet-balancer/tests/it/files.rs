//! Static files over HTTP/1.1 and HTTP/2, with curl as the client.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tercet_balancer::Config;

use crate::backend::Backend;
use crate::client::{Answer, Client};
use crate::running::{Running, config};

/// The versions of HTTP.
pub(crate) const VERSIONS: [&str; 2] = ["--http1.1", "--http2-prior-knowledge"];

/// Requests a target as it is written.
pub(crate) fn curl(balancer: &Running, version: &str, target: &str, arguments: &[&str]) -> Answer {
    let url = format!("http://{}{target}", balancer.address);
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "20", "--path-as-is", "--globoff", "--include", version])
        .args(arguments)
        .arg(&url)
        .output()
        .unwrap_or_else(|error| panic!("curl: {error}; hint: sudo apt-get install curl"));
    assert!(output.status.success(), "{url} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let end = output.stdout.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8(output.stdout[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: output.stdout[end..].to_vec() }
}

const SCRIPT: &str = "console.log('hello')";

/// A website and, outside of it, a file that must not be served.
fn website() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let public = folder.path().join("public");
    for name in ["sub", "empty", ".git", ".well-known", "sub/.well-known", "index"] {
        fs::create_dir_all(public.join(name)).unwrap();
    }
    fs::create_dir(public.join("index/index.html")).unwrap();
    for (name, text) in [
        ("../secret.txt", "secret"),
        ("index.html", "home"),
        ("sub/index.html", "sub"),
        ("app.js", SCRIPT),
        ("app.js.br", "br of app.js"),
        ("app.js.gz", "gz of app.js"),
        ("only.css", "a {}"),
        ("only.css.gz", "gz of only.css"),
        ("photo.png", "png"),
        ("photo.png.gz", "gz of photo.png"),
        ("nothing.txt", ""),
        ("a b.txt", "space"),
        ("caf\u{e9}.txt", "coffee"),
        ("a+b%20c.txt", "plus"),
        ("LICENSE", "MIT"),
        (".env", "secret"),
        (".git/config", "secret"),
        (".well-known/security.txt", "Contact"),
        (".well-known/.hidden", "secret"),
        ("sub/.well-known/a", "secret"),
    ] {
        fs::write(public.join(name), text).unwrap();
    }
    symlink("../secret.txt", public.join("link.txt")).unwrap();
    symlink("app.js", public.join("inner.js")).unwrap();
    symlink("..", public.join("up")).unwrap();
    symlink("/etc", public.join("etc")).unwrap();
    let pipe = Command::new("mkfifo").arg(public.join("pipe")).status().unwrap();
    assert!(pipe.success());
    folder
}

fn serving(website: &Path, server: &Backend, route: &str) -> Running {
    let files = website.join("public");
    Running::with(config(
        &[server],
        &format!("route = [{{ path = '/', files = '{}', {route} }}]", files.display()),
    ))
}

#[test]
fn files_are_found_and_nothing_else_is() {
    let website = website();
    let server = Backend::responding("never");
    let balancer = serving(website.path(), &server, "");
    for version in VERSIONS {
        for (target, status, body) in [
            ("/", 200, "home"),
            ("/?a=b", 200, "home"),
            ("/index.html", 200, "home"),
            ("/sub/", 200, "sub"),
            ("/sub/index.html", 200, "sub"),
            ("/app.js", 200, SCRIPT),
            ("/%61pp.js?v=../1", 200, SCRIPT),
            ("/nothing.txt", 200, ""),
            ("/LICENSE", 200, "MIT"),
            ("/a%20b.txt", 200, "space"),
            ("/caf%C3%A9.txt", 200, "coffee"),
            ("/a+b%2520c.txt", 200, "plus"),
            ("/.well-known/security.txt", 200, "Contact"),
            // Not there.
            ("/App.js", 404, "no such file"),
            ("/app.js/", 404, "no such file"),
            ("/app.js/x", 404, "no such file"),
            ("/empty/", 404, "no such file"),
            ("/index/", 404, "no such file"),
            ("/caf%E9.txt", 404, "no such file"),
            ("/a+b%20c.txt", 404, "no such file"),
            ("/pipe", 404, "no such file"),
            ("/CON", 404, "no such file"),
            // Hidden.
            ("/.env", 404, "no such file"),
            ("/%2eenv", 404, "no such file"),
            ("/.git/config", 404, "no such file"),
            ("/.well-known/.hidden", 404, "no such file"),
            ("/sub/.well-known/a", 404, "no such file"),
            ("/...", 404, "no such file"),
            // Symbolic links.
            ("/link.txt", 404, "no such file"),
            ("/inner.js", 404, "no such file"),
            ("/up/secret.txt", 404, "no such file"),
            ("/up/", 404, "no such file"),
            ("/etc/passwd", 404, "no such file"),
            // Ambiguous.
            ("/../secret.txt", 400, "segment . or .."),
            ("/sub/../../secret.txt", 400, "segment . or .."),
            ("/sub/../app.js", 400, "segment . or .."),
            ("/./app.js", 400, "segment . or .."),
            ("/%2e%2e/secret.txt", 400, "segment . or .."),
            ("/%2E./secret.txt", 400, "segment . or .."),
            ("/..;/secret.txt", 400, "segment . or .."),
            ("/..%2fsecret.txt", 400, "encoded /"),
            ("/sub%2Findex.html", 400, "encoded /"),
            ("/..%5csecret.txt", 400, "encoded /"),
            ("//app.js", 400, "empty segment"),
            ("/sub//index.html", 400, "empty segment"),
            ("//etc/passwd", 400, "empty segment"),
            ("/app.js%00.html", 400, "control character"),
        ] {
            let answer = curl(&balancer, version, target, &[]);
            assert_eq!(answer.status, status, "{version} {target} {}", answer.text());
            let is = if status == 200 { answer.text() == body } else { answer.text().contains(body) };
            assert!(is, "{version} {target} {}", answer.text());
        }
        let long = format!("/{}", "a".repeat(300));
        assert_eq!(curl(&balancer, version, &long, &[]).status, 404);
        let moved = curl(&balancer, version, "/sub?a=b", &[]);
        assert_eq!((moved.status, moved.header("location")), (301, Some("/sub/?a=b")));
        let refused = curl(&balancer, version, "/app.js", &["-d", "x"]);
        assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
    }
    assert!(server.requests().is_empty());
    let log = balancer.stop();
    assert!(
        log.contains("\"GET /app.js HTTP/1.1\" 200 20 ") && log.contains("\"GET /app.js HTTP/2.0\" 200 20 "),
        "{log}"
    );
}

#[test]
fn the_head_describes_the_file() {
    let website = website();
    let server = Backend::responding("never");
    let balancer = serving(website.path(), &server, "");
    for version in VERSIONS {
        for (target, media_type, length, vary) in [
            ("/", "text/html; charset=utf-8", "4", Some("Accept-Encoding")),
            ("/app.js", "text/javascript; charset=utf-8", "20", Some("Accept-Encoding")),
            ("/photo.png", "image/png", "3", None),
            ("/LICENSE", "application/octet-stream", "3", None),
            ("/nothing.txt", "text/plain; charset=utf-8", "0", Some("Accept-Encoding")),
        ] {
            for arguments in [&[][..], &["--head"]] {
                let answer = curl(&balancer, version, target, arguments);
                assert_eq!(answer.header("content-type"), Some(media_type), "{target}");
                assert_eq!(answer.header("content-length"), Some(length), "{target}");
                assert_eq!(answer.header("vary"), vary, "{target}");
                assert_eq!(answer.header("accept-ranges"), Some("bytes"));
                assert_eq!(answer.header("cache-control"), Some("no-cache"));
                assert!(answer.header("etag").is_some_and(|tag| tag.starts_with('"')));
                assert!(answer.header("x-request-id").is_some());
                assert!(answer.header("last-modified").is_some() && answer.header("date").is_some());
                assert!(arguments.is_empty() || answer.body.is_empty());
            }
        }
    }
    let cached = serving(website.path(), &server, "cache-control = 'public, max-age=60'");
    assert_eq!(curl(&cached, "--http1.1", "/", &[]).header("cache-control"), Some("public, max-age=60"));
}

#[test]
fn encoded_siblings_are_sent_to_clients_that_accept_them() {
    let website = website();
    let server = Backend::responding("never");
    let balancer = serving(website.path(), &server, "fallback = 'index.html'");
    for version in VERSIONS {
        for (target, accepted, body, coding) in [
            ("/app.js", "", SCRIPT, None),
            ("/app.js", "gzip, br", "br of app.js", Some("br")),
            ("/app.js", "gzip", "gz of app.js", Some("gzip")),
            ("/app.js", "br;q=0.1, gzip", "gz of app.js", Some("gzip")),
            ("/app.js", "zstd", SCRIPT, None),
            ("/app.js", "br;q=0, gzip;q=0", SCRIPT, None),
            ("/only.css", "gzip, br", "gz of only.css", Some("gzip")),
            ("/only.css", "br", "a {}", None),
            ("/photo.png", "gzip, br", "png", None),
        ] {
            let answer = curl(&balancer, version, target, &["-H", &format!("accept-encoding: {accepted}")]);
            assert_eq!(
                (answer.text(), answer.header("content-encoding")),
                (body, coding),
                "{target} {accepted}"
            );
            assert_ne!(answer.header("content-type"), Some("application/gzip"));
        }
        let tag = |accepted: &str| {
            curl(&balancer, version, "/app.js", &["-H", &format!("accept-encoding: {accepted}")])
                .header("etag")
                .unwrap()
                .to_owned()
        };
        assert!(tag("br") != tag("gzip") && tag("gzip") != tag("identity"));
    }
}

#[test]
fn ranges_and_conditional_requests() {
    let website = website();
    let server = Backend::responding("never");
    let balancer = serving(website.path(), &server, "");
    for version in VERSIONS {
        let whole = curl(&balancer, version, "/app.js", &[]);
        let (tag, modified) = (whole.header("etag").unwrap(), whole.header("last-modified").unwrap());
        let named = |name: &str, value: &str| format!("{name}: {value}");
        let range = |value: &str| named("range", &format!("bytes={value}"));
        let other = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (fields, status, body, content_range) in [
            (vec![range("0-6")], 206, "console", Some("bytes 0-6/20")),
            (vec![range("8-")], 206, "log('hello')", Some("bytes 8-19/20")),
            (vec![range("-2")], 206, "')", Some("bytes 18-19/20")),
            (vec![range("18-100")], 206, "')", Some("bytes 18-19/20")),
            (vec![range("20-")], 416, "", Some("bytes */20")),
            (vec![range("0-1,3-4")], 200, SCRIPT, None),
            (vec![range("2-1")], 200, SCRIPT, None),
            (vec![range("0-6"), named("if-range", tag)], 206, "console", Some("bytes 0-6/20")),
            (vec![range("0-6"), named("if-range", modified)], 206, "console", Some("bytes 0-6/20")),
            (vec![range("0-6"), named("if-range", "\"x\"")], 200, SCRIPT, None),
            (vec![range("0-6"), named("if-range", other)], 200, SCRIPT, None),
            (vec![named("if-none-match", tag)], 304, "", None),
            (vec![named("if-none-match", &format!("\"x\", W/{tag}"))], 304, "", None),
            (vec![named("if-none-match", tag), range("0-6")], 304, "", None),
            (vec![named("if-none-match", "\"x\"")], 200, SCRIPT, None),
            (vec![named("if-modified-since", modified)], 304, "", None),
            (vec![named("if-modified-since", other)], 200, SCRIPT, None),
            (vec![named("if-match", tag)], 200, SCRIPT, None),
            (vec![named("if-match", "\"x\"")], 412, "", None),
            (vec![named("if-unmodified-since", other)], 412, "", None),
        ] {
            let arguments: Vec<&str> = fields.iter().flat_map(|field| ["-H", field]).collect();
            let answer = curl(&balancer, version, "/app.js", &arguments);
            assert_eq!((answer.status, answer.text()), (status, body), "{version} {fields:?}");
            assert_eq!(answer.header("content-range"), content_range, "{version} {fields:?}");
            assert_eq!(answer.header("etag"), Some(tag), "{version} {fields:?}");
            if status == 304 {
                assert_eq!(answer.header("cache-control"), Some("no-cache"));
                assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
            }
            let head = curl(&balancer, version, "/app.js", &[&["--head"][..], &arguments].concat());
            // RFC 9110 section 14.2: a range is for GET only.
            let expected = if matches!(status, 206 | 416) { 200 } else { status };
            assert_eq!((head.status, head.body.len()), (expected, 0), "{version} HEAD {fields:?}");
        }
        assert_eq!(curl(&balancer, version, "/nothing.txt", &["-H", "range: bytes=0-"]).status, 200);
    }
}

#[test]
fn the_fallback_answers_for_missing_pages_but_not_for_missing_assets() {
    let website = website();
    let server = Backend::responding("never");
    let balancer = serving(website.path(), &server, "fallback = 'index.html'");
    for version in VERSIONS {
        for (target, status, body) in [
            ("/user/1", 200, "home"),
            ("/user/john.doe", 200, "home"),
            ("/user.html", 200, "home"),
            ("/empty/", 200, "home"),
            ("/sub/", 200, "sub"),
            ("/app.0123.js", 404, "no such file"),
            ("/photo.jpg", 404, "no such file"),
            ("/.env", 404, "no such file"),
            ("/.git/config", 404, "no such file"),
            ("/user/../1", 400, "segment"),
        ] {
            let answer = curl(&balancer, version, target, &[]);
            assert_eq!(answer.status, status, "{version} {target}");
            assert!(answer.text().contains(body), "{version} {target} {}", answer.text());
        }
    }
}

#[test]
fn long_files_are_sent_whole() {
    let website = website();
    let server = Backend::responding("never");
    let balancer = serving(website.path(), &server, "");
    for length in [1, 1023, 16_000, 16_384, 16_385, 262_144, 300_000, 3_000_000_usize] {
        let content: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
        fs::write(website.path().join("public/long.bin"), &content).unwrap();
        for version in VERSIONS {
            assert!(curl(&balancer, version, "/long.bin", &[]).body == content, "{version} {length}");
            let range = format!("range: bytes={}-", length / 2);
            assert!(
                curl(&balancer, version, "/long.bin", &["-H", &range]).body == content[length / 2..],
                "{length}"
            );
        }
        // On one connection, one after another.
        let mut client = Client::connect(balancer.address);
        for _ in 0..3 {
            assert!(client.get("/long.bin").body == content, "{length}");
        }
    }
}

#[test]
fn a_folder_that_is_replaced_is_seen_at_once() {
    let website = website();
    let server = Backend::responding("never");
    let balancer = serving(website.path(), &server, "");
    let mut client = Client::connect(balancer.address);
    let old = client.get("/");
    assert_eq!(old.text(), "home");
    let public = website.path().join("public");
    // One that was moved away is served as long as it is open.
    fs::rename(&public, website.path().join("old")).unwrap();
    let started = Instant::now();
    while client.get("/").status != 404 {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "the folder that was moved away is still served"
        );
    }
    fs::create_dir(&public).unwrap();
    fs::write(public.join("index.html"), "new!").unwrap();
    let new = client.get("/");
    assert_eq!((new.status, new.text()), (200, "new!"));
    assert_ne!(old.header("etag"), new.header("etag"));
}

#[test]
fn files_without_a_time_have_an_entity_tag_of_their_own() {
    let website = website();
    let public = website.path().join("public");
    let server = Backend::responding("never");
    let balancer = serving(website.path(), &server, "");
    let write = |text: &str| {
        fs::write(public.join("a.txt"), text).unwrap();
        fs::File::options()
            .write(true)
            .open(public.join("a.txt"))
            .unwrap()
            .set_modified(std::time::UNIX_EPOCH)
            .unwrap();
    };
    write("one");
    let one = curl(&balancer, "--http1.1", "/a.txt", &[]);
    assert_eq!((one.text(), one.header("last-modified")), ("one", None));
    fs::remove_file(public.join("a.txt")).unwrap();
    write("two");
    assert_ne!(curl(&balancer, "--http1.1", "/a.txt", &[]).header("etag"), one.header("etag"));
}

#[test]
fn a_body_that_nobody_reads_ends_the_connection() {
    let website = website();
    let server = Backend::responding("never");
    let balancer = serving(website.path(), &server, "");
    let mut client = Client::connect(balancer.address);
    let request = b"GET /app.js HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nGET /x";
    let answer = client.send(request).answer();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(client.is_closed());
}

#[test]
fn mistakes_of_a_route_are_reported_at_once() {
    let text = "servers = ['127.0.0.1:1']\nroute = [\n\
        { path = '/a/', files = 'x', fallback = '../x' },\n\
        { path = '/b', to = 'shop' },\n\
        { path = '/', strip = true, host = 'http://a' },\n\
        { path = '/c', cache-control = 'no-store', fallback = 'index.html' },\n\
        { path = '/d', files = 'x', to = 'application', buffer-requests = true },\n\
        { path = '/e', host = 'a.b' },\n{ path = '/e', host = 'A.B' },\n{ path = '/%61' }]\n";
    let lines = Config::parse(text, "test.toml").unwrap_err().lines();
    for expected in [
        "test.toml:3: route.path can't be \"/a/\"",
        "test.toml:3: route.fallback can't be \"../x\"",
        "test.toml:5: route.host can't be \"http://a\"",
        "test.toml:10: route.path can't be \"/%61\"",
    ] {
        assert!(lines.contains(expected), "{expected}\n{lines}");
    }
    let text = text
        .replace("'/a/', files = 'x', fallback = '../x'", "'/a', files = 'x'")
        .replace(", host = 'http://a'", "")
        .replace("'/%61'", "'/f'");
    let lines = Config::parse(&text, "test.toml").unwrap_err().lines();
    for expected in [
        "test.toml:4: route[1].to names no backend pool: shop",
        "test.toml:5: route[2].strip has no effect with the path /",
        "test.toml:6: route[3].cache-control has no effect without files",
        "test.toml:6: route[3].fallback has no effect without files",
        "test.toml:7: route[4].to has no effect with files",
        "test.toml:7: route[4].buffer-requests has no effect with files",
        "test.toml:9: route[6].path has the host and path of an earlier route",
    ] {
        assert!(lines.contains(expected), "{expected}\n{lines}");
    }
}
