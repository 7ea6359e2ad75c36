//! The balancers in front: nginx for both kinds of servers, tercet alone for FastAPI.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::fastapi::free_address;
use crate::bench::balancer::peer::{nginx_events, nginx_paths};
use crate::bench::process::{Running, Usage};

/// Where the application servers listen.
pub(super) struct Servers<'a> {
    pub(super) api: [&'a str; 2],
    /// Their Unix sockets.
    pub(super) sockets: [PathBuf; 2],
    pub(super) fastapi: [SocketAddr; 2],
}

/// What stands behind one of a balancer's ports.
#[derive(Clone, Copy)]
pub(super) enum Port {
    Api,
    ApiBySocket,
    FastApi,
}

/// A running balancer; stopped when dropped.
pub(super) struct Front {
    /// By address, and by Unix socket.
    api: Option<[SocketAddr; 2]>,
    fastapi: SocketAddr,
    running: Running,
}

impl Front {
    /// nginx with two workers, as its users set it up for speed.
    pub(super) fn nginx(folder: &Path, servers: &Servers<'_>) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let (api, fastapi) = ([free_address()?, free_address()?], free_address()?);
        let [socket_1, socket_2] = servers.sockets.each_ref().map(|path| format!("unix:{}", path.display()));
        let [api_1, api_2] = servers.api;
        let [fastapi_1, fastapi_2] = servers.fastapi;
        let server = |name: &str, address: SocketAddr| {
            format!(
                "server {{ listen {address} reuseport backlog=4096; keepalive_requests 1000000000;\n\
                 location / {{ proxy_pass http://{name}; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
                 proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;\n\
                 proxy_set_header X-Request-Id $request_id; }} }}\n"
            )
        };
        let text = format!(
            "user root;\n{}http {{ {} access_log {}/access.log combined buffer=64k flush=1s;\n\
             upstream api {{ server {api_1}; server {api_2}; keepalive 256; keepalive_requests 1000000000; }}\n\
             upstream sockets {{ server {socket_1}; server {socket_2}; keepalive 256; keepalive_requests 1000000000; }}\n\
             upstream fastapi {{ server {fastapi_1}; server {fastapi_2}; keepalive 256; keepalive_requests 1000000000; }}\n\
             {}{}{} }}\n",
            nginx_events(folder, 2),
            nginx_paths(folder),
            folder.display(),
            server("api", api[0]),
            server("sockets", api[1]),
            server("fastapi", fastapi),
        );
        let (config, errors) = (folder.join("nginx.conf"), folder.join("error.log"));
        fs::write(&config, text)?;
        let mut nginx = Command::new("setsid");
        nginx.arg("nginx").arg("-c").arg(&config).arg("-e").arg(&errors);
        Self::start(nginx, folder, Some(api), fastapi)
    }

    /// `tercet balancer` with its defaults and two workers.
    pub(super) fn tercet(program: &Path, folder: &Path, servers: &Servers<'_>) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let fastapi = free_address()?;
        let [one, other] = servers.fastapi;
        let text = format!(
            "listen = [\"{fastapi}\"]\nservers = [{{ address = \"{one}\" }}, {{ address = \"{other}\" }}]\nworkers = 2\n\
             [health]\npath = \"/health\"\n[access-log]\nto = \"{}\"\n",
            folder.join("access.log").display()
        );
        let config = folder.join("balancer.toml");
        fs::write(&config, text)?;
        let mut tercet = Command::new("setsid");
        tercet.arg(program).args(["balancer", "--config"]).arg(&config);
        Self::start(tercet, folder, None, fastapi)
    }

    fn start(
        mut command: Command,
        folder: &Path,
        api: Option<[SocketAddr; 2]>,
        fastapi: SocketAddr,
    ) -> Result<Self> {
        let said = File::create(folder.join("out"))?;
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        let running =
            Running::new(command.spawn().with_context(|| format!("{command:?}: cannot be started"))?);
        running.wait_until_it_answers(&format!("http://{fastapi}/health"))?;
        Ok(Self { api, fastapi, running })
    }

    /// Where requests for one kind of servers go.
    pub(super) fn url(&self, port: Port) -> String {
        let address = match port {
            Port::Api => self.api.map(|[address, _]| address),
            Port::ApiBySocket => self.api.map(|[_, by_socket]| by_socket),
            Port::FastApi => None,
        };
        let address = address.unwrap_or(self.fastapi);
        format!("http://{address}")
    }

    /// Processor time all its processes have used.
    pub(super) fn processor(&self) -> Result<Duration> {
        Ok(Usage::of(self.running.id())?.processor)
    }
}
