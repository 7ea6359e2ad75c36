//! Changes by hand that open no connection: plan shows each, apply undoes it, and nothing is lost.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Scenario;
use super::holes::mended;
use crate::lab::until;

/// What others leave on machines: (machine, command, what the plan says of it).
const DRIFT: &[(&str, &str, &str)] = &[
    (
        "lb",
        "mkdir -p /etc/systemd/system/tercet-balancer.service.d && printf '[Service]\\nNice=5\\n' \
         >/etc/systemd/system/tercet-balancer.service.d/override.conf && systemctl daemon-reload",
        "move /etc/systemd/system/tercet-balancer.service.d/override.conf to /var/backups/tercet",
    ),
    (
        "app1",
        "mkdir -p /etc/systemd/system/tercet-.service.d && printf '[Service]\\nNoNewPrivileges=no\\n' \
         >/etc/systemd/system/tercet-.service.d/all.conf && systemctl daemon-reload",
        "move /etc/systemd/system/tercet-.service.d/all.conf to /var/backups/tercet",
    ),
    (
        "db",
        "systemctl set-property postgresql@15-main.service CPUWeight=10",
        "/postgresql@15-main.service.d/50-CPUWeight.conf to /var/backups/tercet",
    ),
    (
        "db",
        "echo 'work_mem = 1MB' >/etc/postgresql/15/main/conf.d/zz.conf",
        "move /etc/postgresql/15/main/conf.d/zz.conf to /var/backups/tercet: work_mem",
    ),
    (
        "db",
        "runuser -u postgres -- psql -qc \"alter system set log_statement = 'all'\"",
        "undo ALTER SYSTEM, after a copy of /var/lib/postgresql/15/main/postgresql.auto.conf",
    ),
    (
        "db",
        "runuser -u postgres -- psql -qc 'create role intruder superuser login' -c 'create role helper' -c 'grant postgres to helper'",
        "restrict database role intruder",
    ),
    ("app2", "chmod 0777 /usr/local/lib/tercet/*/tercet; chown daemon /etc/tercet", "writable by root alone"),
    (
        "app1",
        "nft add table ip other && nft add chain ip other pre '{ type nat hook prerouting priority -100; }' && \
         nft add rule ip other pre tcp dport 8081 redirect to :9",
        "remove a rule of chain pre, table ip other: tcp dport 8081 redirect to :9",
    ),
];

/// Each kind of drift, at once.
pub(super) fn found_and_undone(scenario: &Scenario<'_>) -> Result<()> {
    for (machine, command, _) in DRIFT {
        scenario.on(machine, &format!("set -e; {command}"))?;
    }
    let plan = scenario.succeed("plan", &[])?;
    for (machine, _, shown) in DRIFT {
        ensure!(plan.contains(shown), "{machine}: plan does not show: {shown}\n{plan}");
    }
    mended(scenario)?;
    let left = scenario.on(
        "db",
        "runuser -u postgres -- psql -Atqc \"select rolname from pg_roles where rolsuper\" -c 'show log_statement' \
         -c 'show work_mem' -c \"select count(*) from pg_auth_members where roleid = 10\"",
    )?;
    ensure!(left == "postgres\nnone\n4MB\n0\n", "db: {left}");
    let kept = scenario.on("db", "find /var/backups/tercet -name '*.conf' | sort")?;
    ensure!(kept.contains("zz.conf") && kept.contains("postgresql.auto.conf"), "db kept {kept}");
    let nice = scenario.on("lb", "systemctl show --value -p Nice tercet-balancer.service")?;
    ensure!(nice.trim() == "0", "lb: the drop-in is still in force: {nice}");
    Ok(())
}

/// A container whose port is published: a network namespace, and a rule as docker makes it.
const PUBLISHED: &str = "set -e
ip netns add box; ip link add docker0 type veth peer name inner netns box
ip address add 172.17.0.1/24 dev docker0; ip link set docker0 up; sysctl -qw net.ipv4.ip_forward=1
ip -n box address add 172.17.0.2/24 dev inner; ip -n box link set inner up; ip -n box link set lo up
ip -n box route add default via 172.17.0.1
systemd-run --quiet --unit box ip netns exec box python3 -m http.server 6379
nft -f - <<'RULES'
table ip nat {
  chain PREROUTING { type nat hook prerouting priority dstnat; fib daddr type local jump DOCKER; }
  chain DOCKER { iifname != docker0 tcp dport 6379 dnat to 172.17.0.2:6379; }
  chain POSTROUTING { type nat hook postrouting priority srcnat; ip saddr 172.17.0.0/24 oifname != docker0 masquerade; }
}
RULES
";

/// A published port is closed, and the container still reaches the outside.
pub(super) fn published_ports(scenario: &Scenario<'_>) -> Result<()> {
    scenario.on("app1", PUBLISHED)?;
    let local = "curl -s -o /dev/null -m 2 http://172.17.0.2:6379/ && echo up || true";
    until("the container's server", Duration::from_secs(10), || {
        Ok(scenario.on("app1", local)?.contains("up"))
    })?;
    let reached = |scenario: &Scenario<'_>| {
        let mut curl = scenario.lab.at("operator")?;
        curl.args(["curl", "-s", "-o", "/dev/null", "-m", "2", "http://10.77.0.11:6379/"]);
        anyhow::Ok(curl.status()?.success())
    };
    ensure!(!reached(scenario)?, "the published port answers");
    let outside =
        "ip netns exec box curl -s -o /dev/null -m 5 http://10.77.0.1:3142/bookworm/Packages && echo reached";
    ensure!(scenario.on("app1", outside)?.contains("reached"), "the container has lost its way outside");
    let plan = scenario.succeed("plan", &[])?;
    ensure!(plan.contains("nothing to do"), "a container's rules are not tercet's:\n{plan}");
    // The rule alone, without tercet's chain, lets it in: the check above can fail.
    scenario.on("app1", "nft flush chain inet tercet forward")?;
    ensure!(reached(scenario)?, "the port is closed without tercet's chain, too");
    mended(scenario)?;
    ensure!(!reached(scenario)?, "the published port answers after the apply");
    scenario.on(
        "app1",
        "systemctl stop box; nft delete table ip nat; ip link delete docker0; ip netns delete box",
    )?;
    Ok(())
}
