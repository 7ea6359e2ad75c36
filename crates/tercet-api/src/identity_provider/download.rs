//! A small document over https.

use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, LOCATION, USER_AGENT};
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// The time for all of it.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The most bytes of a document.
const LIMIT: usize = 256 * 1024;
/// The most redirects that are followed, all to the same host.
const REDIRECTS: usize = 3;

/// A document.
pub(super) struct Download {
    pub(super) body: Bytes,
    /// `max-age`.
    pub(super) lifetime: Option<Duration>,
}

/// Why a document could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The connection failed, or TLS.
    #[error("{0}")]
    Connection(String),
    /// A status other than 200.
    #[error("answered {0}")]
    Status(StatusCode),
    /// A redirect to another host, to plain http, or one of too many.
    #[error("redirects to {0}, which is not followed")]
    Redirect(String),
    /// More than 256 KiB.
    #[error("answered with more than 256 KiB")]
    TooLong,
    /// More than 5 s.
    #[error("did not answer within 5 s")]
    Timeout,
}

/// Fetches documents by https, and trusts the system's certificates.
pub(super) struct Client(legacy::Client<HttpsConnector<HttpConnector>, Empty<Bytes>>);

impl Client {
    /// # Errors
    /// The system has no certificates to trust.
    pub(super) fn new() -> io::Result<Self> {
        let connector = HttpsConnectorBuilder::new().with_native_roots()?.https_only().enable_http1().build();
        Ok(Self(legacy::Client::builder(TokioExecutor::new()).build(connector)))
    }

    /// Fetches a document of at most 256 KiB within 5 s.
    ///
    /// # Errors
    /// It cannot be fetched so.
    pub(super) async fn get(&self, url: &Uri) -> Result<Download, DownloadError> {
        tokio::time::timeout(TIMEOUT, self.follow(url)).await.unwrap_or(Err(DownloadError::Timeout))
    }

    async fn follow(&self, url: &Uri) -> Result<Download, DownloadError> {
        let mut url = url.clone();
        for _ in 0..=REDIRECTS {
            let response = self.request(&url).await?;
            if response.status().is_redirection() {
                url = target(&url, response.headers())?;
                continue;
            }
            if response.status() != StatusCode::OK {
                return Err(DownloadError::Status(response.status()));
            }
            let lifetime = lifetime(response.headers());
            let body = Limited::new(response.into_body(), LIMIT).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    DownloadError::TooLong
                } else {
                    DownloadError::Connection(error.to_string())
                }
            })?;
            return Ok(Download { body: body.to_bytes(), lifetime });
        }
        Err(DownloadError::Redirect(url.to_string()))
    }

    async fn request(&self, url: &Uri) -> Result<Response<Incoming>, DownloadError> {
        let request = Request::get(url)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("tercet/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|error| failed(&error))?;
        self.0.request(request).await.map_err(|error| failed(&error))
    }
}

/// The innermost error says what happened; those around it, that a connection failed.
fn failed(error: &(dyn Error + 'static)) -> DownloadError {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    DownloadError::Connection(innermost.to_string())
}

/// Where a redirect leads: the same host by https.
fn target(url: &Uri, headers: &HeaderMap) -> Result<Uri, DownloadError> {
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let refused = || DownloadError::Redirect(format!("{location:?}"));
    if location.starts_with('/') && !location.starts_with("//") {
        let mut parts = url.clone().into_parts();
        parts.path_and_query = Some(location.parse().map_err(|_| refused())?);
        return Uri::from_parts(parts).map_err(|_| refused());
    }
    let target: Uri = location.parse().map_err(|_| refused())?;
    let same = target.scheme() == url.scheme() && target.authority() == url.authority();
    if same { Ok(target) } else { Err(refused()) }
}

/// The seconds of `max-age`.
fn lifetime(headers: &HeaderMap) -> Option<Duration> {
    let directives = headers.get_all(CACHE_CONTROL).into_iter().filter_map(|value| value.to_str().ok());
    let mut seconds = directives.flat_map(|value| value.split(',')).filter_map(|directive| {
        let (name, value) = directive.trim().split_once('=')?;
        if !name.eq_ignore_ascii_case("max-age") {
            return None;
        }
        value.trim_matches('"').parse().ok()
    });
    seconds.next().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_stays_on_its_host() {
        let url = Uri::from_static("https://id.example/keys");
        let follow = |location: &str| {
            let headers = HeaderMap::from_iter([(LOCATION, location.parse().unwrap())]);
            target(&url, &headers).map(|target| target.to_string()).map_err(|error| error.to_string())
        };
        assert_eq!(follow("/v2/keys?a=1").unwrap(), "https://id.example/v2/keys?a=1");
        assert_eq!(follow("https://id.example/v2").unwrap(), "https://id.example/v2");
        for elsewhere in
            ["https://evil.example/keys", "http://id.example/keys", "//evil.example/keys", "keys", ""]
        {
            let refused = follow(elsewhere).unwrap_err();
            assert_eq!(refused, format!("redirects to {elsewhere:?}, which is not followed"));
        }
    }

    #[test]
    fn the_lifetime_is_in_cache_control() {
        let of = |value: &str| lifetime(&HeaderMap::from_iter([(CACHE_CONTROL, value.parse().unwrap())]));
        assert_eq!(of("public, Max-Age=600, must-revalidate"), Some(Duration::from_secs(600)));
        assert_eq!(of("max-age=\"60\""), Some(Duration::from_secs(60)));
        assert_eq!(of("no-store"), None);
        assert_eq!(of("max-age=soon"), None);
    }
}
