//! The HTTPS client of the certificate authority: what it sends is untrusted, so responses have a bounded size and time.

use std::error::Error as StdError;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, DATE, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{CertificateError, ClientConfig, RootCertStore};

/// How long a request may take, connecting included.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest response that is read, in bytes: more than any certificate chain.
const MAX_RESPONSE: usize = 1 << 20;
/// A difference between the clocks of this machine and of the authority from which on it is corrected, in seconds.
const SKEW: i64 = 60;
/// The name of this client at the authority.
const AGENT: &str = concat!("tercet/", env!("CARGO_PKG_VERSION"));

/// What the responses of the authority say besides their bodies.
#[derive(Debug, Default)]
pub(super) struct Observed {
    clock: Mutex<Option<Clock>>,
    /// Seconds to wait, by the response to the last request; 0: none.
    retry_after: AtomicU64,
}

/// The authority's clock, as of a response.
#[derive(Clone, Copy, Debug)]
struct Clock {
    received: Instant,
    /// The authority's time, in seconds since 1970.
    time: i64,
    /// The authority's time minus that of this machine, in seconds.
    skew: i64,
}

impl Observed {
    /// The time in seconds since 1970: of this machine, or of the authority if they differ. The clock of the machine may
    /// be set meanwhile.
    pub(super) fn now(&self) -> i64 {
        match self.clock() {
            Some(clock) if clock.skew.abs() > SKEW => {
                clock.time + i64::try_from(clock.received.elapsed().as_secs()).unwrap_or(0)
            }
            _ => seconds(SystemTime::now()),
        }
    }

    /// The authority's time minus the time of this machine, in seconds, as of the last response.
    pub(super) fn skew(&self) -> i64 {
        self.clock().map_or(0, |clock| clock.skew)
    }

    /// How long the authority asked to wait in the response to the last request, if this is the first call since.
    pub(super) fn take_retry_after(&self) -> Option<Duration> {
        let seconds = self.retry_after.swap(0, Ordering::Relaxed);
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }

    fn clock(&self) -> Option<Clock> {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, headers: &HeaderMap) {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        if let Some(date) = text(DATE).and_then(|date| httpdate::parse_http_date(date).ok()) {
            let time = seconds(date);
            let clock = Clock { received: Instant::now(), time, skew: time - seconds(SystemTime::now()) };
            *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock);
        }
        let after = text(RETRY_AFTER).and_then(|after| match after.parse::<u32>() {
            Ok(seconds) => Some(u64::from(seconds)),
            Err(_) => u64::try_from(seconds(httpdate::parse_http_date(after).ok()?) - self.now()).ok(),
        });
        self.retry_after.store(after.unwrap_or(0), Ordering::Relaxed);
    }
}

/// Seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
    }
}

/// The client.
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
    observed: Arc<Observed>,
}

impl Http {
    /// A client that verifies the authority by the certificate in `root`, or by the root certificates of the system.
    ///
    /// # Errors
    /// There is no root certificate.
    pub(super) fn new(root: Option<&Path>, observed: Arc<Observed>) -> Result<Self, String> {
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots(root)?)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector), observed })
    }
}

fn roots(root: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(root) = root else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(
                "the system has no root certificates\nhint: apt-get install ca-certificates".to_owned()
            );
        }
        return Ok(roots);
    };
    let problem = |error: &dyn std::fmt::Display| format!("{}: {error}", root.display());
    for certificate in CertificateDer::pem_file_iter(root).map_err(|error| problem(&error))? {
        let certificate = certificate.map_err(|error| problem(&error))?;
        roots.add(certificate).map_err(|error| problem(&error))?;
    }
    if roots.is_empty() {
        return Err(problem(&"no certificate in it"));
    }
    Ok(roots)
}

impl HttpClient for Http {
    fn request(
        &self,
        mut request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let sent = self.client.request(request);
        let observed = Arc::clone(&self.observed);
        Box::pin(async move {
            // A request without a response asks for no wait.
            observed.retry_after.store(0, Ordering::Relaxed);
            let exchange = async {
                let (parts, body) = sent.await.map_err(|error| explain(&error))?.into_parts();
                let body =
                    Limited::new(body, MAX_RESPONSE).collect().await.map_err(|error| explain(&*error))?;
                Ok::<_, String>((parts, body.to_bytes()))
            };
            let (parts, body) = match tokio::time::timeout(TIMEOUT, exchange).await {
                Ok(Ok(response)) => response,
                Ok(Err(reason)) => return Err(Error::Other(format!("{host}: {reason}").into())),
                Err(_) => return Err(Error::Other(format!("{host}: timed out").into())),
            };
            observed.read(&parts.headers);
            let is_json = parts.headers.get(CONTENT_TYPE).is_some_and(|kind| {
                kind.to_str().is_ok_and(|kind| kind.starts_with("application/") && kind.contains("json"))
            });
            if !parts.status.is_success() && !parts.status.is_redirection() && !is_json {
                return Err(Error::Other(format!("{host}: status {}", parts.status).into()));
            }
            Ok(Response::from_parts(parts, Full::new(body)).into())
        })
    }
}

/// The innermost causes of a failed request: the outer ones only say that it failed.
fn explain(error: &(dyn StdError + 'static)) -> String {
    let mut innermost = error;
    loop {
        if let Some(rustls::Error::InvalidCertificate(problem)) = innermost.downcast_ref::<rustls::Error>() {
            return untrusted(problem);
        }
        // An io::Error shows the error inside it, and its source is the source of that.
        let inside = innermost.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let next = inside.map(|inside| inside as &(dyn StdError + 'static)).or_else(|| innermost.source());
        match next {
            Some(next) => innermost = next,
            None => return innermost.to_string(),
        }
    }
}

fn untrusted(problem: &CertificateError) -> String {
    let is_about_time = matches!(
        problem,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    );
    if is_about_time {
        let now = httpdate::fmt_http_date(SystemTime::now());
        return format!(
            "its certificate is not valid at the time of this machine, {now}: is the clock right?"
        );
    }
    format!("its certificate is not trusted: {problem}")
}
