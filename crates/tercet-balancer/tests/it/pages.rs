//! Error pages and maintenance, over HTTP/1.1 and HTTP/2.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::admin::control;
use crate::backend::{Backend, Request};
use crate::client::Client;
use crate::files::{VERSIONS, curl};
use crate::running::{PIPELINES, Running, config, with_pipeline};

const BROWSER: &str = "accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// A folder with these pages, each of which contains its name.
fn pages(names: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        fs::write(folder.path().join(name), format!("<p>{name}</p>")).unwrap();
    }
    folder
}

/// Responds with the status in the path, and some fields.
fn statuses() -> Backend {
    Backend::start(|request: &Request, stream| {
        let status = request.line().split(['/', ' ']).nth(2).unwrap_or_default().to_owned();
        let body = if request.line().starts_with("HEAD") { "" } else { "of the server" };
        let fields = "Content-Type: text/plain\r\nETag: \"a\"\r\nContent-Length: 13\r\nSet-Cookie: a=b\r\n\
                      WWW-Authenticate: Bearer\r\nContent-Encoding: identity\r\nVary: Origin\r\n";
        stream.write_all(format!("HTTP/1.1 {status} Why\r\n{fields}\r\n{body}").as_bytes()).is_ok()
    })
}

#[test]
fn browsers_get_a_page_in_place_of_the_balancers_own_response() {
    let folder = pages(&["404.html", "4xx.html", "503.html"]);
    let website = tempfile::tempdir().unwrap();
    let server = statuses();
    let more = format!(
        "error-pages.folder = '{}'\nroute = [{{ path = '/files', files = '{}' }}, {{ path = '/no', deny = ['127.0.0.0/8'] }}]",
        folder.path().display(),
        website.path().display()
    );
    let balancer = Running::with(config(&[&server], &more));
    let api = "accept: application/json";
    for version in VERSIONS {
        for (target, accept, status, expected) in [
            ("/files/a", BROWSER, 404, "<p>404.html</p>"),
            ("/files/a", api, 404, "\"status\":404"),
            ("/files/a", "accept: */*", 404, "\"status\":404"),
            ("/no", BROWSER, 403, "<p>4xx.html</p>"),
            ("/no", api, 403, "\"status\":403"),
            // Those of servers stay.
            ("/404", BROWSER, 404, "of the server"),
            ("/500", BROWSER, 500, "of the server"),
            ("/200", BROWSER, 200, "of the server"),
        ] {
            let answer = curl(&balancer, version, target, &["-H", accept]);
            assert_eq!(answer.status, status, "{version} {target}");
            assert!(answer.text().contains(expected), "{version} {target} {accept}: {}", answer.text());
            let is_own = !expected.contains("server");
            let media_type =
                if expected.starts_with('<') { "text/html; charset=utf-8" } else { "application/json" };
            if is_own {
                assert_eq!(answer.header("content-type"), Some(media_type), "{version} {target}");
                assert_eq!(answer.header("vary"), Some("Accept"), "{version} {target}");
                assert!(answer.header("x-request-id").is_some());
            }
        }
        let head = curl(&balancer, version, "/files/a", &["-H", BROWSER, "--head"]);
        assert_eq!((head.status, head.header("content-length")), (404, Some("15")));
    }
}

