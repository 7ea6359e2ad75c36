//! The address of a server that requests are sent to.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The prefix of a Unix socket's path.
const UNIX: &str = "unix:";

/// A TCP address, `IP:PORT`; a host name with a port, `NAME:PORT`; or the path of a Unix socket, `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ServerAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A host name and a port.
    Name(String, u16),
    /// A Unix socket (unix(7)).
    Unix(PathBuf),
}

/// The text is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither IP:PORT, NAME:PORT nor unix:PATH")]
pub struct NoAddress;

impl ServerAddress {
    /// The port, if it has one.
    pub(crate) fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(address) => Some(address.port()),
            Self::Name(_, port) => Some(*port),
            Self::Unix(_) => None,
        }
    }

    /// The name of a server without one: its address, or the name of the socket's file.
    pub(crate) fn server_name(&self) -> String {
        let Self::Unix(path) = self else { return self.to_string() };
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.chars().map(|c| if fits(c) { c } else { '_' }).take(64).collect()
    }

    /// Starts the relative path of a Unix socket at `folder`.
    pub fn start_at(&mut self, folder: &Path) {
        if let Self::Unix(path) = self {
            *path = folder.join(&*path);
        }
    }
}

impl FromStr for ServerAddress {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        if let Some(path) = text.strip_prefix(UNIX) {
            let is_path = !path.is_empty() && !path.ends_with('/') && !path.contains('\0');
            return if is_path { Ok(Self::Unix(path.into())) } else { Err(NoAddress) };
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Tcp(address));
        }
        let (name, port) = text.rsplit_once(':').ok_or(NoAddress)?;
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| is_number).ok_or(NoAddress)?;
        // A name of the local network may have one label, or an underscore.
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        let is_mistyped_address = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if name.len() > 253 || is_mistyped_address || !name.split('.').all(is_label) {
            return Err(NoAddress);
        }
        Ok(Self::Name(name.to_owned(), port))
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl From<SocketAddr> for ServerAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl TryFrom<String> for ServerAddress {
    type Error = NoAddress;

    fn try_from(text: String) -> Result<Self, NoAddress> {
        text.parse()
    }
}

impl From<ServerAddress> for String {
    fn from(address: ServerAddress) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_ip_addresses_names_or_unix_sockets() {
        for text in [
            "10.0.0.11:8080",
            "[::1]:80",
            "app:80",
            "app_1:8080",
            "app-1.internal:8080",
            "localhost:65535",
            "unix:/run/app.sock",
            "unix:run/a b.sock",
        ] {
            assert_eq!(text.parse::<ServerAddress>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "app",
            "10.0.0.11",
            "10.0.0:80",
            "10.0.0.256:80",
            "app:",
            "app:+80",
            "app:65536",
            ":80",
            "a b:80",
            "a..b:80",
            "[::1:80",
            "http://app:80",
            "app/x:80",
            "unix:",
            "unix:/run/",
            "/run/app.sock",
        ] {
            assert_eq!(text.parse::<ServerAddress>(), Err(NoAddress), "{text}");
        }
        let name = |text: &str| text.parse::<ServerAddress>().unwrap().server_name();
        assert_eq!(name("unix:/run/app 1.sock"), "app_1.sock");
        assert_eq!(name("app:80"), "app:80");
    }
}
