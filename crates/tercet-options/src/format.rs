//! The formats of strings: the schema names one (`format`), and this says which strings have it.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde_json::{Value as Json, json};

use crate::authority::{Directory, is_domain, is_email};
use crate::file_mode::FileMode;
use crate::quantity::{DURATION, SIZE, Unit};
use crate::server_address::ServerAddress;
use crate::share::Share;
use crate::web_url::is_plain_web_url;

/// A format: its name in the schema, and what the user reads about a string that does not have it.
pub(crate) struct Format {
    pub(crate) name: &'static str,
    pub(crate) label: &'static str,
    pub(crate) hint: &'static str,
    /// The units of an amount; empty for other formats.
    units: &'static [Unit],
    is: fn(&str) -> bool,
}

/// All formats.
const FORMATS: [Format; 22] = [
    Format {
        name: "duration",
        label: "a whole number and a unit",
        hint: "write a duration like \"250ms\", \"5s\", \"2m\" or \"1h\"",
        units: &DURATION,
        is: |text| crate::quantity::parse(text, &DURATION).is_some(),
    },
    Format {
        name: "size",
        label: "a whole number and a unit",
        hint: "write a size like \"512B\", \"64KiB\" or \"10MiB\"",
        units: &SIZE,
        is: |text| crate::quantity::parse(text, &SIZE).is_some(),
    },
    Format {
        name: "address",
        label: "not IP:PORT",
        hint: "write it like 0.0.0.0:8080, or [::]:8080 for IPv6",
        units: &[],
        is: |text| text.parse::<SocketAddr>().is_ok(),
    },
    Format {
        name: "server address",
        label: "not the address of a server",
        hint: "write it like 10.0.0.11:8080, app.internal:8080 or unix:/run/app.sock",
        units: &[],
        is: |text| text.parse::<ServerAddress>().is_ok(),
    },
    Format {
        name: "network",
        label: "not a network",
        hint: "write it like 10.0.0.0/8",
        units: &[],
        is: |text| text.parse::<IpNet>().is_ok() || text.parse::<IpAddr>().is_ok(),
    },
    Format {
        name: "header name",
        label: "not a header name",
        hint: "write it like \"x-served-by\"",
        units: &[],
        is: is_header_name,
    },
    Format {
        name: "client or header name",
        label: "not a header name",
        hint: "write \"client\", or a header like \"authorization\"",
        units: &[],
        is: is_header_name,
    },
    Format {
        name: "file mode",
        label: "not permission bits",
        hint: "write an octal number from \"600\" to \"777\"",
        units: &[],
        is: |text| FileMode::parse(text).is_some(),
    },
    Format {
        name: "proxy uri",
        label: "not a URL",
        hint: "write it like \"https://example.com:8443/basePath\"",
        units: &[],
        is: is_proxy_uri,
    },
    Format {
        name: "domain name",
        label: "not a domain name",
        hint: "write it like shop.example.com: no wildcard, no IP address, no port, and bücher.example as xn--bcher-kva.example",
        units: &[],
        is: is_domain,
    },
    Format {
        name: "acme directory",
        label: "not a certificate authority",
        hint: "write \"letsencrypt\", \"letsencrypt-staging\", \"zerossl\", or the URL of an ACME directory with https",
        units: &[],
        is: Directory::is,
    },
    Format {
        name: "email",
        label: "not an email address",
        hint: "write it like operator@example.com",
        units: &[],
        is: is_email,
    },
    Format {
        name: "share",
        label: "not a percentage",
        hint: "write it like \"1%\" or \"0.5%\", at most \"100%\"",
        units: &[],
        is: |text| Share::parse(text).is_some(),
    },
    Format {
        name: "collector url",
        label: "not the URL of a collector",
        hint: "write it like \"http://collector:4318\": scheme, host, port and path, without a user or a query",
        units: &[],
        is: is_plain_web_url,
    },
    Format {
        name: "path",
        label: "not a path",
        hint: "start it with / and percent-encode all but ASCII",
        units: &[],
        is: |text| text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic()),
    },
    Format {
        name: "route path",
        label: "not the path of a route",
        hint: "write it like /api: from / on, decoded, without an empty segment, `.`, `..`, %, ? or #, and without / at its end",
        units: &[],
        is: is_route_path,
    },
    Format {
        name: "route host",
        label: "not a host name",
        hint: "write it like shop.example.com, or *.example.com for all names below example.com",
        units: &[],
        is: is_route_host,
    },
    Format {
        name: "file in a folder",
        label: "not a file in the folder",
        hint: "write it like index.html: relative, without `.`, `..` and names that start with a dot",
        units: &[],
        is: |text| {
            text.split('/').all(|name| !name.is_empty() && !name.starts_with('.') && !name.contains('\0'))
        },
    },
    Format {
        name: "header value",
        label: "not a header value",
        hint: "use printable ASCII characters",
        units: &[],
        is: is_header_value,
    },
    Format {
        name: "realm",
        label: "not a realm",
        hint: "use printable ASCII characters other than \" and \\",
        units: &[],
        is: |text| is_header_value(text) && !text.contains(['"', '\\']),
    },
    Format {
        name: "pool name",
        label: "not a name",
        hint: "use lower case letters, digits and -, a letter first, at most 40",
        units: &[],
        is: is_pool_name,
    },
    Format {
        name: "server name",
        label: "not a server name",
        hint: "use 1 to 64 letters, digits and . _ - : [ ]",
        units: &[],
        is: |text| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:[]".contains(&byte);
            (1..=64).contains(&text.len()) && text.bytes().all(fits)
        },
    },
];

impl Format {
    /// The format that a rule of the schema names, if it names one of these.
    pub(crate) fn of(rule: &Json) -> Option<&'static Self> {
        FORMATS.iter().find(|format| rule["format"] == format.name)
    }

    /// Whether a string has the format.
    pub(crate) fn is(&self, text: &str) -> bool {
        (self.is)(text)
    }

    /// The amount that a string of the format is, in the smallest unit; `None` for a format without units.
    pub(crate) fn amount(&self, text: &str) -> Option<u64> {
        crate::quantity::parse(text, self.units)
    }
}

/// A string of the format called `name`.
pub(crate) fn schema(name: &str) -> schemars::Schema {
    schemars::json_schema!({"type": "string", "format": json!(name)})
}

/// Whether a text is a URI of http or https with a host.
fn is_proxy_uri(text: &str) -> bool {
    text.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    })
}

/// Whether a text can name a header: a token of RFC 9110, section 5.6.2.
fn is_header_name(text: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token)
}

/// Whether a text can be the value of a header, and is the same for every reader.
fn is_header_value(text: &str) -> bool {
    let printable = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    !text.is_empty() && text.trim() == text && text.bytes().all(printable)
}

/// Whether a text is the name of a backend pool.
fn is_pool_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.len() <= 40 && text.starts_with(|first: char| first.is_ascii_lowercase()) && text.bytes().all(fits)
}

/// Whether a text is a path that a request can have in one reading only.
fn is_route_path(text: &str) -> bool {
    let Some(segments) = text.strip_prefix('/') else { return false };
    let is_plain = |segment: &str| !matches!(segment, "" | "." | "..") && !segment.starts_with("..;");
    let is_refused = |c: char| c.is_control() || matches!(c, '%' | '?' | '#' | '\\');
    segments.is_empty() || segments.split('/').all(is_plain) && !text.contains(is_refused)
}

/// Whether a text is a host name, or `*.` and a domain.
fn is_route_host(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let is_ipv6 = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    name.split('.').all(is_label)
        || is_ipv6.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
}
