//! A monitor on a machine of its own: it reads all metrics, and no other machine can.

mod alerts;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{Named, Scenario, exposure, nothing_to_do};
use crate::lab::machines::{MON, VAULT};
use crate::lab::until;

/// The machines, with one for the backups and one for the monitor.
const MONITORED: &str = "lb=balancer app1=application app2=application db=database vault=backup mon=monitor";

pub(super) const STAGES: &[Named] = &[
    ("a monitor scrapes every target, over its edges alone", set_up),
    (AT_ONCE, alerts::at_once),
    (OUTAGES, alerts::one_after_the_other),
];

/// The stages that take minutes each.
pub(super) const AT_ONCE: &str = "alerts of five causes at once arrive in time, once, and are resolved";
pub(super) const OUTAGES: &str = "PostgreSQL down, then a machine, under load: one alert each, and no other";

fn set_up(scenario: &Scenario<'_>) -> Result<()> {
    for machine in [VAULT, MON] {
        scenario.lab.start(machine)?;
    }
    scenario.write(MONITORED, "")?;
    let printed = scenario.succeed("apply", &["--yes"])?;
    ensure!(printed.contains("proven:"), "apply does not end with proof:\n{printed}");
    nothing_to_do(scenario)?;
    let mut down = Vec::new();
    until("a scrape of every target", Duration::from_secs(60), || {
        let targets = scenario.prometheus("targets?state=active")?;
        let targets = targets["data"]["activeTargets"].as_array().context("the targets")?.clone();
        // One of an application server's two ports has no listener between releases.
        let is_up = |it: &&Value| it["health"] == "up";
        let jobs: BTreeSet<&str> =
            targets.iter().filter(is_up).filter_map(|it| it["labels"]["job"].as_str()).collect();
        down = targets.iter().filter(|it| !is_up(it) && it["labels"]["job"] != "api").cloned().collect();
        Ok(down.is_empty() && jobs.len() == 5)
    })
    .with_context(|| format!("down: {down:?}"))?;
    let rules = scenario.prometheus("rules")?;
    let rules = rules["data"]["groups"][0]["rules"].as_array().context("the rules")?;
    let bad: Vec<&Value> =
        rules.iter().filter(|it| it["health"] != "ok" && it["health"] != "unknown").collect();
    ensure!(rules.len() >= 20 && bad.is_empty(), "{} rules, not well: {bad:?}", rules.len());
    let value = |query: &str| scenario.query(query);
    ensure!(value("pg_up")? == ["1"], "pg_up: {:?}", value("pg_up")?);
    for metric in [
        "tercet_postgresql_transaction_id_age",
        "tercet_balancer_request_duration_seconds_count",
        "tercet_backup_last_success_timestamp_seconds",
        "tercet_certificate_expiry_timestamp_seconds",
        "node_filesystem_avail_bytes{mountpoint='/'} and node_filesystem_readonly == 0",
        "node_systemd_service_restart_total{name='tercet-balancer.service'}",
    ] {
        until(metric, Duration::from_secs(40), || Ok(!value(metric)?.is_empty()))?;
    }
    closed(scenario)?;
    measured(scenario)
}

/// Nothing of it can be reached from another machine, and Debian's own units have never started.
fn closed(scenario: &Scenario<'_>) -> Result<()> {
    for (from, to) in [
        ("app1", "10.77.0.20/9187"),
        ("lb", "10.77.0.20/9100"),
        ("db", "10.77.0.50/9090"),
        ("db", "10.77.0.50/9093"),
    ] {
        let open =
            scenario.on(from, &format!("timeout 2 bash -c '</dev/tcp/{to}' 2>&1 && echo open || true"))?;
        ensure!(!open.contains("open"), "{from} → {to}: {open}");
    }
    // Alertmanager's API shows secrets, and silences alerts.
    let own = scenario.on(
        "mon",
        "for user in daemon root; do runuser -u $user -- timeout 2 bash -c '</dev/tcp/127.0.0.1/9093' 2>&1 && echo $user: open || true; done",
    )?;
    ensure!(own.contains("root: open") && !own.contains("daemon: open"), "who reaches Alertmanager: {own}");
    for machine in ["lb", "db", "vault", "mon"] {
        let listening = scenario.on(machine, "ss -Hltn '( sport = 9090 or sport = 9093 or sport = 9094 or sport = 9100 or sport = 9187 )' | awk '{print $4}'")?;
        let public: Vec<&str> = listening
            .lines()
            .filter(|it| it.starts_with("0.0.0.0:") || it.starts_with('*') || it.starts_with("[::]"))
            .collect();
        ensure!(public.is_empty() && !listening.trim().is_empty(), "{machine} listens on {listening}");
        let own = scenario.on(machine, "systemctl list-units --all --plain --no-legend 'prometheus*' | grep -c ' active ' || true; journalctl -q -u 'prometheus*' | grep -c Started || true")?;
        ensure!(
            own.split_whitespace().all(|count| count == "0"),
            "{machine}: Debian's units have run: {own}"
        );
    }
    Ok(())
}

/// What the programs use: each is exposed little, and stays below half of its limit.
fn measured(scenario: &Scenario<'_>) -> Result<()> {
    for (machine, unit, limit) in [
        ("db", "tercet-node-exporter.service", 3.0),
        ("db", "tercet-postgres-exporter.service", 2.0),
        ("mon", "tercet-prometheus.service", 2.0),
        ("mon", "tercet-alertmanager.service", 2.0),
    ] {
        let exposure = exposure(scenario, machine, unit)?;
        let used = scenario.on(
            machine,
            &format!("pid=$(systemctl show -P MainPID {unit}); awk '/^VmRSS/{{print int($2/1024)}}' /proc/$pid/status; systemctl show -P MemoryMax {unit}"),
        )?;
        let numbers: Vec<u64> = used.split_whitespace().filter_map(|it| it.parse().ok()).collect();
        println!(
            "{machine} {unit}: {} MiB resident, exposure {exposure}",
            numbers.first().copied().unwrap_or_default()
        );
        ensure!(exposure <= limit, "{unit}: exposure {exposure}");
        ensure!(numbers.len() == 2 && numbers[0] << 20 < numbers[1], "{unit}: {used}");
    }
    Ok(())
}

impl Scenario<'_> {
    /// An answer of Prometheus' API (<https://prometheus.io/docs/prometheus/latest/querying/api/>).
    fn prometheus(&self, path: &str) -> Result<Value> {
        let text = self.on("mon", &format!("curl -sgm 5 'http://127.0.0.1:9090/api/v1/{path}'"))?;
        serde_json::from_str(&text).with_context(|| text.clone())
    }

    /// The results of a query.
    fn query_results(&self, query: &str) -> Result<Vec<Value>> {
        let text = self.on(
            "mon",
            &format!("curl -sGm 5 --data-urlencode \"query={query}\" http://127.0.0.1:9090/api/v1/query"),
        )?;
        let mut answer: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        match answer["data"]["result"].take() {
            Value::Array(results) => Ok(results),
            _ => bail!("{query}: {text}"),
        }
    }

    /// The values of a query.
    fn query(&self, query: &str) -> Result<Vec<String>> {
        let results = self.query_results(query)?;
        Ok(results.iter().filter_map(|it| it["value"][1].as_str()).map(str::to_owned).collect())
    }
}
