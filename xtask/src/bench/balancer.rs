//! tercet, nginx and HAProxy as the same balancer in turn: same core, same servers behind, same load, rounds
//! interleaved so that a busy moment of the machine meets all of them.
//!
//! The result that counts is the processor time of a request: it is the balancer's own, while requests a second also depend on
//! the load generator.

mod idle;
pub(super) mod peer;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use self::peer::{Peer, Port, Root};
use super::load::Load;
use super::machine::{self, Cores};
use super::process::{Running, Usage, start};
use super::report;
use crate::workspace::Workspace;

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Rounds; the table holds their medians.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds of load for each balancer and scenario of a round.
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Only scenarios whose name holds this; the table is then printed and not written.
    #[arg(long)]
    only: Option<String>,
    /// Also nginx and HAProxy of another Debian release, installed below this folder, for example by `mmdebstrap
    /// --variant=essential --include=nginx-light,haproxy trixie FOLDER`; not with instant servers.
    #[arg(long, value_name = "FOLDER")]
    other_root: Option<PathBuf>,
}

/// One kind of load.
#[derive(Clone, Copy)]
struct Scenario {
    /// What the servers answer.
    answer: Answer,
    port: Port,
    /// Threads of the balancer.
    workers: u16,
    connections: u32,
    /// At most this part of nginx's and of HAProxy's processor time is to be used.
    goals: &'static [(Peer, f64)],
}

/// What the servers behind the balancer answer, and after how long.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// 150 bytes of JSON, at once.
    Instant,
    /// The same after 2 ms, as an application that asks a database.
    Quick,
    /// The same after 20 ms.
    Slow,
    /// 10 KB from a file.
    Medium,
    /// 1 MB from a file.
    Large,
}

impl Answer {
    const fn path(self) -> &'static str {
        match self {
            Self::Instant => "/",
            Self::Quick => "/2ms",
            Self::Slow => "/20ms",
            Self::Medium => "/10k",
            Self::Large => "/1m",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Instant => "small JSON at once",
            Self::Quick => "small JSON after 2 ms",
            Self::Slow => "small JSON after 20 ms",
            Self::Medium => "10 KB",
            Self::Large => "1 MB",
        }
    }
}

impl Scenario {
    fn name(&self) -> String {
        let tls = if self.port == Port::Tls { " over TLS" } else { "" };
        let workers = if self.workers == 1 { "1 worker" } else { "2 workers" };
        format!("{}{tls}, {workers}, {} connections", self.answer.name(), self.connections)
    }

    /// Whether this peer is measured here: slow servers answer pipelined requests one after the other, so
    /// it makes no sense for them.
    /// Other releases are measured where users are.
    fn includes(&self, peer: Peer, root: Option<&Root>) -> bool {
        let is_slow = matches!(self.answer, Answer::Quick | Answer::Slow);
        match peer {
            Peer::TercetPipelining => self.workers == 1 && !is_slow,
            _ if peer.is_other() => root.is_some() && self.workers == 2 && is_slow,
            _ => true,
        }
    }
}

/// The case a user has: two workers, servers that take milliseconds, plain and TLS; then what each part of it costs.
fn scenarios() -> Vec<Scenario> {
    let mut scenarios = Vec::new();
    let mut add = |answer, port, workers, connections, goals| {
        scenarios.push(Scenario { answer, port, workers, connections, goals });
    };
    for answer in [Answer::Quick, Answer::Slow] {
        for (port, workers) in [(Port::Plain, 2), (Port::Tls, 2), (Port::Plain, 1)] {
            for connections in [16, 64, 256] {
                let goals: &[_] =
                    if connections == 16 { &[(Peer::Nginx, 0.9)] } else { &[(Peer::Nginx, 0.8)] };
                add(answer, port, workers, connections, goals);
            }
        }
    }
    for connections in [16, 64, 256] {
        add(Answer::Instant, Port::Plain, 2, connections, &[]);
    }
    add(Answer::Instant, Port::Plain, 1, 1, &[]);
    add(Answer::Instant, Port::Plain, 1, 16, &[(Peer::Nginx, 0.8), (Peer::HaProxy, 0.9)]);
    add(Answer::Instant, Port::Plain, 1, 64, &[(Peer::Nginx, 0.8), (Peer::HaProxy, 0.9)]);
    add(Answer::Instant, Port::Plain, 1, 256, &[(Peer::Nginx, 0.7), (Peer::HaProxy, 0.7)]);
    add(Answer::Instant, Port::Tls, 1, 64, &[(Peer::Nginx, 1.0)]);
    add(Answer::Medium, Port::Plain, 1, 64, &[(Peer::Nginx, 0.9)]);
    add(Answer::Large, Port::Plain, 1, 16, &[(Peer::Nginx, 0.9)]);
    scenarios
}

