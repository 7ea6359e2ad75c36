//! The collector, by the HTTP client that the data API has for identity providers.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;

/// The time for one request.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of an answer.
const LIMIT: usize = 64 * 1024;

/// Sends requests to the collector, and keeps what the exporter does not tell: why the last one failed, and how many spans were
/// rejected.
#[derive(Clone, Debug)]
pub(super) struct Collector {
    client: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    outcome: Arc<Mutex<Outcome>>,
}

/// The outcome of the last request.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// Why it failed, or why spans were rejected.
    pub(super) reason: Option<String>,
    /// The spans that the collector has rejected.
    pub(super) rejected: u64,
}

impl Collector {
    /// # Errors
    /// The system has no certificates to trust.
    pub(super) fn new(endpoint: &Uri) -> io::Result<Self> {
        let builder = HttpsConnectorBuilder::new();
        let connector = if endpoint.scheme_str() == Some("https") {
            builder.with_native_roots()?.https_only().enable_http1().build()
        } else {
            // No connection is encrypted, so nothing is to be trusted.
            let provider = rustls::crypto::ring::default_provider();
            let config = rustls::ClientConfig::builder_with_provider(provider.into())
                .with_safe_default_protocol_versions()
                .map_err(io::Error::other)?
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
            builder.with_tls_config(config).https_or_http().enable_http1().build()
        };
        let client = legacy::Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, outcome: Arc::default() })
    }

    /// The outcome of the last request.
    pub(super) fn outcome(&self) -> Outcome {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let response = self.client.request(request.map(Full::new)).await?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, LIMIT).collect().await?.to_bytes();
        Ok(Response::from_parts(parts, body))
    }
}

/// The future of [`HttpClient`].
type Answered<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for Collector {
    fn send_bytes<'life0, 'async_trait>(&'life0 self, request: Request<Bytes>) -> Answered<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let answered = match tokio::time::timeout(TIMEOUT, self.exchange(request)).await {
                Ok(answered) => answered,
                Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs()).into()),
            };
            *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = outcome(&answered);
            answered
        })
    }
}

fn outcome(answered: &Result<Response<Bytes>, HttpError>) -> Outcome {
    let reason = |reason: String| Outcome { reason: Some(reason), rejected: 0 };
    let response = match answered {
        Err(error) => return reason(innermost(&**error)),
        Ok(response) if !response.status().is_success() => {
            return reason(format!("answered {}", response.status()));
        }
        Ok(response) => response,
    };
    let partial =
        ExportTraceServiceResponse::decode(&response.body()[..]).ok().and_then(|it| it.partial_success);
    partial.filter(|it| it.rejected_spans > 0).map_or_else(Outcome::default, |it| Outcome {
        rejected: it.rejected_spans.unsigned_abs(),
        reason: Some(format!("{} spans rejected: {}", it.rejected_spans, it.error_message)),
    })
}

/// The innermost error says what happened; those around it, that a connection failed.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
