//! The alerts that Alertmanager has on this machine, and a test of its receivers (its API, version 2).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::http::http;
use crate::journal;
use crate::monitor::alertmanager::{HEARTBEAT, receiver};

/// The unit of Alertmanager.
const UNIT: &str = "tercet-alertmanager.service";
/// The alert of a test.
const TEST: &str = "tercet-test";
/// How long a receiver may take: Alertmanager waits 5 s for more alerts, and tries for 15 s.
const PATIENCE: Duration = Duration::from_secs(25);
/// The interval of looks at the log.
const INTERVAL: Duration = Duration::from_millis(500);

/// An alert that fires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Its name.
    pub name: String,
    /// `critical` or `warning`.
    pub severity: String,
    /// The machine that it is about.
    pub machine: String,
    /// One line about it.
    pub summary: String,
    /// What to do.
    pub description: String,
    /// Since when.
    pub since: Timestamp,
    /// Whether another alert explains it, or it is silenced: then it is not sent.
    pub suppressed: bool,
}

/// What became of a test alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// The receiver accepted it.
    Sent,
    /// It did not: the last error, without the address.
    Failed(String),
}

fn ask(port: u16, method: &str, body: &str) -> Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).with_context(|| {
        format!("Alertmanager does not answer\nhint: tercet exec MACHINE -- journalctl -u {UNIT} -n 20")
    })?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let (status, answer) = http(&mut stream, method, "/api/v2/alerts", body)?;
    ensure!(status == 200, "Alertmanager answers with status {status}: {}", answer.trim());
    Ok(answer)
}

/// Reads the alerts, the oldest first.
pub(super) fn read(port: u16) -> Result<Vec<Alert>> {
    let text = ask(port, "GET", "")?;
    let all: Vec<Value> = serde_json::from_str(&text).context("Alertmanager's answer")?;
    let mut alerts: Vec<Alert> = all.iter().filter_map(alert).collect();
    alerts.sort_by_key(|alert| alert.since);
    Ok(alerts)
}

fn alert(value: &Value) -> Option<Alert> {
    let text = |section: &str, name: &str| value[section][name].as_str().unwrap_or_default().to_owned();
    let name = text("labels", "alertname");
    (name != HEARTBEAT && name != TEST).then_some(())?;
    Some(Alert {
        name,
        severity: text("labels", "severity"),
        machine: text("labels", "machine"),
        summary: text("annotations", "summary"),
        description: text("annotations", "description"),
        since: value["startsAt"].as_str()?.parse().ok()?,
        suppressed: value["status"]["state"] == "suppressed",
    })
}

/// Sends a test alert to every receiver; returns what became of each.
pub(super) fn test(port: u16, receivers: usize) -> Result<Vec<Delivery>> {
    let begin = Timestamp::now();
    let mut alert = json!({
        "labels": { "alertname": TEST, "severity": "warning", "test": begin.to_string() },
        "annotations": {
            "summary": "this is a test: `tercet alerts test`",
            "description": "Nothing is wrong: this receiver gets the alerts.",
        },
        "startsAt": begin,
    });
    ask(port, "POST", &json!([alert]).to_string())?;
    let started = Instant::now();
    // A receiver that refused it is tried again, for as long as Alertmanager does.
    let deliveries = loop {
        std::thread::sleep(INTERVAL);
        let deliveries = deliveries(&log(begin)?);
        let all_sent = (0..receivers).all(|index| deliveries.get(&index) == Some(&Delivery::Sent));
        if all_sent || started.elapsed() > PATIENCE {
            break deliveries;
        }
    };
    alert["endsAt"] = json!(Timestamp::now());
    ask(port, "POST", &json!([alert]).to_string())?;
    let silent = || Delivery::Failed("no answer in time".to_owned());
    Ok((0..receivers).map(|index| deliveries.get(&index).cloned().unwrap_or_else(silent)).collect())
}

/// Alertmanager's log since a time.
fn log(since: Timestamp) -> Result<String> {
    let since = format!("--since=@{}.{:06}", since.as_second(), since.subsec_microsecond());
    journal::messages(&["--unit", UNIT, &since])
}

/// What the log says of each receiver: the last line about it counts, but for an acceptance, which stays.
fn deliveries(log: &str) -> BTreeMap<usize, Delivery> {
    let mut deliveries = BTreeMap::new();
    for line in log.lines() {
        let index = line.split_whitespace().find_map(|word| {
            let name = word.strip_prefix("receiver=")?;
            (0..64).find(|index| receiver(*index) == name)
        });
        let Some(index) = index else { continue };
        if line.contains("msg=\"Notify success\"") {
            deliveries.insert(index, Delivery::Sent);
        } else if let Some((_, error)) = line.split_once("err=\"")
            && deliveries.get(&index) != Some(&Delivery::Sent)
        {
            deliveries.insert(index, Delivery::Failed(without_address(error)));
        }
    }
    deliveries
}

/// An error of Alertmanager's without the address, which may be a secret: that is the part between escaped quotes.
fn without_address(error: &str) -> String {
    let error = error.trim_end_matches('"');
    let mut parts = error.split("\\\"");
    let before = parts.next().unwrap_or_default();
    let after: Vec<&str> = parts.skip(1).step_by(2).collect();
    let text = format!("{}{}", before.trim_end(), after.join("…"));
    if text.contains("://") { "it was refused".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_says_what_became_of_each_receiver_and_no_address() {
        let log = r#"
            level=debug component=dispatcher msg="Received alert" alert=tercet-test[37d4283][active]
            level=warn component=dispatcher receiver=receiver-2 integration=webhook[0] msg="Notify attempt failed, will retry later" attempts=1 err="Post \"http://127.0.0.1:18098/hush\": dial tcp 127.0.0.1:18098: connect: connection refused"
            level=debug component=dispatcher receiver=receiver-1 integration=webhook[0] msg="Notify success" attempts=1
            level=warn component=dispatcher receiver=receiver-3 integration=webhook[0] msg="Notify attempt failed, will retry later" attempts=1 err="unexpected status code 404: http://127.0.0.1/hush"
            level=error component=dispatcher msg="Notify for alerts failed" num_alerts=1 err="receiver-2/webhook[0]: notify retry canceled"
        "#;
        let failed = |why: &str| Delivery::Failed(why.to_owned());
        assert_eq!(
            deliveries(log),
            BTreeMap::from([
                (0, Delivery::Sent),
                (1, failed("Post: dial tcp 127.0.0.1:18098: connect: connection refused")),
                (2, failed("it was refused")),
            ])
        );
    }

    #[test]
    fn an_alert_is_read_and_the_heartbeat_is_none() {
        let value = |name: &str| {
            json!({
                "labels": { "alertname": name, "machine": "db", "severity": "critical" },
                "annotations": { "summary": "s", "description": "d" },
                "startsAt": "2026-11-30T07:08:13.965Z",
                "status": { "state": "suppressed" },
            })
        };
        let alert = alert(&value("disk-full-soon")).unwrap();
        assert!(alert.suppressed && alert.machine == "db" && alert.severity == "critical");
        assert_eq!(super::alert(&value(HEARTBEAT)), None);
    }
}
