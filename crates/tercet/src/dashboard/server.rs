//! The HTTP server of the dashboard.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::gate::Gate;
use super::page;

/// Nothing from elsewhere, nothing inline, and no page may embed this one.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The most connections at a time.
const CONNECTIONS: usize = 32;
/// How long a client may take for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// What a dashboard shows.
pub(super) trait Source {
    /// Says that the page is open in a browser.
    fn watch(&self);

    /// The current state, and the log lines after the one with this number.
    fn state(&self, after: u64) -> Value;

    /// The golden numbers of the last 15 minutes.
    fn history(&self) -> Value;
}

/// The page on a port of loopback.
pub(super) struct Site {
    gate: Gate,
    listener: RefCell<Option<TcpListener>>,
}

impl Site {
    /// A page on a free port of this machine.
    ///
    /// # Errors
    /// There is no free port, or the system has no random numbers.
    pub(super) async fn bind() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let gate = Gate::new(listener.local_addr()?)?;
        Ok(Self { gate, listener: RefCell::new(Some(listener)) })
    }

    /// The address to open in a browser, with the key of this run.
    pub(super) fn url(&self) -> String {
        self.gate.url()
    }

    /// Answers requests, until it is dropped.
    pub(super) async fn serve(&self, source: Rc<dyn Source>) {
        let Some(listener) = self.listener.take() else { return };
        let answering = Rc::new(Answering { gate: self.gate.clone(), source });
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                    Ok((stream, _)) => drop(connections.spawn_local(Rc::clone(&answering).connection(stream))),
                    // Out of descriptors, most likely.
                    Err(_) => sleep(Duration::from_millis(100)).await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

struct Answering {
    gate: Gate,
    source: Rc<dyn Source>,
}

impl Answering {
    async fn connection(self: Rc<Self>, stream: tokio::net::TcpStream) {
        let service = service_fn(move |request: Request<Incoming>| {
            std::future::ready(Ok::<_, Infallible>(self.respond(&request)))
        });
        // A client that disconnects needs no answer.
        let _ = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    fn respond(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let mut response = match self.gate.answer(request) {
            Some(response) => response.map(|text| Full::new(Bytes::from_static(text.as_bytes()))),
            None => self.content(request.uri().path(), request.uri().query().unwrap_or_default()),
        };
        let headers = response.headers_mut();
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("text/plain; charset=utf-8"));
        for (name, value) in [
            (CONTENT_SECURITY_POLICY, POLICY),
            (CACHE_CONTROL, "no-store"),
            (HeaderName::from_static("x-content-type-options"), "nosniff"),
            (HeaderName::from_static("referrer-policy"), "no-referrer"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
            (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }

    fn content(&self, path: &str, query: &str) -> Response<Full<Bytes>> {
        let name = path.strip_prefix(&*self.gate.path);
        let (content_type, body) = match name {
            Some("state") => {
                self.source.watch();
                let after = query.strip_prefix("after=").and_then(|number| number.parse().ok());
                ("application/json", Bytes::from(self.source.state(after.unwrap_or_default()).to_string()))
            }
            Some("history") => ("application/json", Bytes::from(self.source.history().to_string())),
            _ => {
                let Some(file) = name.and_then(page::file) else {
                    let mut response = Response::new(Full::new(Bytes::from_static(b"not found\n")));
                    *response.status_mut() = StatusCode::NOT_FOUND;
                    return response;
                };
                (file.content_type, Bytes::from_static(file.text.as_bytes()))
            }
        };
        let mut response = Response::new(Full::new(body));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }
}