/// Connections that are held open for the memory table.
const IDLE: [usize; 2] = [1_000, 10_000];

/// A balancer that runs with so many workers.
struct Balancer {
    peer: Peer,
    workers: u16,
    running: Running,
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
struct Sample {
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
    micros: f64,
}

/// Measures and writes docs/benchmarks.md.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    machine::require(&["nginx", "haproxy", "wrk", "taskset", "openssl", "prlimit"], PACKAGES)?;
    if !Path::new(peer::ECHO_MODULE).exists() {
        bail!("{}: not on this machine\nhint: sudo apt-get install {PACKAGES}", peer::ECHO_MODULE);
    }
    let cores = Cores::of_this_machine()?;
    workspace.build_release()?;

    let root = arguments.other_root.as_deref().map(Root::new).transpose()?;
    let root = root.as_ref();
    let folder = workspace.target.join("bench-balancer");
    // Left over from an interrupted benchmark.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let _servers = start(&peer::servers(&folder)?, &folder, "servers", &cores.others)?;
    let balancer = |peer: Peer, workers: u16| -> Result<Balancer> {
        let name = format!("{}, {workers}", peer.name());
        let command = peer.command(workspace, &folder, workers, root)?;
        let running = start(&command, &folder, &name, cores.of_balancer(workers))?;
        running.wait_until_it_answers(&peer.url(workers, Port::Plain, "/"))?;
        Ok(Balancer { peer, workers, running })
    };
    let wanted =
        |scenario: &Scenario| arguments.only.as_ref().is_none_or(|only| scenario.name().contains(only));
    let scenarios: Vec<Scenario> = scenarios().into_iter().filter(wanted).collect();
    let mut balancers = Vec::new();
    for workers in WORKERS {
        for peer in Peer::ALL {
            if scenarios.iter().any(|scenario| scenario.workers == workers && scenario.includes(peer, root)) {
                balancers.push(balancer(peer, workers)?);
            }
        }
    }

    let mut text = format!(
        "## The balancer beside its peers\n\n{}. {} round(s) of {} s each, interleaved, medians; access log on for all. \
         With one worker the balancer has a core to itself; two share all cores with servers and load, as under \
         `tercet up`. Versions: {}.\n",
        machine::description()?,
        arguments.rounds,
        arguments.seconds,
        Peer::ALL.iter().filter_map(|peer| peer.version(root)).collect::<Vec<_>>().join(", ")
    );
    let rows = measure(workspace, scenarios, &balancers, &cores, arguments, root)?;
    write_loads(&mut text, &rows);
    write_goals(&mut text, &rows);
    if arguments.only.is_none() {
        // Anew and one at a time, so that neither what the load left behind nor shared pages are missed.
        drop(balancers);
        write_idle(&mut text, |peer| balancer(peer, 1))?;
        report::write(workspace, "balancer", &text)?;
    }
    println!("{text}");
    Ok(())
}

const PACKAGES: &str = "nginx-light libnginx-mod-http-echo haproxy wrk util-linux openssl";

/// Numbers of workers that balancers are run with.
const WORKERS: [u16; 2] = [2, 1];

/// The samples of one scenario, by peer and round.
struct Row {
    scenario: Scenario,
    samples: [Vec<Sample>; Peer::ALL.len()],
}

impl Row {
    /// The median of something over a peer's rounds, if it was measured.
    fn median(&self, peer: Peer, of: fn(&Sample) -> f64) -> Option<f64> {
        let samples = &self.samples[peer as usize];
        (!samples.is_empty()).then(|| report::median(&samples.iter().map(of).collect::<Vec<_>>()))
    }

    /// tercet's median beside a peer's.
    fn pair(&self, peer: Peer, of: fn(&Sample) -> f64) -> Option<(f64, f64)> {
        Some((self.median(Peer::Tercet, of)?, self.median(peer, of)?))
    }
}

fn measure(
    workspace: &Workspace,
    scenarios: Vec<Scenario>,
    balancers: &[Balancer],
    cores: &Cores,
    arguments: &Arguments,
    root: Option<&Root>,
) -> Result<Vec<Row>> {
    let row = |scenario| Row { scenario, samples: Default::default() };
    let mut rows: Vec<Row> = scenarios.into_iter().map(row).collect();
    for round in 1..=arguments.rounds {
        for row in &mut rows {
            println!("round {round}: {}", row.scenario.name());
            for balancer in balancers {
                if balancer.workers == row.scenario.workers && row.scenario.includes(balancer.peer, root) {
                    let sample = sample(workspace, &row.scenario, balancer, cores, arguments.seconds)?;
                    row.samples[balancer.peer as usize].push(sample);
                }
            }
        }
    }
    Ok(rows)
}

