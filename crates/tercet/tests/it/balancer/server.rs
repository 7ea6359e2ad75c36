//! Servers behind the balancer as separate processes, which can be stopped and killed, and count the requests they receive.
//!
//! A server is another process of this test program. It prints every request on standard error before it answers, so that
//! the requests of a killed one are known too.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

use super::process::{TIMEOUT, end, own_address};

/// The variable that makes [`serves_until_it_is_told_to_end`] a server, and says where.
const ADDRESS: &str = "TERCET_TEST_SERVER";
/// What a target starts with whose first request gets no answer: its connection is closed.
pub(super) const SWALLOWED: &str = "/swallowed-";

/// A server process.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    process: Child,
    listening: Option<JoinHandle<()>>,
    reports: Arc<Reports>,
}

/// The requests that all servers of a test have received.
#[derive(Default)]
pub(super) struct Reports {
    seen: Mutex<Seen>,
    more: Condvar,
}

#[derive(Default)]
struct Seen {
    /// How often each request, as `METHOD target`, has reached a server.
    requests: HashMap<String, usize>,
    /// How many requests have reached each process.
    processes: HashMap<u32, usize>,
}

impl Server {
    pub(super) fn start(reports: &Arc<Reports>) -> Self {
        Self::start_at(own_address(), reports)
    }

    fn start_at(address: SocketAddr, reports: &Arc<Reports>) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "balancer::server::serves_until_it_is_told_to_end", "--ignored", "--nocapture"])
            .env(ADDRESS, address.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut printed = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        assert_eq!(printed.next().as_deref(), Some("listening"));
        let (id, own) = (process.id(), Arc::clone(reports));
        let listening = std::thread::spawn(move || printed.for_each(|request| own.add(id, request)));
        Self { address, process, listening: Some(listening), reports: Arc::clone(reports) }
    }

    /// Requests this process has got.
    pub(super) fn requests(&self) -> usize {
        self.reports.lock().processes.get(&self.process.id()).copied().unwrap_or(0)
    }

    /// Waits until this process has got so many requests more.
    pub(super) fn wait_for_requests(&self, count: usize) {
        let wanted = self.requests() + count;
        let lacks = |seen: &mut Seen| seen.processes.get(&self.process.id()).is_none_or(|got| *got < wanted);
        let waited = self.reports.more.wait_timeout_while(self.reports.lock(), TIMEOUT, lacks).unwrap();
        assert!(!waited.1.timed_out(), "{} got no request", self.address);
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Ends the process by a signal and starts another one in its place.
    pub(super) fn replace(&mut self, signal: Signal) {
        self.end(signal);
        *self = Self::start_at(self.address, &self.reports);
    }

    fn end(&mut self, signal: Signal) {
        let Some(listening) = self.listening.take() else { return };
        end(Pid::from_child(&self.process), signal);
        self.process.wait().unwrap();
        listening.join().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end(Signal::KILL);
    }
}

impl Reports {
    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    fn add(&self, process: u32, request: String) {
        let mut seen = self.lock();
        *seen.processes.entry(process).or_default() += 1;
        *seen.requests.entry(request).or_default() += 1;
        self.more.notify_all();
    }

    /// How often each request of a method has reached servers.
    pub(super) fn of_method(&self, method: &str) -> HashMap<String, usize> {
        let seen = self.lock();
        seen.requests
            .iter()
            .filter(|(request, _)| request.starts_with(method))
            .map(|(request, count)| (request.clone(), *count))
            .collect()
    }
}

#[test]
#[ignore = "what a server process runs, started by tests"]
fn serves_until_it_is_told_to_end() {
    let Ok(address) = std::env::var(ADDRESS) else { return };
    let listener = TcpListener::bind(&address).unwrap();
    let connections = Arc::new(Connections::default());
    let mut terminate = signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM]).unwrap();
    let closing = Arc::clone(&connections);
    std::thread::spawn(move || {
        terminate.forever().next();
        closing.close();
        // Wakes the thread that accepts.
        drop(TcpStream::connect(address));
    });
    tell("listening");
    let mut serving = Vec::new();
    for stream in listener.incoming() {
        let stream = stream.unwrap();
        if !connections.add(&stream) {
            break;
        }
        let connections = Arc::clone(&connections);
        serving.push(std::thread::spawn(move || serve(stream, &connections)));
    }
    drop(listener);
    for connection in serving {
        connection.join().unwrap();
    }
}

/// What a server has open.
#[derive(Default)]
struct Connections {
    open: Mutex<Vec<TcpStream>>,
    is_ending: AtomicBool,
}

impl Connections {
    /// False when it is too late.
    fn add(&self, stream: &TcpStream) -> bool {
        let mut open = self.open.lock().unwrap();
        open.push(stream.try_clone().unwrap());
        !self.is_ending.load(Ordering::SeqCst)
    }

    /// Lets what has arrived be answered, and nothing more arrive.
    fn close(&self) {
        self.is_ending.store(true, Ordering::SeqCst);
        for stream in self.open.lock().unwrap().iter() {
            // One that is closed already is as good.
            let _ = stream.shutdown(Shutdown::Read);
        }
    }
}

/// One line, in one write: threads and processes do not mix theirs.
fn tell(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Answers what comes on a connection, until it ends.
fn serve(mut stream: TcpStream, connections: &Connections) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some((request, is_check)) = read(&mut reader) {
        if !is_check {
            tell(&request);
            if request.contains(SWALLOWED) {
                break;
            }
        }
        let is_ending = is_check || connections.is_ending.load(Ordering::SeqCst);
        let last = if is_ending { "Connection: close\r\n" } else { "" };
        let answer = format!("HTTP/1.1 200 OK\r\n{last}Content-Length: 2\r\n\r\nok");
        if stream.write_all(answer.as_bytes()).is_err() || is_ending {
            break;
        }
    }
    // The clones are closed, too.
    let _ = stream.shutdown(Shutdown::Both);
}

/// The next request as `METHOD target`, its body read, and whether it is a check of the balancer's.
fn read(reader: &mut BufReader<TcpStream>) -> Option<(String, bool)> {
    let (mut request, mut is_check, mut length) = (String::new(), false, 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let lower = line.trim_end().to_ascii_lowercase();
        if request.is_empty() {
            request.push_str(line.trim_end().strip_suffix(" HTTP/1.1").unwrap());
        } else if let Some(value) = lower.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        } else if lower == "user-agent: tercet-balancer" {
            is_check = true;
        } else if lower.is_empty() {
            reader.read_exact(&mut vec![0; length]).ok()?;
            return Some((request, is_check));
        }
    }
}
