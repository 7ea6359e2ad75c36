//! Two FastAPI servers, one uvicorn worker each.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::bench::process::{Running, Usage};
use crate::bench::workload::FASTAPI;

/// The servers; stopped when dropped.
pub(super) struct FastApi {
    servers: [(SocketAddr, Running); 2],
}

impl FastApi {
    /// Starts them in `folder`, which is made, over the database at `url`, and waits until they answer; `python` is a
    /// virtual environment with FastAPI.
    pub(super) fn start(python: &Path, folder: &Path, url: &str) -> Result<Self> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("peer.py"), FASTAPI)?;
        let start = |name: &str| {
            let address = free_address()?;
            let said = File::create(folder.join(name))?;
            let running = Command::new("setsid")
                .arg(python.join("bin/uvicorn"))
                .args(["peer:app", "--loop", "uvloop", "--http", "httptools", "--no-access-log"])
                .args(["--host", &address.ip().to_string(), "--port", &address.port().to_string()])
                .current_dir(folder)
                // As for a user's own program under tercet: sessions begin as a request role.
                .env("DATABASE_URL", format!("{url}?role=authenticated"))
                .stdin(Stdio::null())
                .stdout(said.try_clone()?)
                .stderr(said)
                .spawn()
                .context("uvicorn cannot be started")?;
            let running = Running::new(running);
            running.wait_until_it_answers(&format!("http://{address}/health"))?;
            Ok::<_, anyhow::Error>((address, running))
        };
        Ok(Self { servers: [start("one.out")?, start("other.out")?] })
    }

    /// Where they listen.
    pub(super) fn addresses(&self) -> [SocketAddr; 2] {
        [self.servers[0].0, self.servers[1].0]
    }

    /// Processor time both have used.
    pub(super) fn processor(&self) -> Result<Duration> {
        self.servers.iter().map(|(_, running)| Ok(Usage::of(running.id())?.processor)).sum()
    }
}

/// A loopback address that was free a moment ago.
pub(super) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
