//! Connections that have made one request and then say nothing.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use anyhow::{Result, bail};

use crate::command::output;

/// Connections held open.
pub(super) struct Connections(Vec<TcpStream>);

impl Connections {
    /// Lets this process hold `most` connections.
    pub(super) fn allow(most: usize) -> Result<Self> {
        let files = most + 1_000;
        let mut prlimit = Command::new("prlimit");
        prlimit.arg("--pid").arg(std::process::id().to_string()).arg(format!("--nofile={files}:"));
        output(&mut prlimit)?;
        Ok(Self(Vec::new()))
    }

    /// Opens more until there are `count`, and has one request answered on each.
    pub(super) fn hold(&mut self, address: SocketAddr, count: usize) -> Result<()> {
        while self.0.len() < count {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")?;
            if stream.read(&mut [0; 4096])? == 0 {
                bail!("connection {} was closed", self.0.len());
            }
            self.0.push(stream);
        }
        Ok(())
    }

    /// Closes all.
    pub(super) fn close(&mut self) {
        self.0.clear();
    }
}
