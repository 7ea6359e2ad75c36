//! One request to a server of this machine, over HTTP/1.0.

use std::io::{Read, Write};

use anyhow::{Context as _, Result};

/// The largest answer, in bytes.
const LIMIT: u64 = 16 << 20;

/// Sends one request with a JSON body, or none, and returns status and body of the response.
pub(super) fn http<S: Read + Write>(
    stream: &mut S,
    method: &str,
    target: &str,
    body: &str,
) -> Result<(u16, String)> {
    write!(
        stream,
        "{method} {target} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.take(LIMIT).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a head")?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .context("an answer without a status")?;
    Ok((status, body.to_owned()))
}
