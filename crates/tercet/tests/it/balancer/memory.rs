//! Memory with many slow clients and servers: the sum of all buffers is bounded.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::process::Balancer;

/// Bytes of each answer.
const LENGTH: usize = 20 << 20;
/// A connection without progress for this long is stalled.
const STILL: Duration = Duration::from_secs(1);
/// Kilobytes that the process that serves may have, at the most.
const MOST: u64 = 64 << 10;
/// Long enough that no connection times out while the others stall.
const PATIENT: &str = "[timeouts]\nsend = \"1h\"\nresponse-body = \"1h\"\nresponse = \"1h\"\nbody = \"1h\"\n";
/// The request for a large response.
const MUCH: &str = "/much";
/// The bytes of one write.
static PIECE: [u8; 64 << 10] = [b'x'; 64 << 10];

/// A server that sends large responses and reads no request bodies.
struct FloodServer {
    address: SocketAddr,
    /// Connections that are stalled.
    still: Arc<AtomicUsize>,
    _running: oneshot::Sender<()>,
}

impl FloodServer {
    /// It answers every request for much with many bytes, takes no body, and is short otherwise.
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // What the kernel holds is not the subject, and there is much of it.
        SockRef::from(&listener).set_send_buffer_size(16 << 10).unwrap();
        SockRef::from(&listener).set_recv_buffer_size(16 << 10).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (address, still) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
        let counting = Arc::clone(&still);
        let running = in_one_thread(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(flood(stream, Arc::clone(&counting)));
            }
        });
        Self { address, still, _running: running }
    }
}

/// Runs the future in a thread until the returned sender is dropped.
fn in_one_thread(doing: impl Future<Output = ()> + Send + 'static) -> oneshot::Sender<()> {
    let (running, dropped) = oneshot::channel();
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::select! {
                () = doing => {}
                _ = dropped => {}
            }
        });
    });
    running
}

async fn flood(mut stream: tokio::net::TcpStream, still: Arc<AtomicUsize>) {
    let mut head = vec![0; 1024];
    let Ok(count @ 1..) = stream.read(&mut head).await else { return };
    let head = String::from_utf8_lossy(&head[..count]);
    if head.starts_with(&format!("GET {MUCH} ")) {
        let start = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
        stream.write_all(start.as_bytes()).await.unwrap();
        push(stream, &still).await;
    } else if head.starts_with("POST ") {
        std::future::pending::<()>().await;
    } else {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    }
}

/// Sends as much as is taken, and stays.
async fn push(mut stream: tokio::net::TcpStream, still: &AtomicUsize) {
    while let Ok(written) = timeout(STILL, stream.write(&PIECE)).await {
        if written.is_err() {
            return;
        }
    }
    still.fetch_add(1, Ordering::SeqCst);
    std::future::pending::<()>().await;
}

fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}

/// A balancer, and what its process that serves had in memory before it had anything to do.
struct Measured {
    balancer: Balancer,
    idle: u64,
}

impl Measured {
    fn start(server: &FloodServer) -> Self {
        allow_descriptors();
        let balancer = Balancer::start(&[server.address], PATIENT);
        let idle = most_memory(&balancer);
        Self { balancer, idle }
    }

    /// What may have been added to that at any time, in kilobytes.
    fn assert_has_grown_at_most(&self, bound: u64) {
        let most = most_memory(&self.balancer);
        assert!(most - self.idle < bound, "from {} to {most} KiB", self.idle);
        // Without optimisation the program alone takes twice as much.
        assert!(cfg!(debug_assertions) || most < MOST, "{most} KiB");
    }
}

/// The most the process that serves has ever had in memory, in kilobytes.
fn most_memory(balancer: &Balancer) -> u64 {
    let worker = balancer.worker().unwrap().as_raw_nonzero();
    let status = std::fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Waits until so many connections stand still: thousands of them take longer than one.
fn wait_for_standstill(still: &AtomicUsize, count: usize) {
    let started = Instant::now();
    while still.load(Ordering::SeqCst) < count {
        assert!(started.elapsed() < Duration::from_secs(120), "{still:?} of {count} stand still");
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
    /// GET /much over http, at the authority `a`.
    const GET: &[u8] = b"\x82\x86\x04\x05/much\x41\x01a";
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

/// What 2560 streams may add: 18 KiB each with all that is waited with, and what few would hold as well.
const OF_STREAMS: u64 = 52 << 10;
/// What 1000 connections may add.
const OF_CONNECTIONS: u64 = 30 << 10;

#[test]
fn streams_without_a_window_hold_little_in_all() {
    let server = FloodServer::start();
    let measured = Measured::start(&server);
    let _clients = ask_over_http2(measured.balancer.address, 20, 0);
    wait_for_standstill(&server.still, 20 * 128);
    measured.assert_has_grown_at_most(OF_STREAMS);
}

#[test]
fn streams_with_large_windows_whose_client_does_not_read_hold_little_in_all() {
    let server = FloodServer::start();
    let measured = Measured::start(&server);
    let _clients = ask_over_http2(measured.balancer.address, 20, (1 << 31) - 1);
    wait_for_standstill(&server.still, 20 * 128);
    measured.assert_has_grown_at_most(OF_STREAMS);
}

#[test]
fn clients_that_do_not_read_hold_little_in_all() {
    let server = FloodServer::start();
    let measured = Measured::start(&server);
    let ask = |_| {
        let mut stream = TcpStream::connect(measured.balancer.address).unwrap();
        write!(stream, "GET {MUCH} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        stream
    };
    let _clients: Vec<TcpStream> = (0..1000).map(ask).collect();
    wait_for_standstill(&server.still, 1000);
    measured.assert_has_grown_at_most(OF_CONNECTIONS);
}

#[test]
fn bodies_that_no_server_takes_hold_little_in_all() {
    let server = FloodServer::start();
    let measured = Measured::start(&server);
    let (address, still) = (measured.balancer.address, Arc::<AtomicUsize>::default());
    let counting = Arc::clone(&still);
    let _running = in_one_thread(async move {
        for _ in 0..1000 {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            SockRef::from(&stream).set_send_buffer_size(16 << 10).unwrap();
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let still = Arc::clone(&counting);
            tokio::spawn(async move { push(stream, &still).await });
        }
        std::future::pending::<()>().await;
    });
    wait_for_standstill(&still, 1000);
    measured.assert_has_grown_at_most(OF_CONNECTIONS);
}
