//! Reloads, upgrades and stops under load.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use rustix::process::Signal;
use tokio_tungstenite::tungstenite::{self, Message};

use super::load::{Load, Outcome, get};
use super::process::{Balancer, TIMEOUT, configuration, eventually, is_alive, own_address};
use super::thread_server::ThreadServer;
use crate::tercet::command;

fn load(balancer: &Balancer) -> Load<'static> {
    Load {
        address: balancer.address,
        clients: 8,
        methods: &["GET", "POST"],
        keep_alive: true,
        swallowed: None,
    }
}

fn assert_all_were_answered(outcomes: &[Outcome]) {
    let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.status != Ok(200)).collect();
    assert!(failed.is_empty(), "{} of {}: {failed:?}", failed.len(), outcomes.len());
}

#[test]
fn a_hang_up_reloads_and_a_bad_file_changes_nothing() {
    let balancer = Balancer::start(&[ThreadServer::answering("before").address], "");
    assert_eq!(get(balancer.address).unwrap(), "before");
    let after = configuration(balancer.address, &[ThreadServer::answering("after").address], "");
    std::fs::write(balancer.file(), after).unwrap();
    balancer.signal(Signal::HUP);
    eventually("the new server answers", || get(balancer.address).unwrap() == "after");
    let worker = balancer.worker();

    std::fs::write(balancer.file(), "policy = \"whatever\"\n").unwrap();
    balancer.signal(Signal::HUP);
    eventually("the bad file is refused", || {
        balancer.log().contains("refused, the running one stays in use")
    });
    assert_eq!(get(balancer.address).unwrap(), "after");
    assert_eq!(balancer.worker(), worker, "a reload starts nothing anew");

    let another = own_address();
    let both = configuration(balancer.address, &[ThreadServer::answering("both").address], "")
        .replace("listen = [", &format!("listen = [\"{another}\", "));
    std::fs::write(balancer.file(), both).unwrap();
    balancer.signal(Signal::HUP);
    eventually("the new address answers", || get(another).is_ok_and(|body| body == "both"));
}

#[test]
fn reloads_keep_connections_websockets_and_server_states() {
    const RELOADS: usize = 30;
    let servers = [ThreadServer::answering("one"), ThreadServer::answering("two")];
    let unhealthy = ThreadServer::unhealthy();
    let addresses = [servers[0].address, servers[1].address, unhealthy.address];
    let rules = "health.path = \"/\"\nhealth.interval = \"50ms\"\nhealth.timeout = \"10s\"\n";
    let balancer = Balancer::start(&addresses, rules);
    eventually("the checks' verdict", || balancer.state("app-3") == "down");
    let reached_before = unhealthy.requests.load(Ordering::SeqCst);
    let (stop, printed) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let stream = TcpStream::connect(balancer.address).unwrap();
                stream.set_read_timeout(Some(TIMEOUT)).unwrap();
                let url = format!("ws://{}/chat", balancer.address);
                let (mut socket, _) = tungstenite::client(url, stream).unwrap();
                while !stop.load(Ordering::SeqCst) {
                    let message = Message::text(printed.fetch_add(1, Ordering::SeqCst).to_string());
                    socket.send(message.clone()).unwrap();
                    assert_eq!(socket.read().unwrap(), message);
                }
            });
        }
        let ((), outcomes) = load(&balancer).during(|answered| {
            for round in 0..RELOADS {
                let policy = ["round-robin", "least-connections"][round % 2];
                let before = answered.load(Ordering::SeqCst) + printed.load(Ordering::SeqCst);
                balancer.reload(&configuration(
                    balancer.address,
                    &addresses,
                    &format!("policy = \"{policy}\"\n{rules}"),
                ));
                assert_eq!(balancer.state("app-3"), "down");
                // Some requests have to succeed in between.
                eventually("it goes on", || {
                    answered.load(Ordering::SeqCst) + printed.load(Ordering::SeqCst) > before + 20
                });
            }
            stop.store(true, Ordering::SeqCst);
        });
        assert_all_were_answered(&outcomes);
        assert!(outcomes.iter().all(|outcome| outcome.connections == 1), "each client kept its connection");
    });
    assert_eq!(unhealthy.requests.load(Ordering::SeqCst), reached_before, "it stays out");
    assert_eq!(balancer.log().matches("server app-3 is down").count(), 1, "{}", balancer.log());
}

