//! Answers HTTP-01 challenges of the certificate authority (RFC 8555 section 8.3), before any rule for requests of clients.
//!
//! A request for an unknown token goes on to the application, unless its host is one of `domains`.

use std::time::Duration;

use tercet_observe::{AccessRecord, request_id};

use crate::challenges::{self, Challenges};
use crate::client::{After, Client};
use crate::config::Config;
use crate::http1::{Field, Framing, Method, Refusal, RequestHead, host, write};
use crate::local_reply::{self, LocalReply};
use crate::request_buffers::RequestBuffers;
use crate::worker::Worker;

/// Whether the request may be one for a challenge.
pub(crate) fn concerns(config: &Config, head: &RequestHead, received: &[u8]) -> bool {
    !config.domains.is_empty() && challenges::is_challenge(head.path.in_buffer(received))
}

/// Responds to the request at the front of `buffers.client`; `None` if it is for the application.
pub(crate) async fn respond(
    worker: &Worker,
    client: &Client,
    config: &Config,
    head: &RequestHead,
    buffers: &mut RequestBuffers,
) -> Option<After> {
    let received = buffers.client.filled();
    let response = response(config, &worker.shared.challenges, head, received)?;
    // A body is not read, and its rest would be parsed as the next request.
    let keep_alive = head.keep_alive && head.framing == Framing::None && !worker.is_stopping();
    let id = request_id::fresh().to_string();
    buffers.response.clear();
    let (status, bytes) = match response {
        Ok(text) => (200, push(&mut buffers.response, &text, &id, head, keep_alive)),
        Err(refusal) => {
            let allow = (refusal.status == 405).then_some("GET, HEAD");
            let reply = LocalReply { allow, ..LocalReply::refusing(refusal, &id, keep_alive) };
            (refusal.status, reply.write(&mut buffers.response, head.version, head.method))
        }
    };
    let sent = local_reply::send(worker, client, buffers).await;
    let received = buffers.client.filled();
    worker.record(&AccessRecord {
        client: Some(client.address),
        request_id: id.as_bytes(),
        method: head.method_name.in_buffer(received),
        target: head.target.in_buffer(received),
        version: client.logged_version(head.version),
        status,
        bytes,
        duration: Duration::ZERO,
        upstream: "-",
        queue_duration: None,
        upstream_duration: None,
        stages: None,
        referer: head.value(received, Field::Referer),
        user_agent: head.value(received, Field::UserAgent),
    });
    buffers.client.consume(head.length);
    Some(match sent {
        Ok(()) if keep_alive => After::Keep,
        Ok(()) => After::Close,
        Err(_) => After::Abort,
    })
}

/// The response: the key authorization, or a refusal; `None` if the request is for the application.
fn response(
    config: &Config,
    challenges: &Challenges,
    head: &RequestHead,
    received: &[u8],
) -> Option<Result<String, Refusal>> {
    let token = challenges::token(head.path.in_buffer(received));
    if let Some(response) = token.and_then(|token| challenges.response(token)) {
        return Some(match head.method {
            Method::Get | Method::Head => Ok(response),
            _ => Err(Refusal { status: 405, reason: "a challenge is read with GET" }),
        });
    }
    let host = head.host.map(|host| host::without_port(host.in_buffer(received)))?;
    let is_own = config.domains.iter().any(|domain| host.eq_ignore_ascii_case(domain.as_bytes()));
    is_own.then_some(Err(Refusal { status: 404, reason: "no certificate is being obtained with this token" }))
}

/// Appends the response with this text as its body; returns the length of the body.
fn push(output: &mut Vec<u8>, text: &str, id: &str, head: &RequestHead, keep_alive: bool) -> u64 {
    write::push_status_line(output, 200, b"OK");
    write::push_line(output, b"Date", local_reply::date().as_bytes());
    write::push_line(output, b"Content-Type", b"application/octet-stream");
    write::push_line(output, b"Cache-Control", b"no-store");
    write::push_line(output, b"Content-Length", text.len().to_string().as_bytes());
    write::push_line(output, request_id::HEADER.as_bytes(), id.as_bytes());
    write::push_persistence(output, head.version, keep_alive);
    output.extend_from_slice(b"\r\n");
    if head.method == Method::Head {
        return 0;
    }
    output.extend_from_slice(text.as_bytes());
    text.len() as u64
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use tercet_observe::log::Destination;
    use tercet_observe::{Format, Log};

    use super::*;
    use crate::challenges::Challenge;
    use crate::{Balancer, Listening};

    #[test]
    fn a_challenge_is_read_with_get_or_head() {
        let text = "listen = ['127.0.0.1:0']\nservers = ['127.0.0.1:1']\nworkers = 1";
        let mut config = Config::parse(text, "a").unwrap();
        config.domains = vec!["shop.example".to_owned()];
        let log = Log::open("balancer", Destination::Discard, Format::Text).unwrap();
        let listeners = Listening::bind_all(&config).unwrap();
        let address = listeners[0].local_address().unwrap();
        let reloads = tokio::sync::mpsc::channel(1).0;
        let balancer = Balancer::start(config, listeners, &log, &log, reloads).unwrap();
        let (token, response) = ("token".to_owned(), "token.key".to_owned());
        balancer.set_challenges(vec![Challenge::Http { token, response }]);
        for (method, token, status, expected) in [
            ("GET", "token", "200", "\r\n\r\ntoken.key"),
            ("HEAD", "token", "200", "Content-Length: 9\r\n"),
            ("POST", "token", "405", "Allow: GET, HEAD\r\n"),
            ("GET", "unknown", "404", "no certificate is being obtained"),
        ] {
            let mut stream = TcpStream::connect(address).unwrap();
            let path = format!("/.well-known/acme-challenge/{token}");
            let head = format!("{method} {path} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            let mut received = String::new();
            stream.read_to_string(&mut received).unwrap();
            assert_eq!(received.split(' ').nth(1), Some(status), "{method} {token}: {received}");
            assert!(received.contains(expected), "{method} {token}: {received}");
        }
        balancer.stop().unwrap();
    }
}
