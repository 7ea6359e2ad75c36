//! The paths of the pages about the schema. What is on them is `openapi`'s.

/// One file of a page: of `/docs`, to try the API out in a browser, or of `/redoc`, to read about it.
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

impl File {
    /// The file at a path of one or two segments.
    pub fn at(folder: &str, name: Option<&str>) -> Option<Self> {
        match (folder, name) {
            ("docs", None) => Some(Self::Docs),
            ("docs", Some("start.js")) => Some(Self::DocsScript),
            ("docs", Some("swagger-ui-bundle.js")) => Some(Self::SwaggerUi),
            ("docs", Some("swagger-ui.css")) => Some(Self::SwaggerUiStyle),
            ("redoc", None) => Some(Self::Redoc),
            ("redoc", Some("redoc.standalone.js")) => Some(Self::RedocScript),
            _ => None,
        }
    }
}
