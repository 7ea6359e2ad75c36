//! The startup handshake: from a [`Target`] to a connection that is ready for queries. It resolves the host name,
//! connects, starts TLS and authenticates.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::backend::{Header, Message};
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::error::{ConnectError, ServerError};
use crate::stream::Stream;
use crate::target::{Host, SslMode, Target};
use crate::tls;
use crate::user_timeout;

/// A connection after its first ReadyForQuery.
pub(crate) struct Started {
    pub(crate) stream: Stream,
    /// Bytes that were read but not parsed.
    pub(crate) buffer: BytesMut,
    pub(crate) process_id: i32,
    pub(crate) secret_key: i32,
    /// `server_version`, `in_hot_standby`, ….
    pub(crate) parameters: BTreeMap<String, String>,
}

/// The maximum length of a message before authentication, in bytes. libpq also treats a longer one as another
/// protocol.
const LONGEST_MESSAGE: usize = 30_000;

/// Why the handshake failed.
enum Refusal {
    /// The server sent an ErrorResponse.
    Server(Box<ServerError>),
    /// Any other reason, such as an error of the network, of TLS or of the protocol.
    Other(String),
}

impl Refusal {
    fn other(reason: &str) -> Self {
        Self::Other(reason.to_owned())
    }

    fn at(self, host: &Host) -> ConnectError {
        let (reason, sqlstate) = match self {
            Self::Server(error) => (error.to_string(), Some(error.code)),
            Self::Other(reason) => (reason, None),
        };
        ConnectError { address: host.to_string(), reason, sqlstate }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Other(error.to_string())
    }
}

/// Connects to one host and logs in.
pub(crate) async fn start(target: &Target, host: &Host) -> Result<Started, ConnectError> {
    let attempt = async {
        // `allow` tries without TLS first, `prefer` with it; both may try the other way.
        let first = open(target, host, target.ssl_mode >= SslMode::Prefer).await.map_err(Refusal::Other)?;
        let encrypted = matches!(first, Stream::Tls(_));
        match log_in(target, first).await {
            Err(Refusal::Server(error)) if has_second_way(target.ssl_mode, host, encrypted, &error) => {
                let second = open(target, host, !encrypted).await.map_err(Refusal::Other)?;
                log_in(target, second).await
            }
            started => started,
        }
    };
    match tokio::time::timeout(target.connect_timeout, attempt).await {
        Ok(started) => started.map_err(|refusal| refusal.at(host)),
        Err(_) => Err(ConnectError {
            address: host.to_string(),
            reason: format!("timed out after {} s", target.connect_timeout.as_secs()),
            sqlstate: None,
        }),
    }
}

/// Whether `pg_hba.conf` may accept with TLS a login that it rejected without TLS, or the other way round.
fn has_second_way(mode: SslMode, host: &Host, encrypted: bool, error: &ServerError) -> bool {
    matches!(host, Host::Tcp { .. })
        && error.code == "28000"
        && match mode {
            SslMode::Allow => !encrypted,
            SslMode::Prefer => encrypted,
            _ => false,
        }
}

/// Opens a stream. With `encrypt` it requests TLS; a server without TLS is an error if `sslmode` requires TLS.
pub(crate) async fn open(target: &Target, host: &Host, encrypt: bool) -> Result<Stream, String> {
    let (name, address, port) = match host {
        Host::Unix(path) => {
            return UnixStream::connect(path).await.map(Stream::Unix).map_err(|error| error.to_string());
        }
        Host::Tcp { name, address, port } => (name, address, *port),
    };
    let addresses = match address {
        Some(address) => vec![SocketAddr::new(*address, port)],
        None => {
            tokio::net::lookup_host((name.as_str(), port)).await.map_err(|error| error.to_string())?.collect()
        }
    };
    let mut stream = reach(&addresses, target.reach_timeout).await?;
    let options = stream.set_nodelay(true).and_then(|()| user_timeout::set(&stream, target.user_timeout));
    options.map_err(|error| error.to_string())?;
    if !encrypt {
        return Ok(Stream::Tcp(stream));
    }
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    let mut answer = [0];
    let exchanged = async {
        stream.write_all(&request).await?;
        stream.read_exact(&mut answer).await
    };
    exchanged.await.map_err(|error| error.to_string())?;
    match answer[0] {
        b'S' => {
            let config = tls::client_config(target)?;
            let name = ServerName::try_from(name.clone())
                .map_err(|_| format!("\"{name}\" is not a name a certificate could have"))?;
            let stream = TlsConnector::from(Arc::new(config))
                .connect(name, stream)
                .await
                .map_err(|error| format!("TLS: {error}"))?;
            Ok(Stream::Tls(Box::new(stream)))
        }
        b'N' if target.ssl_mode <= SslMode::Prefer => Ok(Stream::Tcp(stream)),
        b'N' => Err("the server has no TLS, but sslmode asks for it".to_owned()),
        _ => Err("the server's answer to SSLRequest makes no sense".to_owned()),
    }
}

