//! A test server with one thread and one event loop, which a request can block (as in Node.js or asyncio). It handles
//! pipelined requests one after another, and records each before it responds.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::LocalOptions;

/// How long a request takes that does not block the event loop.
const WORK: Duration = Duration::from_millis(10);

/// A running server; its thread ends with the test program.
pub(crate) struct EventLoop {
    pub(crate) address: SocketAddr,
    executed: Arc<Mutex<Vec<String>>>,
}

impl EventLoop {
    /// `/block/MS/…` blocks the event loop for that many milliseconds, and `/health` returns this status.
    pub(crate) fn start(health: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let executed = Arc::default();
        let recorded = Arc::clone(&executed);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default())
                .unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::task::spawn_local(serve(stream, Arc::clone(&recorded), health));
                }
            });
        });
        Self { address, executed }
    }

    /// The targets of the received requests, without health checks.
    pub(crate) fn executed(&self) -> Vec<String> {
        self.executed.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, executed: Arc<Mutex<Vec<String>>>, health: u16) {
    let mut received = Vec::new();
    loop {
        while let Some(end) = received.windows(4).position(|end| end == b"\r\n\r\n") {
            let head = String::from_utf8(received.drain(..end + 4).collect()).unwrap();
            let target = head.split(' ').nth(1).unwrap().to_owned();
            let mut status = 200;
            if head.contains("tercet-balancer") {
                status = if target == "/health" { health } else { 404 };
            } else {
                executed.lock().unwrap().push(target.clone());
                tokio::time::sleep(WORK).await;
            }
            if let Some(blocked) = target.strip_prefix("/block/") {
                let milliseconds = blocked.split('/').next().unwrap().parse().unwrap();
                // Blocks the event loop.
                std::thread::sleep(Duration::from_millis(milliseconds));
            }
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{target}", target.len());
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
        match stream.read_buf(&mut received).await {
            Ok(count) if count > 0 => {}
            _ => return,
        }
    }
}
