//! Changes by hand that allow connections: prove finds each, plan shows it, apply prohibits it.

use anyhow::{Result, ensure};

use super::{Scenario, nothing_to_do};

pub(super) fn found_and_mended(scenario: &Scenario<'_>) -> Result<()> {
    // An open port more, a rule less, a wide line in pg_hba.conf.
    scenario.on("app1", "nft add rule inet tercet input tcp dport 6379 accept")?;
    scenario.on(
        "app2",
        "set -e; for handle in $(nft -a list chain inet tercet input | sed -n 's/.*dport 8081 .*lb to.*handle //p'); \
         do nft delete rule inet tercet input handle $handle; done",
    )?;
    scenario.on(
        "db",
        "set -e; echo 'host all all 0.0.0.0/0 trust' >> /etc/postgresql/15/main/pg_hba.conf; \
         systemctl reload postgresql@15-main",
    )?;
    // A table of others that drops an edge.
    scenario.on(
        "app1",
        "set -e; nft add table ip guard; nft add chain ip guard foreign '{ type filter hook input priority 10; }'; \
         nft add rule ip guard foreign tcp dport 8081 drop",
    )?;
    // A listener on a port that is not among the common ones.
    scenario.on("db", "systemd-run --quiet --unit listener python3 -m http.server 45678; nft add rule inet tercet input tcp dport 45678 accept")?;
    scenario.on("db", "until ss -Hltn | grep -q :45678; do sleep .05; done")?;
    // A tier whose connections to the outside are not limited any more.
    scenario.on("app2", "nft flush chain inet tercet output")?;
    let printed = scenario.fail("prove", &[])?;
    for hole in [
        "FAIL operator → app1 10.77.0.11:6379",
        "FAIL operator → db 10.77.0.20:45678",
        "FAIL operator → app1 [fd77::11]:6379",
        "FAIL lb → app2 10.77.0.12:8081",
        "FAIL app1 → db 10.77.0.20:5432: db: pg_hba.conf must not accept this; it decides by line",
        "host all all 0.0.0.0 0.0.0.0 trust",
        "app1: chain input, table inet tercet, accepts it: tcp dport 6379 accept",
        "app2: the policy of chain input, table inet tercet, drops it, and no rule there accepts it",
        "app1: chain foreign, table ip guard, which is not tercet's, drops it",
        "open, and the role is privileged",
        "app2: chain output, table inet tercet, does not limit tercet-application",
    ] {
        ensure!(printed.contains(hole), "prove did not find: {hole}\n{printed}");
    }
    let plan = scenario.succeed("plan", &[])?;
    for drift in
        ["dport 6379", "dport 8081", "host all all 0.0.0.0/0 trust", "reject with icmpx admin-prohibited"]
    {
        ensure!(plan.contains(drift), "plan does not show {drift}:\n{plan}");
    }
    scenario.on("app1", "nft delete table ip guard")?;
    mended(scenario)?;
    scenario.on("db", "systemctl stop listener").map(drop)
}

/// An apply undoes what was changed by hand: then there is nothing to do.
pub(super) fn mended(scenario: &Scenario<'_>) -> Result<()> {
    scenario.succeed("apply", &["--yes"])?;
    nothing_to_do(scenario)
}
