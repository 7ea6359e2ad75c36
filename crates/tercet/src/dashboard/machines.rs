//! The dashboard of a project on machines: the same page, served here. What it shows is read over the operator's ssh while the page is
//! open in a browser, so no port opens on a machine.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use serde_json::{Value, json};
use tercet_config::{Part, Tier, Topology};
use tercet_database::restored::Verification;
use tercet_fleet::Fleet;
use tercet_fleet::agent::Alert;
use tercet_fleet::logs::Line;
use tercet_fleet::report::{Report, UnitState};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::samples::Samples;
use super::server::{Site, Source};
use super::view::{LINES, POINTS, REQUESTS, line, of_record};
use super::{Redaction, applications};
use crate::output::Recent;
use crate::running::servers;
use crate::timeline::Timeline;

/// The interval at which the machines are read while the page is open.
const INTERVAL: Duration = Duration::from_secs(2);
/// The page asks more often than this.
const VIEWER_GONE: u64 = 10;
/// The interval at which an interrupt is noticed.
const ATTENTION: Duration = Duration::from_millis(100);
/// A request that takes longer is slow.
const SLOW: f64 = 0.5;
/// The failed or slow requests that are kept.
const NOTABLE: usize = 40;

/// What is read of the machines.
pub(crate) enum News {
    /// Reports by machine, and why others could not be read.
    Reports(Vec<(String, Report)>, Vec<(String, String)>),
    /// The balancer's answers: its servers, and the latest requests.
    Balancer(String, String),
    /// The alerts that fire.
    Alerts(Vec<Alert>),
    /// A log line.
    Line(Line),
}

/// When the page was last asked for, in seconds since the Unix epoch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched(Arc<AtomicU64>);

impl Watched {
    fn now() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    /// Whether the page is open in a browser.
    pub(crate) fn is(&self) -> bool {
        Self::now().saturating_sub(self.0.load(Ordering::Relaxed)) < VIEWER_GONE
    }
}

/// The dashboard.
pub(crate) struct Machines {
    site: Site,
    redaction: Redaction,
    topology: Topology,
    watched: Watched,
    samples: RefCell<Samples>,
    recent: RefCell<Recent>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    reports: Vec<(String, Report)>,
    missing: Vec<(String, String)>,
    alerts: Vec<Alert>,
    requests: Vec<Timeline>,
    notable: VecDeque<Timeline>,
}

impl Machines {
    /// A dashboard on a free port of this machine.
    ///
    /// # Errors
    /// As [`Site::bind`].
    pub(crate) async fn bind(topology: &Topology, redaction: Redaction) -> anyhow::Result<Self> {
        Ok(Self {
            site: Site::bind().await?,
            redaction,
            topology: topology.clone(),
            watched: Watched::default(),
            samples: RefCell::new(Samples::new()),
            recent: RefCell::default(),
            state: RefCell::default(),
        })
    }

    /// The address to open in a browser, with the key of this run.
    pub(crate) fn url(&self) -> String {
        self.site.url()
    }

    /// Says whether the page is open.
    pub(crate) fn watched(&self) -> Watched {
        self.watched.clone()
    }

    /// Serves the page, and takes the news, until `stop` is set.
    pub(crate) async fn run(self: Rc<Self>, mut news: UnboundedReceiver<News>, stop: &AtomicBool) {
        let interrupted = async {
            while !stop.load(Ordering::Relaxed) {
                tokio::time::sleep(ATTENTION).await;
            }
        };
        let source = Rc::clone(&self) as Rc<dyn Source>;
        let take = async {
            while let Some(news) = news.recv().await {
                self.take(news);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = interrupted => {}
            () = self.site.serve(source) => {}
            () = take => {}
        }
    }

    fn take(&self, news: News) {
        let mut state = self.state.borrow_mut();
        match news {
            News::Reports(reports, missing) => (state.reports, state.missing) = (reports, missing),
            News::Alerts(alerts) => state.alerts = alerts,
            News::Balancer(servers, requests) => {
                let found = servers::parse(&servers).unwrap_or_default();
                let all = found.iter().map(|server| server.requests).sum();
                let failed = found.iter().map(|server| server.answers.server_errors + server.failures).sum();
                self.samples.borrow_mut().add(all, failed, found);
                state.add_requests(&requests, &self.redaction);
            }
            News::Line(line) => {
                self.recent.borrow_mut().push(&Rc::from(line.part), line.message.as_bytes());
            }
        }
    }
}

impl State {
    /// Replaces the latest requests; those that have failed or were slow are kept.
    fn add_requests(&mut self, body: &str, redaction: &Redaction) {
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let records = body["requests"].as_array().map_or(&[][..], Vec::as_slice);
        let of = |record: &Value| {
            let ended = record["unix_seconds"].as_f64()?;
            let ended = Timestamp::from_millisecond((ended * 1000.0) as i64).ok()?;
            let mut record = record.clone();
            record["event"] = "request".into();
            record["time"] = ended.to_string().into();
            record["upstream"] = record["server"].take();
            of_record(&record, redaction)
        };
        self.requests = records.iter().filter_map(of).collect();
        for request in self.requests.iter().rev() {
            let took = request.spans.first().map_or(0, |span| span.duration) as f64 / 1e6;
            let is_known = self.notable.iter().any(|known| known.request_id == request.request_id);
            if !is_known && (request.status >= 500 || took >= SLOW) {
                self.notable.push_back(request.clone());
            }
        }
        while self.notable.len() > NOTABLE {
            self.notable.pop_front();
        }
    }
}

impl Source for Machines {
    fn watch(&self) {
        self.watched.0.store(Watched::now(), Ordering::Relaxed);
    }

