//! Alerts by their real causes: each arrives at a webhook within its hold time and 30 s, once, and its resolution follows.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::MONITORED;
use crate::command::output;
use crate::lab::machines::{INTERNET, Machine, outside, plain};
use crate::lab::scenario::Scenario;
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

/// Two receivers, of which the second refuses connections; a certificate of the balancer with `days` to go.
fn configure(scenario: &Scenario<'_>, days: &str) -> Result<()> {
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
    let more = format!(
        "[balancer]\nredirect-to-https = false\ncertificates = [{{ certificate = \"shop.crt\", key = \"shop.key\" }}]\n\
         [alerts]\nto = [\"webhook:@hook\", \"ntfy:{url}:1/hush-topic\"]\nheartbeat = \"{url}:{PORT}/heartbeat\"\n"
    );
    scenario.write(MONITORED, &more)?;
    scenario.succeed("apply", &["--yes"]).map(drop)
}

/// A full disk, a dead server, an archive that does not accept, a certificate that ends, an open port: all at the same time.
pub(super) fn at_once(scenario: &Scenario<'_>) -> Result<()> {
    let receiver = Receiver::start(scenario)?;
    let mut expiring = expected("certificate-expiring", "lb", 15);
    configure(scenario, "5")?;
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
    configure(scenario, "400")?;
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

/// PostgreSQL stopped, then a machine without power: what follows from it is not sent.
pub(super) fn one_after_the_other(scenario: &Scenario<'_>) -> Result<()> {
    let receiver = Receiver::start(scenario)?;
    configure(scenario, "400")?;
    let down = [expected("database-down", "db", 15)];
    scenario.on("db", "systemctl stop postgresql@15-main")?;
    receiver.arrive(&down)?;
    scenario.on("db", "systemctl start postgresql@15-main")?;
    receiver.resolve(&down)?;
    scenario.answered(Duration::from_secs(30))?;

    let app2 = Machine::named("app2")?;
    let off = [expected("machine-unreachable", "app2", 30)];
    scenario.lab.cut(app2)?;
    receiver.arrive(&off)?;
    // The server on it is out of rotation, too: that alert would come after a minute.
    std::thread::sleep((off[0].cause + Duration::from_secs(60) + LATEST).saturating_sub(now()));
    let others: Vec<_> = receiver
        .received()?
        .into_iter()
        .filter(|it| it.machine == "app2" && it.name != off[0].name && it.at >= off[0].from && !it.resolved)
        .collect();
    ensure!(others.is_empty(), "what follows from it is sent: {others:?}");
    scenario.lab.start(app2)?;
    receiver.resolve(&off)
}
