//! A route: the requests that it is for, and their response.

use std::path::PathBuf;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Compress, entry};

/// A route: the requests for a host and a path, and where they go. Of all routes that match a request, one with its exact
/// host precedes one with a wildcard, which precedes one without a host; then the longest `path` wins. A request that no
/// route matches goes to the backend pool `application`, and gets 404 if there is none.
///
/// With routes, a request whose path has more than one reading is refused with 400: a segment `.` or `..`, an empty segment
/// (`//`), and an encoded `/`, `\` or control character. So the path that selects the route is the one that the server sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Route {
    /// The prefix of the paths, in whole segments: `/api` matches `/api` and `/api/orders`, but neither `/apis` nor `/API`.
    #[serde(default = "root")]
    #[schemars(extend("format" = "route path", "examples" = ["/api"]))]
    pub path: String,
    /// The host name, or `*.` and a domain for all names below it. Default: every host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "route host", "examples" = ["shop.example.com"]))]
    pub host: Option<String>,
    /// The backend pool that the requests are sent to. Default: `application`, unless the route has `files`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["application"]))]
    pub to: Option<String>,
    /// Whether `path` is removed from the path of the request: with `/api`, the server or the folder sees `/orders` for
    /// `/api/orders`.
    #[serde(default)]
    pub strip: bool,
    /// The folder of the static files that answer the requests, instead of a server. GET and HEAD are allowed. Symbolic links,
    /// and names that start with a dot (other than `/.well-known/`), are not found. A file's siblings `FILE.br` and `FILE.gz` are
    /// sent to clients that accept the encoding. A path that ends with `/` is answered with `index.html` in that folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["public"]))]
    pub files: Option<PathBuf>,
    /// The file in `files` that answers a request for a file that does not exist, with status 200: for single-page
    /// applications. A missing file whose ending is that of another media type (`.js`, `.png`) is still answered with 404.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "file in a folder", "examples" = ["index.html"]))]
    pub fallback: Option<String>,
    /// The header `cache-control` of the files. Default: `no-cache`, with which browsers keep files and ask each time whether they
    /// have changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "header value", "examples" = ["public, max-age=31536000, immutable"]))]
    pub cache_control: Option<String>,
    /// Whether responses of servers are compressed. Default: as `compress` outside of the routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compress: Option<Compress>,
    /// Request buffering: whether a server gets a request only once its whole body has arrived, for programs that serve one
    /// request at a time. A body of more than 16 KiB is in a temporary file until then; a client that waits for `100 Continue` gets
    /// it from the balancer. Default: false, a body is sent on as it arrives.
    #[serde(default)]
    pub buffer_requests: bool,
    /// The networks whose clients have access, like `"10.0.0.0/8"`; all others get 403. The address of a client behind one of
    /// `trusted-proxies` is the one that the proxy reports. Default: every network.
    #[serde(default, deserialize_with = "entry::networks", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<entry::Network>", length(min = 1), extend("examples" = [["10.0.0.0/8"]]))]
    pub allow: Vec<IpNet>,
    /// The networks whose clients get 403, also if they are in `allow`. Default: none.
    #[serde(default, deserialize_with = "entry::networks", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<entry::Network>", length(min = 1), extend("examples" = [["192.0.2.0/24"]]))]
    pub deny: Vec<IpNet>,
    /// Basic authentication: requests without a user's name and password get 401. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
}

/// Basic authentication (RFC 7617).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BasicAuth {
    /// The file with the users: a line `NAME:HASH` for each, with a hash by bcrypt, as `htpasswd -nB NAME` prints it. It is read
    /// when the configuration is loaded, and must not be readable by other users of the machine. A leading `@` may be written, as for other
    /// files. Required.
    #[serde(deserialize_with = "entry::named_file")]
    #[schemars(extend("examples" = ["@secrets/users"]))]
    pub users: PathBuf,
    /// The realm: what browsers show to the user who is asked for a password.
    #[serde(default = "restricted")]
    #[schemars(extend("format" = "realm"))]
    pub realm: String,
    /// Whether servers get the header `authorization`, which has the password.
    #[serde(default)]
    pub forward: bool,
}

fn restricted() -> String {
    "restricted".to_owned()
}

fn root() -> String {
    "/".to_owned()
}
