//! What the firewall of each machine accepts.

use expect_test::expect;

use super::{FOUR, SHARED, desired, openings};

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
