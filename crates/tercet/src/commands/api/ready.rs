//! `tercet api --ready`: asks the admin endpoint of the server that runs with a configuration.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tercet_api::config::Config;

use crate::failure::Failure;

/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than any answer to `/ready`.
const LONGEST: u64 = 64 << 10;

/// What the server says when it is ready.
///
/// # Errors
/// It is not, does not answer, or has no admin endpoint.
pub(super) fn ask(config: &Config) -> Result<String, Failure> {
    let (place, answer) = if let Some(path) = &config.admin_server_unix_socket {
        let place = path.display().to_string();
        let stream = UnixStream::connect(path).with_context(|| place.clone())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let answer = exchange(stream).with_context(|| place.clone())?;
        (place, answer)
    } else if let Some(port) = config.admin_server_port {
        let host = match config.admin_server_host.as_str() {
            // Any address is also this one.
            "*" | "*4" | "!4" | "0.0.0.0" => "127.0.0.1",
            "*6" | "!6" | "::" => "::1",
            host => host.trim_matches(['[', ']']),
        };
        let place = format!(
            "http://{}/ready",
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
        );
        let address =
            (host, port).to_socket_addrs()?.next().with_context(|| format!("{host} has no address"))?;
        let stream = TcpStream::connect_timeout(&address, PATIENCE).with_context(|| place.clone())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let answer = exchange(stream).with_context(|| place.clone())?;
        (place, answer)
    } else {
        return Err(Failure::input_message(
            "the admin endpoint is switched off; hint: set admin-server-port or admin-server-unix-socket",
        ));
    };
    check(&place, &answer)?;
    Ok(format!("ready: {place}\n"))
}

fn exchange(mut stream: impl Read + Write) -> anyhow::Result<String> {
    stream.write_all(b"GET /ready HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn check(place: &str, answer: &str) -> anyhow::Result<()> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(()),
        Some(status) => bail!("{place}: not ready, status {status}: {}", body.trim_end()),
        None => bail!("{place}: the answer is not HTTP"),
    }
}
