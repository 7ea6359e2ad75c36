//! The balancers that are compared and the servers behind them, with equivalent configurations.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::output;
use crate::workspace::Workspace;

/// Where the two servers listen.
const SERVERS: [u16; 2] = [18_101, 18_102];

/// A small answer as an API gives it: 150 bytes of JSON.
const JSON: &str = r#"{"id":1,"title":"The Left Hand of Darkness","author":"Ursula K. Le Guin","year":1969,"isbn":"9780441478125","price":12.5,"stock":42,"tags":["sf","a"]}"#;

/// Debian's module that lets nginx wait before it answers (package libnginx-mod-http-echo).
pub(super) const ECHO_MODULE: &str = "/usr/lib/nginx/modules/ngx_http_echo_module.so";

/// One of the balancers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// With its defaults.
    Tercet,
    /// With `pipeline = 16`: the servers behind are nginx, which answers what is pipelined at once.
    TercetPipelining,
    Nginx,
    HaProxy,
    /// Those of another Debian release.
    OtherNginx,
    OtherHaProxy,
}

/// The programs of another Debian release, installed below a folder: run with its own libraries.
#[derive(Debug)]
pub(super) struct Root(PathBuf);

impl Root {
    /// The one in this folder.
    ///
    /// # Errors
    /// A program or the loader is not there.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let root = Self(folder.canonicalize().with_context(|| folder.display().to_string())?);
        for path in ["usr/sbin/nginx", "usr/sbin/haproxy", LOADER] {
            if !root.0.join(path).exists() {
                bail!("{}: not there", root.0.join(path).display());
            }
        }
        Ok(root)
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.0.join(LOADER));
        command.arg("--library-path").arg(self.0.join("usr/lib/x86_64-linux-gnu"));
        command.arg(self.0.join("usr/sbin").join(name));
        command
    }
}

/// The dynamic loader, ld.so(8).
const LOADER: &str = "usr/lib64/ld-linux-x86-64.so.2";

/// One of a balancer's listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Plain,
    Tls,
}

impl Peer {
    pub(super) const ALL: [Self; 6] = [
        Self::Tercet,
        Self::TercetPipelining,
        Self::Nginx,
        Self::HaProxy,
        Self::OtherNginx,
        Self::OtherHaProxy,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tercet => "tercet",
            Self::TercetPipelining => "tercet, pipelining",
            Self::Nginx => "nginx",
            Self::HaProxy => "HAProxy",
            Self::OtherNginx => "the other nginx",
            Self::OtherHaProxy => "the other HAProxy",
        }
    }

    /// Whether it belongs to another Debian release.
    pub(super) fn is_other(self) -> bool {
        matches!(self, Self::OtherNginx | Self::OtherHaProxy)
    }

    /// The program; only with a root for those of another release.
    fn program(self, root: Option<&Root>) -> Result<Command> {
        let root = || root.with_context(|| format!("{} needs a root", self.name()));
        Ok(match self {
            Self::OtherNginx => root()?.program("nginx"),
            Self::OtherHaProxy => root()?.program("haproxy"),
            Self::HaProxy => Command::new("haproxy"),
            Self::Nginx | Self::Tercet | Self::TercetPipelining => Command::new("nginx"),
        })
    }

    /// Where it listens when it runs with so many workers.
    pub(super) fn address(self, workers: u16, port: Port) -> SocketAddr {
        ([127, 0, 0, 1], 18_200 + 100 * workers + 10 * self as u16 + port as u16).into()
    }

    pub(super) fn url(self, workers: u16, port: Port, path: &str) -> String {
        let scheme = match port {
            Port::Plain => "http",
            Port::Tls => "https",
        };
        format!("{scheme}://{}{path}", self.address(workers, port))
    }

    pub(super) fn version(self, root: Option<&Root>) -> Option<String> {
        match self {
            Self::Tercet => return Some("tercet of this tree".to_owned()),
            Self::TercetPipelining => return Some("the same with `pipeline = 16`".to_owned()),
            _ => {}
        }
        let said = self.program(root).ok()?.arg("-v").output().ok()?;
        // nginx prints it on standard error.
        let said = [said.stdout, said.stderr].concat();
        Some(format!("{}: {}", self.name(), String::from_utf8_lossy(&said).lines().next()?))
    }

    /// The command that runs it on so many threads, with its configuration written to `folder`.
    pub(super) fn command(
        self,
        workspace: &Workspace,
        folder: &Path,
        workers: u16,
        root: Option<&Root>,
    ) -> Result<Command> {
        // No space: nginx's configuration names files in it.
        let own = folder.join(format!("{self:?}-{workers}"));
        fs::create_dir_all(&own)?;
        let certificate = certificate(folder)?;
        let (plain, tls) = (self.address(workers, Port::Plain), self.address(workers, Port::Tls));
        let [one, other] = SERVERS;
        let at = |name: &str| own.join(name).display().to_string();
        Ok(match self {
            Self::Tercet | Self::TercetPipelining => {
                let pipeline = if self == Self::Tercet { 1 } else { 16 };
                let text = format!(
                    "listen = [\"{plain}\", {{ address = \"{tls}\", certificates = [{{ certificate = \"{certificate}\", key = \"{certificate}\" }}] }}]\n\
                     servers = [{{ address = \"127.0.0.1:{one}\", pipeline = {pipeline} }}, {{ address = \"127.0.0.1:{other}\", pipeline = {pipeline} }}]\nworkers = {workers}\n[access-log]\nto = \"{}\"\n",
                    at("access.log")
                );
                fs::write(own.join("balancer.toml"), text)?;
                let mut command = Command::new(workspace.release());
                command.args(["balancer", "--config", &at("balancer.toml")]);
                command
            }
            Self::Nginx | Self::OtherNginx => {
                let text = format!(
                    "{}http {{ {} access_log {} combined buffer=64k flush=1s;
                     upstream servers {{ server 127.0.0.1:{one}; server 127.0.0.1:{other}; keepalive 256; keepalive_requests 1000000000; }}
                     server {{ listen {plain} reuseport backlog=4096; listen {tls} ssl reuseport backlog=4096;
                       ssl_certificate {certificate}; ssl_certificate_key {certificate}; ssl_protocols TLSv1.2 TLSv1.3;
                       keepalive_requests 1000000000; keepalive_timeout 3600s;
                       location / {{ proxy_pass http://servers; proxy_http_version 1.1; proxy_set_header Connection \"\";
                         proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Request-Id $request_id; }} }} }}",
                    nginx_events(&own, workers),
                    nginx_paths(&own),
                    at("access.log")
                );
                fs::write(own.join("nginx.conf"), text)?;
                let mut command = self.program(root)?;
                command.args(["-c", &at("nginx.conf"), "-e", &at("error.log")]);
                command
            }
            Self::HaProxy | Self::OtherHaProxy => {
                let text = format!(
                    "global\n nbthread {workers}\n maxconn 60000\n no strict-limits\n log stdout format raw local0\n ssl-default-bind-options ssl-min-ver TLSv1.2\n\
                     defaults\n mode http\n log global\n option httplog\n timeout client 3600s\n timeout server 60s\n timeout connect 5s\n timeout http-keep-alive 3600s\n maxconn 60000\n\
                     frontend f\n bind {plain} backlog 4096\n bind {tls} ssl crt {certificate} alpn h2,http/1.1 backlog 4096\n unique-id-format %[uuid()]\n unique-id-header X-Request-Id\n option forwardfor\n default_backend b\n\
                     backend b\n balance roundrobin\n http-reuse always\n server one 127.0.0.1:{one} check inter 250ms\n server other 127.0.0.1:{other} check inter 250ms\n"
                );
                fs::write(own.join("haproxy.cfg"), text)?;
                let mut command = self.program(root)?;
                command.args(["-db", "-f", &at("haproxy.cfg")]);
                command
            }
        })
    }
}