#[test]
fn pages_replace_the_responses_of_servers_where_that_is_said() {
    let folder = pages(&["404.html", "5xx.html"]);
    let server = statuses();
    let more = format!("error-pages = {{ folder = '{}', replace-servers = true }}", folder.path().display());
    let balancer = Running::with(config(&[&server], &more));
    for version in VERSIONS {
        for (status, accept, body) in [
            (404, BROWSER, "<p>404.html</p>"),
            (502, BROWSER, "<p>5xx.html</p>"),
            (401, BROWSER, "of the server"),
            (200, BROWSER, "of the server"),
            (404, "accept: application/json", "of the server"),
            (404, "accept: */*", "of the server"),
        ] {
            let answer = curl(&balancer, version, &format!("/{status}"), &["-H", accept]);
            assert_eq!((answer.status, answer.text()), (status, body), "{version} {status} {accept}");
            // Fields about the content are the page's, all others the server's.
            let is_page = body.starts_with('<');
            assert_eq!(answer.header("etag").is_none(), is_page, "{version} {status}");
            // A cache must not send the one to a client that gets the other.
            let varies = answer.head.to_ascii_lowercase().contains("\nvary: accept\r\n");
            assert_eq!(varies, [404, 502].contains(&status), "{version} {status} {accept}");
            assert_eq!(answer.header("content-encoding").is_none(), is_page, "{version} {status}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            assert_eq!(answer.header("set-cookie"), Some("a=b"));
            assert_eq!(answer.header("x-served-by"), Some("app-1"));
            let head = curl(&balancer, version, &format!("/{status}"), &["-H", accept, "--head"]);
            assert_eq!(head.header("content-length"), answer.header("content-length"), "{version} {status}");
            assert_eq!(head.header("content-type"), answer.header("content-type"), "{version} {status}");
        }
    }
    for pipeline in PIPELINES {
        let balancer = Running::with(with_pipeline(config(&[&server], &more), pipeline));
        let mut clients = [(); 8].map(|()| Client::connect(balancer.address));
        for _ in 0..3 {
            for client in &mut clients {
                client.send(format!("GET /404 HTTP/1.1\r\nHost: a\r\n{BROWSER}\r\n\r\n").as_bytes());
            }
            for client in &mut clients {
                assert_eq!(client.answer().text(), "<p>404.html</p>");
            }
        }
    }
}

/// Waits until the balancer responds with this status.
fn wait_for(balancer: &Running, status: u16) {
    let started = Instant::now();
    while curl(balancer, "--http1.1", "/200", &[]).status != status {
        assert!(started.elapsed() < Duration::from_secs(20), "{status}");
    }
}

fn in_maintenance(server: &Backend, folder: &Path, more: &str) -> Running {
    let file = folder.join("maintenance");
    let more = format!("maintenance.file = '{}'\n{more}", file.display());
    Running::with(config(&[server], &more))
}

#[test]
fn maintenance_is_on_while_its_file_exists() {
    let folder = pages(&["maintenance.html", "503.html"]);
    let server = statuses();
    let more = format!(
        "maintenance.retry-after = '2m'\nerror-pages.folder = '{0}'\nadmin.socket = '{0}/admin'",
        folder.path().display()
    );
    let balancer = in_maintenance(&server, folder.path(), &more);
    assert_eq!(curl(&balancer, "--http1.1", "/200", &[]).status, 200);
    let file = folder.path().join("maintenance");
    fs::write(&file, "").unwrap();
    wait_for(&balancer, 503);
    let metrics = control(&folder.path().join("admin"), "GET /metrics").1;
    assert!(metrics.contains("tercet_balancer_maintenance 1\n"), "{metrics}");
    let before = server.requests().len();
    for version in VERSIONS {
        let answer = curl(&balancer, version, "/200", &["-H", BROWSER]);
        assert_eq!((answer.status, answer.text()), (503, "<p>maintenance.html</p>"), "{version}");
        assert_eq!(answer.header("retry-after"), Some("120"), "{version}");
        let answer = curl(&balancer, version, "/200", &[]);
        assert!(answer.text().contains("the service is under maintenance"), "{version} {}", answer.text());
    }
    assert_eq!(server.requests().len(), before, "no server is asked");
    fs::remove_file(&file).unwrap();
    wait_for(&balancer, 200);
    let events = balancer.stop_for_events();
    assert!(events.contains("maintenance is on") && events.contains("maintenance is off"), "{events}");
}

#[test]
fn a_balancer_that_starts_in_maintenance_serves_only_allowed_networks() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("maintenance"), "").unwrap();
    let server = statuses();
    let more = "trusted-proxies = ['127.0.0.1']\nmaintenance.allow = ['10.0.0.0/8']";
    let balancer = in_maintenance(&server, folder.path(), more);
    for (client, status) in [("10.1.2.3", 200), ("11.1.2.3", 503)] {
        let header = format!("x-forwarded-for: {client}");
        assert_eq!(curl(&balancer, "--http1.1", "/200", &["-H", &header]).status, status, "{client}");
    }
}
