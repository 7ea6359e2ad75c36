//! What the firewall of each machine accepts.

use expect_test::expect;
use tercet_machine::file::Contents;

use super::{BACKED_UP, FOUR, ORIGIN, Project, SHARED, desired, openings, rules, secrets, system};

#[test]
fn firewalls_open_the_arrows_and_nothing_else() {
    expect![[r#"
        ip saddr 192.0.2.7 tcp dport 22 accept comment "ssh of the operator"
        meta nfproto ipv4 tcp dport 80 accept comment "the internet to balancer"
        meta nfproto ipv6 tcp dport 80 accept comment "the internet to balancer"
    "#]]
    .assert_eq(&openings(&desired(FOUR, "lb")));
    expect![[r#"
        ip saddr 192.0.2.7 tcp dport 22 accept comment "ssh of the operator"
        ip saddr 10.0.0.10 ip daddr 10.0.0.11 tcp dport 8081 accept comment "lb to app-1"
        ip saddr 10.0.0.10 ip daddr 10.0.0.11 tcp dport 9081 accept comment "lb to app-1"
        ip saddr 10.0.0.10 ip daddr 10.0.0.11 tcp dport 8082 accept comment "lb to app-1"
        ip saddr 10.0.0.10 ip daddr 10.0.0.11 tcp dport 9082 accept comment "lb to app-1"
        ip saddr 10.0.0.12 ip daddr 10.0.0.11 tcp dport 8081 accept comment "app2 to app-1"
        ip saddr 10.0.0.12 ip daddr 10.0.0.11 tcp dport 8082 accept comment "app2 to app-1"
    "#]]
    .assert_eq(&openings(&desired(FOUR, "app1")));
    expect![[r#"
        ip saddr 192.0.2.7 tcp dport 22 accept comment "ssh of the operator"
        ip saddr 10.0.0.11 ip daddr 10.0.0.20 tcp dport 5432 accept comment "app1 to database"
        ip saddr 10.0.0.12 ip daddr 10.0.0.20 tcp dport 5432 accept comment "app2 to database"
    "#]]
    .assert_eq(&openings(&desired(FOUR, "db")));
    expect![[r#"
        ip saddr 192.0.2.7 tcp dport 22 accept comment "ssh of the operator"
        ip daddr 192.0.2.1 tcp dport 80 accept comment "the internet to balancer"
        ip saddr 10.0.0.11 ip daddr 10.0.0.10 tcp dport 8081 accept comment "two to app-1"
        ip saddr 10.0.0.11 ip daddr 10.0.0.10 tcp dport 8082 accept comment "two to app-1"
        ip saddr 10.0.0.11 ip daddr 10.0.0.10 tcp dport 5432 accept comment "two to database"
    "#]]
    .assert_eq(&openings(&desired(SHARED, "one")));
    expect![[r#"
        ip saddr 192.0.2.7 tcp dport 22 accept comment "ssh of the operator"
        ip saddr 10.0.0.10 ip daddr 10.0.0.11 tcp dport 8081 accept comment "one to app-2"
        ip saddr 10.0.0.10 ip daddr 10.0.0.11 tcp dport 9081 accept comment "one to app-2"
        ip saddr 10.0.0.10 ip daddr 10.0.0.11 tcp dport 8082 accept comment "one to app-2"
        ip saddr 10.0.0.10 ip daddr 10.0.0.11 tcp dport 9082 accept comment "one to app-2"
    "#]]
    .assert_eq(&openings(&desired(SHARED, "two")));
}

#[test]
fn ssh_comes_from_where_the_file_says() {
    let ssh = |from: &str| {
        let openings = openings(&desired(&format!("{FOUR}firewall.ssh-from = {from}"), "db"));
        openings
            .lines()
            .filter(|line| line.contains("ssh"))
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    expect![[r#"
        ip saddr 203.0.113.0/24 tcp dport 22 accept comment "ssh of the operator"
        ip6 saddr 2001:db8::/32 tcp dport 22 accept comment "ssh of the operator"
    "#]]
    .assert_eq(&ssh("[\"203.0.113.0/24\", \"2001:db8::/32\"]"));
    expect![[r#"
        tcp dport 22 accept comment "ssh of the operator"
    "#]]
    .assert_eq(&ssh("[\"anywhere\"]"));
}

#[test]
fn the_tiers_open_their_edges_and_nothing_else() {
    let egress = |file: &str, machine: &str| rules(&desired(file, machine), |line| line.contains("skuid"));
    expect![[r#"
        meta skuid "tercet-balancer" ip daddr 10.0.0.11 tcp dport 8081 accept comment "balancer to app-1"
        meta skuid "tercet-balancer" ip daddr 10.0.0.11 tcp dport 9081 accept comment "balancer to app-1"
        meta skuid "tercet-balancer" ip daddr 10.0.0.11 tcp dport 8082 accept comment "balancer to app-1"
        meta skuid "tercet-balancer" ip daddr 10.0.0.11 tcp dport 9082 accept comment "balancer to app-1"
        meta skuid "tercet-balancer" ip daddr 10.0.0.12 tcp dport 8081 accept comment "balancer to app-2"
        meta skuid "tercet-balancer" ip daddr 10.0.0.12 tcp dport 9081 accept comment "balancer to app-2"
        meta skuid "tercet-balancer" ip daddr 10.0.0.12 tcp dport 8082 accept comment "balancer to app-2"
        meta skuid "tercet-balancer" ip daddr 10.0.0.12 tcp dport 9082 accept comment "balancer to app-2"
        meta skuid "tercet-balancer" reject with icmpx admin-prohibited comment "balancer to anything else"
    "#]]
    .assert_eq(&egress(FOUR, "lb"));
    expect![[r#"
        meta skuid "tercet-application" ip daddr 10.0.0.12 tcp dport 8081 accept comment "application to app-2"
        meta skuid "tercet-application" ip daddr 10.0.0.12 tcp dport 8082 accept comment "application to app-2"
        meta skuid "tercet-application" ip daddr 10.0.0.20 tcp dport 5432 accept comment "application to database"
        meta skuid "tercet-application" reject with icmpx admin-prohibited comment "application to anything else"
    "#]].assert_eq(&egress(FOUR, "app1"));
    expect![[r#"
        meta skuid "postgres" reject with icmpx admin-prohibited comment "database to anything else"
    "#]]
    .assert_eq(&egress(FOUR, "db"));
    expect![[r#"
        meta skuid "postgres" ip daddr 10.0.0.20 tcp dport 8432 accept comment "backup to database"
        meta skuid "postgres" reject with icmpx admin-prohibited comment "backup to anything else"
    "#]]
    .assert_eq(&egress(BACKED_UP, "vault"));
    expect![[r#"
        meta skuid "tercet-balancer" ip daddr 10.0.0.11 tcp dport 8081 accept comment "balancer to app-2"
        meta skuid "tercet-balancer" ip daddr 10.0.0.11 tcp dport 9081 accept comment "balancer to app-2"
        meta skuid "tercet-balancer" ip daddr 10.0.0.11 tcp dport 8082 accept comment "balancer to app-2"
        meta skuid "tercet-balancer" ip daddr 10.0.0.11 tcp dport 9082 accept comment "balancer to app-2"
        meta skuid "tercet-balancer" reject with icmpx admin-prohibited comment "balancer to anything else"
        meta skuid "tercet-application" ip daddr 10.0.0.11 tcp dport 8081 accept comment "application to app-2"
        meta skuid "tercet-application" ip daddr 10.0.0.11 tcp dport 8082 accept comment "application to app-2"
        meta skuid "tercet-application" reject with icmpx admin-prohibited comment "application to anything else"
        meta skuid "postgres" reject with icmpx admin-prohibited comment "database to anything else"
    "#]].assert_eq(&egress(SHARED, "one"));
    expect![[r#"
        meta skuid "tercet-application" ip daddr 10.0.0.12 tcp dport 8081 accept comment "application to app-2"
        meta skuid "tercet-application" ip daddr 10.0.0.12 tcp dport 8082 accept comment "application to app-2"
        meta skuid "tercet-application" ip daddr 10.0.0.20 tcp dport 5432 accept comment "application to database"
        meta skuid "tercet-application" meta l4proto { tcp, udp } th dport 53 accept comment "application to name servers"
        meta skuid "tercet-application" tcp dport 443 accept comment "application to *:443"
        meta skuid "tercet-application" tcp dport 8443 accept comment "application to *:8443"
        meta skuid "tercet-application" reject with icmpx admin-prohibited comment "application to anything else"
    "#]]
        .assert_eq(&egress(&format!("{FOUR}api.jwt-issuer = \"https://id.example.com:8443\""), "app1"));
}

#[test]
fn what_the_file_allows_besides_is_open() {
    let egress = |more: &str, machine: &str| {
        let lines = rules(&desired(&format!("{FOUR}{more}"), machine), |line| line.contains("skuid"));
        let edge =
            |line: &&str| [" to app-", " to database\"", "anything else"].iter().any(|it| line.contains(it));
        lines.lines().filter(|line| !edge(line)).map(|line| format!("{line}\n")).collect::<String>()
    };
    // A program of the user's connects to everything by default.
    assert_eq!(
        rules(&desired(&format!("{FOUR}application.run = \"./run\""), "app1"), |line| line.contains("skuid")),
        ""
    );
    expect![[r#"
        meta skuid "tercet-application" meta l4proto { tcp, udp } th dport 53 accept comment "application to name servers"
        meta skuid "tercet-application" ip daddr 10.0.0.30/32 tcp dport 6379 accept comment "application to 10.0.0.30/32:6379"
        meta skuid "tercet-application" tcp dport 443 accept comment "application to *:443"
        meta skuid "tercet-application" ip6 daddr 2001:db8::/32 accept comment "application to 2001:db8::/32"
    "#]].assert_eq(&egress(
        "application = { run = \"./run\", egress = [\"10.0.0.30:6379\", \"*:443\", \"2001:db8::/32\"] }",
        "app1",
    ));
    expect![[r#""#]].assert_eq(&egress("application = { run = \"./run\", egress = [] }", "app1"));
    expect![[r#"
        meta skuid "postgres" meta l4proto { tcp, udp } th dport 53 accept comment "database to name servers"
        meta skuid "postgres" ip daddr 10.0.0.40/32 tcp dport 5432 accept comment "database to 10.0.0.40/32:5432"
    "#]].assert_eq(&egress("database.egress = [\"10.0.0.40:5432\"]", "db"));
    expect![[r#""#]].assert_eq(&egress("database.egress = [\"anywhere\"]", "db"));
    expect![[r#"
        meta skuid "tercet-balancer" meta l4proto { tcp, udp } th dport 53 accept comment "balancer to name servers"
        meta skuid "tercet-balancer" tcp dport 80 accept comment "balancer to *:80"
        meta skuid "tercet-balancer" tcp dport 443 accept comment "balancer to *:443"
        meta skuid "tercet-balancer" tcp dport 14000 accept comment "balancer to *:14000"
    "#]].assert_eq(&egress(
        "balancer.domains = [\"shop.example\"]\nbalancer.acme.directory = \"https://ca.example:14000/dir\"",
        "lb",
    ));
}

#[test]
fn an_existing_database_is_reached_with_what_the_unit_has_of_its_url() {
    let without_database = FOUR.replace(r#"{ name = "db""#, r#"#{ name = "db""#);
    let egress = |file: &str| {
        let file = format!("{without_database}{file}");
        let lines =
            rules(&desired(&file, "app1"), |line| line.contains("skuid") && !line.contains(" to app-"));
        let rules = lines.lines().map(|line| line.trim_start_matches("meta skuid \"tercet-application\" "));
        rules.map(|line| line.split(" comment").next().unwrap_or(line).to_owned()).collect::<Vec<_>>()
    };
    let open = |ports: &[u16]| {
        let mut expected = vec!["meta l4proto { tcp, udp } th dport 53 accept".to_owned()];
        expected.extend(ports.iter().map(|port| format!("tcp dport {port} accept")));
        expected.push("reject with icmpx admin-prohibited".to_owned());
        expected
    };
    // The authority's certificate is in the unit's environment.
    for mode in ["verify-full", "verify-ca", "require", "disable"] {
        let url = format!("database.url = \"postgres://u:hush@db.example:6543/shop?sslmode={mode}\"");
        assert_eq!(egress(&url), open(&[6543]), "{mode}");
    }
    let url = "database.url = \"postgres://u@a.example,b.example:6432/shop?sslmode=verify-full\"";
    assert_eq!(egress(url), open(&[5432, 6432]));
    // A user's own program has its own variables besides, and a database that nothing else names.
    let own = "database.url = \"postgres://db.example/shop?sslmode=verify-full\"\n\
               application = { run = \"./run\", egress = [], env = { PGPORT = \"7432\" } }";
    assert_eq!(egress(own), open(&[7432]));
}

#[test]
fn a_url_that_cannot_be_parsed_is_an_error() {
    let file = format!(
        "{}database.url = \"postgres://u:hush@db.example/shop?sslmode=sometimes\"",
        FOUR.replace(r#"{ name = "db""#, r#"#{ name = "db""#)
    );
    let topology = tercet_config::parse(&file, ORIGIN).expect("a valid file");
    let secrets = secrets(&topology);
    let project = Project { topology: &topology, secrets: &secrets, program: "/tercet", checks: &[] };
    let machine = |name| topology.machines().iter().find(|it| it.name == name).expect("a machine");
    let desired = |name| project.desired(machine(name), &system(machine(name).address), &[], &[], &[]);
    let error = format!("{:#}", desired("app1").expect_err("it cannot be parsed"));
    assert!(error.starts_with("url in [database]: ") && !error.contains("hush"), "{error}");
    // Other machines do not connect to it.
    desired("lb").expect("it can be computed");
}

#[test]
fn the_tiers_reach_the_collector_of_traces_and_their_configurations_name_it() {
    let to_collector = |otlp: &str, machine: &str| {
        let desired = desired(&format!("{FOUR}monitoring.otlp = \"{otlp}\""), machine);
        let rules = rules(&desired, |line| line.contains("skuid") && !line.contains(" to app-"));
        let lines =
            rules.lines().filter(|line| !line.contains("to database") && !line.contains("anything else"));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    expect![[r#"
        meta skuid "tercet-balancer" meta l4proto { tcp, udp } th dport 53 accept comment "balancer to name servers"
        meta skuid "tercet-balancer" ip daddr 10.0.0.90/32 tcp dport 4318 accept comment "balancer to 10.0.0.90/32:4318"
    "#]]
    .assert_eq(&to_collector("http://10.0.0.90:4318", "lb"));
    expect![[r#"
        meta skuid "tercet-application" meta l4proto { tcp, udp } th dport 53 accept comment "application to name servers"
        meta skuid "tercet-application" ip6 daddr fd00::9/128 tcp dport 80 accept comment "application to [fd00::9/128]:80"
    "#]]
    .assert_eq(&to_collector("http://[fd00::9]/otlp", "app1"));
    expect![[r#"
        meta skuid "tercet-application" meta l4proto { tcp, udp } th dport 53 accept comment "application to name servers"
        meta skuid "tercet-application" tcp dport 443 accept comment "application to *:443"
    "#]]
    .assert_eq(&to_collector("https://otlp.example", "app1"));
    assert_eq!(to_collector("http://10.0.0.90:4318", "db"), "");

    let monitoring =
        "monitoring = { otlp = \"https://otlp.example\", otlp-sample = \"0.5%\", otlp-slow = \"2s\" }";
    let balancer = desired(&format!("{FOUR}{monitoring}"), "lb");
    let file = balancer.files.iter().find(|file| file.path.ends_with("balancer.toml")).expect("its file");
    let Contents::Text(text) = &file.contents else { panic!("it is secret") };
    let lines = "[otlp]\nendpoint = \"https://otlp.example\"\nsample = \"0.5%\"\nslow = \"2s\"\n";
    assert!(text.contains(lines), "{text}");
    assert!(balancer.packages.iter().any(|package| package.0 == "ca-certificates"));
    // The package is for verifying the collector, where one is connected to.
    let installs = |machine: &str, monitoring: &str| {
        let desired = desired(&format!("{FOUR}{monitoring}"), machine);
        desired.packages.iter().any(|package| package.0 == "ca-certificates")
    };
    assert!(installs("app1", monitoring) && !installs("db", monitoring) && !installs("app1", ""));
}
