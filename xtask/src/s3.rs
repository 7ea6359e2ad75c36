//! A stand-in for an S3 object store, with what pgBackRest asks of one: objects in a folder, TLS by an authority that it
//! makes, path-style addresses, checked signatures (version 4), and faults on demand. Not for any data of value.
//!
//! The folder holds `authority.crt`, `credentials` (key and secret, separated by a space), `bucket/` with the objects,
//! `requests.log`, and `fault` while there is one: `slow-down N` answers the next N requests 503, `full` refuses
//! whatever would take more room.

mod answer;
mod authority;
mod body;
mod connection;
mod fault;
mod request;
mod signature;
mod store;
#[cfg(test)]
mod tests;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};

use self::fault::Fault;
use self::signature::Credentials;
use self::store::Store;

/// Where to serve, and from which folder.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The folder of the objects; made if necessary.
    folder: PathBuf,
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1:9443")]
    listen: SocketAddr,
    /// The host name in its certificate.
    #[arg(long, default_value = "localhost")]
    name: String,
    /// The name of its only bucket.
    #[arg(long, default_value = "backups")]
    bucket: String,
}

/// The object store as all its connections see it.
struct Service {
    bucket: String,
    store: Store,
    credentials: Credentials,
    fault: Fault,
    log: PathBuf,
    tls: Arc<rustls::ServerConfig>,
    /// The most entries of one list.
    page: usize,
}

/// The most entries of one list at Amazon.
const PAGE: usize = 1000;

/// Serves until the process is killed.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let listener = TcpListener::bind(arguments.listen).with_context(|| arguments.listen.to_string())?;
    let service = Service::open(&arguments.folder, &arguments.name, &arguments.bucket, PAGE)?;
    println!("serving {} on {}", arguments.folder.display(), listener.local_addr()?);
    Arc::new(service).serve(&listener)
}

impl Service {
    /// Opens the folder; what is missing is made.
    fn open(folder: &Path, name: &str, bucket: &str, page: usize) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let tls = authority::certified(folder, name)?;
        Ok(Self {
            bucket: bucket.to_owned(),
            store: Store::open(folder)?,
            credentials: Credentials::kept_in(folder)?,
            fault: Fault::of(folder),
            log: folder.join("requests.log"),
            tls,
            page,
        })
    }

    /// Answers every connection in a thread.
    fn serve(self: &Arc<Self>, listener: &TcpListener) -> Result<()> {
        loop {
            let (stream, _) = listener.accept()?;
            let service = Arc::clone(self);
            std::thread::spawn(move || {
                // A client that leaves, or speaks no TLS, is no concern of the others.
                let _ = connection::serve(&service, stream);
            });
        }
    }
}
