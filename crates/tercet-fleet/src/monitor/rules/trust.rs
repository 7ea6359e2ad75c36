//! Alerts about certificates, connections, and the alerts themselves.

use super::{Needs, Rule, Severity, minutes, seconds};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "certificate-expiring",
        expression: "tercet_certificate_expiry_timestamp_seconds - time() < 14 * 86400",
        hold: seconds(15),
        severity: Severity::Critical,
        summary: "certificate {{ $labels.path }} on {{ $labels.machine }} expires in {{ $value | humanizeDuration }}",
        meaning: "A certificate expires in less than 14 days, or has expired. Then clients refuse the balancer, or the tiers refuse each other.",
        action: "`tercet apply` renews those that tercet issues. A certificate of the balancer that `tercet.toml` names: put the new one in its place, then `tercet apply`.",
        needs: Needs::Nothing,
    },
    Rule {
        name: "prove-failed",
        expression: "tercet_prove_failures > 0 or time() - tercet_prove_last_timestamp_seconds > 3 * 86400",
        hold: seconds(15),
        severity: Severity::Critical,
        summary: "connections from {{ $labels.machine }} are not as the topology has them",
        meaning: "Each night every machine tests its connections to all others. A port was open that no edge leads to, or an edge was broken; or there was no test for three \
                  days.",
        action: "`tercet prove` tests all connections now, from your computer too, and names the table and chain that decides. `tercet apply` restores the firewalls; then \
                 `tercet exec MACHINE -- systemctl start tercet-prove` tests again.",
        needs: Needs::Nothing,
    },
    Rule {
        name: "metrics-missing",
        expression: r#"up{job=~"postgresql|alertmanager"} == 0"#,
        hold: minutes(1),
        severity: Severity::Warning,
        summary: "the {{ $labels.job }} metrics of {{ $labels.machine }} cannot be read",
        meaning: "An exporter or Alertmanager does not answer the monitor: alerts that need its metrics cannot fire.",
        action: "`tercet status` shows the units `tercet-postgres-exporter` and `tercet-alertmanager`; `tercet exec MACHINE -- journalctl -u UNIT -n 50` why one does not run.",
        needs: Needs::Nothing,
    },
    Rule {
        name: "alerts-undelivered",
        expression: "increase(alertmanager_notifications_failed_total[5m]) > 0",
        hold: minutes(1),
        severity: Severity::Critical,
        summary: "alerts cannot be sent by {{ $labels.integration }}",
        meaning: "Alertmanager cannot deliver alerts to a receiver; it goes on trying. Another receiver gets this alert, `tercet alerts` shows it.",
        action: "`tercet logs --tier monitor` says why: a wrong address, an expired token, no way out for the monitor. `tercet alerts test` tries each receiver.",
        needs: Needs::Nothing,
    },
];
