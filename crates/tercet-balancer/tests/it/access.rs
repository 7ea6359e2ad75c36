//! Access rules of routes: networks of clients, and basic authentication, over HTTP/1.1 and HTTP/2.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use crate::backend::Backend;
use crate::client::Client;
use crate::files::{VERSIONS, curl};
use crate::running::{Running, config};

/// A folder with the file `users`: `ann`, whose password is `secret`.
fn users() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users");
    fs::write(&file, format!("ann:{}\n", bcrypt::hash("secret", 4).unwrap())).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    folder
}

#[test]
fn a_denied_client_gets_403_and_the_server_sees_nothing() {
    let website = tempfile::tempdir().unwrap();
    fs::write(website.path().join("a.txt"), "file").unwrap();
    let server = Backend::responding("api");
    let routes = format!(
        "trusted-proxies = ['127.0.0.1']\n\
         route = [{{ path = '/inside', allow = ['10.0.0.0/8'] }}, {{ path = '/outside', deny = ['192.0.2.0/24'] }},\n\
         {{ path = '/files', strip = true, files = '{}', allow = ['10.0.0.0/8'] }}, {{ path = '/here', allow = ['127.0.0.1'] }}]",
        website.path().display()
    );
    let balancer = Running::with(config(&[&server], &routes));
    for version in VERSIONS {
        for (client, target, status) in [
            ("10.1.2.3", "/inside/a", 200),
            ("11.1.2.3", "/inside/a", 403),
            ("11.1.2.3", "/%69nside/a", 403),
            ("11.1.2.3", "/other", 200),
            ("192.0.2.1", "/outside", 403),
            ("192.0.3.1", "/outside", 200),
            // The last address that is no proxy's: what a client writes itself is not believed.
            ("10.1.2.3, 11.1.2.3", "/inside/a", 403),
            ("11.1.2.3, 10.1.2.3", "/inside/a", 200),
            ("10.1.2.3", "/files/a.txt", 200),
            ("11.1.2.3", "/files/a.txt", 403),
            ("11.1.2.3", "/here", 403),
        ] {
            let before = server.requests().len();
            let header = format!("x-forwarded-for: {client}");
            let answer = curl(&balancer, version, target, &["-H", &header]);
            assert_eq!(answer.status, status, "{version} {client} {target}");
            let seen = server.requests().len() - before;
            let is_file = target.starts_with("/files");
            assert_eq!(seen, usize::from(status == 200 && !is_file), "{version} {client} {target}");
        }
        assert_eq!(curl(&balancer, version, "/here", &[]).status, 200);
        assert_eq!(curl(&balancer, version, "/inside", &[]).status, 403);
    }
}

#[test]
fn the_address_of_a_proxy_header_is_judged() {
    let server = Backend::responding("api");
    let mut config = config(&[&server], "route = [{ path = '/', allow = ['10.0.0.0/8'] }]");
    config.listen[0].proxy_protocol = true;
    let balancer = Running::with(config);
    for (client, status) in [("10.1.2.3", 200), ("127.0.0.1", 403)] {
        let mut connection = Client::connect(balancer.address);
        connection.send(format!("PROXY TCP4 {client} 10.0.0.1 1 80\r\n").as_bytes());
        assert_eq!(connection.get("/").status, status, "{client}");
    }
}

#[test]
fn a_password_is_needed_and_neither_forwarded_nor_logged() {
    let folder = users();
    let file = folder.path().join("users");
    let server = Backend::responding("api");
    let routes = format!(
        "[[route]]\npath = '/'\nbasic-auth = {{ users = '{0}', realm = 'the shop' }}\n\
         [[route]]\npath = '/forward'\nbasic-auth = {{ users = '{0}', forward = true }}\n[[route]]\npath = '/open'\n",
        file.display()
    );
    let balancer = Running::with(config(&[&server], &routes));
    for version in VERSIONS {
        for (target, user, status, forwarded) in [
            ("/", None, 401, false),
            ("/", Some("ann:guess"), 401, false),
            ("/", Some("eve:secret"), 401, false),
            ("/", Some("ann:secret"), 200, false),
            ("/forward", None, 401, false),
            ("/forward", Some("ann:secret"), 200, true),
            ("/open", None, 200, false),
            ("/open", Some("eve:own"), 200, true),
        ] {
            let before = server.requests().len();
            let arguments: Vec<&str> = user.iter().flat_map(|user| ["-u", user]).collect();
            let answer = curl(&balancer, version, target, &arguments);
            assert_eq!(answer.status, status, "{version} {target} {user:?}");
            let challenge = answer.header("www-authenticate");
            let realm = if target == "/" { "the shop" } else { "restricted" };
            let expected = format!("Basic realm=\"{realm}\", charset=\"UTF-8\"");
            assert_eq!(challenge, (status == 401).then_some(&*expected), "{version} {target}");
            let requests = server.requests();
            assert_eq!(requests.len() - before, usize::from(status == 200), "{version} {target}");
            if let Some(request) = requests[before..].first() {
                assert_eq!(request.header("authorization").is_some(), forwarded, "{version} {target}");
            }
        }
    }
    // The server could read another one than the balancer.
    let head = "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YW5uOnNlY3JldA==\r\n";
    let two = format!("{head}Authorization: Bearer a\r\n\r\n");
    assert_eq!(Client::connect(balancer.address).send(two.as_bytes()).answer().status, 401);
    let one = format!("{head}\r\n");
    assert_eq!(Client::connect(balancer.address).send(one.as_bytes()).answer().status, 200);
    let log = balancer.stop();
    assert!(!log.contains("YW5uOnNlY3JldA") && !log.contains("secret"), "{log}");
}

#[test]
fn another_file_of_users_is_in_force_after_a_reload() {
    let folder = users();
    let file = folder.path().join("users");
    let server = Backend::responding("api");
    let route = format!("route = [{{ path = '/', basic-auth = {{ users = '{}' }} }}]", file.display());
    let balancer = Running::with(config(&[&server], &route));
    let status = |user: &str| curl(&balancer, "--http1.1", "/", &["-u", user]).status;
    assert_eq!((status("ann:secret"), status("bob:word")), (200, 401));
    fs::write(&file, format!("bob:{}\n", bcrypt::hash("word", 4).unwrap())).unwrap();
    let reload = || balancer.balancer().reload(config(&[&server], &route), Vec::new());
    reload().unwrap();
    assert_eq!((status("ann:secret"), status("bob:word")), (401, 200));
    // A file that cannot be used leaves the one before in force.
    fs::write(&file, "bob").unwrap();
    let problem = reload().unwrap_err().to_string();
    assert!(problem.contains("users: line 1: it has no colon"), "{problem}");
    assert_eq!(status("bob:word"), 200);
}

#[test]
fn credentials_are_asked_for_after_the_redirect_to_https() {
    let folder = users();
    let file = folder.path().join("users");
    let server = Backend::responding("api");
    let route = format!("route = [{{ path = '/', basic-auth = {{ users = '{}' }} }}]", file.display());
    let mut config = config(&[&server], &route);
    config.listen[0].redirect_to_https = true;
    let balancer = Running::with(config);
    assert_eq!(curl(&balancer, "--http1.1", "/", &[]).status, 308);
}
