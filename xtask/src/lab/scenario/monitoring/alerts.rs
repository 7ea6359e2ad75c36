//! Alerts by their real causes: each arrives at a webhook within its hold time and 30 s, once, and its resolution follows.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::MONITORED;
use crate::command::output;
use crate::lab::machines::{INTERNET, Machine, outside, plain};
use crate::lab::scenario::Scenario;
use crate::lab::traffic::Kind;
use crate::lab::{kill, until};

/// How much later than its hold time an alert may arrive.
const LATEST: Duration = Duration::from_secs(30);
/// How long a resolution may take: a scrape, an evaluation, and the interval of Alertmanager's notifications.
const RESOLVED: Duration = Duration::from_secs(60);
/// Completes a segment of the write-ahead log; one in which nothing is written is not switched.
const SEGMENT: &str = "create table if not exists segment (at timestamptz); insert into segment values (now()); select pg_switch_wal()";
/// Where a disk is filled.
const FULL: &str = "/srv/full";
/// The receiver's port.
const PORT: u16 = 9999;

/// Writes the time and the body of each POST as a line of a file.
const RECEIVER: &str = "import http.server, json, sys, time
class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers['content-length']))
        with open(sys.argv[1], 'a') as file:
            file.write(json.dumps({'at': time.time(), 'path': self.path, 'body': json.loads(body)}) + '\\n')
        self.send_response(200)
        self.end_headers()
    def log_message(self, *arguments): pass
http.server.ThreadingHTTPServer(('', int(sys.argv[2])), Hook).serve_forever()
";

/// The webhook, where the internet client is; killed when dropped.
struct Receiver {
    process: Child,
    folder: tempfile::TempDir,
}

/// A notification about one alert.
#[derive(Debug)]
struct Notification {
    at: Duration,
    name: String,
    machine: String,
    summary: String,
    resolved: bool,
}

impl Receiver {
    fn start(scenario: &Scenario<'_>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut command = scenario.lab.at("internet")?;
        command.args(["python3", "-c", RECEIVER]).arg(folder.path().join("received")).arg(PORT.to_string());
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        Ok(Self { process, folder })
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("received")
    }

    fn received(&self) -> Result<Vec<Notification>> {
        let text = std::fs::read_to_string(self.path()).unwrap_or_default();
        let mut notifications = Vec::new();
        for line in text.lines() {
            let post: Value = serde_json::from_str(line)?;
            let at = Duration::from_secs_f64(post["at"].as_f64().context("a time")?);
            for alert in post["body"]["alerts"].as_array().context("the alerts")? {
                let label = |name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
                notifications.push(Notification {
                    at,
                    name: label("alertname"),
                    machine: label("machine"),
                    summary: alert["annotations"]["summary"].as_str().unwrap_or_default().to_owned(),
                    resolved: alert["status"] == "resolved",
                });
            }
        }
        Ok(notifications)
    }

    /// How long after its cause an alert has come, each time, and how often its resolution.
    fn count(&self, expected: &Expected) -> Result<(Vec<Duration>, usize)> {
        let received = self.received()?;
        let ours = received.iter().filter(|it| {
            let is_its = it.name == expected.name && it.machine == expected.machine;
            is_its && it.at >= expected.from && it.summary.contains(expected.about)
        });
        let (resolved, firing): (Vec<_>, Vec<_>) = ours.partition(|it| it.resolved);
        Ok((firing.iter().map(|it| it.at.saturating_sub(expected.cause)).collect(), resolved.len()))
    }

    /// Waits until each alert has arrived once, in its time.
    fn arrive(&self, all: &[Expected]) -> Result<()> {
        for expected in all {
            let limit = expected.hold + LATEST;
            let mut firing = Vec::new();
            until(&format!("the alert {}", expected.name), limit + Duration::from_secs(5), || {
                firing = self.count(expected)?.0;
                Ok(!firing.is_empty())
            })
            .with_context(|| format!("{:?}", self.received()))?;
            println!("{} arrived after {:.0} s", expected.name, firing[0].as_secs_f64());
            ensure!(firing[0] <= limit, "{} came after {:?}, later than {limit:?}", expected.name, firing[0]);
        }
        Ok(())
    }

    /// Waits until each alert is resolved; each has come once.
    fn resolve(&self, all: &[Expected]) -> Result<()> {
        for expected in all {
            until(&format!("the resolution of {}", expected.name), RESOLVED, || {
                Ok(self.count(expected)?.1 > 0)
            })
            .with_context(|| format!("{:?}", self.received()))?;
            let (firing, resolved) = self.count(expected)?;
            ensure!(firing.len() == 1 && resolved == 1, "{} came {} times", expected.name, firing.len());
        }
        Ok(())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // The end of the lab ends it, too.
        let _ = kill(&mut self.process);
    }
}

