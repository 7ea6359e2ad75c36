//! The header fields that the balancer recognises; all others are forwarded unchanged.
//!
//! A name that differs from one of these only in `_` for `-` is a look-alike: servers that map both to the same
//! variable (CGI, WSGI) would read it as the real field, so it is never forwarded to them.

/// A header field that the balancer recognises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the header fields' own")]
pub enum Field {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    KeepAlive,
    ProxyConnection,
    Te,
    Upgrade,
    Http2Settings,
    Expect,
    MaxForwards,
    Date,
    Referer,
    UserAgent,
    /// `Proxy`, which CGI maps to `HTTP_PROXY` (httpoxy).
    Proxy,
    /// Credentials for the next proxy: the balancer (RFC 9110 section 11.7.2).
    ProxyAuthorization,
    Authorization,
    Cookie,
    Forwarded,
    XForwardedFor,
    XForwardedProto,
    XForwardedHost,
    /// Any other `X-Forwarded-…`, and `X-Real-IP`: accepted only from a trusted proxy.
    XForwardedOther,
    XRequestId,
    /// `x-tercet-stages`, which a data API server tells the balancer.
    XTercetStages,
    Traceparent,
    Tracestate,
    /// A recognised name with `_` in place of `-`.
    LookAlike,
    /// Any other field: forwarded unchanged.
    Other,
}

impl Field {
    /// The field of this name; names are case-insensitive (RFC 9110 section 5.1).
    pub fn of(name: &[u8]) -> Self {
        let Some(first) = name.first() else { return Self::Other };
        let (known, field): (&[u8], Self) = match (name.len(), first.to_ascii_lowercase()) {
            (2, b't') => (b"te", Self::Te),
            (4, b'd') => (b"date", Self::Date),
            (4, b'h') => (b"host", Self::Host),
            (5, b'p') => (b"proxy", Self::Proxy),
            (6, b'c') => (b"cookie", Self::Cookie),
            (6, b'e') => (b"expect", Self::Expect),
            (7, b'r') => (b"referer", Self::Referer),
            (7, b'u') => (b"upgrade", Self::Upgrade),
            (9, b'f') => (b"forwarded", Self::Forwarded),
            (9, b'x') => (b"x-real-ip", Self::XForwardedOther),
            (10, b'c') => (b"connection", Self::Connection),
            (10, b'k') => (b"keep-alive", Self::KeepAlive),
            (10, b't') => (b"tracestate", Self::Tracestate),
            (10, b'u') => (b"user-agent", Self::UserAgent),
            (11, b't') => (b"traceparent", Self::Traceparent),
            (12, b'm') => (b"max-forwards", Self::MaxForwards),
            (12, b'x') => (b"x-request-id", Self::XRequestId),
            (13, b'a') => (b"authorization", Self::Authorization),
            (14, b'c') => (b"content-length", Self::ContentLength),
            (14, b'h') => (b"http2-settings", Self::Http2Settings),
            (15, b'x') if name[2] | 0x20 == b't' => (b"x-tercet-stages", Self::XTercetStages),
            (15, b'x') if name[12] | 0x20 == b'f' => (b"x-forwarded-for", Self::XForwardedFor),
            (16, b'p') => (b"proxy-connection", Self::ProxyConnection),
            (16, b'x') if name[12] | 0x20 == b'h' => (b"x-forwarded-host", Self::XForwardedHost),
            (17, b't') => (b"transfer-encoding", Self::TransferEncoding),
            (17, b'x') if name[13] | 0x20 == b'r' => (b"x-forwarded-proto", Self::XForwardedProto),
            (19, b'p') => (b"proxy-authorization", Self::ProxyAuthorization),
            (13.., b'x') => (b"x-forwarded-", Self::XForwardedOther),
            _ => return Self::Other,
        };
        match likeness(name, known) {
            Likeness::Same => field,
            Likeness::Alike => Self::LookAlike,
            Likeness::Different => Self::Other,
        }
    }

    /// Whether it is never forwarded unchanged: a hop-by-hop field, or one that must not reach a server (RFC 9110
    /// section 7.6.1).
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyConnection
                | Self::Te
                | Self::Upgrade
                | Self::Http2Settings
                | Self::Expect
                | Self::Proxy
                | Self::ProxyAuthorization
                | Self::LookAlike
        )
    }

    /// Whether it contains credentials, which a TRACE response must not reflect (RFC 9110 section 9.3.8).
    pub fn is_credential(self) -> bool {
        matches!(self, Self::Authorization | Self::Cookie | Self::ProxyAuthorization)
    }

    /// Whether it is a forwarding field, which the balancer writes itself.
    pub fn is_forwarding(self) -> bool {
        matches!(
            self,
            Self::Forwarded
                | Self::XForwardedFor
                | Self::XForwardedProto
                | Self::XForwardedHost
                | Self::XForwardedOther
                | Self::XRequestId
                | Self::XTercetStages
                | Self::Traceparent
                | Self::Tracestate
        )
    }

    /// Whether it is not allowed in a trailer section: framing, routing and hop-by-hop fields (RFC 9110 section 6.5.1).
    pub fn is_refused_in_trailers(self) -> bool {
        !matches!(self, Self::Other | Self::Date | Self::Authorization | Self::Cookie)
    }
}

enum Likeness {
    Same,
    Alike,
    Different,
}

/// Compares the start of `name` with a lower-case `known` of at most its length.
fn likeness(name: &[u8], known: &[u8]) -> Likeness {
    let mut likeness = Likeness::Same;
    for (given, wanted) in name.iter().zip(known) {
        if given.to_ascii_lowercase() != *wanted {
            if *given == b'_' && *wanted == b'-' {
                likeness = Likeness::Alike;
            } else {
                return Likeness::Different;
            }
        }
    }
    likeness
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_recognised_in_any_case_and_look_alikes_are_detected() {
        for (name, field) in [
            (&b"Host"[..], Field::Host),
            (b"TRANSFER-ENCODING", Field::TransferEncoding),
            (b"Transfer_Encoding", Field::LookAlike),
            (b"Content_Length", Field::LookAlike),
            (b"X-Forwarded-For", Field::XForwardedFor),
            (b"x_forwarded_for", Field::LookAlike),
            (b"X-Forwarded-Proto", Field::XForwardedProto),
            (b"X-Forwarded-Host", Field::XForwardedHost),
            (b"X-Forwarded-Port", Field::XForwardedOther),
            (b"X-Forwarded-Prefix", Field::XForwardedOther),
            (b"X-Real-IP", Field::XForwardedOther),
            (b"X-Forwarded", Field::Other),
            (b"X-Powered-By-Me", Field::Other),
            (b"Proxy", Field::Proxy),
            (b"Proxies", Field::Other),
            (b"Proxy-Authorization", Field::ProxyAuthorization),
            (b"proxy_authorization", Field::LookAlike),
            (b"authorization", Field::Authorization),
            (b"COOKIE", Field::Cookie),
            (b"traceparent", Field::Traceparent),
            (b"X-Request-ID", Field::XRequestId),
            (b"X-Tercet-Stages", Field::XTercetStages),
            (b"", Field::Other),
        ] {
            assert_eq!(Field::of(name), field, "{}", String::from_utf8_lossy(name));
        }
    }
}
