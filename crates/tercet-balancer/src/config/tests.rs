use std::path::Path;

use expect_test::{Expect, expect};

use tercet_options::Mistakes;

use super::Config;

fn parse(text: &str) -> Result<Config, Mistakes> {
    Config::parse(text, "balancer.toml")
}

#[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
fn check_mistakes(text: &str, expected: Expect) {
    expected.assert_eq(&parse(text).unwrap_err().lines());
}

#[test]
fn what_is_written_is_what_is_read() {
    let config = parse(
        r#"
            listen = ["127.0.0.1:80", { address = "[::]:443", hsts = "365d", certificates = [
                { certificate = "a.pem", key = "a.key" }, { certificate = "b.pem", key = "b.key" },
            ] }]
            policy = "hash"
            hash-on = "x-tenant"
            trusted-proxies = ["10.0.0.0/8", "fd00::/8"]
            [[servers]]
            name = "app-1"
            address = "127.0.0.1:3001"
            weight = 3
            [[servers]]
            address = "[::1]:3002"
            max-connections = 10
            [limits]
            body = "1GiB"
            [timeouts]
            head = "1500ms"
            [access-log]
            to = "/var/log/access.log"
            format = "json"
            [admin]
            metrics = "127.0.0.1:9000"
        "#,
    )
    .unwrap();
    assert_eq!(config.servers[1].name, "[::1]:3002");
    assert_eq!(*config.limits.body, 1 << 30);
    assert_eq!(*config.timeouts.head, std::time::Duration::from_millis(1500));
    let written = toml::to_string(&config).unwrap();
    assert_eq!(parse(&written).unwrap(), config, "{written}");
}

#[test]
fn the_defaults_are_valid_once_there_is_a_server() {
    let config = parse("servers = ['127.0.0.1:1']").unwrap();
    assert_eq!(parse(&toml::to_string(&config).unwrap()).unwrap(), config);
}

