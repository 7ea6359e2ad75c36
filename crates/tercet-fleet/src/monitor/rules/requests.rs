//! Alerts about the requests of clients and the servers that answer them.

use super::{Cause, Needs, Rule, Severity, minutes, seconds};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "balancer-down",
        expression: r#"up{job="balancer"} == 0"#,
        hold: seconds(20),
        severity: Severity::Critical,
        summary: "the balancer on {{ $labels.machine }} does not answer",
        meaning: "The monitor cannot read the balancer's metrics: the balancer does not run or hangs, and no request is answered.",
        action: "`tercet status`, then `tercet logs --tier balancer`. systemd restarts it after a crash; if it does not start, its log says why. `tercet apply` \
                 writes its configuration again.",
        needs: Needs::Nothing,
        follows: &[Cause::Machine],
    },
    Rule {
        name: "server-out-of-rotation",
        expression: "tercet_balancer_server_up == 0",
        hold: seconds(60),
        severity: Severity::Warning,
        summary: "the balancer sends no requests to {{ $labels.server }} on {{ $labels.machine }}",
        meaning: "An application server fails its health checks, was ejected after failures, or is drained. The others do its work.",
        action: "`tercet status` shows the server's state; `tercet logs --tier application` why it fails. A server that was drained by hand gets requests again after \
                 the next `tercet apply`.",
        needs: Needs::Nothing,
        follows: &[Cause::Machine, Cause::Database(seconds(0))],
    },
    Rule {
        name: "errors",
        expression: r#"sum by (machine) (rate(tercet_balancer_responses_total{class="5xx"}[1m]))
  / sum by (machine) (rate(tercet_balancer_responses_total[1m])) > 0.02
and sum by (machine) (increase(tercet_balancer_responses_total{class="5xx"}[1m])) > 2
unless on (machine) max_over_time(tercet_balancer_maintenance[2m]) > 0"#,
        hold: seconds(30),
        severity: Severity::Critical,
        summary: "{{ $value | humanizePercentage }} of the requests fail",
        meaning: "More than 2 % of the responses in the last minute had a status of 500 or more, the balancer's own 502, 503 and 504 among them, but not those of maintenance.",
        action: "Find a failed request: `tercet logs --tier balancer --level warn`, then `tercet trace ID`. After a release: `tercet rollback`.",
        needs: Needs::Nothing,
        follows: &[Cause::Database(minutes(1))],
    },
    Rule {
        name: "slow",
        expression: "histogram_quantile(0.99, sum by (machine, le) (rate(tercet_balancer_server_first_byte_seconds_bucket[5m]))) > 1",
        hold: minutes(5),
        severity: Severity::Warning,
        summary: "1 % of the requests to {{ $labels.machine }} wait longer than {{ $value | humanizeDuration }}",
        meaning: "For 5 minutes, 1 % of the requests to the servers of a machine have waited more than a second for the first byte of the response.",
        action: "Look where the time goes: `tercet trace ID` of a slow request. In PostgreSQL: long transactions and locks (`tercet sql`, `pg_stat_activity`), missing \
                 indexes (`explain`). On the machines: `tercet status`.",
        needs: Needs::Nothing,
        follows: &[Cause::Database(minutes(5))],
    },
    Rule {
        name: "pool-exhausted",
        expression: "increase(pgrst_db_pool_timeouts_total[1m]) > 0 or min_over_time(pgrst_db_pool_waiting[1m]) > 0",
        hold: seconds(30),
        severity: Severity::Warning,
        summary: "requests wait for a connection to PostgreSQL in {{ $labels.server }}",
        meaning: "All connections of a data API server are in use: requests wait for one, or got 504 because none became free in time.",
        action: "Long statements hold connections: look at `pg_stat_activity`. If PostgreSQL has room, raise `db-pool` in `[api]`.",
        needs: Needs::Api,
        follows: &[Cause::Database(minutes(1))],
    },
];