/// An alert that a cause has.
struct Expected {
    name: &'static str,
    machine: &'static str,
    hold: Duration,
    /// A part of its summary.
    about: &'static str,
    /// When it can come at the earliest.
    from: Duration,
    cause: Duration,
}

/// An alert that is caused now.
fn expected(name: &'static str, machine: &'static str, hold: u64) -> Expected {
    let now = now();
    Expected { name, machine, hold: Duration::from_secs(hold), about: "", from: now, cause: now }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A receiver that refuses connections.
fn refusing() -> String {
    format!("ntfy:http://{}:1/hush-topic", plain(&outside(INTERNET)[0]))
}

/// The webhook and other receivers; a certificate of the balancer with `days` to go.
fn configure(scenario: &Scenario<'_>, days: &str, others: &[String]) -> Result<()> {
    let folder = scenario.project.path();
    output(
        Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-subj",
                "/CN=shop",
            ])
            .args([
                "-addext",
                "subjectAltName=DNS:shop",
                "-days",
                days,
                "-keyout",
                "shop.key",
                "-out",
                "shop.crt",
            ])
            .current_dir(folder),
    )?;
    let address = outside(INTERNET);
    let url = format!("http://{}", plain(&address[0]));
    std::fs::write(folder.join("hook"), format!("{url}:{PORT}/hush\n"))?;
    let receivers = [&["webhook:@hook".to_owned()], others].concat();
    let more = format!(
        "[balancer]\nredirect-to-https = false\ncertificates = [{{ certificate = \"shop.crt\", key = \"shop.key\" }}]\n\
         [alerts]\nto = {receivers:?}\nheartbeat = \"{url}:{PORT}/heartbeat\"\n"
    );
    scenario.write(MONITORED, &more)?;
    scenario.succeed("apply", &["--yes"]).map(drop)
}

/// A full disk, a dead server, an archive that does not accept, a certificate that ends, an open port: all at the same time.
pub(super) fn at_once(scenario: &Scenario<'_>) -> Result<()> {
    let receiver = Receiver::start(scenario)?;
    let mut expiring = expected("certificate-expiring", "lb", 15);
    configure(scenario, "5", &[refusing()])?;
    // At the latest.
    expiring.cause = now();
    let mut all = vec![expiring];

    // The host's disk, which all machines have, may be nearly full, too.
    all.push(Expected { about: FULL, ..expected("disk-full-soon", "app2", 30) });
    let fill = format!("mount -t tmpfs -o size=16m tmpfs {FULL} && head -c 15700k /dev/zero > {FULL}/file");
    scenario.on("app2", &format!("mkdir {FULL} && {fill}"))?;
    let units =
        scenario.on("app1", "systemctl list-units --plain --no-legend 'tercet-app-1@*' | cut -d' ' -f1")?;
    let unit = units.trim();
    all.push(expected("server-out-of-rotation", "app1", 60));
    scenario.on("app1", &format!("systemctl stop '{unit}'"))?;
    scenario.on("vault", "systemctl stop tercet-pgbackrest")?;
    all.push(expected("archive-lag", "db", 60));
    scenario.sql(SEGMENT)?;
    scenario.on("db", "nft insert rule inet tercet input tcp dport 5432 accept")?;
    all.push(expected("prove-failed", "lb", 15));
    scenario.on("lb", "systemctl start tercet-prove || true")?;
    tested(scenario, &receiver)?;
    receiver.arrive(&all)?;
    let shown = scenario.succeed("alerts", &[])?;
    let missing = all.iter().find(|it| !shown.contains(it.name));
    ensure!(missing.is_none(), "{} is not shown:\n{shown}", missing.map_or("", |it| it.name));

    scenario.on("app2", &format!("umount {FULL}"))?;
    scenario.on("app1", &format!("systemctl start '{unit}'"))?;
    scenario.on("vault", "systemctl start tercet-pgbackrest")?;
    scenario.sql(SEGMENT)?;
    configure(scenario, "400", &[refusing()])?;
    scenario.on("lb", "systemctl start tercet-prove")?;
    receiver.resolve(&all)?;
    let received = receiver.received()?;
    ensure!(received.iter().any(|it| it.name == "heartbeat"), "no heartbeat came: {received:?}");
    // After minutes, not seconds.
    super::measured(scenario)
}

