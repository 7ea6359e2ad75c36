//! tercet and nginx as a web server: static files of three sizes, and responses of a server that they compress at the same
//! level. One worker each, on a core of its own; rounds interleaved.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use super::balancer::peer::{nginx_events, nginx_paths};
use super::load::Load;
use super::machine::{self, Cores};
use super::process::{Running, Usage, start};
use super::report::{self, median, verdict};
use crate::command::output;
use crate::workspace::Workspace;

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Rounds; the table holds their medians.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds of load for each program and content of a round.
    #[arg(long, default_value_t = 3)]
    seconds: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    Tercet,
    Nginx,
}

impl Server {
    const ALL: [Self; 2] = [Self::Tercet, Self::Nginx];

    fn name(self) -> &'static str {
        match self {
            Self::Tercet => "tercet",
            Self::Nginx => "nginx",
        }
    }

    fn address(self) -> SocketAddr {
        ([127, 0, 0, 1], 18_401 + self as u16).into()
    }
}

/// Where the server behind both listens.
const ORIGIN: &str = "127.0.0.1:18400";

/// What is requested.
struct Content {
    name: &'static str,
    path: &'static str,
    connections: u32,
    /// The value of `accept-encoding`.
    accepts: &'static str,
    /// At most this part of nginx's processor time is to be used.
    goal: f64,
}

const CONTENTS: [Content; 6] = [
    Content { name: "file of 1 KB", path: "/1k.txt", connections: 64, accepts: "identity", goal: 1.0 },
    Content { name: "file of 100 KB", path: "/100k.txt", connections: 64, accepts: "identity", goal: 1.0 },
    Content { name: "file of 10 MB", path: "/10m.txt", connections: 16, accepts: "identity", goal: 1.0 },
    Content { name: "JSON of 2 KB, gzip", path: "/api/2k.json", connections: 64, accepts: "gzip", goal: 1.1 },
    Content {
        name: "JSON of 20 KB, gzip",
        path: "/api/20k.json",
        connections: 64,
        accepts: "gzip",
        goal: 1.1,
    },
    Content {
        name: "JSON of 200 KB, gzip",
        path: "/api/200k.json",
        connections: 16,
        accepts: "gzip",
        goal: 1.1,
    },
];

/// The level of gzip for both: tercet's default.
const LEVEL: u32 = 5;

/// Rows as an API answers them, of about this many bytes: names, numbers and times that differ from row to row.
fn json(bytes: usize) -> String {
    const WORDS: [&str; 16] = [
        "amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "inlet", "jetty", "knoll",
        "lagoon", "marsh", "north", "ocean", "prairie",
    ];
    let mut text = "[".to_owned();
    // A linear congruential generator (Knuth's MMIX): the same rows each time.
    let mut state = 1_u64;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    while text.len() < bytes {
        let separator = if text.len() == 1 { "" } else { "," };
        let (one, other) = (WORDS[next(16) as usize], WORDS[next(16) as usize]);
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            r#"{separator}{{"id":{},"name":"{one} {other}","price":{}.{:02},"stock":{},"created_at":"2026-{:02}-{:02}T{:02}:{:02}:00Z"}}"#,
            next(1_000_000),
            next(500),
            next(100),
            next(200),
            1 + next(12),
            1 + next(28),
            next(24),
            next(60),
        );
    }
    text + "]"
}

/// Measures, prints and writes the part of docs/benchmarks.md.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    machine::require(&["nginx", "wrk", "taskset", "curl"], "nginx-light wrk util-linux curl")?;
    let cores = Cores::of_this_machine()?;
    workspace.build_release()?;
    let folder = workspace.target.join("bench-content");
    // Left over from an interrupted benchmark.
    let _ = fs::remove_dir_all(&folder);
    let site = folder.join("site");
    fs::create_dir_all(&site)?;
    for (name, size) in [("1k.txt", 1 << 10), ("100k.txt", 100 << 10), ("10m.txt", 10 << 20)] {
        fs::write(site.join(name), "x".repeat(size))?;
    }
    let api = folder.join("origin/www/api");
    fs::create_dir_all(&api)?;
    for (name, size) in [("2k.json", 2 << 10), ("20k.json", 20 << 10), ("200k.json", 200 << 10)] {
        fs::write(api.join(name), json(size))?;
    }

    let _origin = start(&origin(&folder)?, &folder, "origin", &cores.others)?;
    let mut servers = Vec::new();
    for server in Server::ALL {
        let command = command(server, workspace, &folder, &site)?;
        let running = start(&command, &folder, server.name(), cores.of_balancer(1))?;
        running.wait_until_it_answers(&format!("http://{}/1k.txt", server.address()))?;
        running.wait_until_it_answers(&format!("http://{}/api/2k.json", server.address()))?;
        servers.push((server, running));
    }
    let mut micros = CONTENTS.map(|_| [Vec::new(), Vec::new()]);
    let mut rates = CONTENTS.map(|_| [Vec::new(), Vec::new()]);
    for round in 1..=arguments.rounds {
        println!("round {round}");
        for (index, content) in CONTENTS.iter().enumerate() {
            for (server, running) in &servers {
                let (rate, used) = sample(workspace, *server, running, content, &cores, arguments.seconds)?;
                rates[index][*server as usize].push(rate);
                micros[index][*server as usize].push(used);
            }
        }
    }

    let mut text = format!(
        "## Files and compression beside nginx\n\n{}. {} round(s) of {} s each, interleaved, medians; one worker on a core of its own, \
         access log on, gzip at level {LEVEL} in both; nginx with `sendfile` and `tcp_nopush`, as Debian configures it. Size is that of the \
         compressed body.\n\n\
         | content | server | requests/s | CPU µs/request | bytes | tercet's share of it | goal | |\n|---|---|---|---|---|---|---|---|\n",
        machine::description()?,
        arguments.rounds,
        arguments.seconds,
    );
    for (index, content) in CONTENTS.iter().enumerate() {
        let used = |server: Server| median(&micros[index][server as usize]);
        for server in Server::ALL {
            let share = used(Server::Tercet) / used(server);
            let judged = match server {
                Server::Tercet => "| |".to_owned(),
                Server::Nginx => {
                    format!("{share:.2} | ≤ {} | {}", content.goal, verdict(share <= content.goal))
                }
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {:.0} | {:.1} | {} | {judged} |",
                content.name,
                server.name(),
                median(&rates[index][server as usize]),
                used(server),
                size(server, content)?,
            );
        }
    }
    report::write(workspace, "content", &text)?;
    println!("{text}");
    Ok(())
}

