//! Whether a server is ready: one GET of one path, or one connection, over and over; and what stood in the way.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(20);
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of an answer that are read.
const ANSWER_LIMIT: u64 = 1 << 20;

/// What stood in the way the last time somebody was asked, for whoever has waited in vain.
#[derive(Debug, Default)]
pub(crate) struct Obstacle(RefCell<Option<String>>);

impl Obstacle {
    /// It in words, if anything stood in the way.
    pub(crate) fn told(&self) -> Option<String> {
        self.0.borrow().clone()
    }
}

/// Returns as soon as `path` at `address` is answered with a status that passes.
pub(crate) async fn answers(address: SocketAddr, path: &str, passes: fn(u16) -> bool, obstacle: &Obstacle) {
    loop {
        let asked = timeout(PATIENCE, status(address, path)).await;
        let answered = match asked {
            Ok(Ok(status)) if passes(status) => return,
            Ok(Ok(status)) => format!("answered {status}"),
            Ok(Err(error)) => format!("not answered: {error}"),
            Err(_) => format!("not answered within {} s", PATIENCE.as_secs()),
        };
        obstacle.0.replace(Some(format!("http://{address}{path} was {answered}")));
        sleep(PAUSE).await;
    }
}

/// Returns as soon as a connection to `address` is accepted.
pub(crate) async fn accepts(address: SocketAddr, obstacle: &Obstacle) {
    loop {
        let why_not = match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no connection within {} s", PATIENCE.as_secs()),
        };
        obstacle.0.replace(Some(format!("{address} does not accept connections: {why_not}")));
        sleep(PAUSE).await;
    }
}

/// The status of one answer (RFC 9112 section 4): `HTTP/1.1 200 OK`.
async fn status(address: SocketAddr, path: &str) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect(address).await?;
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nuser-agent: tercet\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).await?;
    // To its end, or a simple server would complain that nobody listened.
    tokio::io::copy(&mut stream.take(ANSWER_LIMIT), &mut tokio::io::sink()).await?;
    std::str::from_utf8(&head)
        .ok()
        .and_then(|head| head.strip_prefix("HTTP/1.")?.split_once(' ')?.1.parse().ok())
        .ok_or_else(|| std::io::Error::other("not an HTTP answer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_asks_until_the_answer_passes() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            for status in ["HTTP/1.1 503 Not yet\r\n\r\n", "garbage, not HTTP", "HTTP/1.0 404 Fine\r\n\r\n"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                // To its end: closing with something unread would take the answer back.
                while !request.ends_with(b"\r\n\r\n") {
                    stream.read_buf(&mut request).await.unwrap();
                }
                assert!(request.starts_with(b"GET /r HTTP/1.1\r\n"));
                stream.write_all(status.as_bytes()).await.unwrap();
            }
        };
        let obstacle = Obstacle::default();
        tokio::join!(server, answers(address, "/r", |status| status < 500, &obstacle));
        let told = obstacle.told().unwrap();
        assert_eq!(told, format!("http://{address}/r was not answered: not an HTTP answer"));
    }

    #[tokio::test]
    async fn it_says_what_stands_in_the_way() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let obstacle = Obstacle::default();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut request).await.unwrap();
            }
            stream.write_all(b"HTTP/1.1 503 Not yet\r\n\r\n").await.unwrap();
            drop(stream);
            // The next question tells that the answer to this one was heard.
            listener.accept().await.unwrap()
        };
        tokio::select! {
            () = answers(address, "/health", |status| status < 500, &obstacle) => panic!("it is not ready"),
            _ = server => {}
        }
        assert_eq!(obstacle.told().unwrap(), format!("http://{address}/health was answered 503"));

        accepts(address, &obstacle).await;
        drop(listener);
        let refused = async {
            while !obstacle.told().unwrap().contains("does not accept connections") {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = accepts(address, &obstacle) => panic!("a port without a listener accepted a connection"),
            () = refused => {}
        }
    }
}
