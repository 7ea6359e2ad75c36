//! The documentation pages' files, embedded in the binary so that they work offline.
//!
//! Swagger UI 5.35.0 (Apache-2.0) from npm, and Redoc 3.0.1 (MIT) without its requests to other hosts
//! (docs/decisions/0086), compressed; the licences are beside them.

use bytes::Bytes;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{Method, StatusCode};

use crate::request::Rules;
use crate::response::Response;

/// The content security policy of a page: its own files and the API, inline styles, generated images and workers.
macro_rules! policy {
    ($connect:literal) => {
        concat!(
            "default-src 'self'; connect-src ",
            $connect,
            "; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; \
             worker-src 'self' blob:; frame-ancestors 'self'"
        )
    };
}

/// A file of a documentation page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    /// `/docs`
    Docs,
    /// `/docs/start.js`
    DocsScript,
    /// `/docs/swagger-ui-bundle.js`
    SwaggerUi,
    /// `/docs/swagger-ui.css`
    SwaggerUiStyle,
    /// `/redoc`
    Redoc,
    /// `/redoc/redoc.standalone.js`
    RedocScript,
}

/// Whether a browser requests the page at `/`: it prefers HTML to all else.
pub fn is_home(parts: &Parts, rules: Rules<'_>) -> bool {
    let is_read = matches!(parts.method, Method::GET | Method::HEAD);
    if parts.uri.path() != "/" || !is_read || !rules.describes || rules.root_routine.is_some() {
        return false;
    }
    let accept = parts.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    accept.split([',', ';']).next().is_some_and(|first| first.trim() == "text/html")
}

/// The page at `/`: the name of the API, and where its documentation is.
pub fn home(title: &str, head: bool) -> Response {
    let escaped = title.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut response = Response::empty(StatusCode::OK);
    response.set_body(include_str!("page/home.html").replace("{title}", &escaped).into());
    for (name, value) in [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, policy!("'self'")),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (VARY, "accept"),
    ] {
        response.headers.insert(name, HeaderValue::from_static(value));
    }
    if head {
        response.drop_body();
    }
    response
}

impl File {
    /// The file at the request's path; a relation of the same name takes precedence.
    pub fn requested(parts: &Parts, rules: Rules<'_>) -> Option<Self> {
        let file = match parts.uri.path() {
            "/docs" => Self::Docs,
            "/docs/start.js" => Self::DocsScript,
            "/docs/swagger-ui-bundle.js" => Self::SwaggerUi,
            "/docs/swagger-ui.css" => Self::SwaggerUiStyle,
            "/redoc" => Self::Redoc,
            "/redoc/redoc.standalone.js" => Self::RedocScript,
            _ => return None,
        };
        let name = match file {
            Self::Docs | Self::DocsScript | Self::SwaggerUi | Self::SwaggerUiStyle => "docs",
            Self::Redoc | Self::RedocScript => "redoc",
        };
        let is_relation = rules.schemas.iter().any(|schema| rules.cache.relation(schema, name).is_some());
        let is_read = matches!(parts.method, Method::GET | Method::HEAD);
        (rules.describes && is_read && !is_relation).then_some(file)
    }

    /// The content, and whether it is gzip-compressed.
    fn content(self) -> (&'static [u8], bool) {
        match self {
            Self::Docs => (include_bytes!("page/docs.html"), false),
            Self::DocsScript => (include_bytes!("page/docs.js"), false),
            Self::SwaggerUi => (include_bytes!("page/swagger-ui-bundle.js.gz"), true),
            Self::SwaggerUiStyle => (include_bytes!("page/swagger-ui.css.gz"), true),
            Self::Redoc => (include_bytes!("page/redoc.html"), false),
            Self::RedocScript => (include_bytes!("page/redoc.standalone.js.gz"), true),
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Docs | Self::Redoc => "text/html; charset=utf-8",
            Self::DocsScript | Self::SwaggerUi | Self::RedocScript => "text/javascript; charset=utf-8",
            Self::SwaggerUiStyle => "text/css; charset=utf-8",
        }
    }

    /// `/docs` sends requests to the API, wherever it is; `/redoc` only loads the description.
    fn policy(self) -> &'static str {
        match self {
            Self::Redoc | Self::RedocScript => policy!("'self'"),
            _ => policy!("*"),
        }
    }

    /// The response with the file. Every browser supports gzip.
    pub fn response(self, head: bool) -> Response {
        let (content, compressed) = self.content();
        let mut response = Response::empty(StatusCode::OK);
        response.set_body(Bytes::from_static(content));
        for (name, value) in [
            (CONTENT_TYPE, self.content_type()),
            (CACHE_CONTROL, "max-age=3600"),
            (CONTENT_SECURITY_POLICY, self.policy()),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ] {
            response.headers.insert(name, HeaderValue::from_static(value));
        }
        if compressed {
            response.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if head {
            response.drop_body();
        }
        response
    }
}