/// Requests a second, and microseconds of processor time a request.
fn sample(
    workspace: &Workspace,
    server: Server,
    running: &Running,
    content: &Content,
    cores: &Cores,
    seconds: u32,
) -> Result<(f64, f64)> {
    let header = format!("accept-encoding: {}", content.accepts);
    let load = Load {
        url: &format!("http://{}{}", server.address(), content.path),
        connections: content.connections,
        seconds,
        cores: cores.of_load(1),
        arguments: &["--header", &header],
    };
    let before = Usage::of(running.id())?.processor;
    let outcome = load.run(workspace)?;
    let used = Usage::of(running.id())?.processor.saturating_sub(before);
    if outcome.failures > 0 || outcome.requests == 0 {
        bail!(
            "{}: {} of {} requests failed: {}",
            server.name(),
            outcome.failures,
            outcome.requests,
            content.name
        );
    }
    Ok((outcome.rate, used.as_secs_f64() * 1e6 / outcome.requests as f64))
}

/// The bytes of the body as it is sent.
fn size(server: Server, content: &Content) -> Result<String> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--fail", "--output", "/dev/null", "--write-out", "%{size_download}"]);
    curl.args(["--header", &format!("accept-encoding: {}", content.accepts)]);
    output(curl.arg(format!("http://{}{}", server.address(), content.path)))
}

/// The server behind both.
fn origin(folder: &Path) -> Result<Command> {
    let own = folder.join("origin");
    let text = format!(
        "{}http {{ {} access_log off; sendfile on; keepalive_requests 1000000000; keepalive_timeout 3600s;
         types {{ application/json json; }} server {{ listen {ORIGIN} backlog=4096; root {}; }} }}",
        nginx_events(&own, 1),
        nginx_paths(&own),
        own.join("www").display()
    );
    nginx(&own, &text)
}

fn command(server: Server, workspace: &Workspace, folder: &Path, site: &Path) -> Result<Command> {
    let own = folder.join(server.name());
    fs::create_dir_all(&own)?;
    let (address, site, log) = (server.address(), site.display(), own.join("access.log"));
    match server {
        Server::Tercet => {
            let text = format!(
                "listen = [\"{address}\"]\nservers = [\"{ORIGIN}\"]\nworkers = 1\ncompress = \"on\"\n\
                 [compression]\ncodings = [\"gzip\"]\ngzip-level = {LEVEL}\n[access-log]\nto = \"{}\"\n\
                 [[route]]\npath = \"/\"\nfiles = \"{site}\"\n[[route]]\npath = \"/api\"\nto = \"application\"\n",
                log.display()
            );
            let file: PathBuf = own.join("balancer.toml");
            fs::write(&file, text)?;
            let mut command = Command::new(workspace.release());
            command.arg("balancer").arg("--config").arg(file);
            Ok(command)
        }
        Server::Nginx => {
            let text = format!(
                "{}http {{ {} access_log {} combined buffer=64k flush=1s; sendfile on; tcp_nopush on;
                 types {{ text/plain txt; application/json json; }}
                 upstream origin {{ server {ORIGIN}; keepalive 256; keepalive_requests 1000000000; }}
                 gzip on; gzip_comp_level {LEVEL}; gzip_types application/json; gzip_min_length 1024; gzip_proxied any; gzip_vary on;
                 server {{ listen {address} reuseport backlog=4096; keepalive_requests 1000000000; keepalive_timeout 3600s; root {site};
                   location /api {{ proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection \"\";
                     proxy_set_header Accept-Encoding \"\"; proxy_set_header X-Request-Id $request_id; }} }} }}",
                nginx_events(&own, 1),
                nginx_paths(&own),
                log.display()
            );
            nginx(&own, &text)
        }
    }
}

fn nginx(own: &Path, text: &str) -> Result<Command> {
    fs::write(own.join("nginx.conf"), text)?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(own.join("nginx.conf")).arg("-e").arg(own.join("error.log"));
    Ok(command)
}
