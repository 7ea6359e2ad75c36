//! Error pages: HTML in place of the balancer's own responses, for clients that prefer it to JSON.
//!
//! They are read once, so that an error page needs no disk and no descriptor. This module does not depend on connections.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::accept_encoding;

/// The longest page in bytes.
const MAX_PAGE: u64 = 512 << 10;
/// The name of the page during maintenance.
const MAINTENANCE: &str = "maintenance";

/// The error pages of a configuration.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    /// By their name: a status, a class or `maintenance`.
    by_name: HashMap<String, Box<[u8]>>,
    /// Whether they replace the bodies of servers' responses, too.
    pub(crate) replace_servers: bool,
}

/// Why a folder of pages cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct PagesError {
    /// The folder, or the page.
    pub path: PathBuf,
    /// The problem with it.
    pub problem: String,
}

impl Pages {
    /// Reads the pages of a folder.
    ///
    /// # Errors
    /// It cannot be read, has no page, or one that is too long.
    pub(crate) fn load(folder: Option<&Path>, replace_servers: bool) -> Result<Self, PagesError> {
        let Some(folder) = folder else { return Ok(Self::default()) };
        let failed = |path: &Path, error: &io::Error| refused(path, error.to_string());
        let mut by_name = HashMap::new();
        for entry in std::fs::read_dir(folder).map_err(|error| failed(folder, &error))? {
            let entry = entry.map_err(|error| failed(folder, &error))?;
            let path = entry.path();
            let name =
                path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".html"));
            let Some(name) = name.filter(|name| is_page(name)) else { continue };
            // A link could lead out of the folder.
            let metadata = entry.metadata().map_err(|error| failed(&path, &error))?;
            if !metadata.is_file() {
                return Err(refused(&path, "it is no file"));
            }
            if metadata.len() > MAX_PAGE {
                return Err(refused(&path, format!("it is longer than {} KiB", MAX_PAGE >> 10)));
            }
            let page = std::fs::read(&path).map_err(|error| failed(&path, &error))?;
            by_name.insert(name.to_owned(), page.into_boxed_slice());
        }
        if by_name.is_empty() {
            return Err(refused(
                folder,
                "there is no page in it, such as 404.html, 5xx.html or maintenance.html",
            ));
        }
        Ok(Self { by_name, replace_servers })
    }

    /// The page for a status of 400 or more.
    pub(crate) fn of_status(&self, status: u16) -> Option<&[u8]> {
        if self.by_name.is_empty() || status < 400 {
            return None;
        }
        let page = self.by_name.get(&status.to_string());
        page.or_else(|| self.by_name.get(&format!("{}xx", status / 100))).map(|page| &**page)
    }

    /// The page during maintenance, whose status is 503.
    pub(crate) fn of_maintenance(&self) -> Option<&[u8]> {
        self.by_name.get(MAINTENANCE).map(|page| &**page).or_else(|| self.of_status(503))
    }
}

fn refused(path: &Path, problem: impl Into<String>) -> PagesError {
    PagesError { path: path.to_owned(), problem: problem.into() }
}

/// Whether a name is one of a page: `400` to `599`, `4xx`, `5xx` or `maintenance`.
fn is_page(name: &str) -> bool {
    let is_status =
        || name.len() == 3 && name.parse::<u16>().is_ok_and(|status| (400..600).contains(&status));
    matches!(name, "4xx" | "5xx" | MAINTENANCE) || is_status()
}

/// Whether a client prefers HTML to JSON, by the values of `Accept` (RFC 9110 section 12.5.1). A client that accepts anything
/// does not: programs do.
pub fn prefers_html<'a>(values: impl Iterator<Item = &'a [u8]>) -> bool {
    let (mut html, mut json) = (0, 0);
    for range in values.flat_map(|value| value.split(|byte| *byte == b',')) {
        let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let media_type = parts.next().unwrap_or_default();
        let is = |known: &[u8]| media_type.eq_ignore_ascii_case(known);
        let greatest = if is(b"text/html") || is(b"application/xhtml+xml") || is(b"text/*") {
            &mut html
        } else if is(b"application/json") || media_type.to_ascii_lowercase().ends_with(b"+json") {
            &mut json
        } else {
            continue;
        };
        let mut weights = parts.filter_map(|part| match part {
            [b'q' | b'Q', b'=', ..] => Some(accept_encoding::weight(part).unwrap_or(0)),
            _ => None,
        });
        *greatest = weights.next().unwrap_or(1000).max(*greatest);
    }
    html > 0 && html >= json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clients_that_name_html_and_do_not_prefer_json_get_pages() {
        for (accept, expected) in [
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true),
            ("TEXT/HTML", true),
            ("text/*", true),
            ("text/html;level=1;q=0.5", true),
            ("text/html, application/json", true),
            ("text/html;q=0.5, application/json;q=0.4", true),
            ("text/html;q=0.4, application/json", false),
            ("text/html;q=0.4, application/problem+json;q=0.5", false),
            ("text/html;q=0", false),
            ("text/html;q=x", false),
            ("*/*", false),
            ("application/json", false),
            ("application/json, */*", false),
            ("text/plain", false),
            ("", false),
            (",;,text/html;;q", true),
        ] {
            assert_eq!(prefers_html(std::iter::once(accept.as_bytes())), expected, "{accept}");
        }
        assert!(!prefers_html(std::iter::empty()));
        assert!(!prefers_html([&b"application/json"[..], b"text/html;q=0.1"].into_iter()));
    }

    #[test]
    fn the_page_of_a_status_precedes_that_of_its_class() {
        let folder = tempfile::tempdir().unwrap();
        for name in
            ["404.html", "4xx.html", "503.html", "maintenance.html", "style.css", "200.html", "6xx.html"]
        {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let load = || Pages::load(Some(folder.path()), false).unwrap();
        let pages = load();
        for (status, page) in [
            (404, Some("404.html")),
            (405, Some("4xx.html")),
            (503, Some("503.html")),
            (502, None),
            (200, None),
            (304, None),
        ] {
            assert_eq!(pages.of_status(status), page.map(str::as_bytes), "{status}");
        }
        assert_eq!(pages.of_maintenance(), Some(&b"maintenance.html"[..]));
        std::fs::remove_file(folder.path().join("maintenance.html")).unwrap();
        assert_eq!(load().of_maintenance(), Some(&b"503.html"[..]));
        assert!(Pages::default().of_maintenance().is_none() && Pages::default().of_status(404).is_none());
    }

    #[test]
    fn a_folder_without_usable_pages_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let load =
            |name: &str| Pages::load(Some(&folder.path().join(name)), false).map(drop).unwrap_err().problem;
        for name in ["empty", "long", "link"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("long/500.html"), vec![b'a'; (MAX_PAGE + 1) as usize]).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link/500.html")).unwrap();
        for (name, expected) in [
            ("none", "No such file or directory (os error 2)"),
            ("empty", "there is no page in it, such as 404.html, 5xx.html or maintenance.html"),
            ("long", "it is longer than 512 KiB"),
            ("link", "it is no file"),
        ] {
            assert_eq!(load(name), expected);
        }
    }
}
