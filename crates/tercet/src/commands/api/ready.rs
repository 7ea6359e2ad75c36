//! `tercet api --ready`: queries the admin endpoint of the server with a configuration.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tercet_api::config::Config;

use crate::failure::Failure;

/// The longest the server may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// More than any response to `/ready`.
const LONGEST: u64 = 64 << 10;

/// A message that the server is ready.
///
/// # Errors
/// It is not ready, does not response, or has no admin endpoint.
pub(super) fn ask(config: &Config) -> Result<String, Failure> {
    let (endpoint, response) = if let Some(path) = &config.admin_server_unix_socket {
        let endpoint = path.display().to_string();
        let stream = UnixStream::connect(path).with_context(|| endpoint.clone())?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let response = exchange(stream).with_context(|| endpoint.clone())?;
        (endpoint, response)
    } else if let Some(port) = config.admin_server_port {
        let host = match config.admin_server_host.as_str() {
            // A server on all addresses listens on loopback, too.
            "*" | "*4" | "!4" | "0.0.0.0" => "127.0.0.1",
            "*6" | "!6" | "::" => "::1",
            host => host.trim_matches(['[', ']']),
        };
        let endpoint = format!(
            "http://{}/ready",
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
        );
        let address =
            (host, port).to_socket_addrs()?.next().with_context(|| format!("{host} has no address"))?;
        let stream = TcpStream::connect_timeout(&address, TIMEOUT).with_context(|| endpoint.clone())?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let response = exchange(stream).with_context(|| endpoint.clone())?;
        (endpoint, response)
    } else {
        return Err(Failure::input_message(
            "the admin endpoint is switched off; hint: set admin-server-port or admin-server-unix-socket",
        ));
    };
    check(&endpoint, &response)?;
    Ok(format!("ready: {endpoint}\n"))
}

fn exchange(mut stream: impl Read + Write) -> anyhow::Result<String> {
    stream.write_all(b"GET /ready HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")?;
    let mut response = Vec::new();
    stream.take(LONGEST).read_to_end(&mut response)?;
    Ok(String::from_utf8_lossy(&response).into_owned())
}

fn check(endpoint: &str, response: &str) -> anyhow::Result<()> {
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((response, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(()),
        Some(status) => bail!("{endpoint}: not ready, status {status}: {}", body.trim_end()),
        None => bail!("{endpoint}: not an HTTP response"),
    }
}