    fn state(&self, after: u64) -> Value {
        let (state, samples, recent) = (self.state.borrow(), self.samples.borrow(), self.recent.borrow());
        let lines = recent.lines.iter().rev().take_while(|line| line.number > after).take(LINES);
        let lines: Vec<Value> = lines.map(|it| line(it, &self.redaction)).collect();
        let machines: Vec<Value> = self
            .topology
            .machines()
            .iter()
            .map(|machine| {
                let report =
                    state.reports.iter().find(|(name, _)| *name == machine.name).map(|(_, report)| report);
                let missing = state.missing.iter().find(|(name, _)| *name == machine.name);
                let tiers: Vec<String> = machine.tiers.iter().map(ToString::to_string).collect();
                let mut shown = json!({ "name": machine.name, "tiers": tiers });
                if let Some((_, reason)) = missing {
                    shown["reason"] = self.redaction.apply(reason).into();
                } else if let Some(report) = report {
                    describe(&mut shown, report);
                }
                shown
            })
            .collect();
        json!({
            "name": self.topology.name(),
            "url": Value::Null,
            "summary": if state.reports.is_empty() { "reading the machines".to_owned() } else { format!("on {} machines", machines.len()) },
            "applications": applications(&self.topology),
            "parts": parts(&self.topology, &state.reports),
            "golden": samples.last(),
            "servers": samples.servers(),
            "database": Value::Null,
            "machine": Value::Null,
            "machines": machines,
            "alerts": state.alerts,
            "certificates": [],
            "backups": [],
            "requests": state.requests.iter().take(REQUESTS).collect::<Vec<_>>(),
            "notable": state.notable.iter().rev().collect::<Vec<_>>(),
            "lines": lines.into_iter().rev().collect::<Vec<_>>(),
            "last": recent.last(),
        })
    }

    fn history(&self) -> Value {
        json!(self.samples.borrow().history(POINTS))
    }
}

/// Adds what a machine reports.
fn describe(shown: &mut Value, report: &Report) {
    let disk = report.disks.iter().min_by_key(|(_, (size, free))| free * 100 / (*size).max(1));
    shown["load"] = report.load.into();
    shown["uptime"] = report.uptime.into();
    shown["memory"] = json!([report.memory.0 << 10, report.memory.1 << 10]);
    shown["disk"] = json!(disk.map(|(folder, (size, free))| json!([folder, size << 10, free << 10])));
    shown["certificates"] = json!(report.certificates_end);
    shown["warnings"] = json!(report.warnings);
    if let Some(backup) = report.backups.as_ref().and_then(|record| {
        let latest = record.latest()?;
        let passed = record.checks.get(&latest.id).map(Verification::passed);
        Some(json!({ "id": latest.id, "ended": latest.finished, "bytes": latest.stored, "passed": passed }))
    }) {
        shown["backup"] = backup;
    }
}

/// The balancer, the application servers and the database, as their machines report them; none before the first report.
fn parts(topology: &Topology, reports: &[(String, Report)]) -> Vec<Value> {
    let wanted = [Tier::Balancer, Tier::Application, Tier::Database];
    let all = topology.parts().iter().filter(|part| wanted.contains(&part.tier) && !reports.is_empty());
    all.map(|part| {
        let machine = &topology.machine_of(part).name;
        let report = reports.iter().find(|(name, _)| name == machine).map(|(_, report)| report);
        let state = report.map(|report| unit(part, report).cloned().unwrap_or_default());
        let word = match state.as_ref().map(|state| state.active.as_str()) {
            None => "unreachable",
            Some("active" | "reloading") => "ready",
            Some("activating") => "starting",
            Some("failed") => "exited",
            Some(_) => "stopped",
        };
        let restarts = state.map_or(0, |state| state.restarts);
        json!({ "name": part.name, "state": word, "address": machine, "restarts": restarts, "reason": Value::Null })
    })
    .collect()
}

/// The unit of a part: of two instances of an application server, while one replaces the other, the one that runs.
fn unit<'r>(part: &Part, report: &'r Report) -> Option<&'r UnitState> {
    let named =
        |prefix: &str| report.units.iter().find(|(name, _)| name.starts_with(prefix)).map(|(_, it)| it);
    match part.tier {
        Tier::Balancer => named("tercet-balancer.service"),
        Tier::Database => named("postgresql@"),
        _ => {
            let own =
                || report.instances.iter().filter(|(it, _)| it.part == part.name).map(|(_, state)| state);
            own().find(|state| state.active == "active").or_else(|| own().next())
        }
    }
}

