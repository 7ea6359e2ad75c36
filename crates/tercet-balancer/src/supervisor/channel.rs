//! The channel between the supervisor and its worker process or certificates process: a socket pair of type SEQPACKET, one JSON message a packet, with file
//! descriptors as ancillary data (SCM_RIGHTS).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::challenges::Challenge;

/// The most sockets attached to one message; the kernel's limit is 253 (SCM_MAX_FD).
pub(super) const MAX_SOCKETS: usize = 128;
/// The longest message in bytes: more than a configuration with thousands of servers, and less than the default send
/// buffer of a Unix socket (`net.core.wmem_default`).
const MAX_MESSAGE: usize = 160 * 1024;

/// A message from the supervisor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ToWorker {
    /// The attached sockets listen on this configured address; they are used from the next configuration on.
    Listen { address: SocketAddr },
    /// Apply this configuration. The worker replies [`FromWorker::Ready`] the first time, then [`FromWorker::Applied`].
    Configure { toml: String },
    /// The outcome of the reload for these requests on the worker's admin socket.
    Reloaded { ids: Vec<u64>, outcome: Result<(), String> },
    /// Reopen the access log.
    ReopenLogs,
    /// Answer these challenges of the certificate authority, and no others. The worker replies
    /// [`FromWorker::ChallengesSet`] with this id.
    Challenges { id: u64, challenges: Vec<Challenge> },
    /// The file of a certificate of `domains` has changed.
    CertificateChanged,
    /// Drain and exit.
    Stop,
}

/// A message from the worker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FromWorker {
    /// The worker serves requests.
    Ready,
    /// The configuration was applied, or was refused because of `problem`.
    Applied { problem: Option<String> },
    /// A client of the admin socket requested a reload. The supervisor replies [`ToWorker::Reloaded`] with this id.
    ReloadRequested { id: u64 },
    /// The challenges with this id are answered.
    ChallengesSet { id: u64 },
}

/// A message from the supervisor to the certificates process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ToCertificates {
    /// Keep the certificates of this configuration current.
    Configure { toml: String },
    /// The challenges with this id are answered.
    ChallengesSet { id: u64 },
    /// Exit: files are complete at any time.
    Stop,
}

/// A message from the certificates process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FromCertificates {
    /// As [`ToWorker::Challenges`].
    Challenges { id: u64, challenges: Vec<Challenge> },
    /// As [`ToWorker::CertificateChanged`].
    CertificateChanged,
}

/// One end of the channel.
#[derive(Debug)]
pub(super) struct Channel(UnixStream);

impl Channel {
    /// A new channel: the supervisor's end, and the descriptor for the worker's standard input.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self::new(ours)?, theirs))
    }

    pub(super) fn new(end: OwnedFd) -> io::Result<Self> {
        Ok(Self(UnixStream::from_std(end.into())?))
    }

    /// Sends a message with sockets attached.
    ///
    /// # Errors
    /// The message is too long, or the other end is closed.
    pub(super) async fn send(&mut self, message: &impl Serialize, sockets: &[TcpListener]) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        if text.len() > MAX_MESSAGE {
            return Err(io::Error::other("the configuration is too long to send to another process"));
        }
        let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(|socket| socket.as_fd()).collect();
        self.0
            .async_io(Interest::WRITABLE, || {
                let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
                let mut attached = SendAncillaryBuffer::new(&mut space);
                if !sockets.is_empty() {
                    attached.push(SendAncillaryMessage::ScmRights(&sockets));
                }
                sendmsg(&self.0, &[IoSlice::new(&text)], &mut attached, SendFlags::NOSIGNAL)?;
                Ok(())
            })
            .await
    }

    /// Receives the next message and its sockets.
    ///
    /// # Errors
    /// The other end is closed, or sent an unexpected message.
    pub(super) async fn receive<T: DeserializeOwned>(&mut self) -> io::Result<(T, Vec<TcpListener>)> {
        let (text, sockets) = self
            .0
            .async_io(Interest::READABLE, || {
                let mut text = vec![0; MAX_MESSAGE];
                let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
                let mut attached = RecvAncillaryBuffer::new(&mut space);
                let mut parts = [IoSliceMut::new(&mut text)];
                let received = recvmsg(&self.0, &mut parts, &mut attached, RecvFlags::CMSG_CLOEXEC)?;
                let sockets: Vec<TcpListener> = attached
                    .drain()
                    .filter_map(|message| match message {
                        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
                        _ => None,
                    })
                    .flatten()
                    .map(TcpListener::from)
                    .collect();
                text.truncate(received.bytes);
                Ok((text, sockets))
            })
            .await?;
        if text.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok((serde_json::from_slice(&text)?, sockets))
    }
}
