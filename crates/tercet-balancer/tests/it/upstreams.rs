//! Servers that are backups, that have names, and that listen on Unix sockets.

use std::fs;
use std::io::{BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tercet_balancer::Config;

use crate::backend::{Backend, read_head};
use crate::client::Client;
use crate::files::{VERSIONS, curl};
use crate::running::{PIPELINES, Running, with_pipeline};

/// A balancer in front of these entries of `servers`.
fn in_front_of(servers: &str, more: &str) -> Config {
    let text = format!("listen = ['127.0.0.1:0']\nworkers = 1\ndrain = '1s'\nservers = [{servers}]\n{more}");
    Config::parse(&text, "a").unwrap_or_else(|mistakes| panic!("{text}\n{}", mistakes.lines()))
}

/// Waits until the response is this text.
fn wait_for(balancer: &Running, text: &str) {
    let started = Instant::now();
    loop {
        let answer = curl(balancer, "--http1.1", "/", &[]);
        if answer.text() == text {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{text}, not {}", answer.text());
    }
}

#[test]
fn a_backup_gets_requests_only_while_no_other_server_is_up() {
    let (one, two) = (Backend::responding("one"), Backend::responding("two"));
    let (backup, reserve) = (Backend::responding("backup"), Backend::responding("backup"));
    let entry = |server: &Backend, more: &str| format!("{{ address = '{}'{more} }}", server.address);
    let backups = format!("{}, {}", entry(&backup, ", backup = true"), entry(&reserve, ", backup = true"));
    let rules = "health = { interval = '50ms', fall = 1, rise = 1, ejection-failures = 1 }";
    let both = format!("{backups}, {}, {}", entry(&one, ""), entry(&two, ""));
    let balancer = Running::with(in_front_of(&both, rules));
    let mut client = Client::connect(balancer.address);
    for expected in ["one", "two", "one", "two"] {
        assert_eq!(client.get("/").text(), expected);
    }
    drop(one);
    // It is not noticed before a request fails, which then is sent to the other one, and not to a backup.
    for _ in 0..20 {
        assert_eq!(client.get("/").text(), "two");
    }
    drop(two);
    for _ in 0..20 {
        assert_eq!(client.get("/").text(), "backup");
    }
    assert!(!backup.requests().is_empty() && !reserve.requests().is_empty(), "backups share the requests");
    let again = Backend::responding("again");
    let with_another = format!("{backups}, {}", entry(&again, ""));
    balancer.balancer().reload(in_front_of(&with_another, rules), Vec::new()).unwrap();
    for _ in 0..20 {
        assert_eq!(client.get("/").text(), "again");
    }
    // A server becomes a backup, and a backup a server.
    let swapped = format!("{}, {}", entry(&backup, ""), entry(&again, ", backup = true"));
    balancer.balancer().reload(in_front_of(&swapped, rules), Vec::new()).unwrap();
    assert_eq!(client.get("/").text(), "backup");
}

/// A server on a Unix socket that responds with its text; returns the number of its connections, checks left out.
fn unix_server(path: &Path, text: &'static str) -> Arc<AtomicUsize> {
    let listener = UnixListener::bind(path).unwrap();
    let connections: Arc<AtomicUsize> = Arc::default();
    let counted = Arc::clone(&connections);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let counted = Arc::clone(&counted);
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.unwrap());
                let mut is_first = true;
                while let Some(head) = read_head(&mut reader) {
                    let is_check = head.to_ascii_lowercase().contains("user-agent: tercet-balancer");
                    counted.fetch_add(usize::from(is_first && !is_check), Ordering::SeqCst);
                    is_first = false;
                    let text =
                        if is_check && !head.contains("Host: localhost\r\n") { "no host" } else { text };
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
                    if reader.get_mut().write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    connections
}

#[test]
fn a_server_may_listen_on_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let connections = unix_server(&path("app-1.sock"), "one");
    let address = |name: &str| format!("'unix:{}'", path(name).display());
    for pipeline in PIPELINES {
        let servers = format!("{}, {}", address("app-1.sock"), address("app-2.sock"));
        let more = "served-by = 'x-served-by'\nhealth = { path = '/ready', interval = '50ms' }";
        let balancer = Running::with(with_pipeline(in_front_of(&servers, more), pipeline));
        let before = connections.load(Ordering::SeqCst);
        for version in VERSIONS {
            let answer = curl(&balancer, version, "/a", &[]);
            assert_eq!((answer.status, answer.text()), (200, "one"), "{version}: the other is not there");
            assert_eq!(answer.header("x-served-by"), Some("app-1.sock"));
        }
        let mut client = Client::connect(balancer.address);
        for _ in 0..10 {
            assert_eq!(client.get("/").text(), "one");
        }
        let used = connections.load(Ordering::SeqCst) - before;
        assert!(used <= 2, "its connections are kept: {used}");
    }
    // A server that is started later.
    let balancer = Running::with(in_front_of(&address("app-3.sock"), ""));
    assert_eq!(curl(&balancer, "--http1.1", "/", &[]).status, 503);
    unix_server(&path("app-3.sock"), "three");
    wait_for(&balancer, "three");
    fs::remove_file(path("app-3.sock")).unwrap();
}

#[test]
fn a_server_may_have_a_name() {
    let server = Backend::responding("named");
    let servers = format!("'localhost:{}'", server.address.port());
    let balancer = Running::with(in_front_of(&servers, "health = { interval = '50ms' }"));
    for version in VERSIONS {
        // The name may also have the address ::1, which refuses the connection.
        let answer = curl(&balancer, version, "/", &[]);
        assert_eq!((answer.status, answer.text()), (200, "named"), "{version}");
    }
    let mut client = Client::connect(balancer.address);
    for _ in 0..5 {
        assert_eq!(client.get("/").text(), "named");
    }
    let rules = "health = { interval = '50ms', fall = 1 }";
    let unknown = Running::with(in_front_of("'nowhere.invalid:80'", rules));
    assert_eq!(curl(&unknown, "--http1.1", "/", &[]).status, 503);
    let started = Instant::now();
    while !unknown.events().contains("nowhere.invalid does not resolve") {
        assert!(started.elapsed() < Duration::from_secs(20), "{}", unknown.events());
        std::thread::yield_now();
    }
}
