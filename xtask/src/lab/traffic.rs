//! Clients of the lab: readers whose every request must be answered, and a writer that records which writes
//! were acknowledged. They run in the internet client's namespace until their standard input ends, and then print the results.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// Readers at once.
pub(super) const READERS: usize = 8;
/// Between two requests of a reader: clients, servers and the apply share one computer.
const PAUSE: Duration = Duration::from_millis(10);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// What clients do.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Kind {
    /// GET, again and again, on connections that are kept.
    Read,
    /// POST one number after the other.
    Write,
}

/// What happened.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Requests answered 2xx.
    pub(crate) answered: u64,
    /// Requests that were not.
    pub(crate) failed: u64,
    /// How long the slowest of all took, in milliseconds.
    pub(crate) slowest: u64,
    /// The first few of those, in words.
    pub(crate) examples: Vec<String>,
    /// How often each status was answered; 0 stands for no answer.
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// Answers 503 without Retry-After.
    pub(crate) unannounced: u64,
    /// Of a writer: the rows whose insertion was acknowledged.
    pub(crate) acknowledged: Vec<Acknowledged>,
}

/// A row whose insertion was acknowledged: it was committed between two times, in microseconds since 1970.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Acknowledged {
    pub(crate) number: u64,
    /// Before the request was sent.
    pub(crate) sent: u64,
    /// After the answer came.
    pub(crate) answered: u64,
}

/// Clients at work.
pub(crate) struct Traffic {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Traffic {
    /// Starts clients by a command that gets there; `place` is what `lab in` would be called with. `first` is a writer's
    /// first number.
    pub(crate) fn start(
        mut place: Command,
        kind: Kind,
        address: SocketAddr,
        path: &str,
        first: u64,
    ) -> Result<Self> {
        let kind = match kind {
            Kind::Read => "read",
            Kind::Write => "write",
        };
        let mut child = place
            .arg(std::env::current_exe()?)
            .args(["lab", "traffic", kind, &address.to_string(), path, &first.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take();
        Ok(Self { child, stdin })
    }

    /// Ends them.
    pub(crate) fn stop(mut self) -> Result<Outcome> {
        drop(self.stdin.take());
        let mut text = String::new();
        self.child.stdout.take().context("standard output is piped")?.read_to_string(&mut text)?;
        self.child.wait()?;
        serde_json::from_str(&text).with_context(|| format!("clients printed: {text}"))
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It may have ended already.
        let _ = self.child.wait();
    }
}

/// The clients' own process.
pub(super) fn run(kind: Kind, address: SocketAddr, path: &str, first: u64) -> Result<()> {
    let stop = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        let clients: Vec<_> = match kind {
            Kind::Read => (0..READERS).map(|_| scope.spawn(|| read(address, path, &stop))).collect(),
            Kind::Write => vec![scope.spawn(|| write(address, path, first, &stop))],
        };
        let mut ignored = Vec::new();
        let ended = std::io::stdin().read_to_end(&mut ignored);
        stop.store(true, Ordering::Relaxed);
        ended?;
        let mut all = Outcome::default();
        for client in clients {
            let one = client.join().map_err(|_| anyhow::anyhow!("a client panicked"))?;
            all.answered += one.answered;
            all.failed += one.failed;
            all.slowest = all.slowest.max(one.slowest);
            all.examples.extend(one.examples);
            all.unannounced += one.unannounced;
            for (status, count) in one.statuses {
                *all.statuses.entry(status).or_default() += count;
            }
            all.acknowledged.extend(one.acknowledged);
        }
        all.examples.truncate(5);
        anyhow::Ok(all)
    })?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

fn read(address: SocketAddr, path: &str, stop: &AtomicBool) -> Outcome {
    let mut outcome = Outcome::default();
    let mut connection = None;
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let answer = ask(&mut connection, address, "GET", path, "");
        outcome.slowest = outcome.slowest.max(begin.elapsed().as_millis() as u64);
        outcome.note(answer);
        std::thread::sleep(PAUSE);
    }
    outcome
}

fn write(address: SocketAddr, path: &str, first: u64, stop: &AtomicBool) -> Outcome {
    let mut outcome = Outcome::default();
    let mut connection = None;
    for number in first.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let sent = now();
        let begin = Instant::now();
        let answer = ask(&mut connection, address, "POST", path, &format!("{{\"number\":{number}}}"));
        outcome.slowest = outcome.slowest.max(begin.elapsed().as_millis() as u64);
        if matches!(answer, Ok(Answer { status: 200..300, .. })) {
            outcome.acknowledged.push(Acknowledged { number, sent, answered: now() });
        }
        outcome.note(answer);
    }
    outcome
}

impl Outcome {
    fn note(&mut self, answer: Result<Answer>) {
        let status = answer.as_ref().map_or(0, |answer| answer.status);
        *self.statuses.entry(status).or_default() += 1;
        let answer = answer.and_then(|answer| {
            self.unannounced += u64::from(answer.status == 503 && !answer.has_retry_after);
            ensure!((200..300).contains(&answer.status), "answered {}", answer.status);
            Ok(())
        });
        match answer {
            Ok(()) => self.answered += 1,
            Err(error) => {
                self.failed += 1;
                if self.examples.len() < 5 {
                    self.examples.push(format!("{error:#}"));
                }
                // A system that is down is asked again, not hammered.
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

/// An answer, without its body.
struct Answer {
    status: u16,
    has_retry_after: bool,
}

/// Microseconds since 1970.
fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |it| it.as_micros() as u64)
}

/// One request on an idle connection, or a new one. An idle connection that was closed
/// before is replaced once: that is what any client does (RFC 9112 section 9.3.1), for either method, since no byte
/// of an answer came.
fn ask(
    kept: &mut Option<BufReader<TcpStream>>,
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> Result<Answer> {
    if let Some(connection) = kept {
        // What can be read now was sent before the request: a farewell.
        connection.get_ref().set_nonblocking(true)?;
        let closed = !matches!(connection.get_ref().peek(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
        connection.get_ref().set_nonblocking(false)?;
        if closed {
            *kept = None;
        }
    }
    let connection = if let Some(connection) = kept.take() {
        connection
    } else {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).context("no connection")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        BufReader::new(stream)
    };
    let (answer, connection) = exchange(connection, address, method, path, body)?;
    *kept = connection;
    Ok(answer)
}

fn exchange(
    mut connection: BufReader<TcpStream>,
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> Result<(Answer, Option<BufReader<TcpStream>>)> {
    write!(
        connection.get_mut(),
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .context("the request was not taken")?;
    let mut line = String::new();
    connection.read_line(&mut line).context("no answer")?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("no answer but {line:?}"))?;
    let (mut length, mut keep, mut has_retry_after) = (0, true, false);
    loop {
        let mut line = String::new();
        if connection.read_line(&mut line).context("half an answer")? == 0 {
            bail!("half an answer");
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().context("its content-length")?;
        }
        keep &= line != "connection: close";
        has_retry_after |= line.starts_with("retry-after:");
    }
    let mut answer = vec![0; length];
    connection.read_exact(&mut answer).context("half a body")?;
    Ok((Answer { status, has_retry_after }, keep.then_some(connection)))
}
