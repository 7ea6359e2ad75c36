//! Error pages, and maintenance.

use std::path::PathBuf;

use ipnet::IpNet;

use super::entry;
use crate::quantity::Duration;

options! {
    /// Error pages: what clients that prefer HTML to JSON, such as browsers, get in place of the balancer's own responses.
    #[derive(Eq)]
    pub struct ErrorPages {
        /// The folder with the pages: `404.html` for the status 404, `4xx.html` and `5xx.html` for every other status of the
        /// class, `maintenance.html` during maintenance. A page has to contain its styles and pictures. Pages are read when the
        /// configuration is loaded. Default: none, and every client gets JSON.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(extend("examples" = ["errors"]))]
        folder: Option<PathBuf> = None,
        /// Whether the pages replace the bodies of servers' responses, too, for clients that prefer HTML.
        replace_servers: bool = false,
    }
}

options! {
    /// Maintenance: while it is on, requests are answered with 503.
    #[derive(Eq)]
    pub struct Maintenance {
        /// The file that turns maintenance on while it exists: `touch` and `rm` take effect within a second, without a reload.
        #[schemars(extend("x-set-by-tercet" = "`tercet maintenance on` and `off` turn it on and off"))]
        file: PathBuf = PathBuf::from("maintenance.on"),
        /// The networks whose clients are served all the same. Default: none.
        #[serde(deserialize_with = "entry::networks")]
        #[schemars(with = "Vec<entry::Network>", extend("examples" = [["203.0.113.7"]]))]
        allow: Vec<IpNet> = Vec::new(),
        /// When clients may try again: the header `retry-after`.
        retry_after: Duration = Duration::seconds(300),
    }
}
