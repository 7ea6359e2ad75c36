//! Alerts about certificates, connections, and the alerts themselves.

use super::{Cause, Needs, Rule, Severity, minutes, seconds};

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
        follows: &[],
    },
    Rule {
        name: "certificate-not-renewed",
        expression: "tercet_balancer_domain_certificate_not_after_timestamp_seconds - time() < 0.2 * (
  tercet_balancer_domain_certificate_not_after_timestamp_seconds - tercet_balancer_domain_certificate_not_before_timestamp_seconds
)",
        hold: minutes(15),
        severity: Severity::Critical,
        summary: "the certificate of {{ $labels.domain }} was not obtained, or is not renewed",
        meaning: "The balancer renews a certificate of `domains` when a third of its validity is left, or earlier if the authority suggests so. Less than a fifth is left, or \
                  there is no certificate: the authority refuses or cannot be reached. When it expires, clients refuse the balancer.",
        action: "`tercet certificates` says why the last attempt failed: the domain does not lead to the balancer, ports 80 and 443 are closed on the way, a rate limit of the authority. \
                 [The guide](certificates.md) has the reasons one by one. The next attempt is made by itself.",
        needs: Needs::Domains,
        follows: &[],
    },
    Rule {
        name: "certificates-unchecked",
        expression: r#"time() - node_textfile_mtime_seconds{file=~".*/certificates.prom"} > 3 * 86400
or (up{job="machine"} == 1 and on (machine) up{job="machine"} offset 1d unless on (machine) node_textfile_mtime_seconds{file=~".*/certificates.prom"})"#,
        hold: minutes(1),
        severity: Severity::Warning,
        summary: "the certificates of {{ $labels.machine }} have not been checked for days",
        meaning: "Each day every machine checks when its certificates expire. It has not for three days, or never in the first: alert certificate-expiring cannot fire.",
        action: "`tercet exec MACHINE -- systemctl status tercet-check.timer tercet-check.service` says why. `tercet apply` starts the timer again.",
        needs: Needs::Nothing,
        follows: &[],
    },
    Rule {
        name: "prove-failed",
        expression: r#"tercet_prove_failures > 0
or time() - tercet_prove_last_timestamp_seconds > 3 * 86400
or (up{job="machine"} == 1 and on (machine) up{job="machine"} offset 3d unless on (machine) tercet_prove_last_timestamp_seconds)"#,
        hold: seconds(15),
        severity: Severity::Critical,
        summary: "connections from {{ $labels.machine }} are not as the topology has them, or were not tested",
        meaning: "Each night every machine tests its connections to all others. A port was open that no edge leads to, or an edge was broken; or there was no test for three \
                  days.",
        action: "`tercet prove` tests all connections now, from your computer too, and names the table and chain that decides. `tercet apply` restores the firewalls; then \
                 `tercet exec MACHINE -- systemctl start tercet-prove` tests again.",
        needs: Needs::Nothing,
        follows: &[],
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
        follows: &[Cause::Machine],
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
        follows: &[],
    },
];