fn sample(
    workspace: &Workspace,
    scenario: &Scenario,
    balancer: &Balancer,
    cores: &Cores,
    seconds: u32,
) -> Result<Sample> {
    let load = Load {
        url: &balancer.peer.url(scenario.workers, scenario.port, scenario.answer.path()),
        connections: scenario.connections,
        seconds,
        cores: cores.of_load(scenario.workers),
        arguments: &[],
    };
    let process = balancer.running.id();
    let before = Usage::of(process)?.processor;
    let outcome = load.run(workspace)?;
    let used = Usage::of(process)?.processor.saturating_sub(before);
    if outcome.failures > 0 || outcome.requests == 0 {
        bail!(
            "{}: {} of {} requests failed: {}",
            balancer.peer.name(),
            outcome.failures,
            outcome.requests,
            scenario.name()
        );
    }
    Ok(Sample {
        rate: outcome.rate,
        p50_ms: outcome.p50.as_secs_f64() * 1e3,
        p99_ms: outcome.p99.as_secs_f64() * 1e3,
        micros: used.as_secs_f64() * 1e6 / outcome.requests as f64,
    })
}

fn write_loads(text: &mut String, rows: &[Row]) {
    text.push_str(
        "\n| load | balancer | requests/s | p50 ms | p99 ms | CPU µs/request | tercet's share of it |\n|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        for peer in Peer::ALL {
            let Some((own, micros)) = row.pair(peer, |sample| sample.micros) else { continue };
            let median = |of| row.median(peer, of).unwrap_or_default();
            let share = if peer == Peer::Tercet { String::new() } else { format!("{:.2}", own / micros) };
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {:.0} | {:.2} | {:.2} | {micros:.1} | {share} |",
                row.scenario.name(),
                peer.name(),
                median(|sample| sample.rate),
                median(|sample| sample.p50_ms),
                median(|sample| sample.p99_ms),
            );
        }
    }
}

/// The goals, and whether they are met: processor time beside each peer's, and nginx's p99.
fn write_goals(text: &mut String, rows: &[Row]) {
    text.push_str("\n| load | goal | measured | |\n|---|---|---|---|\n");
    for row in rows {
        let name = row.scenario.name();
        let mut goal = |goal: String, measured: String, holds: bool| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "| {name} | {goal} | {measured} | {} |", report::verdict(holds));
        };
        for (peer, most) in row.scenario.goals {
            if let Some((own, other)) = row.pair(*peer, |sample| sample.micros) {
                let share = own / other;
                goal(format!("CPU ≤ {most} × {}'s", peer.name()), format!("{share:.2}"), share <= *most);
            }
        }
        if let Some((own, nginx)) = row.pair(Peer::Nginx, |sample| sample.p99_ms) {
            goal("p99 ≤ nginx's".to_owned(), format!("{own:.2} of {nginx:.2} ms"), own <= nginx);
        }
    }
}

fn write_idle(text: &mut String, balancer: impl Fn(Peer) -> Result<Balancer>) -> Result<()> {
    text.push_str(
        "\nAll processes of a balancer that was just started; `bytes more` since it held one connection (nginx and \
         HAProxy allocate much of theirs at the start).\n\n\
         | idle connections | balancer | memory, KB | bytes/connection | bytes more/connection |\n\
         |---|---|---|---|---|\n",
    );
    let mut idle = idle::Connections::allow(IDLE[1])?;
    let mut all = Vec::new();
    for peer in [Peer::Tercet, Peer::Nginx, Peer::HaProxy] {
        let Balancer { running, .. } = balancer(peer)?;
        let before = Usage::of(running.id())?.memory;
        for count in IDLE {
            idle.hold(peer.address(1, Port::Plain), count).with_context(|| peer.name().to_owned())?;
            let memory = Usage::of(running.id())?.memory;
            let (each, more) = (memory / count as u64, memory.saturating_sub(before) / count as u64);
            // Writing to a String cannot fail.
            let _ = writeln!(text, "| {count} | {} | {} | {each} | {more} |", peer.name(), memory / 1024);
            all.push(memory);
        }
        idle.close();
    }
    let [own, nginx] = [all[IDLE.len() - 1], all[2 * IDLE.len() - 1]];
    let verdict = report::verdict(own <= nginx);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "\nGoal, memory with {} idle connections ≤ nginx's: {verdict}.", IDLE[1]);
    Ok(())
}
