//! URLs of the web.

/// The schemes of the web.
pub const WEB: &[&str] = &["https://", "http://"];

/// Whether a text is a URL of the web (`http` or `https`) with a host.
pub fn is_web_url(text: &str) -> bool {
    is_url(text, WEB)
}

/// Whether a text is a URL with one of these schemes and a host.
pub fn is_url(text: &str, schemes: &[&str]) -> bool {
    let has_host = |rest: &str| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
    };
    let is_plain = text.chars().all(|c| c.is_ascii_graphic());
    is_plain && schemes.iter().any(|scheme| text.strip_prefix(scheme).is_some_and(has_host))
}

/// The host and the port of a URL of the web; `None` if it has another form.
pub fn host_and_port(url: &str) -> Option<(String, u16)> {
    let uri: http::Uri = url.parse().ok()?;
    let authority = uri.authority()?.as_str().rsplit('@').next().unwrap_or_default();
    let host = uri.host()?;
    let port = match authority.strip_prefix(host)? {
        "" => {
            if uri.scheme_str() == Some("https") {
                443
            } else {
                80
            }
        }
        port => port.strip_prefix(':')?.parse().ok().filter(|port| *port > 0)?,
    };
    Some((host.to_owned(), port))
}

/// Whether a text is a URL of the web with nothing but a host, a port and a path.
pub(crate) fn is_plain_web_url(text: &str) -> bool {
    is_web_url(text) && host_and_port(text).is_some() && !text.contains(['@', '?', '#'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_scheme_and_a_host() {
        for text in
            ["http://collector:4318", "https://otlp.example/v1", "http://[fd00::1]:4318/", "http://10.0.0.9"]
        {
            assert!(is_web_url(text) && is_plain_web_url(text), "{text}");
        }
        for text in ["https://user:hush@h", "https://h/p?key=hush", "https://h/#a"] {
            assert!(is_web_url(text) && !is_plain_web_url(text), "{text}");
        }
        for text in ["", "collector:4318", "https://", "ftp://h", "http:// h", "http://h\u{e9}", "http:///p"]
        {
            assert!(!is_web_url(text) && !is_plain_web_url(text), "{text}");
        }
        assert!(!is_plain_web_url("http://h:99999"));
        assert_eq!(host_and_port("http://collector"), Some(("collector".to_owned(), 80)));
        assert_eq!(host_and_port("https://[fd00::1]:4318/x"), Some(("[fd00::1]".to_owned(), 4318)));
    }
}
