//! The media types of files and responses.

use std::borrow::Cow;

/// The type of a file by its ending, with its charset if it is text.
pub(crate) fn of_file(name: &str) -> Cow<'static, str> {
    match mime_guess::from_path(name).first_raw() {
        Some(text) if text.starts_with("text/") => format!("{text}; charset=utf-8").into(),
        Some(other) => other.into(),
        None => "application/octet-stream".into(),
    }
}

/// Whether a file with this ending is certainly no page of a website.
pub(crate) fn is_asset(name: &str) -> bool {
    mime_guess::from_path(name)
        .first_raw()
        .is_some_and(|known| !matches!(known, "text/html" | "application/xhtml+xml"))
}

/// Whether a body of this type becomes much smaller by compression.
pub(crate) fn is_textual(value: &[u8]) -> bool {
    let end = memchr::memchr(b';', value).unwrap_or(value.len());
    let essence = value[..end].trim_ascii().to_ascii_lowercase();
    let text = essence.starts_with(b"text/") || essence.ends_with(b"+json") || essence.ends_with(b"+xml");
    text || matches!(
        &essence[..],
        b"application/json"
            | b"application/javascript"
            | b"application/xml"
            | b"application/wasm"
            | b"application/x-ndjson"
            | b"application/vnd.ms-fontobject"
            | b"application/x-javascript"
            | b"font/otf"
            | b"font/ttf"
            | b"image/bmp"
            | b"image/x-icon"
            | b"image/vnd.microsoft.icon"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_the_type_of_their_ending() {
        for (name, expected, textual) in [
            ("index.html", "text/html; charset=utf-8", true),
            ("a/b.css", "text/css; charset=utf-8", true),
            ("app.1a2b.js", "text/javascript; charset=utf-8", true),
            ("data.json", "application/json", true),
            ("site.webmanifest", "application/manifest+json", true),
            ("logo.svg", "image/svg+xml", true),
            ("app.wasm", "application/wasm", true),
            ("photo.JPG", "image/jpeg", false),
            ("font.woff2", "font/woff2", false),
            ("LICENSE", "application/octet-stream", false),
            ("john.doe", "application/octet-stream", false),
        ] {
            assert_eq!(of_file(name), expected, "{name}");
            assert_eq!(is_textual(of_file(name).as_bytes()), textual, "{name}");
        }
        assert!(
            is_asset("a.js")
                && is_asset("a.png")
                && !is_asset("a.html")
                && !is_asset("a")
                && !is_asset("john.doe")
        );
    }
}
