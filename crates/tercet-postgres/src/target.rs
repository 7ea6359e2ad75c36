//! Connection parameters: the server's address, the login, TLS and timeouts. They come from libpq's connection
//! strings (<https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING>).
//!
//! An unsupported parameter is an error that names it. The module does not read the process environment: the caller
//! passes it in as a map (`PGHOST`, `PGUSER`, …).

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::connection_string::TargetError;
use crate::{connection_string, service};

/// The default of `connect_timeout`, in seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum of `connect_timeout`, in seconds.
const LONGEST_CONNECT_TIMEOUT: Duration = Duration::from_secs(60);
/// The timeout to connect to one address if `connect_timeout` is not given, and the default of `tcp_user_timeout`.
/// Both are short, so that clients of an unreachable database soon get an error.
const UNREACHABLE: Duration = Duration::from_secs(2);

/// The default of `application_name`.
const APPLICATION_NAME: &str = "tercet";

/// libpq's environment variables, with the parameters that they are the defaults of.
const ENVIRONMENT: [(&str, &str); 15] = [
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGPORT", "port"),
    ("PGDATABASE", "dbname"),
    ("PGUSER", "user"),
    ("PGPASSWORD", "password"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
    ("PGAPPNAME", "application_name"),
    ("PGOPTIONS", "options"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGCHANNELBINDING", "channel_binding"),
];

/// libpq's parameters that this client does not support.
const UNSUPPORTED: [&str; 22] = [
    "gssdelegation",
    "gsslib",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "passfile",
    "replication",
    "require_auth",
    "requirepeer",
    "requiressl",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslnegotiation",
    "sslpassword",
    "sslsni",
];

/// One of the servers to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A TCP address.
    Tcp {
        /// The host's name or address as given; certificates are verified against it.
        name: String,
        /// `hostaddr`, if given: the address to connect to without resolving the name.
        address: Option<IpAddr>,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl Host {
    /// The Unix socket of a server whose `unix_socket_directories` is `folder`
    /// (<https://www.postgresql.org/docs/current/runtime-config-connection.html>).
    pub fn socket(folder: &Path, port: u16) -> Self {
        Self::Unix(folder.join(format!(".s.PGSQL.{port}")))
    }

    /// A TCP address.
    pub fn tcp(address: SocketAddr) -> Self {
        let ip = address.ip();
        Self::Tcp { name: ip.to_string(), address: Some(ip), port: address.port() }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { name, port, .. } if name.contains(':') => write!(f, "[{name}]:{port}"),
            Self::Tcp { name, port, .. } => write!(f, "{name}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// `sslmode`: from no TLS to TLS with a verified certificate and name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS only if the server rejects a connection without it.
    Allow,
    /// TLS if the server supports it.
    #[default]
    Prefer,
    /// TLS, without verification of the server.
    Require,
    /// TLS; the server's certificate is from a trusted authority.
    VerifyCa,
    /// TLS; the server's certificate is from a trusted authority and names the host.
    VerifyFull,
}

/// `target_session_attrs`: which of several servers are suitable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionAttributes {
    /// Any.
    #[default]
    Any,
    /// A server whose sessions accept writes.
    ReadWrite,
    /// A server whose sessions do not accept writes.
    ReadOnly,
    /// A server that is not in recovery.
    Primary,
    /// A server in recovery.
    Standby,
    /// A server in recovery; any if there is none.
    PreferStandby,
}

/// The parameters of a connection.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// The servers, in the order in which they are tried.
    pub hosts: Vec<Host>,
    /// The database.
    pub database: String,
    /// The role that logs in.
    pub user: String,
    /// The password, if there is one.
    pub password: Option<String>,
    /// `application_name`.
    pub application_name: String,
    /// `options`, such as `-c geqo=off`.
    pub options: Option<String>,
    /// `sslmode`.
    pub ssl_mode: SslMode,
    /// `sslrootcert`: the file of the trusted authorities, PEM.
    pub ssl_root_certificate: Option<PathBuf>,
    /// `sslcert`: the file of the client's certificate chain, PEM.
    pub ssl_certificate: Option<PathBuf>,
    /// `sslkey`: the file of the client's key, PEM.
    pub ssl_key: Option<PathBuf>,
    /// The timeout for one host, from name resolution to login.
    pub connect_timeout: Duration,
    /// The timeout for one address to accept the TCP connection.
    pub reach_timeout: Duration,
    /// `tcp_user_timeout`: how long data may stay unacknowledged before the connection is closed; `None` for the
    /// system's default.
    pub user_timeout: Option<Duration>,
    /// `target_session_attrs`.
    pub session_attributes: SessionAttributes,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("hosts", &self.hosts)
            .field("database", &self.database)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Target {
    /// One host, without a password and without TLS. All other parameters have the defaults of a connection string.
    pub fn new(host: Host, database: impl Into<String>, user: impl Into<String>) -> Self {
        Self {
            hosts: vec![host],
            database: database.into(),
            user: user.into(),
            password: None,
            application_name: APPLICATION_NAME.to_owned(),
            options: None,
            ssl_mode: SslMode::Disable,
            ssl_root_certificate: None,
            ssl_certificate: None,
            ssl_key: None,
            connect_timeout: CONNECT_TIMEOUT,
            reach_timeout: UNREACHABLE,
            user_timeout: Some(UNREACHABLE),
            session_attributes: SessionAttributes::Any,
        }
    }

    /// Parses a connection string. Parameters that it lacks come from the service that it names, then from
    /// `environment`, then from libpq's defaults.
    ///
    /// # Errors
    /// The string is malformed, has an unsupported parameter or a contradiction.
    pub fn parse(text: &str, environment: &BTreeMap<String, String>) -> Result<Self, TargetError> {
        let mut parameters = match text.strip_prefix("postgresql://").or(text.strip_prefix("postgres://")) {
            Some(rest) => connection_string::parse_uri(rest)?,
            None => connection_string::parse_keywords(text)?,
        };
        service::complete(&mut parameters, environment)?;
        for (variable, name) in ENVIRONMENT {
            if let Some(value) = environment.get(variable).filter(|value| !value.is_empty()) {
                parameters.entry(name.to_owned()).or_insert_with(|| value.clone());
            }
        }
        Self::from_parameters(parameters, environment.get("USER"))
    }

    /// All hosts, for messages.
    pub fn address(&self) -> String {
        self.hosts.iter().map(Host::to_string).collect::<Vec<_>>().join(",")
    }

    fn from_parameters(
        mut parameters: BTreeMap<String, String>,
        login: Option<&String>,
    ) -> Result<Self, TargetError> {
        let mut take = |name: &str| parameters.remove(name).filter(|value| !value.is_empty());
        let user = take("user").or_else(|| login.cloned()).ok_or(TargetError::NoUser)?;
        let hosts = hosts(take("host"), take("hostaddr"), take("port"))?;
        let application_name = take("application_name");
        let fallback_application_name = take("fallback_application_name");
        let connect_timeout = take("connect_timeout").map(|value| connect_timeout(&value)).transpose()?;
        let target = Self {
            hosts,
            database: take("dbname").unwrap_or_else(|| user.clone()),
            user,
            password: take("password"),
            application_name: application_name
                .or(fallback_application_name)
                .unwrap_or_else(|| APPLICATION_NAME.to_owned()),
            options: take("options"),
            ssl_mode: take("sslmode").map_or(Ok(SslMode::default()), |value| ssl_mode(&value))?,
            ssl_root_certificate: take("sslrootcert").map(PathBuf::from),
            ssl_certificate: take("sslcert").map(PathBuf::from),
            ssl_key: take("sslkey").map(PathBuf::from),
            connect_timeout: connect_timeout.unwrap_or(CONNECT_TIMEOUT),
            reach_timeout: connect_timeout.unwrap_or(UNREACHABLE),
            user_timeout: take("tcp_user_timeout")
                .map_or(Ok(Some(UNREACHABLE)), |value| user_timeout(&value))?,
            session_attributes: take("target_session_attrs")
                .map_or(Ok(SessionAttributes::default()), |value| session_attributes(&value))?,
        };
        // Parameters of which this client supports one value.
        for (name, allowed) in [
            ("client_encoding", &["auto", "utf8", "utf-8"][..]),
            ("gssencmode", &["disable", "prefer"]),
            ("channel_binding", &["disable", "prefer"]),
        ] {
            if let Some(value) = take(name)
                && !allowed.contains(&value.to_ascii_lowercase().as_str())
            {
                return Err(TargetError::Value(name));
            }
        }
        if let Some(name) = parameters.into_keys().next() {
            let known = UNSUPPORTED.into_iter().find(|known| *known == name);
            return Err(known.map_or(TargetError::Unknown, TargetError::Unsupported));
        }
        if target.ssl_mode >= SslMode::VerifyCa && target.ssl_root_certificate.is_none() {
            return Err(TargetError::NoRootCertificate);
        }
        Ok(target)
    }
}

fn hosts(
    names: Option<String>,
    addresses: Option<String>,
    ports: Option<String>,
) -> Result<Vec<Host>, TargetError> {
    let split = |list: Option<String>| -> Vec<String> {
        list.map(|list| list.split(',').map(|item| item.trim().to_owned()).collect()).unwrap_or_default()
    };
    let (names, addresses, ports) = (split(names), split(addresses), split(ports));
    let count = names.len().max(addresses.len()).max(1);
    (0..count)
        .map(|index| {
            let port = ports.get(index).or(ports.first()).map_or("", String::as_str);
            let port =
                if port.is_empty() { 5432 } else { port.parse().map_err(|_| TargetError::Value("port"))? };
            let address = match addresses.get(index).filter(|address| !address.is_empty()) {
                Some(address) => Some(address.parse().map_err(|_| TargetError::Value("hostaddr"))?),
                None => None,
            };
            let name = match names.get(index).filter(|name| !name.is_empty()) {
                Some(name) => name.clone(),
                None => address.map_or_else(|| "/var/run/postgresql".to_owned(), |a: IpAddr| a.to_string()),
            };
            Ok(if name.starts_with('/') && address.is_none() {
                Host::socket(Path::new(&name), port)
            } else {
                Host::Tcp { name, address, port }
            })
        })
        .collect()
}

fn ssl_mode(value: &str) -> Result<SslMode, TargetError> {
    Ok(match value {
        "disable" => SslMode::Disable,
        "allow" => SslMode::Allow,
        "prefer" => SslMode::Prefer,
        "require" => SslMode::Require,
        "verify-ca" => SslMode::VerifyCa,
        "verify-full" => SslMode::VerifyFull,
        _ => return Err(TargetError::Value("sslmode")),
    })
}

fn session_attributes(value: &str) -> Result<SessionAttributes, TargetError> {
    Ok(match value {
        "any" => SessionAttributes::Any,
        "read-write" => SessionAttributes::ReadWrite,
        "read-only" => SessionAttributes::ReadOnly,
        "primary" => SessionAttributes::Primary,
        "standby" => SessionAttributes::Standby,
        "prefer-standby" => SessionAttributes::PreferStandby,
        _ => return Err(TargetError::Value("target_session_attrs")),
    })
}

/// Parses milliseconds; 0 is the system's default (PostgreSQL manual, section 34.1.2).
fn user_timeout(value: &str) -> Result<Option<Duration>, TargetError> {
    let milliseconds: u32 = value.trim().parse().map_err(|_| TargetError::Value("tcp_user_timeout"))?;
    Ok((milliseconds > 0).then(|| Duration::from_millis(milliseconds.into())))
}

/// Parses seconds. libpq waits without limit at 0; this client always has a limit.
fn connect_timeout(value: &str) -> Result<Duration, TargetError> {
    match value.parse() {
        Ok(0) => Ok(LONGEST_CONNECT_TIMEOUT),
        Ok(seconds) => Ok(Duration::from_secs(seconds).min(LONGEST_CONNECT_TIMEOUT)),
        Err(_) => Err(TargetError::Value("connect_timeout")),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
    fn check(text: &str, expected: Expect) {
        let environment = BTreeMap::from([("USER".to_owned(), "login".to_owned())]);
        expected.assert_eq(&match Target::parse(text, &environment) {
            Ok(target) => format!(
                "{} db={} user={} password={:?} {:?} {:?}",
                target.address(),
                target.database,
                target.user,
                target.password,
                target.ssl_mode,
                target.session_attributes,
            ),
            Err(error) => error.to_string(),
        });
    }

    #[test]
    fn uris() {
        check(
            "postgres://me:p%40ss@db.example:6543/shop?sslmode=require",
            expect![[r#"db.example:6543 db=shop user=me password=Some("p@ss") Require Any"#]],
        );
        check(
            "postgresql://",
            expect!["/var/run/postgresql/.s.PGSQL.5432 db=login user=login password=None Prefer Any"],
        );
        check(
            "postgresql://a,[::1]:7000/x?target_session_attrs=read-write",
            expect!["a:5432,[::1]:7000 db=x user=login password=None Prefer ReadWrite"],
        );
        check(
            "postgresql://me@/x?host=%2Ftmp%2Fsock&port=6000",
            expect!["/tmp/sock/.s.PGSQL.6000 db=x user=me password=None Prefer Any"],
        );
        check(
            "postgresql://me@h/x?krbsrvname=y",
            expect![[r#"connection parameter "krbsrvname" is not supported"#]],
        );
        check(
            "postgresql://me@h/x?sslmode=verify-full",
            expect!["sslmode verifies the server's certificate, but sslrootcert is not given"],
        );
    }

    #[test]
    fn no_error_repeats_a_part_of_a_password() {
        for text in [
            "postgres://u:12/hush@h/d",
            "postgres://u:hush/x@h/d",
            "postgres://u:hush?x=hush@h/d",
            "postgres://u:x?hush=y@h/d",
            "postgres://u:x?sslmode=hush@h/d",
            "postgres://u:x?connect_timeout=hush@h/d",
            "postgres://u:x?target_session_attrs=hush@h/d",
            "postgres://u:x?hostaddr=hush@h/d",
            "postgres://u:x?channel_binding=hush@h/d",
            "postgres://u:h#hush@[/d",
            "postgres://u:%ffhush@h/d",
            "host=h user=u password=x hush=d",
            "host=h user=u password='hush",
            "host=h user=u password=x hush",
        ] {
            let error = Target::parse(text, &BTreeMap::new()).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hush"), "{text}: {error}");
        }
    }

    #[test]
    fn keywords() {
        check(
            r"host=h port=1 user=u password='it\'s' dbname = d",
            expect![[r#"h:1 db=d user=u password=Some("it's") Prefer Any"#]],
        );
        check(
            "host=h port=x",
            expect![[
                r#"connection parameter "port" has a value that is not supported; hint: in a URI, percent-encode special characters of the password: / as %2F, ? as %3F, # as %23"#
            ]],
        );
        check("nonsense", expect!["not a connection string: expected keyword=value pairs or a URI"]);
    }
}
