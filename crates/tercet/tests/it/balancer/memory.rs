//! Clients and servers that take their time, many at once: what waits between them is bounded, in all and however much
//! each of them would send.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::process::Balancer;

/// Bytes of each answer.
const LENGTH: usize = 20 << 20;
/// After so long without progress a connection stands still.
const STILL: Duration = Duration::from_secs(1);
/// What the process that serves may have in memory, in kilobytes. What a task knows of itself is larger without
/// optimisation.
const MOST: u64 = if cfg!(debug_assertions) { 96 << 10 } else { 64 << 10 };
/// Nobody is to be given up while the others come to a standstill.
const PATIENT: &str = "timeouts.send = \"1h\"\ntimeouts.response-body = \"1h\"\n";

/// A server with much to say, in one thread.
struct Talker {
    address: SocketAddr,
    /// Connections on which nothing goes on any more.
    still: Arc<AtomicUsize>,
}

impl Talker {
    /// It answers every request with many bytes.
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // What the kernel holds is not the subject, and there is much of it.
        SockRef::from(&listener).set_send_buffer_size(16 << 10).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (address, still) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
        let counting = Arc::clone(&still);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(talk(stream, Arc::clone(&counting)));
                }
            });
        });
        Self { address, still }
    }
}

async fn talk(mut stream: tokio::net::TcpStream, still: Arc<AtomicUsize>) {
    let mut head = vec![0; 1024];
    let Ok(count @ 1..) = stream.read(&mut head).await else { return };
    if String::from_utf8_lossy(&head[..count]).contains("tercet-balancer") {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        return;
    }
    let start = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
    stream.write_all(start.as_bytes()).await.unwrap();
    while let Ok(written) = timeout(STILL, stream.write(&[b'x'; 4096])).await {
        if written.is_err() {
            return;
        }
    }
    still.fetch_add(1, Ordering::SeqCst);
    // Until the balancer closes, which no test waits for.
    std::future::pending::<()>().await;
}

fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}

/// The most the process that serves has ever had in memory, in kilobytes.
fn most_memory(balancer: &Balancer) -> u64 {
    let worker = balancer.worker().unwrap().as_raw_nonzero();
    let status = std::fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn assert_little_memory(balancer: &Balancer) {
    let most = most_memory(balancer);
    assert!(most < MOST, "{most} KiB");
}

/// Waits until so many connections stand still: thousands of them take longer than one.
fn wait_for_standstill(server: &Talker, count: usize) {
    let started = Instant::now();
    while server.still.load(Ordering::SeqCst) < count {
        let still = server.still.load(Ordering::SeqCst);
        assert!(started.elapsed() < Duration::from_secs(120), "{still} of {count} stand still");
        std::thread::yield_now();
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// So many clients of HTTP/2 with 128 requests each, which give each stream and the connection such a window and read
/// nothing.
fn ask_over_http2(address: SocketAddr, connections: usize, window: u32) -> Vec<TcpStream> {
    const SETTINGS: u8 = 4;
    const HEADERS: u8 = 1;
    const WINDOW_UPDATE: u8 = 8;
    /// GET / over http, at the authority `a`.
    const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'a'];
    let connect = |_| {
        let mut stream = TcpStream::connect(address).unwrap();
        let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let mut setting = vec![0, 4];
        setting.extend(window.to_be_bytes());
        sent.extend(frame(SETTINGS, 0, 0, &setting));
        if window > 0 {
            sent.extend(frame(WINDOW_UPDATE, 0, 0, &(window - 65_535).to_be_bytes()));
        }
        for number in 0..128 {
            sent.extend(frame(HEADERS, 5, 2 * number + 1, GET));
        }
        stream.write_all(&sent).unwrap();
        stream
    };
    (0..connections).map(connect).collect()
}

#[test]
fn streams_without_a_window_hold_little_in_all() {
    allow_descriptors();
    let server = Talker::start();
    let balancer = Balancer::start(&[server.address], PATIENT);
    let before = server.still.load(Ordering::SeqCst);
    let _clients = ask_over_http2(balancer.address, 20, 0);
    wait_for_standstill(&server, before + 20 * 128);
    assert_little_memory(&balancer);
}

#[test]
fn streams_with_large_windows_whose_client_does_not_read_hold_little_in_all() {
    allow_descriptors();
    let server = Talker::start();
    let balancer = Balancer::start(&[server.address], PATIENT);
    let _clients = ask_over_http2(balancer.address, 20, (1 << 31) - 1);
    wait_for_standstill(&server, 20 * 128);
    assert_little_memory(&balancer);
}

#[test]
fn clients_that_do_not_read_hold_little_in_all() {
    allow_descriptors();
    let server = Talker::start();
    let balancer = Balancer::start(&[server.address], PATIENT);
    let _clients: Vec<TcpStream> = (0..1000)
        .map(|_| {
            let mut stream = TcpStream::connect(balancer.address).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            stream
        })
        .collect();
    wait_for_standstill(&server, 1000);
    assert_little_memory(&balancer);
}
