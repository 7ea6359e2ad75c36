//! Why a request gets no response from a server, and the status the client gets instead.

use std::io;
use std::time::Duration;

use super::download::DownloadFailure;
use crate::files::FileError;
use crate::http1::Refusal;

/// The status in the access log when the client disconnected before the response (nginx's convention).
pub(super) const CLIENT_GONE: u16 = 499;

/// Why an attempt failed, or why a request is not sent to a server.
#[derive(Debug)]
pub(super) enum Failure {
    /// The client disconnected.
    ClientGone,
    /// Reading the client's body timed out.
    ClientTimeout,
    /// The client's body is malformed or too long.
    ClientRefused(Refusal),
    /// The connection to the server was refused, or there is no route to it.
    NotConnected,
    /// Connecting to the server timed out.
    ConnectTimeout,
    /// All local ports towards the server are in use.
    OutOfPorts,
    /// There are no descriptors left for a connection.
    OutOfDescriptors,
    /// The server closed or reset the connection.
    Closed,
    /// The server's response timed out.
    ServerTimeout,
    /// The server was removed from the configuration, and its drain time is over.
    CutOff,
    /// The pipelined connection ended before this request's response began.
    PipelineEnded,
    /// The server's response is invalid.
    Invalid(Refusal),
    /// The client has reached its rate limit; the time until its next request is allowed.
    Limited(Duration),
    /// Maintenance is on; the time until the client may try again.
    Maintenance(Duration),
    /// The route denies access to the client's address.
    Denied,
    /// The route needs a user's name and password; the challenge.
    Unauthorized(String),
    /// Too many passwords are being checked.
    PasswordsPending,
    /// The listener redirects to https; the location.
    Redirect(String),
    /// `Max-Forwards` is 0 (RFC 9110 section 7.6.2).
    LastForward,
    /// No route matches the request, and there is no backend pool for the others.
    NoRoute,
    /// There is no such file.
    NotFound,
    /// The balancer may not read the file.
    Forbidden,
    /// The file cannot be read.
    Unreadable(io::Error),
    /// The request's body cannot be written to a file, or read from it.
    NotBuffered(io::Error),
    /// The method is not allowed for files.
    MethodNotAllowed,
    /// The path names a folder; its location, with `/` at its end.
    Moved(String),
    /// All servers are at capacity, and the queue is full.
    QueueFull,
    /// All servers stayed at capacity until the queue timeout.
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

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        match error {
            FileError::NotFound => Self::NotFound,
            FileError::Forbidden => Self::Forbidden,
            FileError::OutOfDescriptors => Self::OutOfDescriptors,
            FileError::Unreadable(error) => Self::Unreadable(error),
        }
    }
}

impl Failure {
    /// Whether it counts towards the server's ejection: no connection, or no response. Invalid responses do not count,
    /// because clients can provoke them.
    pub(super) fn is_servers_fault(&self, response_began: bool) -> bool {
        match self {
            Self::NotConnected | Self::ConnectTimeout => true,
            Self::Closed | Self::ServerTimeout => !response_began,
            Self::ClientGone
            | Self::ClientTimeout
            | Self::ClientRefused(_)
            | Self::OutOfPorts
            | Self::OutOfDescriptors
            | Self::CutOff
            | Self::PipelineEnded
            | Self::Invalid(_)
            | Self::Limited(_)
            | Self::Maintenance(_)
            | Self::Denied
            | Self::Unauthorized(_)
            | Self::PasswordsPending
            | Self::Redirect(_)
            | Self::LastForward
            | Self::NoRoute
            | Self::NotFound
            | Self::Forbidden
            | Self::Unreadable(_)
            | Self::NotBuffered(_)
            | Self::MethodNotAllowed
            | Self::Moved(_)
            | Self::QueueFull
            | Self::QueueTimeout => false,
        }
    }

    /// The status and message of the response to the client.
    pub(super) fn reply(&self) -> (u16, &'static str) {
        match self {
            Self::ClientGone => (CLIENT_GONE, ""),
            Self::ClientTimeout => (408, "the request body took too long"),
            Self::ClientRefused(refusal) => (refusal.status, refusal.reason),
            // Refusals of a body have a client error's status, in both directions.
            Self::Invalid(refusal) => (502, refusal.reason),
            Self::NotConnected | Self::ConnectTimeout | Self::CutOff | Self::PipelineEnded => {
                (503, "no server is available")
            }
            Self::OutOfPorts | Self::OutOfDescriptors => (503, "the balancer has no sockets left"),
            Self::QueueFull | Self::QueueTimeout => (503, "all servers are busy"),
            Self::Closed => (502, "the server closed the connection without a response"),
            Self::Limited(_) => (429, "too many requests"),
            Self::Maintenance(_) => (503, "the service is under maintenance"),
            Self::Denied => (403, "your address has no access"),
            Self::Unauthorized(_) => (401, "a user's name and password are needed"),
            Self::PasswordsPending => (503, "too many passwords are being checked"),
            Self::Redirect(_) => (308, "this is served over https only"),
            Self::LastForward => (200, "this is the balancer"),
            Self::NoRoute => (404, "nothing is served for this host and path"),
            Self::NotFound => (404, "no such file"),
            Self::Forbidden => (403, "the balancer may not read this file"),
            Self::Unreadable(_) => (500, "the file cannot be read"),
            Self::NotBuffered(_) => (503, "the request's body cannot be stored"),
            Self::MethodNotAllowed => (405, "files can only be read"),
            Self::Moved(_) => (301, "the path of a folder ends with /"),
            Self::ServerTimeout => (504, "the server took too long to respond"),
        }
    }
}
