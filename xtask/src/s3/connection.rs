//! One connection: TLS, and HTTP/1.1 requests one after the other (RFC 9112).

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use rustls::{ServerConnection, StreamOwned};

use super::Service;
use super::request::{Request, Response, split_target};

/// The longest head of a request, and the largest body, in bytes.
const LONGEST_HEAD: usize = 64 << 10;
const LARGEST_BODY: usize = 64 << 20;

/// Answers requests until the client closes the connection.
pub(super) fn serve(service: &Service, stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let session = ServerConnection::new(Arc::clone(&service.tls))?;
    let mut connection = StreamOwned::new(session, stream);
    let mut received = Vec::new();
    while let Some(request) = read(&mut connection, &mut received)? {
        let response = service.answer(&request);
        log(service, &request, &response)?;
        write(&mut connection, &request.method, &response)?;
    }
    Ok(())
}

/// The next request; `received` is what has come of the following one.
fn read(connection: &mut impl Read, received: &mut Vec<u8>) -> Result<Option<Request>> {
    let mut chunk = [0; 16 << 10];
    loop {
        if let Some((mut request, length, size)) = head(received)? {
            received.drain(..length);
            while received.len() < size {
                match connection.read(&mut chunk)? {
                    0 => bail!("the client closed the connection in a body"),
                    count => received.extend_from_slice(&chunk[..count]),
                }
            }
            request.body = received.drain(..size).collect();
            return Ok(Some(request));
        }
        if received.len() > LONGEST_HEAD {
            bail!("the head of a request is longer than {LONGEST_HEAD} bytes");
        }
        match connection.read(&mut chunk)? {
            0 => return Ok(None),
            count => received.extend_from_slice(&chunk[..count]),
        }
    }
}

/// A request without its body, the length of its head and of its body; none while the head is incomplete.
fn head(received: &[u8]) -> Result<Option<(Request, usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = parsed.parse(received)? else { return Ok(None) };
    let (path, query) = split_target(parsed.path.context("a request has a target")?);
    let headers = parsed.headers.iter().map(|header| {
        (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).trim().to_owned())
    });
    let request = Request {
        method: parsed.method.context("a request has a method")?.to_owned(),
        path,
        query,
        headers: headers.collect(),
        body: Vec::new(),
    };
    let size = request.header("content-length").map_or(Ok(0), str::parse).context("its content-length")?;
    if size > LARGEST_BODY || request.header("transfer-encoding").is_some() {
        bail!("a body without a length, or of more than {LARGEST_BODY} bytes");
    }
    Ok(Some((request, length, size)))
}

fn write(connection: &mut impl Write, method: &str, response: &Response) -> Result<()> {
    let mut text = format!("HTTP/1.1 {} {}\r\n", response.status, response.reason);
    for (name, value) in &response.headers {
        write!(text, "{name}: {value}\r\n")?;
    }
    if response.status != 204 {
        write!(text, "content-length: {}\r\n", response.length)?;
    }
    text += "\r\n";
    connection.write_all(text.as_bytes())?;
    if method != "HEAD" {
        connection.write_all(&response.body)?;
    }
    Ok(connection.flush()?)
}

fn log(service: &Service, request: &Request, response: &Response) -> Result<()> {
    let mut line = format!("{} {} {}", response.status, request.method, request.path);
    for (number, (name, value)) in request.query.iter().enumerate() {
        write!(line, "{}{name}={value}", if number == 0 { '?' } else { '&' })?;
    }
    line.push('\n');
    Ok(OpenOptions::new().append(true).create(true).open(&service.log)?.write_all(line.as_bytes())?)
}