/// The servers behind: one nginx process with two addresses. `/2ms` and `/20ms` answer as `/` does, that much later.
pub(super) fn servers(folder: &Path) -> Result<Command> {
    let own = folder.join("servers");
    fs::create_dir_all(own.join("www"))?;
    fs::write(own.join("www/10k"), "x".repeat(10 << 10))?;
    fs::write(own.join("www/1m"), "x".repeat(1 << 20))?;
    let [one, other] = SERVERS;
    let text = format!(
        "load_module {ECHO_MODULE};\n{}http {{ {} access_log off; sendfile on; keepalive_requests 1000000000; keepalive_timeout 3600s;
         server {{ listen 127.0.0.1:{one} reuseport backlog=4096; listen 127.0.0.1:{other} reuseport backlog=4096; root {};
           location = / {{ default_type application/json; return 200 '{JSON}'; }}
           location = /2ms {{ echo_sleep 0.002; echo_exec /; }}
           location = /20ms {{ echo_sleep 0.020; echo_exec /; }} }} }}",
        nginx_events(&own, 1),
        nginx_paths(&own),
        own.join("www").display()
    );
    fs::write(own.join("nginx.conf"), text)?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(own.join("nginx.conf")).arg("-e").arg(own.join("error.log"));
    Ok(command)
}

pub(in crate::bench) fn nginx_events(own: &Path, workers: u16) -> String {
    format!(
        "daemon off; worker_processes {workers}; pid {0}/pid; error_log {0}/error.log;\nevents {{ worker_connections 60000; }}\n",
        own.display()
    )
}

/// Paths that are compiled in and may not be ours to write.
pub(in crate::bench) fn nginx_paths(own: &Path) -> String {
    ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{kind};", own.display()))
        .concat()
}

/// A certificate and its key in one file, as HAProxy wants it; made once.
fn certificate(folder: &Path) -> Result<String> {
    let (both, key) = (folder.join("both.pem"), folder.join("key.pem"));
    if !both.exists() {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        openssl.args(["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]);
        output(openssl.arg("-keyout").arg(&key).arg("-out").arg(&both))?;
        let joined = fs::read_to_string(&both)? + &fs::read_to_string(&key)?;
        fs::write(&both, joined)?;
    }
    Ok(both.display().to_string())
}
