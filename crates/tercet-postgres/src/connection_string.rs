//! Connection strings (<https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING>): writes and
//! parses URIs, parses `keyword=value` pairs. [`Target`](crate::Target) interprets the parameters.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

/// All but the unreserved characters (RFC 3986, section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The hint for the most frequent mistake in a connection string.
const ENCODING: &str =
    "hint: in a URI, percent-encode special characters of the password: / as %2F, ? as %3F, # as %23";

/// An invalid connection string. Its text never contains a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Neither a URI nor `keyword=value` pairs.
    #[error("not a connection string: {0}")]
    Syntax(&'static str),
    /// A parameter of libpq that this client does not support.
    #[error("connection parameter \"{0}\" is not supported")]
    Unsupported(&'static str),
    /// A parameter that libpq does not have. Its name is not shown, since it may be part of a badly encoded password.
    #[error("unknown connection parameter; {ENCODING}")]
    Unknown,
    /// A parameter with an invalid value, which is not shown, since it may be part of a badly encoded password.
    #[error("connection parameter \"{0}\" has a value that is not supported; {ENCODING}")]
    Value(&'static str),
    /// The service cannot be read from the service files.
    #[error("connection service: {0}")]
    Service(String),
    /// No user is given.
    #[error("no user to connect as; hint: write postgres://USER@HOST/DATABASE")]
    NoUser,
    /// `sslmode` verifies certificates, and there is no root certificate.
    #[error("sslmode verifies the server's certificate, but sslrootcert is not given")]
    NoRootCertificate,
}

/// Formats a connection URI. `server` is `HOST:PORT` and is not encoded; it is empty where the parameters name a Unix
/// socket. All else is percent-encoded.
pub fn uri(
    user: &str,
    password: Option<&str>,
    server: &str,
    database: &str,
    parameters: &[(&str, &[u8])],
) -> String {
    let encode = |text: &[u8]| percent_encode(text, RESERVED).to_string();
    let mut uri = format!("postgresql://{}", encode(user.as_bytes()));
    if let Some(password) = password {
        uri.push(':');
        uri.push_str(&encode(password.as_bytes()));
    }
    write!(uri, "@{server}/{}", encode(database.as_bytes())).expect("a string takes all text");
    for (index, (name, value)) in parameters.iter().enumerate() {
        let separator = if index == 0 { '?' } else { '&' };
        write!(uri, "{separator}{name}={}", encode(value)).expect("a string takes all text");
    }
    uri
}

/// Parses the parameters of a URI, given without its scheme.
pub(crate) fn parse_uri(rest: &str) -> Result<BTreeMap<String, String>, TargetError> {
    let mut parameters = BTreeMap::new();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (user_info, places) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    let mut set = |name: &str, value: &str| -> Result<(), TargetError> {
        if !value.is_empty() {
            let value = percent_decode_str(value)
                .decode_utf8()
                .map_err(|_| TargetError::Syntax("a percent-encoded part is not UTF-8"))?;
            parameters.insert(name.to_owned(), value.into_owned());
        }
        Ok(())
    };
    set("user", user)?;
    set("password", password)?;
    set("dbname", database)?;
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    for place in places.split(',') {
        let (host, port) = match place.strip_prefix('[') {
            Some(bracketed) => {
                let (host, port) = bracketed
                    .split_once(']')
                    .ok_or(TargetError::Syntax("an IPv6 address misses its closing bracket"))?;
                (host, port.strip_prefix(':').unwrap_or(port))
            }
            None => place.split_once(':').unwrap_or((place, "")),
        };
        hosts.push(host);
        ports.push(port);
    }
    set("host", &hosts.join(","))?;
    if ports.iter().any(|port| !port.is_empty()) {
        set("port", &ports.join(","))?;
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) =
            pair.split_once('=').ok_or(TargetError::Syntax("a query parameter misses its ="))?;
        match (name, value) {
            ("ssl", "true") => set("sslmode", "require")?,
            _ => set(name, value)?,
        }
    }
    Ok(parameters)
}

/// Parses the parameters of a text of `keyword=value` pairs.
pub(crate) fn parse_keywords(text: &str) -> Result<BTreeMap<String, String>, TargetError> {
    let mut parameters = BTreeMap::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) =
            rest.split_once('=').ok_or(TargetError::Syntax("expected keyword=value pairs or a URI"))?;
        let mut value = String::new();
        let mut characters = after.trim_start().chars();
        let quoted = characters.as_str().starts_with('\'');
        if quoted {
            characters.next();
        }
        loop {
            match characters.next() {
                Some('\\') => value.extend(characters.next()),
                Some('\'') if quoted => break,
                Some(character) if !quoted && character.is_whitespace() => break,
                Some(character) => value.push(character),
                None if quoted => return Err(TargetError::Syntax("a quoted value misses its closing quote")),
                None => break,
            }
        }
        parameters.insert(name.trim().to_owned(), value);
        rest = characters.as_str().trim_start();
    }
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Target;

    #[test]
    fn what_is_written_is_read_back() {
        let text = uri("o", Some("a/b?c#d@e:f%"), "", "it's", &[("host", b"/tmp/a b"), ("port", b"6000")]);
        assert_eq!(text, "postgresql://o:a%2Fb%3Fc%23d%40e%3Af%25@/it%27s?host=%2Ftmp%2Fa%20b&port=6000");
        let target = Target::parse(&text, &BTreeMap::new()).unwrap();
        assert_eq!(target.password.as_deref(), Some("a/b?c#d@e:f%"));
        assert_eq!((target.database.as_str(), target.address().as_str()), ("it's", "/tmp/a b/.s.PGSQL.6000"));
    }
}
