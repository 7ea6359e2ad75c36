//! The agent: answers one request on standard input and output.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tercet_machine::{Secret, cluster, probe};

use super::http::http;
use super::message::{BalancerState, DatabaseTask, Query, Reply, Request};
use super::{alerts, change, postgres, task};
use crate::backup::pgbackrest::PgBackRest;
use crate::backup::settings::Settings;
use crate::nftables::Flow;
use crate::paths::ADMIN_SOCKET;
use crate::{backup, inside, lease, migrate, reachability, report, state};

/// The number of restarts after which a unit counts as failed.
const HOPELESS: u32 = 5;

/// Reads one request, executes it and writes the replies. A failure is a reply, too.
///
/// # Errors
/// The operator is disconnected.
pub fn serve(input: impl Read, mut output: impl Write) -> Result<()> {
    let mut input = BufReader::new(input);
    let mut text = String::new();
    input.read_line(&mut text).context("standard input")?;
    let mut say = |reply: &Reply| -> Result<()> {
        output.write_all(Secret::json_of(reply)?.reveal().as_bytes())?;
        output.write_all(b"\n")?;
        Ok(output.flush()?)
    };
    let outcome = serde_json::from_str(&text)
        .context("incompatible agent version")
        .and_then(|request| answer(request, &mut input, &mut say));
    if let Err(error) = outcome {
        say(&Reply::Failed { message: format!("{error:#}") })?;
    }
    Ok(())
}

fn answer(
    request: Request,
    payload: &mut impl Read,
    say: &mut impl FnMut(&Reply) -> Result<()>,
) -> Result<()> {
    match request {
        Request::Query(query) => say(&read(query)?),
        Request::Lease(request) => say(&Reply::Lease(lease::serve(&request)?)),
        Request::Change { fence, project, change } => change::make(change, &project, fence, payload, say),
        Request::Database(DatabaseTask::Migrate(migrate, release)) => {
            say(&Reply::Migrated(migrate::apply(&migrate, &release)?))
        }
        Request::Database(DatabaseTask::SetOwnerLogin(login)) => {
            login.set()?;
            say(&Reply::Done)
        }
        Request::Database(DatabaseTask::State(migrate)) => say(&Reply::Database(migrate::state(&migrate)?)),
    }
}

fn read(query: Query) -> Result<Reply> {
    Ok(match query {
        Query::Probe { desired } => Reply::Facts(probe(&desired)?),
        Query::AwaitReady { address, path, seconds, unit } => {
            await_ready(address, path.as_deref(), Duration::from_secs(seconds), &unit)?;
            Reply::Done
        }
        Query::AwaitRotation { servers, gone, seconds } => {
            await_rotation(&servers, &gone, Duration::from_secs(seconds))?;
            Reply::Done
        }
        Query::Database(migrate) if !migrate.has_cluster() => Reply::Database(migrate.nothing_there()),
        Query::Database(migrate) => postgres::ask(DatabaseTask::State(migrate))?,
        Query::Connect { targets, user } => {
            Reply::Connected(reachability::connect_all(&targets, user.as_deref())?)
        }
        Query::Scan { addresses, per_second } => Reply::Scanned(reachability::scan(&addresses, per_second)?),
        Query::Inside => Reply::Inside(inside::read()?),
        Query::Verdicts { flows } => {
            let rules = inside::ruleset()?;
            let verdict = |(flow, open): &(Flow, bool)| {
                if *open { rules.why_dropped(flow) } else { rules.why_open(flow) }
            };
            Reply::Verdicts(flows.iter().map(verdict).collect())
        }
        Query::HbaLine { port, database, role, client, tls } => {
            Reply::HbaLine(cluster::hba_line(port, &database, &role, client, tls)?)
        }
        Query::LogIn { logins, credentials } => {
            Reply::Tried(reachability::log_in_all(&logins, &credentials)?)
        }
        Query::Report => Reply::Report(Box::new(report::read()?)),
        Query::Task(task) => Reply::Task(task::state(&task)?),
        Query::Backups => {
            let settings = Settings::here()?;
            Reply::Backups(Box::new(backup::run::read(PgBackRest { settings: &settings })?))
        }
        Query::State => Reply::State(state::kept()?),
        Query::Alerts { port } => Reply::Alerts(alerts::read(port)?),
        Query::TestAlerts { port, receivers } => Reply::TestedAlerts(alerts::test(port, receivers)?),
        Query::Balancer { target } => {
            let (status, body) = balancer(&target)?;
            Reply::Balancer { status, body }
        }
    })
}

/// Waits until the balancer reports each server, by name and address, as up, and none of those in `gone`.
fn await_rotation(servers: &[(String, SocketAddr)], gone: &[String], limit: Duration) -> Result<()> {
    let begin = Instant::now();
    loop {
        // The admin socket may not respond while the balancer starts or reloads its configuration.
        let state = balancer("/servers").ok().and_then(|(_, body)| serde_json::from_str(&body).ok());
        let known = state.map_or(Vec::new(), |state: BalancerState| state.servers);
        let missing = servers.iter().find(|(name, address)| {
            let address = address.to_string();
            !known.iter().any(|it| it.name == *name && it.address == address && it.state == "up")
        });
        let left = gone.iter().find(|name| known.is_empty() || known.iter().any(|it| it.name == **name));
        let (name, address) = match (missing, left) {
            (Some((name, address)), _) => (name, address),
            (None, Some(name)) if begin.elapsed() > limit => {
                bail!("the balancer still has {name} in rotation after {} s", limit.as_secs())
            }
            (None, Some(_)) => {
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
            (None, None) => return Ok(()),
        };
        if begin.elapsed() > limit {
            let state = known.iter().find(|it| it.name == *name).map_or("unknown", |it| &it.state);
            bail!(
                "the balancer does not find {name} at {address} healthy within {} s: {state}",
                limit.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn balancer(target: &str) -> Result<(u16, String)> {
    let mut socket = UnixStream::connect(ADMIN_SOCKET).context("the balancer does not run")?;
    http(&mut socket, "GET", target, "")
}

fn await_ready(address: SocketAddr, path: Option<&str>, limit: Duration, unit: &str) -> Result<()> {
    let begin = Instant::now();
    loop {
        let answer = TcpStream::connect_timeout(&address, Duration::from_secs(2))
            .map_err(anyhow::Error::from)
            .and_then(|mut stream| path.map(|path| http(&mut stream, "GET", path, "")).transpose());
        let last = match answer {
            Ok(None | Some((200..=299, _))) => return Ok(()),
            Ok(Some((status, body))) => {
                format!("status {status} {}", body.lines().next().unwrap_or_default())
            }
            Err(error) => format!("{error:#}"),
        };
        if begin.elapsed() > limit {
            let path = path.unwrap_or_default();
            bail!("http://{address}{path} was not ready within {} s: {last}", limit.as_secs());
        }
        if report::state(unit)?.restarts >= HOPELESS {
            bail!("{unit} keeps restarting; the end of its log:\n{}", report::log_end(unit)?);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
