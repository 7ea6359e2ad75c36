//! Records of `pg_hba.conf` and `pg_ident.conf` (<https://www.postgresql.org/docs/current/auth-pg-hba-conf.html>).
//! The first record that matches decides, and without one the connection is rejected.

use std::net::IpAddr;

/// Whether a record for TCP requires TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// With or without TLS.
    Any,
    /// With TLS only.
    Tls,
}

/// The authentication method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method<'a> {
    /// `peer`: the operating system user has the role's name; over a Unix socket.
    Peer,
    /// `peer` with a map of `pg_ident.conf` that allows the operating system user; over a Unix socket.
    PeerMap(&'a str),
    /// A password, by SCRAM-SHA-256.
    Scram,
    /// A password, by SCRAM-SHA-256, and a client certificate whose common name is the role's name.
    ScramAndCertificate,
    /// A password, by SCRAM-SHA-256, and any client certificate of the authority.
    ScramAndAuthority,
    /// A client certificate whose common name is the role's name.
    Certificate,
}

impl Method<'_> {
    fn text(self) -> String {
        match self {
            Self::Peer => "peer".to_owned(),
            Self::PeerMap(map) => format!("peer map={map}"),
            Self::Scram => "scram-sha-256".to_owned(),
            Self::ScramAndCertificate => "scram-sha-256 clientcert=verify-full".to_owned(),
            Self::ScramAndAuthority => "scram-sha-256 clientcert=verify-ca".to_owned(),
            Self::Certificate => "cert".to_owned(),
        }
    }
}

/// A name as a field: quoted, so that it is never a keyword.
pub fn name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A record for connections over the Unix socket. `database` and `role` are fields: a keyword or a [`name`].
pub fn local(database: &str, role: &str, method: Method<'_>) -> String {
    format!("local {database} {role} {}\n", method.text())
}

/// A record for connections over TCP from one address. `database` and `role` are fields: a keyword or a [`name`].
pub fn host(transport: Transport, database: &str, role: &str, address: IpAddr, method: Method<'_>) -> String {
    let kind = match transport {
        Transport::Any => "host",
        Transport::Tls => "hostssl",
    };
    let length = if address.is_ipv4() { 32 } else { 128 };
    format!("{kind} {database} {role} {address}/{length} {}\n", method.text())
}

/// A record of `pg_ident.conf` (<https://www.postgresql.org/docs/current/auth-username-maps.html>): the operating
/// system user `user` may log in as `role`. Both are fields: plain or a [`name`].
pub fn ident(map: &str, user: &str, role: &str) -> String {
    format!("{map} {user} {role}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_name_one_address_and_quote_names() {
        let address = "fd00::1".parse().unwrap();
        assert_eq!(
            host(Transport::Tls, &name("a\"b"), "authenticator", address, Method::ScramAndCertificate),
            "hostssl \"a\"\"b\" authenticator fd00::1/128 scram-sha-256 clientcert=verify-full\n"
        );
        assert_eq!(
            local("all", "postgres", Method::PeerMap("tercet")),
            "local all postgres peer map=tercet\n"
        );
    }
}
