//! The machine's end of the conversation.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tercet_machine::{Desired, Secret, Step, execute, probe};

use super::message::{Reply, Request};
use crate::paths::ADMIN_SOCKET;
use crate::{attempt, lease, migrate, report};

/// Restarts after which a unit will not get ready.
const HOPELESS: u32 = 5;

/// Reads one request, does it, writes the replies. A failure is a reply, too.
///
/// # Errors
/// The operator is gone.
pub fn serve(mut input: impl Read, mut output: impl Write) -> Result<()> {
    let mut text = String::new();
    input.read_to_string(&mut text).context("standard input")?;
    let mut say = |reply: &Reply| -> Result<()> {
        output.write_all(Secret::json_of(reply)?.reveal().as_bytes())?;
        output.write_all(b"\n")?;
        Ok(output.flush()?)
    };
    let outcome = serde_json::from_str(&text)
        .context("a request nobody understands; hint: the two tercets are of different versions")
        .and_then(|request| answer(request, &mut say));
    if let Err(error) = outcome {
        say(&Reply::Failed { message: format!("{error:#}") })?;
    }
    Ok(())
}

fn answer(request: Request, say: &mut impl FnMut(&Reply) -> Result<()>) -> Result<()> {
    match request {
        Request::Probe { desired } => say(&Reply::Facts(probe(&desired)?)),
        Request::Execute { desired, steps, fence } => take(&desired, &steps, fence, say),
        Request::Lease(request) => say(&Reply::Lease(lease::serve(&request)?)),
        Request::Await { address, path, seconds, unit } => {
            wait_for(address, path.as_deref(), Duration::from_secs(seconds), &unit)?;
            say(&Reply::Ready)
        }
        Request::Pending(migrate) if !migrate.has_cluster() => say(&Reply::Pending(migrate.names())),
        Request::Migrate(_) | Request::Pending(_) if rustix::process::geteuid().is_root() => {
            say(&as_postgres(&request)?)
        }
        Request::Migrate(migrate) => say(&Reply::Migrated(migrate::apply(&migrate)?)),
        Request::Pending(migrate) => say(&Reply::Pending(migrate::pending(&migrate)?)),
        Request::Connect { targets } => say(&Reply::Connected(attempt::connect_all(&targets))),
        Request::TryDatabase { attempts } => say(&Reply::Tried(attempt::try_all(&attempts)?)),
        Request::Report => say(&Reply::Report(report::read()?)),
        Request::Balancer { method, target } => {
            let mut socket = UnixStream::connect(ADMIN_SOCKET).context("the balancer does not run")?;
            let (status, body) = http(&mut socket, &method, &target)?;
            say(&Reply::Balancer { status, body })
        }
    }
}

/// Root becomes `postgres`, whom PostgreSQL knows by the socket.
fn as_postgres(request: &Request) -> Result<Reply> {
    let request = Secret::json_of(request)?;
    let mut child = Command::new("runuser")
        .args(["-u", "postgres", "--"])
        .arg(std::env::current_exe()?)
        .arg("machine")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("runuser")?;
    let mut stdin = child.stdin.take().expect("standard input is piped");
    stdin.write_all(request.reveal().as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    match serde_json::from_slice(&output.stdout).context("the migration ended without an answer")? {
        Reply::Failed { message } => bail!("{message}"),
        reply => Ok(reply),
    }
}

fn take(
    desired: &Desired,
    steps: &[Step],
    fence: u64,
    say: &mut impl FnMut(&Reply) -> Result<()>,
) -> Result<()> {
    for (place, step) in steps.iter().enumerate() {
        lease::check(fence)?;
        say(&Reply::Begun(place))?;
        execute(step, desired).with_context(|| step.to_string())?;
        say(&Reply::Done(place))?;
    }
    say(&Reply::Ready)
}

fn wait_for(address: SocketAddr, path: Option<&str>, limit: Duration, unit: &str) -> Result<()> {
    let begin = Instant::now();
    loop {
        let answer = TcpStream::connect_timeout(&address, Duration::from_secs(2))
            .map_err(anyhow::Error::from)
            .and_then(|mut stream| path.map(|path| http(&mut stream, "GET", path)).transpose());
        let last = match answer {
            Ok(None | Some((200..=299, _))) => return Ok(()),
            Ok(Some((status, body))) => {
                format!("it answers {status} {}", body.lines().next().unwrap_or_default())
            }
            Err(error) => format!("{error:#}"),
        };
        if begin.elapsed() > limit {
            let path = path.unwrap_or_default();
            bail!("http://{address}{path} was not ready within {} s: {last}", limit.as_secs());
        }
        if report::state(unit)?.restarts >= HOPELESS {
            bail!("it ends again and again; its log ends:\n{}", report::log_end(unit)?);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// One request and its answer, read to the end of the connection: status and body.
fn http<S: Read + Write>(stream: &mut S, method: &str, target: &str) -> Result<(u16, String)> {
    write!(stream, "{method} {target} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(16 << 20).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a head")?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .context("an answer without a status")?;
    Ok((status, body.to_owned()))
}