/// Reads the machines while the page is open, until `stop` is set.
pub(crate) fn read(
    fleet: &Fleet<'_>,
    missing: &[(String, String)],
    has_monitor: bool,
    watched: &Watched,
    sender: &UnboundedSender<News>,
    stop: &AtomicBool,
) {
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if !watched.is() || Instant::now() < next {
            std::thread::sleep(ATTENTION);
            continue;
        }
        let (reports, errors) = fleet.reports_of_those_there();
        let errors = errors.into_iter().map(|(name, error)| (name, format!("{error:#}")));
        let missing = missing.iter().cloned().chain(errors).collect();
        let mut news = vec![News::Reports(reports, missing)];
        let ask = |target| fleet.ask_balancer(target).ok().flatten();
        news.extend(
            ask("/servers")
                .zip(ask("/requests"))
                .map(|(servers, requests)| News::Balancer(servers, requests)),
        );
        if has_monitor {
            news.extend(fleet.alerts().ok().map(News::Alerts));
        }
        for news in news {
            // The page is served no more.
            if sender.send(news).is_err() {
                return;
            }
        }
        next = Instant::now() + INTERVAL;
    }
}

#[cfg(test)]
mod tests {
    use tercet_config::Origin;

    use super::*;

    #[test]
    fn requests_have_their_stages_and_those_that_failed_or_were_slow_are_kept() {
        let mut state = State::default();
        let body = |id: u32, status: u16, seconds: f64| {
            json!({ "requests": [{
                "unix_seconds": 1_764_500_000.5, "request_id": format!("id-{id}"), "method": "GET", "target": "/a?password=hushhush",
                "status": status, "seconds": seconds, "bytes": 1, "server": "app-1", "queue_seconds": 0.001,
                "upstream_seconds": seconds / 2.0, "api_seconds": seconds / 4.0, "database_seconds": seconds / 8.0, "rows": 3,
            }] })
            .to_string()
        };
        for (id, status, seconds) in
            [(1, 200, 0.01), (2, 503, 0.01), (3, 200, 0.9), (3, 200, 0.9), (4, 200, 0.02)]
        {
            state.add_requests(&body(id, status, seconds), &Redaction::default());
        }
        let notable: Vec<&str> = state.notable.iter().map(|it| &*it.request_id).collect();
        assert_eq!(notable, ["id-2", "id-3"]);
        let [last] = &state.requests[..] else { panic!("there is one") };
        assert_eq!((&*last.request_id, last.rows, last.server.as_deref()), ("id-4", Some(3), Some("app-1")));
        assert_eq!(last.ended, "2025-11-30T10:53:20.5Z");
        assert!(last.spans.iter().any(|span| span.name == "PostgreSQL" && span.duration == 2500));
        assert!(!last.target.contains("hushhush"), "{}", last.target);
        state.add_requests("no JSON", &Redaction::default());
        assert!(state.requests.is_empty());
    }

    #[test]
    fn parts_are_those_that_serve() {
        let text = "machine = [
            { name = 'one', ssh = 'one', address = '10.0.0.10', tiers = ['balancer', 'application'] },
            { name = 'two', ssh = 'two', address = '10.0.0.11', tiers = ['database'] },
        ]";
        let topology = tercet_config::parse(text, Origin { file: "tercet.toml", folder: "shop" }).unwrap();
        let unit = |active: &str| UnitState { active: active.to_owned(), ..UnitState::default() };
        let units =
            |names: &[(&str, &str)]| names.iter().map(|(name, it)| ((*name).to_owned(), unit(it))).collect();
        let one = Report { units: units(&[("tercet-balancer.service", "active")]), ..Report::default() };
        let unread = parts(&topology, &[("one".to_owned(), one.clone())]);
        assert_eq!(unread[2]["state"], "unreachable");
        let two = Report { units: units(&[("postgresql@15-main.service", "failed")]), ..Report::default() };
        let parts = parts(&topology, &[("one".to_owned(), one), ("two".to_owned(), two)]);
        let shown: Vec<_> =
            parts.iter().map(|it| (it["name"].as_str().unwrap(), it["state"].as_str().unwrap())).collect();
        assert_eq!(shown, [("balancer", "ready"), ("app-1", "stopped"), ("database", "exited")]);
    }
}
