//! What HTTP/1.1 allows and forbids, as tables of bytes and verdicts that read like the RFCs.
//!
//! [`crate::grammar`] holds the parsers against them, `hostile` the running balancer.

mod request;
mod request_body;
mod response;
mod response_body;

pub(crate) use self::request::REQUESTS;
pub(crate) use self::request_body::BODIES;
pub(crate) use self::response::RESPONSES;
pub(crate) use self::response_body::RESPONSE_BODIES;

/// One rule and messages that keep or break it.
pub(crate) struct Rule {
    /// Where it stands and what it says.
    pub(crate) says: &'static str,
    /// Messages, and what is to happen to them.
    pub(crate) cases: &'static [(&'static [u8], Verdict)],
}

/// What is to happen to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is taken: one message, without anything left over.
    Taken,
    /// It is refused with this status, and the connection closed.
    Refused(u16),
}
