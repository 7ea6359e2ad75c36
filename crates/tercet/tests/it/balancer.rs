//! `tercet balancer` as two processes: what dies is replaced, what changes is noticed by nobody.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::tercet::command;

/// How long something that comes at once may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A balancer, ended with the test.
struct Balancer {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

/// A server that answers everything at once, as long as the test runs.
fn server(body: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|count| count > 0) {
                    if line == "\r\n" {
                        let answer =
                            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                        if stream.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                    line.clear();
                }
            });
        }
    });
    address
}

/// Sends one request on a connection of its own; `Err` when it is not answered whole.
fn get(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    Ok(body.to_owned())
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

/// A port nobody has right now. Whoever takes it in between makes the test fail, not pass.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Balancer {
    fn start(server: SocketAddr) -> Self {
        let address = free_address();
        Self::start_as(command(), address, server)
    }

    fn start_as(mut command: Command, address: SocketAddr, server: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("balancer.toml");
        std::fs::write(&file, configuration(address, server)).unwrap();
        let log = File::create(folder.path().join("events.log")).unwrap();
        command.args(["balancer", "--config"]).arg(&file).stderr(log);
        let child = command.spawn().unwrap();
        let balancer = Self { child, address, folder };
        eventually("it answers", || get(address).is_ok());
        balancer
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("balancer.toml")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("events.log")).unwrap()
    }

    fn worker(&self) -> Option<u32> {
        let pid = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.split_whitespace().next().map(|child| child.parse().unwrap())
    }

    fn signal(&self, signal: &str) {
        kill(signal, self.child.id());
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kill(signal: &str, process: u32) {
    let status = Command::new("kill").args([signal, &process.to_string()]).status().unwrap();
    assert!(status.success());
}

fn is_alive(process: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn configuration(address: SocketAddr, server: SocketAddr) -> String {
    format!(
        "listen = [\"{address}\"]\nservers = [\"{server}\"]\nworkers = 2\ndrain = \"5s\"\n[access-log]\nto = \"access.log\"\n"
    )
}

#[test]
fn a_worker_that_is_killed_is_back_at_once_and_no_connection_is_refused() {
    let balancer = Balancer::start(server("ok"));
    let (stop, refused, lost, answered) =
        (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let counter = match get(balancer.address) {
                        Ok(_) => &answered,
                        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => &refused,
                        Err(_) => &lost,
                    };
                    counter.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for _ in 0..3 {
            let worker = balancer.worker().unwrap();
            let before = answered.load(Ordering::SeqCst);
            kill("-KILL", worker);
            eventually("another worker serves", || {
                balancer.worker().is_some_and(|other| other != worker)
                    && answered.load(Ordering::SeqCst) > before + 20
            });
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(refused.into_inner(), 0);
    // What a worker had accepted dies with it: at most one request of each client, each time.
    assert!(lost.into_inner() <= 3 * 4);
    eventually("each death is told", || {
        balancer.log().matches("the worker process died (signal: 9 (SIGKILL))").count() == 3
    });
}

#[test]
fn a_hang_up_reloads_and_a_bad_file_changes_nothing() {
    let balancer = Balancer::start(server("before"));
    assert_eq!(get(balancer.address).unwrap(), "before");
    std::fs::write(balancer.file(), configuration(balancer.address, server("after"))).unwrap();
    balancer.signal("-HUP");
    eventually("the new server answers", || get(balancer.address).unwrap() == "after");
    let worker = balancer.worker();

    std::fs::write(balancer.file(), "policy = \"whatever\"\n").unwrap();
    balancer.signal("-HUP");
    eventually("the bad file is refused", || balancer.log().contains("refused, the old one stays"));
    assert_eq!(get(balancer.address).unwrap(), "after");
    assert_eq!(balancer.worker(), worker, "a reload starts nothing anew");

    let another = free_address();
    let both = configuration(balancer.address, server("both"))
        .replace("listen = [", &format!("listen = [\"{another}\", "));
    std::fs::write(balancer.file(), both).unwrap();
    balancer.signal("-HUP");
    eventually("the new address answers", || get(another).is_ok_and(|body| body == "both"));
}

#[test]
fn termination_finishes_what_was_begun_and_ends_well() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let slow = listener.local_addr().unwrap();
    let (begun, wait_begun) = std::sync::mpsc::channel();
    let (finish, wait_finish) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 1024];
            let count = stream.read(&mut head).unwrap();
            if String::from_utf8_lossy(&head[..count]).contains("GET /slow") {
                begun.send(()).unwrap();
                wait_finish.recv().unwrap();
            }
            // A check may not wait for its answer.
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlast");
        }
    });
    let mut balancer = Balancer::start(slow);
    let mut stream = TcpStream::connect(balancer.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    wait_begun.recv().unwrap();
    let worker = balancer.worker().unwrap();
    balancer.signal("-TERM");
    eventually("nobody new is let in", || TcpStream::connect(balancer.address).is_err());
    finish.send(()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nlast"), "{answer}");
    assert!(balancer.child.wait().unwrap().success());
    assert!(!is_alive(worker));
    assert!(balancer.log().contains("stopped"));
}

#[test]
fn a_worker_dies_with_its_supervisor() {
    let mut balancer = Balancer::start(server("ok"));
    let worker = balancer.worker().unwrap();
    balancer.child.kill().unwrap();
    balancer.child.wait().unwrap();
    eventually("the worker is gone", || !is_alive(worker));
}

#[test]
fn a_taken_address_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("balancer.toml");
    let address = taken.local_addr().unwrap();
    std::fs::write(&file, configuration(address, address)).unwrap();
    let output = command().args(["balancer", "--config"]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("{address}: Address already in use")), "{said}");
}

#[test]
fn a_new_process_takes_over_the_sockets_of_systemd_and_no_connection_is_refused() {
    // Binds a socket and hands it to one balancer after another, as systemd does on a restart.
    const HOLDER: &str = "
import os, socket, sys
held = socket.create_server(('127.0.0.1', int(sys.argv[1])), backlog=4096)
def start():
    pid = os.fork()
    if pid == 0:
        os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))
        os.dup2(held.fileno(), 3)
        os.set_inheritable(3, True)
        os.execv(sys.argv[2], sys.argv[2:])
    return pid
old = start()
for _ in sys.stdin:
    os.kill(old, 15)
    os.waitpid(old, 0)
    old = start()
    print('restarted', flush=True)
os.kill(old, 15)
os.waitpid(old, 0)
";
    let server = server("ok");
    let address = free_address();
    let mut python = Command::new("python3");
    python.args(["-c", HOLDER, &address.port().to_string(), env!("CARGO_BIN_EXE_tercet")]);
    python.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut balancer = Balancer::start_as(python, address, server);
    let mut restart = balancer.child.stdin.take().unwrap();
    let mut restarted = BufReader::new(balancer.child.stdout.take().unwrap()).lines();
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    assert_eq!(get(address).unwrap(), "ok");
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for _ in 0..3 {
            restart.write_all(b"again\n").unwrap();
            assert_eq!(restarted.next().unwrap().unwrap(), "restarted");
            let before = answered.load(Ordering::SeqCst);
            eventually("the next one serves", || answered.load(Ordering::SeqCst) > before + 20);
        }
        stop.store(true, Ordering::SeqCst);
    });
    drop(restart);
    balancer.child.wait().unwrap();
}
