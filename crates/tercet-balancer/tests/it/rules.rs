//! The rules of HTTP/1.1, as tables of messages and expected verdicts in the order of the RFCs.
//!
//! [`crate::grammar`] checks the parsers against them, [`crate::hostile`] a running balancer.

mod request;
mod request_body;
mod response;
mod response_body;

pub(crate) use self::request::REQUESTS;
pub(crate) use self::request_body::BODIES;
pub(crate) use self::response::RESPONSES;
pub(crate) use self::response_body::RESPONSE_BODIES;

/// One rule, with messages that follow or violate it.
pub(crate) struct Rule {
    /// The section of the RFC, and the rule.
    pub(crate) title: &'static str,
    /// Messages and their verdicts.
    pub(crate) cases: &'static [(&'static [u8], Verdict)],
}

/// The expected verdict on a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is accepted as one message, without remaining bytes.
    Accepted,
    /// It is refused with this status, and the connection is closed.
    Refused(u16),
}
