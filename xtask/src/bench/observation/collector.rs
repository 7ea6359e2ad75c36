//! An OpenTelemetry collector that takes everything and keeps nothing.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;

/// It listens on loopback until the process ends.
pub(super) struct Collector {
    address: SocketAddr,
    exports: Arc<AtomicU64>,
}

impl Collector {
    pub(super) fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let collector = Self { address: listener.local_addr()?, exports: Arc::default() };
        let exports = Arc::clone(&collector.exports);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let exports = Arc::clone(&exports);
                std::thread::spawn(move || serve(&stream, &exports));
            }
        });
        Ok(collector)
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests came.
    pub(super) fn exports(&self) -> u64 {
        self.exports.load(Ordering::Relaxed)
    }
}

/// Answers the requests of a connection until it breaks.
fn serve(mut stream: &TcpStream, exports: &AtomicU64) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let (mut length, mut line) = (0, String::new());
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink()).ok()?;
        exports.fetch_add(1, Ordering::Relaxed);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()?;
    }
}
