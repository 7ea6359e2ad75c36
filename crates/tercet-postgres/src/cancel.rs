//! Cancel requests: stop the statement that a connection is running
//! (<https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS>).

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::startup;
use crate::target::{Host, Target};

/// Sends cancel requests for one connection.
#[derive(Clone, Debug)]
pub(crate) struct Canceller {
    pub(crate) target: Arc<Target>,
    pub(crate) host: Host,
    pub(crate) encrypted: bool,
    pub(crate) process_id: i32,
    pub(crate) secret_key: i32,
}

impl Canceller {
    /// Sends the request over a second connection and waits until the server has closed that. The server closes it
    /// after it has signalled the process of the first, so a statement that starts later is not cancelled.
    pub(crate) async fn cancel(&self) -> io::Result<()> {
        let attempt = async {
            let mut stream =
                startup::open(&self.target, &self.host, self.encrypted).await.map_err(io::Error::other)?;
            let mut request = BytesMut::new();
            frontend::cancel_request(self.process_id, self.secret_key, &mut request);
            stream.write_all(&request).await?;
            stream.flush().await?;
            match stream.read(&mut [0]).await {
                Ok(0) => Ok(()),
                Ok(_) => Err(io::Error::other("unexpected answer to a cancel request")),
                // A server that closes without TLS's close_notify has still sent the signal.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
                Err(error) => Err(error),
            }
        };
        tokio::time::timeout(self.target.connect_timeout, attempt)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}
