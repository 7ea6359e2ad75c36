//! Outages and what follows from them, in time.

use std::fmt::Write as _;

use crate::monitor::rules::{self, Rule};

/// Series in which one alert explains others, and all that fires at some times.
pub(super) struct Sequence {
    series: Vec<(&'static str, String)>,
    /// From a second on, the alerts that fire, with their labels besides `severity`.
    fires: Vec<(u64, Vec<(&'static str, &'static str)>)>,
    end: u64,
}

impl Sequence {
    pub(super) fn yaml(&self) -> String {
        let mut text = "- interval: 5s\n  input_series:\n".to_owned();
        for (series, values) in &self.series {
            writeln!(text, "  - series: '{series}'\n    values: '{values}'").unwrap();
        }
        text += "  alert_rule_test:\n";
        let mut fires: &[_] = &[];
        for at in (0..=self.end).step_by(5) {
            fires = self.fires.iter().find(|(from, _)| *from == at).map_or(fires, |(_, fires)| fires);
            for Rule { name, severity, .. } in rules::all() {
                let ours = fires.iter().filter(|(alert, _)| alert == name);
                let alerts: Vec<String> = ours
                    .map(|(_, labels)| format!("{{ exp_labels: {{ severity: {severity}, {labels} }} }}"))
                    .collect();
                let alerts = alerts.join(", ");
                writeln!(text, "  - {{ eval_time: {at}s, alertname: {name}, exp_alerts: [{alerts}] }}")
                    .unwrap();
            }
        }
        text
    }
}

/// The alerts of an outage are one message with its cause, and those that follow from it come neither during it nor afterwards.
pub(super) fn all() -> Vec<Sequence> {
    const SERVER_1: &str = r#"tercet_balancer_server_up{machine="app1", server="app-1"}"#;
    const SERVER_2: &str = r#"tercet_balancer_server_up{machine="app2", server="app-2"}"#;
    const ANSWERED: &str = r#"tercet_balancer_responses_total{machine="lb", class="2xx"}"#;
    const FAILED: &str = r#"tercet_balancer_responses_total{machine="lb", class="5xx"}"#;
    const WAITING: &str = r#"pgrst_db_pool_waiting{machine="app1", server="app-1"}"#;
    const RESTARTS: &str =
        r#"node_systemd_service_restart_total{machine="app1", name="tercet-app-1@a.service"}"#;
    const POSTGRESQL: &str = r#"pg_up{machine="db"}"#;
    let up = |machine: &str, job: &str| -> &'static str {
        match (machine, job) {
            ("app2", "machine") => r#"up{job="machine", machine="app2"}"#,
            ("db", "machine") => r#"up{job="machine", machine="db"}"#,
            ("db", "postgresql") => r#"up{job="postgresql", machine="db"}"#,
            ("lb", "machine") => r#"up{job="machine", machine="lb"}"#,
            ("lb", "balancer") => r#"up{job="balancer", machine="lb"}"#,
            _ => panic!("{machine} {job}"),
        }
    };
    let database_down = ("database-down", r#"machine: "db""#);
    let series = |all: &[(&'static str, &str)]| {
        all.iter().map(|(series, values)| (*series, (*values).to_owned())).collect::<Vec<_>>()
    };
    vec![
        // PostgreSQL is down for 40 s. The servers try to connect after up to 32 s more, and pass two health checks: they are out for 95 s.
        // A program of the user's is restarted all the time.
        Sequence {
            series: series(&[
                (POSTGRESQL, "1+0x11 0+0x7 1+0x80"),
                (SERVER_1, "1+0x12 0+0x18 1+0x80"),
                (SERVER_2, "1+0x12 0+0x18 1+0x80"),
                (ANSWERED, "0+50x11 550+0x19 600+50x70"),
                (FAILED, "0+0x11 10+10x19 200+0x70"),
                (WAITING, "0+0x11 4+0x19 0+0x70"),
                (RESTARTS, "0+0x12 1+1x10 11+0x80"),
                (up("db", "machine"), "1+0x100"),
                (up("db", "postgresql"), "1+0x100"),
            ]),
            fires: vec![(75, vec![database_down]), (100, vec![])],
            end: 500,
        },
        // One of them stays out: that is another fault.
        Sequence {
            series: series(&[
                (POSTGRESQL, "1+0x11 0+0x7 1+0x80"),
                (SERVER_1, "1+0x12 0+0x80"),
                (SERVER_2, "1+0x12 0+0x18 1+0x80"),
            ]),
            fires: vec![
                (75, vec![database_down]),
                (100, vec![]),
                (220, vec![("server-out-of-rotation", r#"machine: "app1", server: "app-1""#)]),
            ],
            end: 300,
        },
        // A machine is off for two minutes; its server is in rotation 25 s after it is back.
        Sequence {
            series: series(&[
                (up("app2", "machine"), "1+0x11 0+0x23 1+0x40"),
                (SERVER_1, "1+0x100"),
                (SERVER_2, "1+0x12 0+0x27 1+0x40"),
            ]),
            fires: vec![
                (90, vec![("machine-unreachable", r#"machine: "app2", job: "machine""#)]),
                (180, vec![]),
            ],
            end: 350,
        },
        // The machine of PostgreSQL.
        Sequence {
            series: series(&[
                (up("db", "machine"), "1+0x11 0+0x23 1+0x40"),
                (up("db", "postgresql"), "1+0x11 0+0x23 1+0x40"),
                (POSTGRESQL, "1+0x11 stale _x23 0+0x1 1+0x40"),
                (SERVER_1, "1+0x12 0+0x30 1+0x40"),
                (SERVER_2, "1+0x12 0+0x30 1+0x40"),
                (ANSWERED, "0+50x11 550+0x30 600+50x40"),
                (FAILED, "0+0x11 10+10x30 310+0x40"),
            ]),
            fires: vec![
                (90, vec![("machine-unreachable", r#"machine: "db", job: "machine""#)]),
                (180, vec![]),
            ],
            end: 350,
        },
        // The machine of the balancer: whether the balancer runs is not known.
        Sequence {
            series: series(&[
                (up("lb", "machine"), "1+0x11 0+0x23 1+0x40"),
                (up("lb", "balancer"), "1+0x10 0+0x24 0+0x1 1+0x40"),
            ]),
            fires: vec![
                (90, vec![("machine-unreachable", r#"machine: "lb", job: "machine""#)]),
                (180, vec![]),
            ],
            end: 350,
        },
        // PostgreSQL comes and goes, for too short a time each for its own alert: the requests that fail are reported.
        Sequence {
            series: vec![
                (POSTGRESQL, "1+0x1 0+0x1 ".repeat(20)),
                (ANSWERED, "0+50x100".to_owned()),
                (FAILED, "0+0x11 5+5x80".to_owned()),
            ],
            fires: vec![(100, vec![("errors", r#"machine: "lb""#)])],
            end: 300,
        },
    ]
}