/// `tercet alerts test` says which of two receivers did not get it.
fn tested(scenario: &Scenario<'_>, receiver: &Receiver) -> Result<()> {
    let printed = scenario.outcome("alerts", &["test"])?;
    let text = String::from_utf8_lossy(&printed.stdout).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let has = |kind: &str, outcome: &str| lines.iter().any(|it| it.starts_with(kind) && it.contains(outcome));
    ensure!(!printed.status.success() && has("webhook:@hook", "sent") && has("ntfy:", "FAILED"), "{text}");
    ensure!(!text.contains("hush"), "a secret is shown:\n{text}");
    let received = receiver.received()?;
    ensure!(received.iter().any(|it| it.name == "tercet-test" && !it.resolved), "{received:?}");
    Ok(())
}

/// PostgreSQL stopped, then the machine of a server and that of PostgreSQL without power, under load: each is one message.
pub(super) fn one_after_the_other(scenario: &Scenario<'_>) -> Result<()> {
    let receiver = Receiver::start(scenario)?;
    configure(scenario, "400", &[])?;
    let before = fired(scenario, 1)?;
    let _traffic = scenario.traffic(Kind::Read)?;
    let down = [expected("database-down", "db", 15)];
    scenario.on("db", "systemctl stop postgresql@15-main")?;
    receiver.arrive(&down)?;
    // The longer it is down, the longer the data API waits until it connects again.
    let long_enough = down[0].cause + Duration::from_secs(70);
    until("an outage of 70 s", Duration::from_secs(70), || Ok(now() > long_enough))?;
    scenario.on("db", "systemctl start postgresql@15-main")?;
    receiver.resolve(&down)?;
    alone(scenario, &receiver, &down, &before)?;

    for (name, others) in [("app2", "api"), ("db", "postgresql")] {
        let machine = Machine::named(name)?;
        let off = [expected("machine-unreachable", name, 30)];
        scenario.lab.cut(machine)?;
        receiver.arrive(&off)?;
        // Its server, its exporter or its PostgreSQL is out, too: those alerts would come after a minute.
        let all = off[0].cause + Duration::from_secs(60) + LATEST;
        until("the time of the other alerts", Duration::from_secs(90), || Ok(now() > all))?;
        let dead = scenario.query(&format!("up{{machine='{name}', job='{others}'}} == 0"))?;
        ensure!(!dead.is_empty(), "{name} is not off");
        scenario.lab.start(machine)?;
        receiver.resolve(&off)?;
        alone(scenario, &receiver, &off, &before)?;
    }
    Ok(())
}

/// What the monitor sees of an outage that has passed, or of its consequences.
const CONSEQUENCES: &str = "tercet_balancer_server_up == 0 or increase(tercet_balancer_responses_total{class='5xx'}[1m]) > 0 \
    or min_over_time(up{job!='api'}[30s]) == 0";

/// An alert's name and machine.
type Named = (String, String);

/// Alerts that are not of an outage: the host's disk, which all machines have, may be nearly full, and the stage before had a receiver that
/// refused.
const UNRELATED: [&str; 3] = ["heartbeat", "disk-full-soon", "alerts-undelivered"];

/// The alerts that have fired in the last seconds.
fn fired(scenario: &Scenario<'_>, seconds: u64) -> Result<BTreeSet<Named>> {
    let unrelated = UNRELATED.join("|");
    let query = format!("max_over_time(ALERTS{{alertstate='firing', alertname!~'{unrelated}'}}[{seconds}s])");
    let label = |result: &Value, name: &str| result["metric"][name].as_str().unwrap_or_default().to_owned();
    let all = scenario.query_results(&query)?;
    Ok(all.iter().map(|it| (label(it, "alertname"), label(it, "machine"))).collect())
}

/// Waits until nothing is left of an outage; no other alert has fired since but those of before.
fn alone(
    scenario: &Scenario<'_>,
    receiver: &Receiver,
    only: &[Expected],
    before: &BTreeSet<Named>,
) -> Result<()> {
    let mut left = Vec::new();
    until("the end of all consequences", Duration::from_secs(180), || {
        left = scenario.query(CONSEQUENCES)?;
        Ok(left.is_empty())
    })
    .with_context(|| format!("{left:?}"))?;
    let begin = only[0].from;
    let seconds = now().saturating_sub(begin).as_secs();
    println!("nothing of {} is left after {seconds} s", only[0].name);
    let received = receiver.received()?;
    let sent = received.iter().filter(|it| it.at >= begin && !it.resolved && !UNRELATED.contains(&&*it.name));
    let sent: BTreeSet<Named> = sent.map(|it| (it.name.clone(), it.machine.clone())).collect();
    let fired = fired(scenario, seconds)?;
    let only: BTreeSet<Named> = only.iter().map(|it| (it.name.to_owned(), it.machine.to_owned())).collect();
    let is_alone = |alerts: &BTreeSet<Named>| alerts - before == only;
    ensure!(is_alone(&fired) && is_alone(&sent), "fired: {fired:?}\nsent: {sent:?}\nexpected: {only:?}");
    Ok(())
}
