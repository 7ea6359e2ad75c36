//! `tercet dashboard`: what the machines do is seen on the operator's computer, over ssh, and nothing of it stays on them.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Scenario;
use crate::command::output;
use crate::lab::machines::MACHINES;
use crate::lab::traffic::Kind;
use crate::lab::{kill, signal, until};

/// How long a change may take to be seen: it is looked at every two seconds.
const SEEN: Duration = Duration::from_secs(20);

/// What a command of the operator's could leave on a machine.
const LEFT: &str = "ps -eo args= | grep -E '^journalctl|tercet.* machine( |$)' | grep -v grep; \
    find /tmp /var/tmp /run/tercet* /var/lib/tercet /usr/local/lib/tercet -xdev 2>/dev/null | grep -v systemd-private | sort";

/// The command, ended with the stage.
struct Dashboard {
    process: Child,
    /// Open, so that it can print.
    _printed: BufReader<ChildStdout>,
    /// `http://127.0.0.1:PORT/PATH/`, and the same with the key.
    page: String,
    entrance: String,
    cookies: tempfile::TempDir,
}

impl Dashboard {
    fn start(scenario: &Scenario<'_>) -> Result<Self> {
        let mut command = scenario.tercet("dashboard", &[])?;
        command.arg(scenario.project.path()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let mut printed = BufReader::new(process.stdout.take().context("standard output is piped")?);
        let mut first = String::new();
        printed.read_line(&mut first)?;
        let entrance = first.trim().strip_prefix("dashboard  ").with_context(|| first.clone())?.to_owned();
        let page = entrance.split('?').next().unwrap_or_default().to_owned();
        Ok(Self { process, _printed: printed, page, entrance, cookies: tempfile::tempdir()? })
    }

    /// A request of the operator's browser: status, and body.
    fn get(&self, scenario: &Scenario<'_>, url: &str) -> Result<(String, String)> {
        let jar = self.cookies.path().join("jar");
        let mut curl = scenario.lab.at("operator")?;
        curl.args(["curl", "-sS", "-L", "-m", "5", "-w", "\n%{http_code}", "-c"])
            .arg(&jar)
            .arg("-b")
            .arg(&jar);
        let printed = output(curl.arg(url))?;
        let (body, status) = printed.trim_end().rsplit_once('\n').context("a status")?;
        Ok((status.to_owned(), body.to_owned()))
    }

    /// Waits until the page's state is so.
    fn state(&self, scenario: &Scenario<'_>, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut state = Value::Null;
        until(what, SEEN, || {
            state = serde_json::from_str(&self.get(scenario, &format!("{}state", self.page))?.1)?;
            Ok(is_so(&state))
        })
        .with_context(|| format!("{state:#}"))?;
        Ok(state)
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = kill(&mut self.process);
    }
}

/// Numbers, a server that is stopped and started, one request's stages; then Ctrl-C.
pub(super) fn over_ssh(scenario: &Scenario<'_>) -> Result<()> {
    let before = left(scenario)?;
    let mut dashboard = Dashboard::start(scenario)?;
    ensure!(dashboard.get(scenario, &dashboard.page)?.0 == "403", "the page needs no key");
    let (status, page) = dashboard.get(scenario, &dashboard.entrance)?;
    ensure!(status == "200" && page.contains("id=\"picture\""), "{status}: {page}");
    let all_up = |state: &Value| {
        of(state, "servers", "state") == ["up", "up"] && of(state, "parts", "state") == ["ready"; 4]
    };
    let idle = dashboard.state(scenario, "all machines", |state| {
        all_up(state)
            && state["machines"].as_array().is_some_and(|all| all.iter().all(|it| it["memory"][0].is_u64()))
    })?;
    ensure!(of(&idle, "machines", "name") == MACHINES.map(|it| it.name), "{idle:#}");

    let traffic = scenario.traffic(Kind::Read)?;
    let rate = |state: &Value| state["golden"]["rate"].as_f64().unwrap_or_default();
    let busy = dashboard.state(scenario, "requests per second", |state| rate(state) > 20.0)?;
    dashboard.state(scenario, "another number of them", |state| {
        rate(state) > 20.0 && (rate(state) - rate(&busy)).abs() > 1.0
    })?;
    let unit =
        scenario.on("app1", "systemctl list-units --plain --no-legend 'tercet-app-1@*' | cut -d' ' -f1")?;
    scenario.on("app1", &format!("systemctl stop '{}'", unit.trim()))?;
    dashboard.state(scenario, "app-1 stopped", |state| {
        let of_app = |key: &str, field: &str| value(state, key, "app-1", field);
        of_app("parts", "state") == "stopped" && of_app("servers", "state") != "up"
    })?;
    dashboard.state(scenario, "the line about it", |state| {
        of(state, "lines", "message").iter().any(|it| it.contains("server app-1 is"))
    })?;
    scenario.on("app1", &format!("systemctl start '{}'", unit.trim()))?;
    dashboard.state(scenario, "app-1 back", all_up)?;
    let traced = dashboard.state(scenario, "a request with its stages", |state| {
        of(&state["requests"][0], "spans", "name").contains(&"PostgreSQL")
    })?;
    let spans = of(&traced["requests"][0], "spans", "name");
    ensure!(spans[0] == "balancer" && spans.iter().any(|it| it.starts_with("app-")), "{spans:?}");
    traffic.stop()?;

    signal(&dashboard.process, "INT")?;
    let ended = dashboard.process.wait()?;
    ensure!(ended.success(), "Ctrl-C ended it with {ended}");
    let mut after = Vec::new();
    // ssh's other ends take a moment.
    until("the machines as before", SEEN, || {
        after = left(scenario)?;
        Ok(after == before)
    })
    .with_context(|| format!("before: {before:#?}\nnow: {after:#?}"))
}

/// What there is on each machine.
fn left(scenario: &Scenario<'_>) -> Result<Vec<String>> {
    MACHINES.iter().map(|machine| scenario.on(machine.name, LEFT)).collect()
}

/// A field of all elements of a list.
fn of<'v>(state: &'v Value, list: &str, field: &str) -> Vec<&'v str> {
    state[list].as_array().into_iter().flatten().filter_map(|it| it[field].as_str()).collect()
}

/// A field of the element with this name.
fn value<'v>(state: &'v Value, list: &str, name: &str, field: &str) -> &'v str {
    let named = state[list].as_array().into_iter().flatten().find(|it| it["name"] == name);
    named.and_then(|it| it[field].as_str()).unwrap_or_default()
}
