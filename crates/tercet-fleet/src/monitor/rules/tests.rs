//! Every rule is tried on series: it does not fire before its time, fires, and is resolved. Needs Prometheus' promtool.
//!
//! Long because every rule has its cases.

mod sequences;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use expect_test::expect_file;

use self::sequences::Sequence;
use super::*;
use crate::monitor::prometheus;

/// A rule's alert on series with a sample each `interval`, in seconds.
struct Case {
    alert: &'static str,
    /// The labels of the alert besides `severity`, as pairs of a name and a value.
    labels: &'static [(&'static str, &'static str)],
    interval: u64,
    /// Series in promtool's notation: `a+bxn` is n + 1 samples from a in steps of b.
    series: &'static [(&'static str, &'static str)],
    /// Seconds at which it does not fire, fires, and is resolved.
    quiet: u64,
    fires: u64,
    resolved: u64,
}

const MACHINE: &[(&str, &str)] = &[("machine", "db")];
const UP: &[(&str, &str)] = &[("machine", "db"), ("job", "machine")];

const CASES: &[Case] = &[
    Case {
        alert: "machine-unreachable",
        labels: UP,
        interval: 5,
        series: &[(r#"up{job="machine", machine="db"}"#, "1+0x11 0+0x11 1+0x11")],
        quiet: 85,
        fires: 95,
        resolved: 125,
    },
    Case {
        alert: "disk-full-soon",
        labels: &[("machine", "db"), ("mountpoint", "/")],
        interval: 5,
        series: &[
            (r#"node_filesystem_readonly{machine="db", mountpoint="/"}"#, "0+0x40"),
            (r#"node_filesystem_size_bytes{machine="db", mountpoint="/"}"#, "100+0x40"),
            (r#"node_filesystem_avail_bytes{machine="db", mountpoint="/"}"#, "11+0x11 9+0x11 11+0x11"),
        ],
        quiet: 85,
        fires: 95,
        resolved: 125,
    },
    // By its pace: it loses 1 of 100 each 10 minutes from 40 on, and is emptied.
    Case {
        alert: "disk-full-soon",
        labels: &[("machine", "db"), ("mountpoint", "/")],
        interval: 600,
        series: &[
            (r#"node_filesystem_readonly{machine="db", mountpoint="/"}"#, "0+0x60"),
            (r#"node_filesystem_size_bytes{machine="db", mountpoint="/"}"#, "100+0x60"),
            (r#"node_filesystem_avail_bytes{machine="db", mountpoint="/"}"#, "40-1x24 60+0x30"),
        ],
        quiet: 3600,
        fires: 14400,
        resolved: 18000,
    },
    Case {
        alert: "memory-pressure",
        labels: MACHINE,
        interval: 5,
        series: &[
            (r#"node_memory_MemTotal_bytes{machine="db"}"#, "100+0x90"),
            (r#"node_memory_MemAvailable_bytes{machine="db"}"#, "50+0x11 3+0x29 50+0x40"),
        ],
        quiet: 170,
        fires: 190,
        resolved: 215,
    },
    Case {
        alert: "memory-pressure",
        labels: MACHINE,
        interval: 5,
        series: &[(r#"node_pressure_memory_waiting_seconds_total{machine="db"}"#, "0+0x11 0+2x47 94+0x40")],
        quiet: 150,
        fires: 250,
        resolved: 380,
    },
    Case {
        alert: "unit-failed",
        labels: &[("machine", "db"), ("name", "tercet-prometheus.service"), ("state", "failed")],
        interval: 5,
        series: &[
            (
                r#"node_systemd_unit_state{machine="db", name="tercet-prometheus.service", state="failed"}"#,
                "0+0x11 1+0x11 0+0x11",
            ),
            (
                r#"node_systemd_unit_state{machine="db", name="tercet-prove.service", state="failed"}"#,
                "1+0x40",
            ),
        ],
        quiet: 85,
        fires: 95,
        resolved: 125,
    },
    Case {
        alert: "unit-failed",
        labels: &[("machine", "db"), ("name", "tercet-check.service"), ("state", "failed")],
        interval: 5,
        series: &[(
            r#"node_systemd_unit_state{machine="db", name="tercet-check.service", state="failed"}"#,
            "0+0x11 1+0x11 0+0x11",
        )],
        quiet: 85,
        fires: 95,
        resolved: 125,
    },
    Case {
        alert: "unit-restarting",
        labels: &[("machine", "db"), ("name", "tercet-app-1@a.service")],
        interval: 5,
        series: &[(
            r#"node_systemd_service_restart_total{machine="db", name="tercet-app-1@a.service"}"#,
            "0+0x11 1+0x2 2+0x2 3+0x200",
        )],
        quiet: 115,
        fires: 125,
        resolved: 420,
    },
    Case {
        alert: "clock-off",
        labels: MACHINE,
        interval: 5,
        series: &[(r#"node_time_seconds{machine="db"}"#, "0+5x11 62+5x29 210+5x40")],
        quiet: 175,
        fires: 190,
        resolved: 225,
    },
    Case {
        alert: "balancer-down",
        labels: &[("machine", "lb"), ("job", "balancer")],
        interval: 5,
        series: &[(r#"up{job="balancer", machine="lb"}"#, "1+0x11 0+0x11 1+0x11")],
        quiet: 70,
        fires: 80,
        resolved: 125,
    },
    Case {
        alert: "server-out-of-rotation",
        labels: &[("machine", "app1"), ("server", "app-1")],
        interval: 5,
        series: &[
            (r#"tercet_balancer_server_up{machine="app1", server="app-1"}"#, "1+0x11 0+0x23 1+0x11"),
            (r#"tercet_balancer_server_up{machine="app2", server="app-2"}"#, "1+0x60"),
        ],
        quiet: 115,
        fires: 125,
        resolved: 185,
    },
    // 10 requests a second, of which one fails, for two minutes.
    Case {
        alert: "errors",
        labels: &[("machine", "lb")],
        interval: 5,
        series: &[
            (r#"tercet_balancer_responses_total{machine="lb", class="2xx"}"#, "0+50x60"),
            (r#"tercet_balancer_responses_total{machine="lb", class="5xx"}"#, "0+0x11 0+5x23 115+0x40"),
            (r#"tercet_balancer_maintenance{machine="lb"}"#, "0+0x80"),
            // Those of maintenance do not count.
            (r#"tercet_balancer_responses_total{machine="lb2", class="2xx"}"#, "0+50x60"),
            (r#"tercet_balancer_responses_total{machine="lb2", class="5xx"}"#, "0+0x11 0+5x23 115+0x40"),
            (r#"tercet_balancer_maintenance{machine="lb2"}"#, "0+0x11 1+0x23 0+0x40"),
        ],
        quiet: 85,
        fires: 150,
        resolved: 260,
    },
    Case {
        alert: "slow",
        labels: &[("machine", "app1")],
        interval: 10,
        series: &[
            (
                r#"tercet_balancer_server_first_byte_seconds_bucket{machine="app1", le="1.0"}"#,
                "0+10x5 60+9x59 600+10x60",
            ),
            (r#"tercet_balancer_server_first_byte_seconds_bucket{machine="app1", le="2.5"}"#, "0+10x200"),
            (r#"tercet_balancer_server_first_byte_seconds_bucket{machine="app1", le="+Inf"}"#, "0+10x200"),
        ],
        quiet: 300,
        fires: 500,
        resolved: 1100,
    },
    Case {
        alert: "pool-exhausted",
        labels: &[("machine", "app1"), ("server", "app-1")],
        interval: 5,
        series: &[(r#"pgrst_db_pool_waiting{machine="app1", server="app-1"}"#, "0+0x11 4+0x23 0+0x20")],
        quiet: 110,
        fires: 150,
        resolved: 190,
    },
    Case {
        alert: "pool-exhausted",
        labels: &[("machine", "app1"), ("server", "app-1")],
        interval: 5,
        series: &[(r#"pgrst_db_pool_timeouts_total{machine="app1", server="app-1"}"#, "0+0x11 3+0x60")],
        quiet: 55,
        fires: 90,
        resolved: 150,
    },
    Case {
        alert: "database-down",
        labels: MACHINE,
        interval: 5,
        series: &[(r#"pg_up{machine="db"}"#, "1+0x11 0+0x11 1+0x11")],
        quiet: 70,
        fires: 80,
        resolved: 125,
    },
    Case {
        alert: "slot-retaining",
        labels: &[("machine", "db"), ("slot_name", "cdc")],
        interval: 30,
        series: &[(
            r#"tercet_replication_slot_retained_bytes{machine="db", slot_name="cdc"}"#,
            "1000000+0x9 9000000000+0x19 1000000+0x20",
        )],
        quiet: 570,
        fires: 660,
        resolved: 960,
    },
    Case {
        alert: "transaction-id-age",
        labels: MACHINE,
        interval: 30,
        series: &[(
            r#"tercet_postgresql_transaction_id_age{machine="db"}"#,
            "200000000+0x9 600000000+0x19 1000000+0x20",
        )],
        quiet: 570,
        fires: 660,
        resolved: 960,
    },
    Case {
        alert: "long-transaction",
        labels: MACHINE,
        interval: 30,
        series: &[(r#"tercet_postgresql_longest_transaction_seconds{machine="db"}"#, "0+30x70 0+0x20")],
        quiet: 1850,
        fires: 1920,
        resolved: 2160,
    },
    Case {
        alert: "backup-stale",
        labels: &[("machine", "vault")],
        interval: 5,
        series: &[(r#"tercet_backup_failing{machine="vault"}"#, "0+0x11 1+0x23 0+0x20")],
        quiet: 110,
        fires: 130,
        resolved: 190,
    },
    // The timer fires at 100000 s, and no backup ends until one by hand at 130000 s.
    Case {
        alert: "backup-stale",
        labels: &[("machine", "vault")],
        interval: 1000,
        series: &[
            (
                r#"node_systemd_timer_last_trigger_seconds{machine="vault", name="tercet-backup-incremental.timer"}"#,
                "10000+0x99 100000+0x100",
            ),
            (r#"tercet_backup_last_success_timestamp_seconds{machine="vault"}"#, "11000+0x129 130000+0x70"),
        ],
        quiet: 121_000,
        fires: 123_000,
        resolved: 131_000,
    },
    Case {
        alert: "backup-stale",
        labels: &[("machine", "vault")],
        interval: 3600,
        series: &[(
            r#"tercet_backup_last_success_timestamp_seconds{machine="vault"}"#,
            "0+0x219 792000+0x20",
        )],
        quiet: 777_600,
        fires: 784_800,
        resolved: 795_600,
    },
    // There is none at all, until one ends at 180000 s.
    Case {
        alert: "backup-stale",
        labels: &[],
        interval: 3600,
        series: &[
            (r#"up{job="machine", machine="vault"}"#, "1+0x60"),
            (r#"tercet_backup_last_success_timestamp_seconds{machine="vault"}"#, "_x50 180000+0x10"),
        ],
        quiet: 82_800,
        fires: 93_600,
        resolved: 183_600,
    },
    Case {
        alert: "backup-unchecked",
        labels: &[],
        interval: 3600,
        series: &[
            (r#"up{job="machine", machine="vault"}"#, "1+0x100"),
            (r#"tercet_backup_last_passed_timestamp_seconds{machine="vault"}"#, "_x80 288000+0x20"),
        ],
        quiet: 255_600,
        fires: 266_400,
        resolved: 291_600,
    },
    Case {
        alert: "backup-unchecked",
        labels: &[("machine", "vault")],
        interval: 5,
        series: &[(r#"tercet_backup_last_check_passed{machine="vault"}"#, "1+0x11 0+0x23 1+0x20")],
        quiet: 110,
        fires: 130,
        resolved: 190,
    },
    Case {
        alert: "backup-unchecked",
        labels: &[("machine", "vault")],
        interval: 3600,
        series: &[(r#"tercet_backup_last_passed_timestamp_seconds{machine="vault"}"#, "0+0x219 792000+0x20")],
        quiet: 777_600,
        fires: 784_800,
        resolved: 795_600,
    },
    Case {
        alert: "archive-lag",
        labels: MACHINE,
        interval: 5,
        series: &[(r#"tercet_postgresql_archive_waiting_seconds{machine="db"}"#, "0+0x11 6+5x23 0+0x20")],
        quiet: 115,
        fires: 130,
        resolved: 190,
    },
    Case {
        alert: "archive-lag",
        labels: MACHINE,
        interval: 5,
        series: &[(r#"tercet_archive_lag_seconds{machine="db"}"#, "0+0x11 301+0x23 0+0x20")],
        quiet: 115,
        fires: 130,
        resolved: 190,
    },
    Case {
        alert: "archive-lag",
        labels: MACHINE,
        interval: 30,
        series: &[(
            r#"node_textfile_mtime_seconds{machine="db", file="/var/lib/tercet/metrics/archive.prom"}"#,
            "0+30x9 270+0x15 780+30x20",
        )],
        quiet: 600,
        fires: 690,
        resolved: 810,
    },
    // The task never writes its metrics, until 4500 s.
    Case {
        alert: "archive-lag",
        labels: MACHINE,
        interval: 60,
        series: &[
            (r#"up{job="machine", machine="db"}"#, "1+0x90"),
            (r#"up{job="postgresql", machine="db"}"#, "1+0x90"),
            (r#"tercet_archive_lag_seconds{machine="db"}"#, "_x75 0+0x15"),
        ],
        quiet: 1740,
        fires: 1980,
        resolved: 4620,
    },
    Case {
        alert: "certificate-expiring",
        labels: &[("machine", "lb"), ("path", "/a.crt")],
        interval: 5,
        series: &[(
            r#"tercet_certificate_expiry_timestamp_seconds{machine="lb", path="/a.crt"}"#,
            "8000000+0x11 86400+0x11 8000000+0x11",
        )],
        quiet: 70,
        fires: 80,
        resolved: 125,
    },
    // 90 days, of which 17 are left until it is renewed.
    Case {
        alert: "certificate-not-renewed",
        labels: &[("machine", "lb"), ("domain", "shop.example")],
        interval: 300,
        series: &[
            (
                r#"tercet_balancer_domain_certificate_not_before_timestamp_seconds{machine="lb", domain="shop.example"}"#,
                "-6300000+0x11 -6307200+0x11 0+0x20",
            ),
            (
                r#"tercet_balancer_domain_certificate_not_after_timestamp_seconds{machine="lb", domain="shop.example"}"#,
                "2000000+0x11 1468800+0x11 7776000+0x20",
            ),
        ],
        quiet: 4200,
        fires: 5100,
        resolved: 7500,
    },
    // One that was never obtained.
    Case {
        alert: "certificate-not-renewed",
        labels: &[("machine", "lb"), ("domain", "shop.example")],
        interval: 300,
        series: &[
            (
                r#"tercet_balancer_domain_certificate_not_before_timestamp_seconds{machine="lb", domain="shop.example"}"#,
                "0+0x11 0+0x20",
            ),
            (
                r#"tercet_balancer_domain_certificate_not_after_timestamp_seconds{machine="lb", domain="shop.example"}"#,
                "0+0x11 7776000+0x20",
            ),
        ],
        quiet: 600,
        fires: 1500,
        resolved: 3900,
    },
    Case {
        alert: "certificates-unchecked",
        labels: &[("machine", "lb"), ("file", "/m/certificates.prom")],
        interval: 3600,
        series: &[(
            r#"node_textfile_mtime_seconds{machine="lb", file="/m/certificates.prom"}"#,
            "0+0x79 288000+0x20",
        )],
        quiet: 259_200,
        fires: 266_400,
        resolved: 291_600,
    },
    Case {
        alert: "certificates-unchecked",
        labels: UP,
        interval: 3600,
        series: &[
            (r#"up{job="machine", machine="db"}"#, "1+0x60"),
            (r#"node_textfile_mtime_seconds{machine="db", file="/m/certificates.prom"}"#, "_x40 144000+0x20"),
        ],
        quiet: 82_800,
        fires: 93_600,
        resolved: 147_600,
    },
    Case {
        alert: "prove-failed",
        labels: UP,
        interval: 3600,
        series: &[
            (r#"up{job="machine", machine="db"}"#, "1+0x100"),
            (r#"tercet_prove_last_timestamp_seconds{machine="db"}"#, "_x80 288000+0x20"),
        ],
        quiet: 255_600,
        fires: 266_400,
        resolved: 291_600,
    },
    Case {
        alert: "prove-failed",
        labels: &[("machine", "lb"), ("to", "db")],
        interval: 5,
        series: &[(r#"tercet_prove_failures{machine="lb", to="db"}"#, "0+0x11 1+0x11 0+0x11")],
        quiet: 70,
        fires: 80,
        resolved: 125,
    },
    Case {
        alert: "prove-failed",
        labels: &[("machine", "lb")],
        interval: 3600,
        series: &[(r#"tercet_prove_last_timestamp_seconds{machine="lb"}"#, "0+0x79 288000+0x20")],
        quiet: 259_200,
        fires: 270_000,
        resolved: 291_600,
    },
    Case {
        alert: "metrics-missing",
        labels: &[("machine", "db"), ("job", "postgresql")],
        interval: 5,
        series: &[(r#"up{job="postgresql", machine="db"}"#, "1+0x11 0+0x23 1+0x20")],
        quiet: 115,
        fires: 130,
        resolved: 190,
    },
    Case {
        alert: "alerts-undelivered",
        labels: &[("machine", "mon"), ("integration", "webhook")],
        interval: 5,
        series: &[(
            r#"alertmanager_notifications_failed_total{machine="mon", integration="webhook"}"#,
            "0+0x11 0+1x11 12+0x90",
        )],
        quiet: 110,
        fires: 140,
        resolved: 440,
    },
];

impl Case {
    fn yaml(&self) -> String {
        let severity = all().find(|rule| rule.name == self.alert).expect("a rule").severity;
        let mut labels = format!("severity: {severity}");
        for (name, value) in self.labels {
            write!(labels, ", {name}: {value:?}").unwrap();
        }
        let mut text = format!("- interval: {}s\n  input_series:\n", self.interval);
        for (series, values) in self.series {
            writeln!(text, "  - series: '{series}'\n    values: '{values}'").unwrap();
        }
        text += "  alert_rule_test:\n";
        for (at, fires) in [(self.quiet, false), (self.fires, true), (self.resolved, false)] {
            let alerts = if fires { format!("[{{ exp_labels: {{ {labels} }} }}]") } else { "[]".to_owned() };
            writeln!(text, "  - eval_time: {at}s\n    alertname: {}\n    exp_alerts: {alerts}", self.alert)
                .unwrap();
        }
        text
    }
}

fn promtool(folder: &Path, arguments: &[&str]) {
    let output = Command::new("promtool").args(arguments).current_dir(folder).output();
    let output = output.expect("promtool, of the Debian package prometheus");
    let printed =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "promtool {arguments:?}: {printed}");
}

#[test]
fn every_rule_fires_when_it_should_and_is_resolved() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    write("rules.yml", prometheus::file(all()));
    promtool(folder.path(), &["check", "rules", "--lint=all", "--lint-fatal", "rules.yml"]);

    let tried: BTreeSet<&str> = CASES.iter().map(|case| case.alert).collect();
    let declared: BTreeSet<&str> = all().map(|rule| rule.name).collect();
    assert_eq!(tried, declared, "the rules that are tried, and those that there are");
    // The texts of the alerts have values in them that the cases do not repeat.
    let without_texts = |line: &&str| {
        !["annotations:", "summary:", "description:"].iter().any(|it| line.trim_start().starts_with(it))
    };
    let bare: Vec<String> =
        prometheus::file(all()).lines().filter(without_texts).map(str::to_owned).collect();
    write("bare.yml", bare.join("\n"));
    // The rules are evaluated as often as there are samples: days in steps of 5 s would take minutes.
    let intervals: BTreeSet<u64> = CASES.iter().map(|case| case.interval).collect();
    let mut files = Vec::new();
    for interval in intervals {
        let cases: String = CASES.iter().filter(|case| case.interval == interval).map(Case::yaml).collect();
        files.push(format!("every-{interval}.yml"));
        let test = format!("rule_files: [bare.yml]\nevaluation_interval: {interval}s\ntests:\n{cases}");
        write(&files[files.len() - 1], test);
    }
    let cases: String = sequences::all().iter().map(Sequence::yaml).collect();
    files.push("sequences.yml".to_owned());
    write("sequences.yml", format!("rule_files: [bare.yml]\nevaluation_interval: 5s\ntests:\n{cases}"));
    let arguments: Vec<&str> =
        ["test", "rules"].into_iter().chain(files.iter().map(String::as_str)).collect();
    promtool(folder.path(), &arguments);
}

/// The alert about the cause fires first: an evaluation and two scrapes are between the two at most.
#[test]
fn a_consequence_has_to_hold_longer_than_its_cause() {
    let hold = |name: &str| all().find(|rule| rule.name == name).expect("a rule").hold;
    let least = hold("database-down") + 3 * seconds(5);
    let follows = |rule: &&Rule| rule.follows.iter().any(|cause| matches!(cause, Cause::Database(_)));
    let too_short: Vec<&str> =
        all().filter(follows).filter(|rule| rule.hold < least).map(|rule| rule.name).collect();
    assert_eq!(too_short, <[&str; 0]>::default());
    assert!(all().filter(follows).count() > 3);
}

/// `UPDATE_EXPECT=1` writes it.
#[test]
fn the_guide_has_every_rule() {
    expect_file!["../../../../../docs/guide/alerts.md"].assert_eq(&markdown());
}

/// The guide's page about the alerts.
fn markdown() -> String {
    let mut text = String::from(
        "# Alerts\n\nWhat each alert of a [monitor](monitoring.md) means, and what to do. *critical*: requests fail or data may be lost; *warning*: \
         it becomes that. An alert fires when its expression has had a value for the time given here, and is resolved when it has none. One that follows from \
         another is held back: you get the cause.\n\n\
         This page is made from the rules themselves.\n\n| alert | severity | fires after |\n|---|---|---|\n",
    );
    for Rule { name, severity, hold, .. } in all() {
        writeln!(text, "| [{name}](#{name}) | {severity} | {} |", shown(*hold)).unwrap();
    }
    for Rule { name, expression, meaning, action, follows, .. } in all() {
        write!(text, "\n## {name}\n\n{meaning}\n\n**What to do.** {action}\n\n").unwrap();
        if !follows.is_empty() {
            let causes: Vec<String> = follows.iter().map(|cause| explained(*cause)).collect();
            write!(text, "**Held back** {}.\n\n", causes.join(", and ")).unwrap();
        }
        write!(text, "```promql\n{expression}\n```\n").unwrap();
    }
    text
}

fn explained(cause: Cause) -> String {
    match cause {
        Cause::Machine => "while the machine does not answer".to_owned(),
        Cause::Database(range) => {
            format!(
                "while PostgreSQL or its machine is down ([database-down](#database-down), [machine-unreachable](#machine-unreachable)) and {} longer",
                shown(range + RECOVERY)
            )
        }
    }
}

fn shown(hold: Duration) -> String {
    match hold.as_secs() {
        0 => "at once".to_owned(),
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}
