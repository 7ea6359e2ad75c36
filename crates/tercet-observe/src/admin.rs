//! The admin endpoint of a process: `/live`, `/ready`, `/metrics`, and paths of its own.
//!
//! It is meant for loopback or a Unix socket, for operators and Prometheus; clients' requests never pass through it.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, UnixListener};

use crate::{metrics, unix_socket};

/// The largest body of an admin request: 1 MiB.
const BODY_LIMIT: usize = 1 << 20;

/// A response of the admin endpoint.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The content type.
    pub content_type: &'static str,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// A short line of text.
    pub fn text(status: StatusCode, body: impl Into<String>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: Bytes::from(body.into()) }
    }

    /// A JSON value.
    pub fn json(status: StatusCode, value: &serde_json::Value) -> Self {
        Self { status, content_type: "application/json", body: Bytes::from(value.to_string()) }
    }
}

/// A future on the thread that serves the admin endpoint.
pub type LocalFuture<T> = Pin<Box<dyn Future<Output = T>>>;

/// What a process exposes on its admin endpoint.
pub trait Admin: 'static {
    /// `/live`: whether the process works; if not, it should be restarted.
    fn live(&self) -> bool {
        true
    }

    /// `/ready`: `Ok` when the process can take requests, else the reason. Answered with 200 or 503.
    fn ready(&self) -> LocalFuture<Result<(), String>>;

    /// `/metrics`: the exposition in OpenMetrics, see [`crate::metrics::encode`]. A client that does not accept it gets the older
    /// text format.
    fn metrics(&self) -> String;

    /// Any other path; `None` is answered with 404.
    fn other(&self, method: &Method, path: &str, query: &str, body: Bytes) -> LocalFuture<Option<Answer>> {
        let _ = (method, path, query, body);
        Box::pin(std::future::ready(None))
    }
}

/// Where an admin endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket and its mode.
    Unix(PathBuf, u32),
}

/// A bound admin endpoint.
#[derive(Debug)]
pub struct Server(Listener);

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Server {
    /// Binds the endpoint. A Unix socket without a listener is replaced.
    ///
    /// # Errors
    /// The address is taken, or the socket's folder cannot be written.
    pub async fn bind(address: &Address) -> io::Result<Self> {
        Ok(Self(match address {
            Address::Tcp(address) => Listener::Tcp(TcpListener::bind(address).await?),
            Address::Unix(path, mode) => Listener::Unix(unix_socket::bind(path, *mode)?),
        }))
    }

    /// The TCP address it listens on, when it does.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.0 {
            Listener::Tcp(listener) => listener.local_addr().ok(),
            Listener::Unix(_) => None,
        }
    }

    /// Answers requests until it is dropped. Runs on a [`tokio::task::LocalSet`] or a local runtime.
    pub async fn serve(self, admin: Rc<dyn Admin>) {
        loop {
            let admin = Rc::clone(&admin);
            match &self.0 {
                Listener::Tcp(listener) => match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::task::spawn_local(connection(stream, admin))),
                    Err(error) => back_off(&error).await,
                },
                Listener::Unix(listener) => match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::task::spawn_local(connection(stream, admin))),
                    Err(error) => back_off(&error).await,
                },
            }
        }
    }
}

/// Out of descriptors, most likely: let some be closed before accepting again.
async fn back_off(_: &io::Error) {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn connection(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
    admin: Rc<dyn Admin>,
) {
    let service = service_fn(move |request| {
        let admin = Rc::clone(&admin);
        async move { Ok::<_, Infallible>(respond(&*admin, request).await) }
    });
    // A client that disconnects needs no answer.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10))
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn respond(admin: &dyn Admin, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let reading = matches!(head.method, Method::GET | Method::HEAD);
    let answer = match head.uri.path() {
        "/live" if reading && admin.live() => Answer::text(StatusCode::OK, "live\n"),
        "/live" if reading => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, "dead\n"),
        "/ready" if reading => match admin.ready().await {
            Ok(()) => Answer::text(StatusCode::OK, "ready\n"),
            Err(reason) => Answer::text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        },
        "/metrics" if reading => {
            let accepted = head.headers.get_all(hyper::header::ACCEPT).iter();
            let is_openmetrics = |value: &HeaderValue| {
                value.to_str().is_ok_and(|value| value.contains("application/openmetrics-text"))
            };
            let text = admin.metrics();
            let (content_type, text) = if accepted.into_iter().any(is_openmetrics) {
                (metrics::OPENMETRICS, text)
            } else {
                (metrics::PLAIN, metrics::plain(&text))
            };
            Answer { status: StatusCode::OK, content_type, body: Bytes::from(text) }
        }
        path => match Limited::new(body, BODY_LIMIT).collect().await {
            Ok(body) => admin
                .other(&head.method, path, head.uri.query().unwrap_or(""), body.to_bytes())
                .await
                .unwrap_or_else(|| Answer::text(StatusCode::NOT_FOUND, "not found\n")),
            Err(error) => Answer::text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        },
    };
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status;
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    response
}