#[test]
fn relative_paths_start_at_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("balancer.toml");
    std::fs::write(
        &file,
        "servers = ['127.0.0.1:1']\naccess-log.to = 'access.log'\nadmin.socket = '/run/admin'\n\
         listen = [{ address = '127.0.0.1:0', certificates = [{ certificate = 'c', key = '/k' }] }]",
    )
    .unwrap();
    let config = super::load(&file).unwrap();
    assert_eq!(config.access_log.to, super::AccessLogTo::File(folder.path().join("access.log")));
    assert_eq!(config.admin.socket.as_deref(), Some(Path::new("/run/admin")));
    assert_eq!(config.listen[0].certificates[0].certificate, folder.path().join("c"));
    assert_eq!(config.listen[0].certificates[0].key, Path::new("/k"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let problems = super::load(Path::new("/nowhere/balancer.toml")).unwrap_err();
    expect![[r#"
        /nowhere/balancer.toml: cannot be read: No such file or directory (os error 2)
        hint: check the path; a relative one starts at the current folder"#]]
    .assert_eq(&problems.lines());
}

#[test]
fn unknown_keys_and_wrong_types_name_their_line() {
    check_mistakes(
        "servers = ['127.0.0.1:1']\npolcy = 'hash'",
        expect![[r#"
            balancer.toml:2: unknown key polcy at the top of the file
            hint: did you mean policy?"#]],
    );
    check_mistakes(
        "servers = ['127.0.0.1:1']\npolicy = 'round-robbin'",
        expect![[r#"
            balancer.toml:2: policy can't be "round-robbin"
            hint: did you mean "round-robin"?"#]],
    );
    check_mistakes(
        "servers = ['127.0.0.1:1']\n[timeouts]\nhaed = '5s'",
        expect![[r#"
            balancer.toml:3: unknown key haed in [timeouts]
            hint: did you mean head?"#]],
    );
    check_mistakes(
        "servers = ['127.0.0.1:1']\n[timeouts]\nhead = 5",
        expect![[r#"
            balancer.toml:3: timeouts.head must be a string, not an integer
            hint: write a duration like "250ms", "5s", "2m" or "1h""#]],
    );
    check_mistakes(
        "servers = ['127.0.0.1:1']\n[timeouts]\nhead = '5 parsecs'",
        expect![[r#"
            balancer.toml:3: timeouts.head can't be "5 parsecs"
            hint: write a duration like "250ms", "5s", "2m" or "1h""#]],
    );
    check_mistakes(
        "servers = ['127.0.0.1:1']\n[limits]\nbody = '-1MiB'",
        expect![[r#"
            balancer.toml:3: limits.body can't be "-1MiB"
            hint: write a size like "512B", "64KiB" or "10MiB""#]],
    );
    check_mistakes(
        "servers = ['http://localhost:1']",
        expect![[r#"
            balancer.toml:1: servers can't be "http://localhost:1"
            hint: write it like 10.0.0.11:8080, app.internal:8080 or unix:/run/app.sock"#]],
    );
    check_mistakes(
        "[[servers]]\nname = 'a'",
        expect![[r#"
            balancer.toml:1: missing key address in [servers]
            hint: for example: address = "10.0.0.11:8080""#]],
    );
    check_mistakes(
        "[[servers]]\naddress = '127.0.0.1:1'\nwieght = 2",
        expect![[r#"
            balancer.toml:3: unknown key wieght in [servers]
            hint: did you mean weight?"#]],
    );
    check_mistakes("servers = [", expect!["balancer.toml:1: not TOML: unclosed array, expected `]`"]);
    check_mistakes(
        "servers = ['127.0.0.1:1']\nhealth.rise = 0",
        expect![[r#"
            balancer.toml:2: health.rise is out of range
            hint: at least 1"#]],
    );
    check_mistakes(
        "servers = ['127.0.0.1:1']\ntrusted-proxies = ['10.0.0.0/33']",
        expect![[r#"
            balancer.toml:2: trusted-proxies can't be "10.0.0.0/33"
            hint: write it like 10.0.0.0/8"#]],
    );
    check_mistakes(
        "servers = ['127.0.0.1:1']\nhash-on = 'a b'",
        expect![[r#"
            balancer.toml:2: hash-on can't be "a b"
            hint: write "client", or a header like "authorization""#]],
    );
}

#[test]
fn contradictions_are_reported_all_at_once() {
    check_mistakes(
        "",
        expect![[r#"
            balancer.toml: missing key servers at the top of the file
            hint: for example: servers = ["127.0.0.1:3000"]"#]],
    );
    check_mistakes(
        r#"
            listen = ["0.0.0.0:80", "0.0.0.0:80", { address = "0.0.0.0:81", hsts = "1d" }]
            hash-on = "client"
            served-by = "not a name"
            health.path = "ready"
            [[servers]]
            name = "one"
            address = "127.0.0.1:1"
            weight = 0
            [[servers]]
            name = "one"
            address = "127.0.0.1:0"
            health-address = "127.0.0.1:0"
            [limits]
            head = "2MiB"
            headers = 0
            http2-streams = 0
            [timeouts]
            head = "0s"
            idle = "1000d"
            [retries]
            budget-percent = 200
        "#,
        expect![[r#"
            balancer.toml:2: listen[1] is 0.0.0.0:80 again
            hint: remove one of the two
            balancer.toml:2: listen[2].hsts has no effect without TLS
            hint: set hsts on the address with TLS
            balancer.toml:3: hash-on has no effect with this policy
            hint: set policy = "hash", or leave it out
            balancer.toml:4: served-by can't be "not a name"
            hint: write it like "x-served-by"
            balancer.toml:5: health.path can't be "ready"
            hint: start it with / and percent-encode all but ASCII
            balancer.toml:9: servers.weight is out of range
            hint: from 1 to 256
            balancer.toml:11: servers[1].name is one again
            hint: give each server a different name
            balancer.toml:12: servers[1].address has port 0
            hint: give the port that the server listens on
            balancer.toml:13: servers[1].health-address has port 0
            hint: give the port that the server listens on
            balancer.toml:15: limits.head is out of range
            hint: from 1KiB to 1MiB
            balancer.toml:16: limits.headers is out of range
            hint: from 1 to 1000
            balancer.toml:17: limits.http2-streams is out of range
            hint: from 1 to 10000
            balancer.toml:19: timeouts.head is out of range
            hint: from 1ms to 366d
            balancer.toml:20: timeouts.idle is out of range
            hint: from 1ms to 366d
            balancer.toml:22: retries.budget-percent is out of range
            hint: from 0 to 100"#]],
    );
    check_mistakes(
        "servers = ['127.0.0.1:1']\nlisten = [{ address = '0.0.0.0:443', redirect-to-https = true,\n\
         certificates = [{ certificate = 'c', key = 'k' }] }]",
        expect![[r#"
            balancer.toml:2: listen[0].redirect-to-https would redirect TLS to itself
            hint: set redirect-to-https on the address without TLS"#]],
    );
}

#[test]
fn backups_need_another_server_and_pipelining_needs_an_address() {
    check_mistakes(
        "servers = [{ address = 'app:80', backup = true, pipeline = 16 }]",
        expect![[r#"
            balancer.toml:1: servers are all backups, for no other server
            hint: leave out backup for the servers that get the requests
            balancer.toml:1: servers[0].pipeline needs an IP address or a Unix socket
            hint: leave it out: the address of a name may change while requests share a connection"#]],
    );
}

#[test]
fn acme_needs_domains() {
    check_mistakes(
        "servers = ['127.0.0.1:1']\nacme.email = 'operator@example.com'",
        expect![[r#"
            balancer.toml:2: acme has no effect without domains
            hint: name the domains: domains = ["shop.example.com"]; or leave acme out"#]],
    );
}

#[test]
fn the_examples_of_the_guide_are_valid() {
    let guide = include_str!("../../../../docs/guide/balancer.md");
    let examples: Vec<&str> =
        guide.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 2, "the guide has examples");
    for example in examples {
        // A part of a file is shown alone: it is valid beside the servers it leaves out.
        let whole = if example.contains("servers") {
            example.to_owned()
        } else {
            format!("servers = ['127.0.0.1:1']\n{example}")
        };
        parse(&whole).unwrap_or_else(|mistakes| panic!("{example}\n{}", mistakes.lines()));
    }
}

#[test]
fn a_folder_of_files_exists_and_contains_nothing_private() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("etc/balancer.toml");
    for name in ["etc/tls", "public", "tls", "etc/log", "etc/acme/web", "keys"] {
        std::fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    for file in ["tls/shop.key", "keys/hmac"] {
        std::fs::write(folder.path().join(file), "").unwrap();
    }
    std::os::unix::fs::symlink("..", folder.path().join("public/up")).unwrap();
    let load = |files: &str| {
        let text = format!(
            "servers = ['127.0.0.1:1']\nroute = [{{ files = '{files}' }}]\naccess-log.to = 'log/access.log'\n\
             domains = ['shop.example']\nacme.folder = 'acme'\nacme.eab = {{ kid = 'k', hmac-key-file = '../keys/hmac' }}\n\
             listen = [{{ address = '127.0.0.1:0', certificates = [{{ certificate = 'c', key = '../tls/shop.key' }}] }}]"
        );
        std::fs::write(&file, text).unwrap();
        super::load(&file)
            .map_err(|mistakes| mistakes.lines().replace(&folder.path().display().to_string(), ""))
    };
    let config = load("../public").unwrap();
    assert_eq!(config.route[0].files, Some(folder.path().join("etc/../public")));
    for (files, expected) in [
        (
            "../missing",
            "route[0].files cannot be opened: /etc/../missing: No such file or directory (os error 2)",
        ),
        ("../tls/shop.key", "route[0].files is no folder: /etc/../tls/shop.key"),
        (".", "route[0].files contains /etc/balancer.toml, which clients must not read"),
        ("..", "route[0].files contains /etc/balancer.toml, which clients must not read"),
        ("../public/up/tls", "route[0].files contains /tls/shop.key, which clients must not read"),
        ("acme", "route[0].files contains /etc/acme, which clients must not read"),
        ("acme/web", "route[0].files is in /etc/acme, which clients must not read"),
        ("../keys", "route[0].files contains /keys/hmac, which clients must not read"),
        ("log", "route[0].files contains /etc/log/access.log, which clients must not read"),
    ] {
        let lines = load(files).unwrap_err();
        assert!(lines.starts_with(&format!("/etc/balancer.toml:2: {expected}\nhint: ")), "{files}: {lines}");
    }
}
