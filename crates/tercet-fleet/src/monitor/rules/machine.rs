//! Alerts about a machine and what runs on it.

use super::{Cause, Needs, Rule, Severity, minutes, seconds};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "machine-unreachable",
        expression: r#"up{job="machine"} == 0"#,
        hold: seconds(30),
        severity: Severity::Critical,
        summary: "{{ $labels.machine }} does not answer the monitor",
        meaning: "The monitor cannot read the metrics of a machine: the machine is off, cut off from the network, or too busy to answer in 4 s; or its \
                  node exporter does not run. All other alerts about that machine are held back.",
        action: "Look whether it answers: `tercet status`, then `ssh` to it. If it is off or cut off, start it or ask its provider; the balancer leaves out its \
                 servers meanwhile. If it answers, look at the exporter: `tercet exec MACHINE -- systemctl status tercet-node-exporter`.",
        needs: Needs::Nothing,
        follows: &[],
    },
    Rule {
        name: "disk-full-soon",
        expression: r#"node_filesystem_readonly == 0 and (
  node_filesystem_avail_bytes / node_filesystem_size_bytes < 0.1
  or (
    predict_linear(node_filesystem_avail_bytes{fstype!="tmpfs"}[6h], 86400) < 0
    and node_filesystem_avail_bytes offset 3h > 0
    and node_filesystem_avail_bytes / node_filesystem_size_bytes < 0.5
  )
)"#,
        hold: seconds(30),
        severity: Severity::Critical,
        summary: "{{ $labels.mountpoint }} of {{ $labels.machine }} is nearly full, or will be within a day",
        meaning: "A file system has less than 10 % of its space left, or at the pace of the last 6 hours it is full within 24 hours. PostgreSQL stops when it \
                  cannot write.",
        action: "Find what grows: `tercet exec MACHINE -- du -xh --max-depth=3 / | sort -h | tail -20`. The write-ahead log (`pg_wal`) grows when it cannot be \
                 archived (alert archive-lag) or a replication slot keeps it (slot-retaining). Logs: `journalctl --vacuum-size=500M`. Otherwise enlarge the disk. Never \
                 delete files of PostgreSQL's data directory.",
        needs: Needs::Nothing,
        follows: &[],
    },
    Rule {
        name: "memory-pressure",
        expression: r"node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes < 0.05 or rate(node_pressure_memory_waiting_seconds_total[1m]) > 0.2",
        hold: minutes(2),
        severity: Severity::Warning,
        summary: "{{ $labels.machine }} lacks memory",
        meaning: "Less than 5 % of a machine's memory is available, or its programs wait for memory more than 20 % of the time. The kernel ends a program when there \
                  is none left.",
        action: "Look which program uses it: `tercet status` shows the machine's memory, `tercet exec MACHINE -- ps -eo rss,comm --sort=-rss | head` the programs. \
                 Give the machine more memory, or move a tier to another machine.",
        needs: Needs::Nothing,
        follows: &[],
    },
    Rule {
        name: "unit-failed",
        expression: r#"node_systemd_unit_state{state="failed", name!~"tercet-(backup-|heartbeat|prove).*"} == 1"#,
        hold: seconds(30),
        severity: Severity::Critical,
        summary: "{{ $labels.name }} on {{ $labels.machine }} has failed",
        meaning: "A service of tercet or PostgreSQL has failed, and systemd does not start it again. The tasks of the backups and the nightly test have alerts of their \
                  own.",
        action: "Read why: `tercet exec MACHINE -- journalctl -u UNIT -n 50`. `tercet apply` starts it again.",
        needs: Needs::Nothing,
        follows: &[],
    },
    Rule {
        name: "unit-restarting",
        expression: r"changes(node_systemd_service_restart_total[5m]) >= 3",
        hold: seconds(30),
        severity: Severity::Warning,
        summary: "{{ $labels.name }} on {{ $labels.machine }} has restarted again and again",
        meaning: "systemd has restarted a service at least three times in 5 minutes: it crashes, is killed for its memory, or cannot start.",
        action: "Read why it ends: `tercet logs --tier TIER`, or `tercet exec MACHINE -- journalctl -u UNIT -n 100`. After a release, `tercet rollback` takes it \
                 back.",
        needs: Needs::Nothing,
        follows: &[Cause::Database(minutes(5))],
    },
    Rule {
        name: "clock-off",
        expression: r"abs(node_time_seconds - timestamp(node_time_seconds)) > 1",
        hold: minutes(2),
        severity: Severity::Warning,
        summary: "the clocks of {{ $labels.machine }} and the monitor differ by more than 1 s",
        meaning: "A machine's clock differs from the monitor's by more than a second: one of both is wrong. Tokens are rejected as not yet valid or expired, certificates \
                  too, and restores to a point in time miss it.",
        action: "Look at both: `tercet exec MACHINE -- timedatectl`. Install and start a client of NTP where there is none: `apt-get install chrony`.",
        needs: Needs::Nothing,
        follows: &[],
    },
];
