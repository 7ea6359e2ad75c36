use std::path::Path;

use expect_test::{Expect, expect};

use super::Config;

fn parse(text: &str) -> Result<Config, super::Problems> {
    Config::parse(text, Path::new("balancer.toml"))
}

#[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
fn check_problems(text: &str, expected: Expect) {
    expected.assert_eq(&parse(text).unwrap_err().to_string());
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
    assert_eq!(config.limits.body, 1 << 30);
    assert_eq!(config.timeouts.head, std::time::Duration::from_millis(1500));
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
    let config = Config::load(&file).unwrap();
    assert_eq!(config.access_log.to, super::AccessLogTo::File(folder.path().join("access.log")));
    assert_eq!(config.admin.socket.as_deref(), Some(Path::new("/run/admin")));
    assert_eq!(config.listen[0].certificates[0].certificate, folder.path().join("c"));
    assert_eq!(config.listen[0].certificates[0].key, Path::new("/k"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let problems = Config::load(Path::new("/nowhere/balancer.toml")).unwrap_err();
    expect![[r"
        /nowhere/balancer.toml: cannot be read: No such file or directory (os error 2)
        hint: is the path right? it starts at the current folder"]]
    .assert_eq(&problems.to_string());
}

#[test]
fn unknown_keys_and_wrong_types_name_their_line() {
    check_problems(
        "servers = ['127.0.0.1:1']\npolcy = 'hash'",
        expect![[r"
        balancer.toml:2: unknown field `polcy`, expected one of `listen`, `servers`, `policy`, `hash-on`, `trusted-proxies`, `served-by`, `workers`, `drain`, `health`, `retries`, `limits`, `timeouts`, `access-log`, `admin`
        hint: did you mean `policy`?"]],
    );
    check_problems(
        "servers = ['127.0.0.1:1']\npolicy = 'round-robbin'",
        expect![[r"
        balancer.toml:2: unknown variant `round-robbin`, expected one of `round-robin`, `least-connections`, `random-two`, `hash`
        hint: did you mean `round-robin`?"]],
    );
    check_problems(
        "servers = ['127.0.0.1:1']\n[timeouts]\nhaed = '5s'",
        expect![[r"
        balancer.toml:3: unknown field `haed`, expected one of `handshake`, `head`, `body`, `send`, `idle`, `connect`, `response`, `response-body`, `upgrade`, `server-idle`, `queue`
        hint: did you mean `head`?"]],
    );
    check_problems(
        "servers = ['127.0.0.1:1']\n[timeouts]\nhead = 5",
        expect![[r"
        balancer.toml:3: invalid type: integer `5`, expected a string
        hint: docs/guide/balancer-options.md explains every option"]],
    );
    check_problems(
        "servers = ['127.0.0.1:1']\n[timeouts]\nhead = '5 parsecs'",
        expect![[r#"
        balancer.toml:3: invalid value: string "5 parsecs", expected a duration like "250ms", "5s", "2m" or "1h"
        hint: docs/guide/balancer-options.md explains every option"#]],
    );
    check_problems(
        "servers = ['127.0.0.1:1']\n[limits]\nbody = '-1MiB'",
        expect![[r#"
        balancer.toml:3: invalid value: string "-1MiB", expected a size like "512B", "64KiB" or "10MiB"
        hint: docs/guide/balancer-options.md explains every option"#]],
    );
    check_problems(
        "servers = ['localhost:1']",
        expect![[r#"
        balancer.toml:1: invalid value: string "localhost:1", expected an IP address with a port, or a table with an `address`
        hint: docs/guide/balancer-options.md explains every option"#]],
    );
    check_problems(
        "[[servers]]\nname = 'a'",
        expect![[r"
        balancer.toml:1: missing field `address`
        hint: docs/guide/balancer-options.md explains every option"]],
    );
    check_problems(
        "[[servers]]\naddress = '127.0.0.1:1'\nwieght = 2",
        expect![[r#"
            balancer.toml:3: unknown field `wieght`, expected one of `name`, `address`, `health-address`, `weight`, `max-connections`, `pipeline`
            hint: did you mean `weight`?"#]],
    );
    check_problems(
        "servers = [",
        expect![[r"
        balancer.toml:1: unclosed array, expected `]`
        hint: docs/guide/balancer-options.md explains every option"]],
    );
    check_problems(
        "servers = ['127.0.0.1:1']\nhealth.rise = 0",
        expect![[r"
        balancer.toml:2: invalid value: integer `0`, expected a nonzero u32
        hint: docs/guide/balancer-options.md explains every option"]],
    );
    check_problems(
        "servers = ['127.0.0.1:1']\ntrusted-proxies = ['10.0.0.0/33']",
        expect![[r"
        balancer.toml:2: invalid IP address syntax
        hint: docs/guide/balancer-options.md explains every option"]],
    );
    check_problems(
        "servers = ['127.0.0.1:1']\nhash-on = 'a b'",
        expect![[r#"
        balancer.toml:2: invalid value: string "a b", expected `client` or the name of a header
        hint: docs/guide/balancer-options.md explains every option"#]],
    );
}

#[test]
fn contradictions_are_reported_all_at_once() {
    check_problems(
        "",
        expect![[r#"
        balancer.toml: no server
        hint: for example: servers = ["127.0.0.1:3000"]"#]],
    );
    check_problems(
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
            balancer.toml:2: 0.0.0.0:80 is listed twice
            hint: remove one of them
            balancer.toml:2: 0.0.0.0:81 has no certificates, and browsers ignore hsts without TLS
            hint: set hsts on the address with certificates
            balancer.toml:3: `hash-on` means nothing with this policy
            hint: set policy = "hash" or remove it
            balancer.toml:4: `served-by` is no name of a header
            hint: write it like "x-served-by"
            balancer.toml:5: `ready` is no path
            hint: start it with / and encode what is not ASCII
            balancer.toml:9: the weight of one is not between 1 and 256
            hint: drain a server to give it no requests
            balancer.toml:11: two servers are called one
            hint: give each its own name
            balancer.toml:12: 127.0.0.1:0 has port 0
            hint: give the port the server listens on
            balancer.toml:13: 127.0.0.1:0 has port 0
            hint: give the port the server listens on
            balancer.toml:15: `limits.head` is not between 1KiB and 1MiB
            hint: 32KiB is usual
            balancer.toml:16: `limits.headers` is not between 1 and 1000
            hint: 100 is usual
            balancer.toml:17: `limits.http2-streams` is not between 1 and 10000
            hint: 128 is usual
            balancer.toml:19: `timeouts.head` is zero or longer than a year
            hint: give a duration like "5s"
            balancer.toml:20: `timeouts.idle` is zero or longer than a year
            hint: give a duration like "5s"
            balancer.toml:22: a retry budget over 100 percent
            hint: 20 is usual"#]],
    );
    check_problems(
        "servers = ['127.0.0.1:1']\nlisten = [{ address = '0.0.0.0:443', redirect-to-https = true,\n\
         certificates = [{ certificate = 'c', key = 'k' }] }]",
        expect![[r"
            balancer.toml:2: 0.0.0.0:443 speaks TLS and would redirect to itself
            hint: set redirect-to-https on the address without certificates"]],
    );
}
