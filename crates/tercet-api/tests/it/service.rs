//! A running server for the tests, and clients for it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tercet_api::config::ConfigSource;
use tercet_api::server::{Instruction, Server, ServerError};
use tercet_observe::log::Destination;
use tercet_observe::{Format, Log};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::LocalSet;

/// The secret that signs the tests' tokens.
pub(crate) const SECRET: &str = "a secret that is at least 32 bytes";

/// A server on free ports, stopped when it is dropped.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    instruct: UnboundedSender<Instruction>,
    thread: Option<JoinHandle<Result<(), ServerError>>>,
}

/// A response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: String,
}

/// One connection to a server.
pub(crate) struct Client(SendRequest<Full<Bytes>>);

impl Service {
    /// Starts a server and waits until it is ready.
    pub(crate) fn start(uri: &str, options: &[(&str, &str)]) -> Self {
        let service = Self::start_unready(uri, options);
        service.wait_until_ready();
        service
    }

    /// Starts a server that logs to a file, and waits until it is ready.
    pub(crate) fn start_logging(uri: &str, options: &[(&str, &str)], path: &Path) -> Self {
        let service = Self::start_with(uri, options, Destination::File(path.to_owned()));
        service.wait_until_ready();
        service
    }

    /// Starts a server.
    pub(crate) fn start_unready(uri: &str, options: &[(&str, &str)]) -> Self {
        Self::start_with(uri, options, Destination::Discard)
    }

    fn start_with(uri: &str, options: &[(&str, &str)], destination: Destination) -> Self {
        let mut environment = BTreeMap::new();
        let defaults = [
            ("db-uri", uri),
            ("db-schemas", "api"),
            ("db-anon-role", "anon"),
            ("jwt-secret", SECRET),
            ("server-host", "127.0.0.1"),
            ("server-port", "0"),
            ("admin-server-port", "0"),
            ("server-threads", "2"),
        ];
        for (name, value) in defaults.iter().chain(options) {
            let variable = format!("PGRST_{}", name.to_uppercase().replace('-', "_"));
            environment.insert(variable, (*value).to_owned());
        }
        let (instruct, instructions) = tokio::sync::mpsc::unbounded_channel();
        let (bound, addresses) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let log = Log::open("api", destination, Format::Text).unwrap();
            on_one_thread(async {
                let server = Server::bind(ConfigSource { file: None, environment }).await?;
                let address = server.address().unwrap();
                // A Unix socket is up to its test.
                bound.send((address, server.admin_address().unwrap_or(address))).unwrap();
                server.run(&log, instructions).await
            })
        });
        let (address, admin) = addresses.recv().unwrap();
        Self { address, admin, instruct, thread: Some(thread) }
    }

    pub(crate) fn wait_until_ready(&self) {
        wait_until("the server is ready", || self.admin_get("/ready").status == 200);
    }

    /// Sends an instruction to the server.
    pub(crate) fn instruct(&self, instruction: Instruction) {
        self.instruct.send(instruction).unwrap();
    }

    /// Waits for the server to end and returns the reason.
    pub(crate) fn join(mut self) -> Result<(), ServerError> {
        self.thread.take().unwrap().join().unwrap()
    }

    /// Sends one request on a new connection.
    pub(crate) fn get(&self, target: &str) -> Reply {
        on_one_thread(async {
            Client::connect(self.address).await.request("GET", target, &[], "").await.unwrap()
        })
    }

    pub(crate) fn admin_get(&self, target: &str) -> Reply {
        on_one_thread(async {
            Client::connect(self.admin).await.request("GET", target, &[], "").await.unwrap()
        })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.instruct.send(Instruction::Stop("the test is over"));
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.unwrap().unwrap();
            }
        }
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::task::spawn_local(connection);
        Self(sender)
    }

    /// Sends a request and waits for the response.
    pub(crate) async fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> hyper::Result<Reply> {
        let mut request = http::Request::builder().method(method).uri(target).header("host", "api");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
        self.0.ready().await?;
        let (head, body) = self.0.send_request(request).await?.into_parts();
        let body = String::from_utf8(body.collect().await?.to_bytes().to_vec()).unwrap();
        Ok(Reply { status: head.status.as_u16(), headers: head.headers, body })
    }
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// `Bearer TOKEN` for a role and an id.
pub(crate) fn bearer(role: &str, id: &str) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let claims = json!({"role": role, "id": id});
    format!("Bearer {}", jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap())
}

/// Runs a test's future on a single thread, like the server.
pub(crate) fn on_one_thread<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, future)
}

/// Polls for a condition; fails after 30 s.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited for 30 s until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A deterministic random number generator.
pub(crate) struct Choices(pub(crate) u64);

impl Choices {
    pub(crate) fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    /// An index into a sequence of that length.
    pub(crate) fn below(&mut self, length: usize) -> usize {
        usize::try_from(self.next(length as u64)).unwrap()
    }
}
