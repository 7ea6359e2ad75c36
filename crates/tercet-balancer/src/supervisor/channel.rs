//! How supervisor and worker talk: a socket pair, one message a packet, sockets attached to it (SCM_RIGHTS).

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

/// Sockets that go with one message; the kernel takes 253 (SCM_MAX_FD).
pub(super) const MOST_SOCKETS: usize = 128;
/// The longest message: a configuration with thousands of servers is shorter. Below the kernel's smallest usual
/// bound for a packet.
const LONGEST: usize = 160 * 1024;

/// What the supervisor says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ToWorker {
    /// The attached sockets listen on this configured address; they count from the next configuration on.
    Listen { address: SocketAddr },
    /// Put this configuration in force; answered by [`FromWorker::Ready`] the first time, then by [`FromWorker::Applied`].
    Configure { toml: String },
    /// What came of the reload that these wishes on the worker's admin socket asked for.
    Reloaded { wishes: Vec<u64>, outcome: Result<(), String> },
    /// Open the access log anew.
    ReopenLogs,
    /// Finish the requests and end.
    Stop,
}

/// What the worker says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FromWorker {
    /// It serves.
    Ready,
    /// The configuration is in force, or is not because of this.
    Applied { problem: Option<String> },
    /// Somebody asked for a reload on the admin socket; answered by [`ToWorker::Reloaded`] with this number.
    ReloadWanted { wish: u64 },
}

/// One end.
#[derive(Debug)]
pub(super) struct Channel(UnixStream);

impl Channel {
    /// This end, and the other one for the child's standard input.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self::new(ours)?, theirs))
    }

    pub(super) fn new(end: OwnedFd) -> io::Result<Self> {
        Ok(Self(UnixStream::from_std(end.into())?))
    }

    /// Sends a message with sockets attached.
    pub(super) async fn tell(&mut self, message: &impl Serialize, sockets: &[TcpListener]) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        if text.len() > LONGEST {
            return Err(io::Error::other("the configuration is too long to be handed to the worker"));
        }
        let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(|socket| socket.as_fd()).collect();
        self.0
            .async_io(Interest::WRITABLE, || {
                let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
                let mut attached = SendAncillaryBuffer::new(&mut space);
                if !sockets.is_empty() {
                    attached.push(SendAncillaryMessage::ScmRights(&sockets));
                }
                sendmsg(&self.0, &[IoSlice::new(&text)], &mut attached, SendFlags::NOSIGNAL)?;
                Ok(())
            })
            .await
    }

    /// Receives the next message; an error when the other end is gone.
    pub(super) async fn hear<T: DeserializeOwned>(&mut self) -> io::Result<(T, Vec<TcpListener>)> {
        let (text, sockets) = self
            .0
            .async_io(Interest::READABLE, || {
                let mut text = vec![0; LONGEST];
                let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
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
