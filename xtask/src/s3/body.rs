//! The XML of requests and responses: flat enough for no parser.

/// A text with XML's special characters escaped.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The texts of all elements of this name, in order.
pub(super) fn elements(body: &[u8], name: &str) -> Vec<String> {
    let body = String::from_utf8_lossy(body);
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let texts = body.split(&open).skip(1).filter_map(|rest| rest.split(&close).next());
    texts.map(unescaped).collect()
}

fn unescaped(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
    text.replace("&amp;", "&")
}
