//! Readiness checks: GET of a path, or a connection, repeated until it succeeds; and why the last check failed.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Between two checks.
const PAUSE: Duration = Duration::from_millis(20);
/// The longest one check may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a response that are read.
const ANSWER_LIMIT: u64 = 1 << 20;

/// Why the last readiness check failed, for the error when the start timeout expires.
#[derive(Debug, Default)]
pub(crate) struct LastFailure(RefCell<Option<String>>);

impl LastFailure {
    /// The reason, if a check has failed.
    pub(crate) fn reason(&self) -> Option<String> {
        self.0.borrow().clone()
    }
}

/// Returns once `path` at `address` is answered with a status that passes.
pub(crate) async fn answers(
    address: SocketAddr,
    path: &str,
    passes: fn(u16) -> bool,
    last_failure: &LastFailure,
) {
    loop {
        let answered = match timeout(TIMEOUT, status(address, path)).await {
            Ok(Ok(status)) if passes(status) => return,
            Ok(Ok(status)) => format!("answered {status}"),
            Ok(Err(error)) => format!("not answered: {error}"),
            Err(_) => format!("not answered within {} s", TIMEOUT.as_secs()),
        };
        last_failure.0.replace(Some(format!("http://{address}{path} was {answered}")));
        sleep(PAUSE).await;
    }
}

/// Returns once a connection to `address` is accepted.
pub(crate) async fn accepts(address: SocketAddr, last_failure: &LastFailure) {
    loop {
        let why_not = match timeout(TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no connection within {} s", TIMEOUT.as_secs()),
        };
        last_failure.0.replace(Some(format!("{address} does not accept connections: {why_not}")));
        sleep(PAUSE).await;
    }
}

/// The status of one response (RFC 9112 section 4): `HTTP/1.1 200 OK`.
async fn status(address: SocketAddr, path: &str) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect(address).await?;
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nuser-agent: tercet\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).await?;
    // Read to the end, so that a simple server does not log a broken connection.
    tokio::io::copy(&mut stream.take(ANSWER_LIMIT), &mut tokio::io::sink()).await?;
    std::str::from_utf8(&head)
        .ok()
        .and_then(|head| head.strip_prefix("HTTP/1.")?.split_once(' ')?.1.parse().ok())
        .ok_or_else(|| std::io::Error::other("not an HTTP response"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn checks_are_repeated_until_one_passes() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            for status in ["HTTP/1.1 503 Not yet\r\n\r\n", "garbage, not HTTP", "HTTP/1.0 404 Fine\r\n\r\n"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                // To its end: closing with unread bytes would reset the connection.
                while !request.ends_with(b"\r\n\r\n") {
                    stream.read_buf(&mut request).await.unwrap();
                }
                assert!(request.starts_with(b"GET /r HTTP/1.1\r\n"));
                stream.write_all(status.as_bytes()).await.unwrap();
            }
        };
        let last_failure = LastFailure::default();
        tokio::join!(server, answers(address, "/r", |status| status < 500, &last_failure));
        let reason = last_failure.reason().unwrap();
        assert_eq!(reason, format!("http://{address}/r was not answered: not an HTTP response"));
    }

    #[tokio::test]
    async fn the_reason_of_the_last_failure_is_kept() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let last_failure = LastFailure::default();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut request).await.unwrap();
            }
            stream.write_all(b"HTTP/1.1 503 Not yet\r\n\r\n").await.unwrap();
            drop(stream);
            // The next check shows that the response to this one was read.
            listener.accept().await.unwrap()
        };
        tokio::select! {
            () = answers(address, "/health", |status| status < 500, &last_failure) => panic!("it is not ready"),
            _ = server => {}
        }
        assert_eq!(last_failure.reason().unwrap(), format!("http://{address}/health was answered 503"));

        accepts(address, &last_failure).await;
        drop(listener);
        let refused = async {
            while !last_failure.reason().unwrap().contains("does not accept connections") {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = accepts(address, &last_failure) => panic!("a port without a listener accepted a connection"),
            () = refused => {}
        }
    }
}
