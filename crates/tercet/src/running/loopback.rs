//! GET of a local admin endpoint.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest it may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The most bytes of a response.
const LIMIT: u64 = 4 << 20;

/// The body of a response with status 200.
///
/// # Errors
/// There is none within two seconds, or it has another status.
pub(crate) async fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut response = Vec::new();
        stream.take(LIMIT).read_to_end(&mut response).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&response).into_owned())
    };
    let named = || format!("http://{address}{path}");
    let response = match timeout(TIMEOUT, exchange).await {
        Ok(response) => response.with_context(named)?,
        Err(_) => bail!("{}: no response within {} s", named(), TIMEOUT.as_secs()),
    };
    let (head, body) = response.split_once("\r\n\r\n").with_context(named)?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        status => bail!("{}: status {}", named(), status.unwrap_or("missing")),
    }
}