#[test]
fn concurrent_reloads_are_all_answered() {
    let balancer = Balancer::start(&[ThreadServer::answering("ok").address], "");
    for _ in 0..5 {
        std::thread::scope(|scope| {
            let asked = [(); 6].map(|()| scope.spawn(|| balancer.admin("POST /reload")));
            balancer.signal(Signal::HUP);
            for printed in asked {
                assert_eq!(printed.join().unwrap(), "reloaded\n");
            }
        });
    }
    // Each gets the outcome of its own request.
    std::fs::write(balancer.file(), "policy = \"whatever\"\n").unwrap();
    assert!(balancer.admin("POST /reload").contains("whatever"));
    assert_eq!(get(balancer.address).unwrap(), "ok");
}

#[test]
fn termination_finishes_requests_in_flight_and_exits_with_0() {
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
    let mut balancer = Balancer::start(&[slow], "");
    let mut stream = TcpStream::connect(balancer.address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    wait_begun.recv().unwrap();
    let worker = balancer.worker().unwrap();
    balancer.signal(Signal::TERM);
    eventually("no new connection is accepted", || TcpStream::connect(balancer.address).is_err());
    finish.send(()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nlast"), "{answer}");
    assert!(balancer.child.wait().unwrap().success());
    assert!(!is_alive(worker));
    assert!(balancer.log().contains("stopped"));
}

#[test]
fn termination_under_load_answers_every_request() {
    let server = ThreadServer::answering("ok");
    let mut balancer = Balancer::start(&[server.address], "");
    let ((signalled, status), outcomes) = load(&balancer).during(|answered| {
        eventually("it is busy", || answered.load(Ordering::SeqCst) > 500);
        let signalled = Instant::now();
        balancer.signal(Signal::TERM);
        (signalled, balancer.child.wait().unwrap())
    });
    assert!(status.success());
    // The kernel may accept a connection to a socket that is closing, and then resets it.
    let came_too_late = |outcome: &Outcome| outcome.is_first && outcome.ended > signalled;
    let failed: Vec<_> =
        outcomes.iter().filter(|outcome| outcome.status != Ok(200) && !came_too_late(outcome)).collect();
    assert!(failed.is_empty(), "{} of {}: {failed:?}", failed.len(), outcomes.len());
}

#[test]
fn an_address_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("balancer.toml");
    let address = taken.local_addr().unwrap();
    std::fs::write(&file, configuration(address, &[address], "")).unwrap();
    let output = command().args(["balancer", "--config"]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let printed = String::from_utf8(output.stderr).unwrap();
    assert!(printed.contains(&format!("{address}: Address already in use")), "{printed}");
}

#[test]
fn a_new_process_takes_over_the_sockets_of_systemd_and_no_request_fails() {
    // Binds a socket and hands it to one balancer after another, as systemd does on a restart.
    const HOLDER: &str = "
import os, socket, sys
held = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=4096)
def start():
    pid = os.fork()
    if pid == 0:
        os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))
        os.dup2(held.fileno(), 3)
        os.set_inheritable(3, True)
        os.execv(sys.argv[3], sys.argv[3:])
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
    let server = ThreadServer::answering("ok");
    let address = own_address();
    let mut python = Command::new("python3");
    python.args(["-c", HOLDER, &address.ip().to_string(), &address.port().to_string()]);
    python.arg(env!("CARGO_BIN_EXE_tercet")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let configuration = configuration(address, &[server.address], "");
    let mut balancer = Balancer::start_as(python, address, &configuration);
    let mut restart = balancer.child.stdin.take().unwrap();
    let mut restarted = BufReader::new(balancer.child.stdout.take().unwrap()).lines();
    for keep_alive in [false, true] {
        let load = Load { keep_alive, ..load(&balancer) };
        let ((), outcomes) = load.during(|answered| {
            for _ in 0..3 {
                restart.write_all(b"again\n").unwrap();
                assert_eq!(restarted.next().unwrap().unwrap(), "restarted");
                let before = answered.load(Ordering::SeqCst);
                eventually("the next one serves", || answered.load(Ordering::SeqCst) > before + 50);
            }
        });
        assert_all_were_answered(&outcomes);
    }
    drop(restart);
    balancer.child.wait().unwrap();
}