/// Connects to the first of these addresses that accepts the connection within `limit`.
async fn reach(addresses: &[SocketAddr], limit: Duration) -> Result<TcpStream, String> {
    let mut reason = "the name has no address".to_owned();
    for address in addresses {
        match tokio::time::timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => reason = error.to_string(),
            Err(_) => {
                reason = format!("{address} says nothing within {} s", limit.as_secs());
            }
        }
    }
    Err(reason)
}

/// The messages to and from a server before its first ReadyForQuery.
struct Handshake {
    stream: Stream,
    buffer: BytesMut,
    out: BytesMut,
}

impl Handshake {
    async fn send(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.out).await?;
        self.stream.flush().await?;
        self.out.clear();
        Ok(())
    }

    /// Reads the next message; an ErrorResponse is an error.
    async fn receive(&mut self) -> Result<Message, Refusal> {
        loop {
            if Header::parse(&self.buffer)?.is_some_and(|header| header.len() as usize > LONGEST_MESSAGE) {
                return Err(Refusal::other("the server does not speak PostgreSQL's protocol"));
            }
            match Message::parse(&mut self.buffer)? {
                Some(Message::ErrorResponse(body)) => {
                    let error = ServerError::parse(&mut body.fields())?;
                    return Err(Refusal::Server(Box::new(error)));
                }
                Some(Message::NoticeResponse(_)) => {}
                Some(message) => return Ok(message),
                None if self.stream.read_buf(&mut self.buffer).await? == 0 => {
                    return Err(Refusal::other("the server closed the connection"));
                }
                None => {}
            }
        }
    }
}

async fn log_in(target: &Target, stream: Stream) -> Result<Started, Refusal> {
    let mut handshake = Handshake { stream, buffer: BytesMut::with_capacity(8192), out: BytesMut::new() };
    let mut parameters = vec![
        ("user", target.user.as_str()),
        ("database", &target.database),
        ("application_name", &target.application_name),
        ("client_encoding", "UTF8"),
    ];
    if let Some(options) = &target.options {
        parameters.push(("options", options));
    }
    frontend::startup_message(parameters, &mut handshake.out)?;
    handshake.send().await?;
    authenticate(target, &mut handshake).await?;
    let (mut process_id, mut secret_key, mut parameters) = (0, 0, BTreeMap::new());
    loop {
        match handshake.receive().await? {
            Message::BackendKeyData(body) => {
                (process_id, secret_key) = (body.process_id(), body.secret_key());
            }
            Message::ParameterStatus(body) => {
                parameters.insert(body.name()?.to_owned(), body.value()?.to_owned());
            }
            Message::ReadyForQuery(_) => break,
            _ => return Err(Refusal::other("unexpected message during startup")),
        }
    }
    // Asked for above; a pooler in between, or a login trigger, may know better.
    if let Some(encoding) = parameters.get("client_encoding").filter(|encoding| *encoding != "UTF8") {
        return Err(Refusal::Other(format!(
            "the session's client_encoding is {encoding}, though UTF8 was asked for"
        )));
    }
    let Handshake { stream, buffer, .. } = handshake;
    Ok(Started { stream, buffer, process_id, secret_key, parameters })
}

async fn authenticate(target: &Target, handshake: &mut Handshake) -> Result<(), Refusal> {
    let password = || {
        let missing = || Refusal::other("the server asks for a password and none is given");
        target.password.as_deref().ok_or_else(missing)
    };
    loop {
        match handshake.receive().await? {
            Message::AuthenticationOk => return Ok(()),
            Message::AuthenticationCleartextPassword => {
                frontend::password_message(password()?.as_bytes(), &mut handshake.out)?;
                handshake.send().await?;
            }
            Message::AuthenticationMd5Password(body) => {
                let hash = md5_hash(target.user.as_bytes(), password()?.as_bytes(), body.salt());
                frontend::password_message(hash.as_bytes(), &mut handshake.out)?;
                handshake.send().await?;
            }
            Message::AuthenticationSasl(body) => {
                let offered: Vec<_> = body.mechanisms().map(|name| Ok(name.to_owned())).collect()?;
                if !offered.iter().any(|name| name == sasl::SCRAM_SHA_256) {
                    return Err(Refusal::Other(format!("cannot authenticate by {offered:?}")));
                }
                scram(password()?, handshake).await?;
            }
            _ => {
                return Err(Refusal::other("it asks for a way to authenticate that is not supported"));
            }
        }
    }
}

/// SCRAM-SHA-256 (RFC 7677) without channel binding.
async fn scram(password: &str, handshake: &mut Handshake) -> Result<(), Refusal> {
    let mut scram = sasl::ScramSha256::new(password.as_bytes(), sasl::ChannelBinding::unsupported());
    frontend::sasl_initial_response(sasl::SCRAM_SHA_256, scram.message(), &mut handshake.out)?;
    handshake.send().await?;
    let unexpected = || Refusal::other("unexpected message during SCRAM authentication");
    let Message::AuthenticationSaslContinue(body) = handshake.receive().await? else {
        return Err(unexpected());
    };
    scram.update(body.data())?;
    frontend::sasl_response(scram.message(), &mut handshake.out)?;
    handshake.send().await?;
    let Message::AuthenticationSaslFinal(body) = handshake.receive().await? else {
        return Err(unexpected());
    };
    scram.finish(body.data())?;
    Ok(())
}
