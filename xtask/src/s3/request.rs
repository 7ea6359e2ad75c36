//! A request as it was sent, and a response.

use percent_encoding::percent_decode_str;

/// A request, with its whole body.
pub(super) struct Request {
    pub(super) method: String,
    /// The path as it was sent, percent-encoded.
    pub(super) path: String,
    /// Names and values of the query, decoded.
    pub(super) query: Vec<(String, String)>,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// The first header of this name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    /// The value of a query parameter; empty if it is there without one.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }
}

/// Path and decoded query of a request's target.
pub(super) fn split_target(target: &str) -> (String, Vec<(String, String)>) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    });
    (path.to_owned(), pairs.collect())
}

/// Percent-decodes a text.
pub(super) fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// A response.
pub(super) struct Response {
    pub(super) status: u16,
    /// The reason phrase: of an error, its code; pgBackRest prints no more of a status of 500 and above.
    pub(super) reason: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    /// The length of the object, also where its content is not asked for.
    pub(super) length: u64,
}

impl Response {
    pub(super) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { status, reason: String::new(), headers: Vec::new(), length: body.len() as u64, body }
    }

    /// An error in the form of the S3 API.
    pub(super) fn error(status: u16, code: &str, message: &str) -> Self {
        let message = super::body::escaped(message);
        let body = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
        Self { reason: code.to_owned(), ..Self::new(status, body) }
    }
}
