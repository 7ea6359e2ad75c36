//! Changes by hand that open connections: prove finds each, plan shows it, apply closes it.

use anyhow::{Result, ensure};

use super::Scenario;

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
    let printed = scenario.fail("prove", &[])?;
    for hole in [
        "FAIL operator → app1 10.77.0.11:6379",
        "FAIL operator → app1 [fd77::11]:6379",
        "FAIL lb → app2 10.77.0.12:8081",
        "FAIL app1 → db 10.77.0.20:5432: db: pg_hba.conf must not accept this",
        "open, and the role is privileged",
    ] {
        ensure!(printed.contains(hole), "prove did not find: {hole}\n{printed}");
    }
    let plan = scenario.succeed("plan", &[])?;
    for drift in ["dport 6379", "dport 8081", "host all all 0.0.0.0/0 trust"] {
        ensure!(plan.contains(drift), "plan does not show {drift}:\n{plan}");
    }
    scenario.succeed("apply", &["--yes"])?;
    let plan = scenario.succeed("plan", &[])?;
    ensure!(plan.contains("nothing to do"), "after the apply, there is still:\n{plan}");
    Ok(())
}
