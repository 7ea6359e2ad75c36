//! What a `tercet.toml` means.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use tercet_config::{EXAMPLE, Origin, Reach, Topology};

fn parse(text: &str) -> Topology {
    tercet_config::parse(text, Origin { file: "tercet.toml", folder: "My Shop" }).unwrap()
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
fn check(text: &str, expected: Expect) {
    let topology = parse(text);
    let mut shown = format!("{}\n", topology.name());
    for machine in topology.machines() {
        let tiers: Vec<String> = machine.tiers.iter().map(ToString::to_string).collect();
        let reach = match &machine.reach {
            Reach::ThisMachine => "here",
            Reach::Ssh(destination) => destination,
        };
        writeln!(shown, "{} ({reach}, {}): {}", machine.name, machine.address, tiers.join(", ")).unwrap();
    }
    for part in topology.parts() {
        let free = if part.port.fixed { "" } else { " or the next free one" };
        writeln!(shown, "{} on port {}{free}", part.name, part.port.number).unwrap();
    }
    for edge in topology.edges() {
        writeln!(shown, "{edge}").unwrap();
    }
    expected.assert_eq(&shown);
}

#[test]
fn the_empty_file() {
    check(
        "",
        expect![[r"
        my_shop
        this machine (here, 127.0.0.1): balancer, application, database
        balancer on port 8080 or the next free one
        app-1 on port 8081 or the next free one
        app-2 on port 8082 or the next free one
        database on port 5432 or the next free one
        internet → balancer http 127.0.0.1:8080: requests of clients
        balancer → app-1 http 127.0.0.1:8081: requests by round-robin, health checks
        balancer → app-2 http 127.0.0.1:8082: requests by round-robin, health checks
        app-1 → app-2 http 127.0.0.1:8082: application servers may connect to each other
        app-2 → app-1 http 127.0.0.1:8081: application servers may connect to each other
        app-1 → database postgres 127.0.0.1:5432: queries, one transaction a request
        app-2 → database postgres 127.0.0.1:5432: queries, one transaction a request
    "]],
    );
    let topology = parse("");
    assert!(topology.only_this_machine());
    assert!(topology.edges().iter().all(tercet_config::Edge::is_local));
}

#[test]
fn four_machines() {
    check(
        r#"
name = "bookshop"
[[machine]]
name = "lb"
ssh = "root@203.0.113.10"
address = "10.0.0.10"
tiers = ["balancer"]
[[machine]]
name = "app1"
ssh = "root@203.0.113.11"
address = "10.0.0.11"
tiers = ["application"]
[[machine]]
name = "app2"
ssh = "root@203.0.113.12"
address = "10.0.0.12"
tiers = ["application"]
[[machine]]
name = "db"
ssh = "root@203.0.113.13"
address = "10.0.0.13"
tiers = ["database"]
"#,
        expect![[r#"
            bookshop
            lb (root@203.0.113.10, 10.0.0.10): balancer
            app1 (root@203.0.113.11, 10.0.0.11): application
            app2 (root@203.0.113.12, 10.0.0.12): application
            db (root@203.0.113.13, 10.0.0.13): database
            balancer on port 80
            app-1 on port 8081
            app-2 on port 8081
            database on port 5432
            internet → balancer http 0.0.0.0:80: requests of clients
            internet → balancer http [::]:80: requests of clients
            balancer → app-1 http 10.0.0.11:8081: requests by round-robin, health checks
            balancer → app-1 http 10.0.0.11:9081: whether it is ready, metrics
            balancer → app-1 http 10.0.0.11:8082: requests by round-robin, health checks
            balancer → app-1 http 10.0.0.11:9082: whether it is ready, metrics
            balancer → app-2 http 10.0.0.12:8081: requests by round-robin, health checks
            balancer → app-2 http 10.0.0.12:9081: whether it is ready, metrics
            balancer → app-2 http 10.0.0.12:8082: requests by round-robin, health checks
            balancer → app-2 http 10.0.0.12:9082: whether it is ready, metrics
            app-1 → app-2 http 10.0.0.12:8081: application servers may connect to each other
            app-1 → app-2 http 10.0.0.12:8082: application servers may connect to each other
            app-2 → app-1 http 10.0.0.11:8081: application servers may connect to each other
            app-2 → app-1 http 10.0.0.11:8082: application servers may connect to each other
            app-1 → database postgres 10.0.0.13:5432: queries, one transaction a request
            app-2 → database postgres 10.0.0.13:5432: queries, one transaction a request
        "#]],
    );
}

#[test]
fn the_database_shares_the_balancers_machine() {
    check(
        r#"
[application]
servers = 3
port = 9000
[[machine]]
name = "front"
ssh = "front"
address = "fd00::1"
tiers = ["database", "balancer"]
[[machine]]
name = "a"
ssh = "a"
address = "fd00::2"
tiers = ["application"]
[[machine]]
name = "b"
ssh = "b"
address = "fd00::3"
tiers = ["application"]
"#,
        expect![[r#"
            my_shop
            front (front, fd00::1): balancer, database
            a (a, fd00::2): application
            b (b, fd00::3): application
            balancer on port 80
            app-1 on port 9000
            app-2 on port 9000
            app-3 on port 9001
            database on port 5432
            internet → balancer http 0.0.0.0:80: requests of clients
            internet → balancer http [::]:80: requests of clients
            balancer → app-1 http [fd00::2]:9000: requests by round-robin, health checks
            balancer → app-1 http [fd00::2]:10000: whether it is ready, metrics
            balancer → app-1 http [fd00::2]:9002: requests by round-robin, health checks
            balancer → app-1 http [fd00::2]:10002: whether it is ready, metrics
            balancer → app-2 http [fd00::3]:9000: requests by round-robin, health checks
            balancer → app-2 http [fd00::3]:10000: whether it is ready, metrics
            balancer → app-2 http [fd00::3]:9002: requests by round-robin, health checks
            balancer → app-2 http [fd00::3]:10002: whether it is ready, metrics
            balancer → app-3 http [fd00::2]:9001: requests by round-robin, health checks
            balancer → app-3 http [fd00::2]:10001: whether it is ready, metrics
            balancer → app-3 http [fd00::2]:9003: requests by round-robin, health checks
            balancer → app-3 http [fd00::2]:10003: whether it is ready, metrics
            app-1 → app-2 http [fd00::3]:9000: application servers may connect to each other
            app-1 → app-2 http [fd00::3]:9002: application servers may connect to each other
            app-1 → app-3 http 127.0.0.1:9001: application servers may connect to each other
            app-1 → app-3 http 127.0.0.1:9003: application servers may connect to each other
            app-2 → app-1 http [fd00::2]:9000: application servers may connect to each other
            app-2 → app-1 http [fd00::2]:9002: application servers may connect to each other
            app-2 → app-3 http [fd00::2]:9001: application servers may connect to each other
            app-2 → app-3 http [fd00::2]:9003: application servers may connect to each other
            app-3 → app-1 http 127.0.0.1:9000: application servers may connect to each other
            app-3 → app-1 http 127.0.0.1:9002: application servers may connect to each other
            app-3 → app-2 http [fd00::3]:9000: application servers may connect to each other
            app-3 → app-2 http [fd00::3]:9002: application servers may connect to each other
            app-1 → database postgres [fd00::1]:5432: queries, one transaction a request
            app-2 → database postgres [fd00::1]:5432: queries, one transaction a request
            app-3 → database postgres [fd00::1]:5432: queries, one transaction a request
        "#]],
    );
}

#[test]
fn a_database_that_already_exists() {
    check(
        "[application]\nservers = 1\n[database]\nurl = \"@secrets/url\"\n",
        expect![[r"
            my_shop
            this machine (here, 127.0.0.1): balancer, application
            balancer on port 8080 or the next free one
            app-1 on port 8081 or the next free one
            internet → balancer http 127.0.0.1:8080: requests of clients
            balancer → app-1 http 127.0.0.1:8081: requests by round-robin, health checks
        "]],
    );
}

#[test]
fn what_tercet_init_writes_means_what_the_empty_file_means() {
    let (example, empty) = (parse(EXAMPLE), parse(""));
    assert_eq!(format!("{:?}", example.edges()), format!("{:?}", empty.edges()));
}

#[test]
fn each_key_that_tercet_init_suggests_is_one() {
    let (tiers, machine) = EXAMPLE.split_once("# [[machine]]").unwrap();
    let machine = parse(&format!("[[machine]]{}", machine.replace("\n# ", "\n")));
    assert_eq!(machine.parts().len(), 3);
    let mut section = "";
    for line in tiers.lines() {
        if line.starts_with('[') {
            section = line;
        }
        let Some(key) = line.strip_prefix("# ").filter(|rest| rest.split_once(" = ").is_some_and(is_key))
        else {
            continue;
        };
        let run = if key.starts_with("health") { "run = \"./server\"" } else { "" };
        parse(&format!("{section}\n{key}\n{run}\n"));
    }
}

fn is_key((key, _): (&str, &str)) -> bool {
    key.chars().all(|c| c.is_ascii_lowercase() || c == '-')
}

#[test]
fn secrets_are_not_shown() {
    let topology = parse(
        "[api]\njwt-secret = \"hush hush\"\ndb-anon-role = \"anon\"\n[database]\nurl = \"postgres://u:hush@h/d\"\n",
    );
    assert!(!format!("{topology:?}").contains("hush"));
}

#[test]
fn options_are_postgrests_own() {
    let text = "[api]\ndb-schemas = [\"shop\", \"public\"]\ndb-max-rows = 100\napp.settings.colour = \"red\"\nlog-level = \"warn\"\n";
    let topology = parse(text);
    let tercet_config::Server::Api(api) = &topology.applications()[0].server else {
        panic!("no run, so it is the API")
    };
    expect![[r#"
        db-anon-role = "anon"
        db-max-rows = 100
        db-schemas = "shop,public"
        log-level = "warn"

        [app.settings]
        colour = "red"
    "#]]
    .assert_eq(&api.options.to_string());
}

#[test]
fn with_a_certificate_there_are_addresses_with_tls() {
    let doors = |text: &str| {
        let topology = parse(text);
        let edges = topology.edges();
        let doors: Vec<String> = edges
            .iter()
            .filter(|edge| matches!(edge.from, tercet_config::End::Internet))
            .map(|edge| format!("{} {}:{}", edge.protocol, edge.address, edge.port))
            .collect();
        let tls = topology.balancer().tls.as_ref().expect("there is a certificate");
        format!("{}, redirect {}", doors.join(", "), tls.redirect)
    };
    let pair = "balancer.certificates = [{ certificate = 'shop.crt', key = 'shop.key' }]\n";
    expect!["http 127.0.0.1:8080, https 127.0.0.1:8443, redirect false"].assert_eq(&doors(pair));
    let machine = "machine = [{ name = 'one', ssh = 'one', address = '10.0.0.1', tiers = ['balancer', 'application', 'database'] }]\n";
    expect!["http 0.0.0.0:80, http :::80, https 0.0.0.0:443, https :::443, redirect true"]
        .assert_eq(&doors(&format!("{pair}{machine}")));
    let domains = "balancer.domains = ['Shop.example.com']\n";
    expect!["http 0.0.0.0:80, http :::80, https 0.0.0.0:443, https :::443, redirect true"]
        .assert_eq(&doors(&format!("{domains}{machine}")));
    assert_eq!(parse(&format!("{domains}{machine}")).balancer().domains, ["shop.example.com"]);
    let named = "balancer.listen = ['10.0.0.1:80']\nbalancer.tls-listen = ['10.0.0.1:443']\nbalancer.redirect-to-https = false\n";
    expect!["http 10.0.0.1:80, https 10.0.0.1:443, redirect false"]
        .assert_eq(&doors(&format!("{pair}{named}{machine}")));
}

#[test]
fn backups_on_a_machine_of_their_own() {
    let machines = r#"
        name = "shop"
        machine = [
            { name = "one", ssh = "one", address = "10.0.0.10", tiers = ["balancer", "application", "database"] },
            { name = "vault", ssh = "vault", address = "10.0.0.30", tiers = ["backup"] },
        ]
    "#;
    check(
        machines,
        expect![[r#"
        shop
        one (one, 10.0.0.10): balancer, application, database
        vault (vault, 10.0.0.30): backup
        balancer on port 80
        app-1 on port 8081
        database on port 5432
        backup on port 8432
        internet → balancer http 0.0.0.0:80: requests of clients
        internet → balancer http [::]:80: requests of clients
        balancer → app-1 http 127.0.0.1:8081: requests by round-robin, health checks
        balancer → app-1 http 127.0.0.1:9081: whether it is ready, metrics
        balancer → app-1 http 127.0.0.1:8082: requests by round-robin, health checks
        balancer → app-1 http 127.0.0.1:9082: whether it is ready, metrics
        app-1 → database postgres 127.0.0.1:5432: queries, one transaction a request
        database → backup backup 10.0.0.30:8432: the write-ahead log, restores
        backup → database backup 10.0.0.10:8432: backups
    "#]],
    );
    let backup = |text: &str| format!("{:?}\n", parse(&format!("{machines}{text}")).backup());
    expect![[r#"
        Some(Backup { full: "Sun 03:00", incremental: "*-*-* 03:00", check: Some("*-*-* 05:00"), keep_days: 28, repository: Machine })
    "#]].assert_eq(&backup(""));
    expect![[r#"
        Some(Backup { full: "Mon 01:00", incremental: "*-*-* 03:00", check: None, keep_days: 10, repository: Machine })
    "#]].assert_eq(&backup(
        "backup = { full = \"Mon 01:00\", keep = \"10 days\", check = \"never\", allow-unchecked = true }",
    ));
}

#[test]
fn backups_in_an_object_store() {
    let topology = parse(
        r#"
        machine = [{ name = "one", ssh = "one", address = "10.0.0.10", tiers = ["balancer", "application", "database"] }]
        backup = { to = "s3://bucket/shop?endpoint=s3.example.com:9000&region=eu", key = "@secrets/key", secret = "hush" }
    "#,
    );
    assert!(topology.edges().iter().all(|edge| edge.port != 8432));
    assert_eq!(topology.backup_machine().unwrap().name, "one");
    expect![[r#"
        S3(S3 { bucket: "bucket", folder: "/shop", endpoint: "s3.example.com", port: 9000, region: "eu", key: File("secrets/key"), secret: Inline(…) })
    "#]].assert_eq(&format!("{:?}\n", topology.backup().unwrap().repository));
}

#[test]
fn a_monitor_reads_the_metrics_of_every_machine() {
    check(
        r#"
name = "bookshop"
[[machine]]
name = "lb"
ssh = "lb"
address = "10.0.0.10"
tiers = ["balancer", "monitor"]
[[machine]]
name = "app1"
ssh = "app1"
address = "10.0.0.11"
tiers = ["application", "database"]
"#,
        expect![[r#"
            bookshop
            lb (lb, 10.0.0.10): balancer, monitor
            app1 (app1, 10.0.0.11): application, database
            balancer on port 80
            app-1 on port 8081
            database on port 5432
            prometheus on port 9090
            alertmanager on port 9093
            node-exporter-lb on port 9100
            node-exporter-app1 on port 9100
            postgres-exporter on port 9187
            internet → balancer http 0.0.0.0:80: requests of clients
            internet → balancer http [::]:80: requests of clients
            balancer → app-1 http 10.0.0.11:8081: requests by round-robin, health checks
            balancer → app-1 http 10.0.0.11:9081: whether it is ready, metrics
            balancer → app-1 http 10.0.0.11:8082: requests by round-robin, health checks
            balancer → app-1 http 10.0.0.11:9082: whether it is ready, metrics
            app-1 → database postgres 127.0.0.1:5432: queries, one transaction a request
            prometheus → balancer metrics 127.0.0.1:9080: metrics of the balancer
            prometheus → app-1 metrics 10.0.0.11:9081: metrics of the data API
            prometheus → app-1 metrics 10.0.0.11:9082: metrics of the data API
            prometheus → node-exporter-lb metrics 127.0.0.1:9100: metrics of the machine
            prometheus → node-exporter-app1 metrics 10.0.0.11:9100: metrics of the machine
            prometheus → postgres-exporter metrics 10.0.0.11:9187: metrics of PostgreSQL
            prometheus → alertmanager http 127.0.0.1:9093: alerts
        "#]],
    );
}

#[test]
fn an_exporter_takes_the_next_port_that_no_part_has() {
    let topology = parse(
        r#"
application = { servers = 1, port = 8100 }
[[machine]]
name = "one"
ssh = "one"
address = "10.0.0.10"
tiers = ["balancer", "application", "database", "monitor"]
"#,
    );
    let ports: Vec<_> = topology.parts().iter().map(|part| (&*part.name, part.ports())).collect();
    let of = |name: &str| topology.part(name).map(|part| part.port.number);
    assert_eq!((of("node-exporter-one"), of("prometheus")), (Some(9102), Some(9090)), "{ports:?}");
    let below = parse("application.port = 8080\nbalancer.listen = ['127.0.0.1:80']");
    assert_eq!(below.balancer().metrics_port, 9079);
}
