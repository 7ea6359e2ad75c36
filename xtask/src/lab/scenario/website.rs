//! A website beside the API: its password, its error pages, and the balancer's maintenance, as the internet client sees them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{FOUR_MACHINES, Scenario, nothing_to_do, public_address};
use crate::command::output;
use crate::lab::machines::{MACHINES, OPERATOR, inside, plain};
use crate::lab::until;

/// `ann`, whose password is `secret`.
const USERS: &str = "ann:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";
const LOGIN: [&str; 2] = ["--user", "ann:secret"];
/// As a browser.
const HTML: [&str; 2] = ["-H", "accept: text/html"];
/// The balancer looks for maintenance twice a second.
const SOON: Duration = Duration::from_secs(5);

const SETTINGS: &str = "[balancer]
error-pages.folder = \"errors\"
maintenance = { allow = [\"OPERATOR\"], retry-after = \"10m\" }

[[balancer.route]]
path = \"/staging\"
strip = true
files = \"public\"
basic-auth = { users = \"@secrets/users\", realm = \"staging\" }
";

/// A password, pages, maintenance; afterwards the project is as before.
pub(super) fn guarded(scenario: &Scenario<'_>) -> Result<()> {
    let folder = scenario.project.path();
    for (path, text) in [
        ("public/index.html", "<h1>Staging</h1>"),
        ("errors/4xx.html", "<h1>Not here</h1>"),
        ("errors/maintenance.html", "<h1>Back soon</h1>"),
        ("secrets/users", USERS),
    ] {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        fs::write(path, text)?;
    }
    fs::set_permissions(folder.join("secrets/users"), fs::Permissions::from_mode(0o600))?;
    scenario.write(FOUR_MACHINES, &SETTINGS.replace("OPERATOR", plain(&inside(OPERATOR)[0])))?;
    scenario.succeed("apply", &["--yes"])?;
    nothing_to_do(scenario)?;

    let users = scenario.on("lb", "stat -c '%a %U:%G' /etc/tercet/credentials/balancer-users-1")?;
    ensure!(users.trim() == "600 root:root", "who can read the users: {users}");
    let told = scenario
        .on("lb", "grep -rl 'ann:[$]2b' /etc/tercet /etc/systemd /proc/[0-9]*/cmdline 2>/dev/null || true")?;
    ensure!(told.trim() == "/etc/tercet/credentials/balancer-users-1", "the users are in: {told}");
    expect(&ask(scenario, "internet", "/staging/", &[])?, "401", "realm=\"staging\"")?;
    expect(&ask(scenario, "internet", "/staging/", &["--user", "ann:guess"])?, "401", "realm=\"staging\"")?;
    expect(&ask(scenario, "internet", "/staging/", &LOGIN)?, "200", "<h1>Staging</h1>")?;
    let missing = ask(scenario, "internet", "/staging/none", &[LOGIN, HTML].concat())?;
    expect(&missing, "404", "<h1>Not here</h1>")?;
    expect(&ask(scenario, "internet", "/staging/none", &LOGIN)?, "404", "content-type: application/json")?;
    maintenance(scenario)?;
    scenario.write(FOUR_MACHINES, "")?;
    scenario.succeed("apply", &["--yes"])?;
    let left = scenario.on("lb", "ls /etc/tercet/credentials | grep users || true")?;
    ensure!(left.trim().is_empty(), "the users are still there: {left}");
    Ok(())
}

/// On, over a restart of the balancer, and off.
fn maintenance(scenario: &Scenario<'_>) -> Result<()> {
    let said = scenario.succeed("maintenance", &["on"])?;
    ensure!(said == "maintenance on: requests get 503 within a second (lb)\n", "{said}");
    let status = |status: &str| -> Result<()> {
        until(&format!("status {status}"), SOON, || {
            Ok(ask(scenario, "internet", "/event", &[])
                .is_ok_and(|it| it.starts_with(&format!("HTTP/1.1 {status}"))))
        })
    };
    status("503")?;
    for _ in 0..2 {
        expect(&ask(scenario, "internet", "/event", &HTML)?, "503", "<h1>Back soon</h1>")?;
        expect(&ask(scenario, "internet", "/event", &[])?, "503", "retry-after: 600")?;
        expect(
            &ask(scenario, "internet", "/staging/", &[LOGIN, HTML].concat())?,
            "503",
            "<h1>Back soon</h1>",
        )?;
        expect(&ask(scenario, "operator", "/event", &[])?, "200", "\"number\":0")?;
        // It stays, from the first response on.
        scenario.on("lb", "systemctl restart tercet-balancer")?;
        until("the balancer", SOON, || Ok(ask(scenario, "internet", "/event", &[]).is_ok()))?;
    }
    scenario.succeed("maintenance", &["off"])?;
    status("200")
}

/// A request of the internet client to the public address, or of the operator to the inner one.
fn ask(scenario: &Scenario<'_>, place: &str, path: &str, arguments: &[&str]) -> Result<String> {
    let host = if place == "operator" { MACHINES[0].address() } else { public_address() };
    let url = format!("http://{host}{path}");
    let mut curl = scenario.lab.at(place)?;
    output(curl.args(["curl", "-sS", "-i", "-m", "5"]).args(arguments).arg(url))
}

/// Names of header fields are case-insensitive.
fn expect(response: &str, status: &str, part: &str) -> Result<()> {
    let has_part = response.to_lowercase().contains(&part.to_lowercase());
    let is_so = response.starts_with(&format!("HTTP/1.1 {status} ")) && has_part;
    ensure!(is_so, "not {status} with {part}:\n{response}");
    Ok(())
}
