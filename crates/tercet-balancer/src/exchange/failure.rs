//! Why a request is not answered by a server, or a try came to nothing.

use std::time::Duration;

use super::download::DownloadFailure;
use crate::http1::Refusal;

/// What the access log says when the client broke off before there was an answer (nginx's convention).
pub(super) const CLIENT_GONE: u16 = 499;

/// Why a request is not answered by a server, or a try came to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The client broke off.
    ClientGone,
    /// The client's body took too long.
    ClientTimeout,
    /// The client's body is malformed or too long.
    ClientRefused(Refusal),
    /// No connection to the server could be made: it was refused, or the way there is broken.
    NotConnected,
    /// The server did not take a connection in time.
    ConnectTimeout,
    /// All local ports towards the server are in use.
    OutOfPorts,
    /// There are no descriptors left for a connection.
    OutOfDescriptors,
    /// The server closed or reset the connection.
    Closed,
    /// The server took too long.
    ServerTimeout,
    /// The server was removed from the configuration, and the time its requests had is over.
    CutOff,
    /// The connection was shared with a request that went wrong or takes its time.
    Displaced,
    /// What the server sent is no answer.
    Invalid(Refusal),
    /// The client makes more requests than it may; how long it has to wait.
    Limited(Duration),
    /// This address only sends to https; where exactly.
    Redirect(String),
    /// The request was not to be forwarded any further (RFC 9110 section 7.6.2).
    LastForward,
    /// All servers are at their limit, and as many requests wait as may.
    QueueFull,
    /// All servers stayed at their limit.
    QueueTimeout,
}

impl From<DownloadFailure> for Failure {
    fn from(failure: DownloadFailure) -> Self {
        match failure {
            DownloadFailure::ClientGone => Self::ClientGone,
            DownloadFailure::Closed => Self::Closed,
            DownloadFailure::Invalid(refusal) => Self::Invalid(refusal),
        }
    }
}

impl Failure {
    /// Whether it counts towards the server's ejection, given whether an answer had begun: when no connection can be
    /// made or no answer comes. What a server answers does not count, however wrong it is: clients can provoke it.
    pub(super) fn is_servers_fault(&self, answer_has_begun: bool) -> bool {
        match self {
            Self::NotConnected | Self::ConnectTimeout => true,
            Self::Closed | Self::ServerTimeout => !answer_has_begun,
            Self::ClientGone
            | Self::ClientTimeout
            | Self::ClientRefused(_)
            | Self::OutOfPorts
            | Self::OutOfDescriptors
            | Self::CutOff
            | Self::Displaced
            | Self::Invalid(_)
            | Self::Limited(_)
            | Self::Redirect(_)
            | Self::LastForward
            | Self::QueueFull
            | Self::QueueTimeout => false,
        }
    }

    /// What the client is told, if it is told anything: status and message.
    pub(super) fn answer(&self) -> (u16, &'static str) {
        match self {
            Self::ClientGone => (CLIENT_GONE, ""),
            Self::ClientTimeout => (408, "the request body took too long"),
            Self::ClientRefused(refusal) => (refusal.status, refusal.reason),
            // Bodies are checked by the same rules in both directions, and refused as a client's would be.
            Self::Invalid(refusal) => (502, refusal.reason),
            Self::NotConnected | Self::ConnectTimeout | Self::CutOff | Self::Displaced => {
                (503, "no server is available")
            }
            Self::OutOfPorts | Self::OutOfDescriptors => (503, "the balancer has no sockets left"),
            Self::QueueFull | Self::QueueTimeout => (503, "all servers are busy"),
            Self::Closed => (502, "the server closed the connection without an answer"),
            Self::Limited(_) => (429, "too many requests"),
            Self::Redirect(_) => (308, "this is served over https only"),
            Self::LastForward => (200, "this is the balancer"),
            Self::ServerTimeout => (504, "the server took too long to answer"),
        }
    }
}
