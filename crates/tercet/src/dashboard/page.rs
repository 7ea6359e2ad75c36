//! The files of the page, as they are in the binary.

/// A file and its content type.
pub(super) struct File {
    pub(super) content_type: &'static str,
    pub(super) text: &'static str,
}

/// The file with this name.
pub(super) fn file(name: &str) -> Option<File> {
    let (content_type, text) = match name {
        "" => ("text/html; charset=utf-8", include_str!("page/index.html")),
        "page.css" => ("text/css; charset=utf-8", include_str!("page/page.css")),
        "page.js" => ("text/javascript; charset=utf-8", include_str!("page/page.js")),
        "picture.js" => ("text/javascript; charset=utf-8", include_str!("page/picture.js")),
        "charts.js" => ("text/javascript; charset=utf-8", include_str!("page/charts.js")),
        "icon.svg" => ("image/svg+xml", include_str!("page/icon.svg")),
        _ => return None,
    };
    Some(File { content_type, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_needs_no_other_host_and_never_makes_html_of_text() {
        let names = ["", "page.css", "page.js", "picture.js", "charts.js", "icon.svg"];
        let texts = names.map(|name| file(name).unwrap().text);
        assert!(texts.iter().map(|text| text.len()).sum::<usize>() <= 150 << 10);
        for text in texts {
            let without_namespaces = text.replace("http://www.w3.org/2000/svg", "");
            for absent in [
                "http://",
                "https://",
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "eval(",
                "document.write",
            ] {
                assert!(!without_namespaces.contains(absent), "{absent}");
            }
        }
        // The content security policy allows neither.
        assert!(
            !texts[0].contains("style=") && !texts[0].contains("<style") && !texts[0].contains("onclick")
        );
    }
}
