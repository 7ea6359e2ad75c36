//! tercet, nginx and HAProxy as the same balancer in turn: same core, same servers behind, same load, rounds
//! interleaved so that a busy moment of the machine meets all of them.
//!
//! What counts is the processor time of a request: it is the balancer's own, while requests a second also depend on
//! how fast the load is made.

mod idle;
mod peer;

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};

use self::peer::{Peer, Port};
use super::load::Load;
use super::process::Usage;
use super::{machine, report};
use crate::command::output;
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
}

/// One kind of load.
struct Scenario {
    name: &'static str,
    path: &'static str,
    port: Port,
    connections: u32,
    /// At most this part of each peer's processor time is to be used.
    goals: &'static [(Peer, f64)],
}

const SMALL: &[(Peer, f64)] = &[(Peer::Nginx, 0.8), (Peer::HaProxy, 0.9)];

const SCENARIOS: &[Scenario] = &[
    Scenario { name: "small JSON, 1 connection", path: "/", port: Port::Plain, connections: 1, goals: &[] },
    Scenario {
        name: "small JSON, 16 connections",
        path: "/",
        port: Port::Plain,
        connections: 16,
        goals: SMALL,
    },
    Scenario {
        name: "small JSON, 64 connections",
        path: "/",
        port: Port::Plain,
        connections: 64,
        goals: SMALL,
    },
    Scenario {
        name: "small JSON, 256 connections",
        path: "/",
        port: Port::Plain,
        connections: 256,
        goals: &[(Peer::Nginx, 0.7), (Peer::HaProxy, 0.7)],
    },
    Scenario {
        name: "10 KB, 64 connections",
        path: "/10k",
        port: Port::Plain,
        connections: 64,
        goals: &[(Peer::Nginx, 0.9)],
    },
    Scenario {
        name: "1 MB, 16 connections",
        path: "/1m",
        port: Port::Plain,
        connections: 16,
        goals: &[(Peer::Nginx, 0.9)],
    },
    Scenario {
        name: "small JSON over TLS, 64 connections",
        path: "/",
        port: Port::Tls,
        connections: 64,
        goals: &[(Peer::Nginx, 1.0)],
    },
];

/// Connections that are held open for the memory table.
const IDLE: [usize; 2] = [1_000, 10_000];

/// One measurement.
#[derive(Clone, Copy, Debug)]
struct Sample {
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
    micros: f64,
}

/// A program of this bench, ended with it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = output(Command::new("kill").arg(self.0.id().to_string()));
        let _ = self.0.wait();
    }
}

/// Measures and writes docs/benchmarks.md.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    for program in ["nginx", "haproxy", "wrk", "taskset", "openssl", "prlimit"] {
        if output(Command::new("which").arg(program)).is_err() {
            bail!(
                "{program}: not on this machine\nhint: sudo apt-get install nginx-light haproxy wrk util-linux openssl"
            );
        }
    }
    let cores = std::thread::available_parallelism()?.get();
    if cores < 2 {
        bail!("one core for the balancer and one for the rest are needed");
    }
    let others = if cores == 2 { "1".to_owned() } else { format!("1-{}", cores - 1) };
    output(workspace.command("cargo").args(["build", "--release", "--quiet", "--package", "tercet"]))?;

    let folder = workspace.target.join("bench-balancer");
    // Left over from a bench that was broken off.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let _servers = start(&peer::servers(&folder)?, &folder, &others)?;
    let balancer = |peer: Peer| -> Result<(Peer, Running)> {
        let running = start(&peer.command(workspace, &folder)?, &folder, "0")?;
        peer.wait_until_it_answers()?;
        Ok((peer, running))
    };
    let balancers = Peer::ALL.into_iter().map(balancer).collect::<Result<Vec<_>>>()?;

    let mut text = format!(
        "## The balancer beside its peers\n\n{}. The balancer alone on one core, {} round(s) of {} s each, \
         medians; access log on for all. Versions: {}.\n",
        machine::description()?,
        arguments.rounds,
        arguments.seconds,
        Peer::ALL.map(Peer::version).join(", ")
    );
    let wanted =
        |scenario: &&Scenario| arguments.only.as_ref().is_none_or(|only| scenario.name.contains(only));
    let scenarios: Vec<&Scenario> = SCENARIOS.iter().filter(wanted).collect();
    let samples = measure(workspace, &scenarios, &balancers, &others, arguments)?;
    write_loads(&mut text, &scenarios, &samples);
    write_goals(&mut text, &scenarios, &samples);
    if arguments.only.is_none() {
        // Anew and one at a time, so that neither what the load left behind nor shared pages are missed.
        drop(balancers);
        write_idle(&mut text, balancer)?;
        report::write(workspace, "balancer", &text)?;
    }
    println!("{text}");
    Ok(())
}

/// Samples by scenario, by balancer, by round.
fn measure(
    workspace: &Workspace,
    scenarios: &[&Scenario],
    balancers: &[(Peer, Running)],
    cores: &str,
    arguments: &Arguments,
) -> Result<Vec<Vec<Vec<Sample>>>> {
    let mut samples = vec![vec![Vec::new(); balancers.len()]; scenarios.len()];
    for round in 1..=arguments.rounds {
        for (scenario, of_scenario) in scenarios.iter().zip(&mut samples) {
            println!("round {round}: {}", scenario.name);
            for ((peer, running), of_peer) in balancers.iter().zip(of_scenario) {
                of_peer.push(sample(workspace, scenario, *peer, running, cores, arguments.seconds)?);
            }
        }
    }
    Ok(samples)
}

fn sample(
    workspace: &Workspace,
    scenario: &Scenario,
    peer: Peer,
    running: &Running,
    cores: &str,
    seconds: u32,
) -> Result<Sample> {
    let load = Load {
        url: &peer.url(scenario.port, scenario.path),
        connections: scenario.connections,
        seconds,
        cores,
        arguments: &[],
    };
    let before = Usage::of(running.0.id())?.processor;
    let outcome = load.run(workspace)?;
    let used = Usage::of(running.0.id())?.processor.saturating_sub(before);
    if outcome.failures > 0 || outcome.requests == 0 {
        bail!(
            "{}: {} of {} requests failed: {}",
            peer.name(),
            outcome.failures,
            outcome.requests,
            scenario.name
        );
    }
    Ok(Sample {
        rate: outcome.rate,
        p50_ms: outcome.p50.as_secs_f64() * 1e3,
        p99_ms: outcome.p99.as_secs_f64() * 1e3,
        micros: used.as_secs_f64() * 1e6 / outcome.requests as f64,
    })
}

/// The median of something over a balancer's rounds.
fn middle(rounds: &[Sample], of: fn(&Sample) -> f64) -> f64 {
    report::median(&rounds.iter().map(of).collect::<Vec<_>>())
}

fn write_loads(text: &mut String, scenarios: &[&Scenario], samples: &[Vec<Vec<Sample>>]) {
    text.push_str(
        "\n| load | balancer | requests/s | p50 ms | p99 ms | CPU µs/request | tercet's share of it |\n|---|---|---|---|---|---|---|\n",
    );
    for (scenario, of_scenario) in scenarios.iter().zip(samples) {
        let own = middle(&of_scenario[0], |sample| sample.micros);
        for (peer, of_peer) in Peer::ALL.iter().zip(of_scenario) {
            let micros = middle(of_peer, |sample| sample.micros);
            let share = if *peer == Peer::Tercet { String::new() } else { format!("{:.2}", own / micros) };
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {:.0} | {:.2} | {:.2} | {micros:.1} | {share} |",
                scenario.name,
                peer.name(),
                middle(of_peer, |sample| sample.rate),
                middle(of_peer, |sample| sample.p50_ms),
                middle(of_peer, |sample| sample.p99_ms),
            );
        }
    }
}

/// What is to be reached, and whether it is: processor time beside each peer's, and nginx's p99.
fn write_goals(text: &mut String, scenarios: &[&Scenario], samples: &[Vec<Vec<Sample>>]) {
    text.push_str("\n| load | goal | measured | | unshared |\n|---|---|---|---|---|\n");
    for (scenario, of_scenario) in scenarios.iter().zip(samples) {
        let of = |peer: Peer, what| middle(&of_scenario[peer as usize], what);
        for (peer, most) in scenario.goals {
            let share = |own| of(own, |sample| sample.micros) / of(*peer, |sample| sample.micros);
            let (share, unshared) = (share(Peer::Tercet), share(Peer::TercetUnshared));
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {} | CPU ≤ {most} × {}'s | {share:.2} | {} | {unshared:.2} |",
                scenario.name,
                peer.name(),
                report::verdict(share <= *most),
            );
        }
        let [own, unshared, nginx] =
            [Peer::Tercet, Peer::TercetUnshared, Peer::Nginx].map(|peer| of(peer, |sample| sample.p99_ms));
        let _ = writeln!(
            text,
            "| {} | p99 ≤ nginx's | {own:.2} of {nginx:.2} ms | {} | {unshared:.2} ms |",
            scenario.name,
            report::verdict(own <= nginx),
        );
    }
}

fn write_idle(text: &mut String, balancer: impl Fn(Peer) -> Result<(Peer, Running)>) -> Result<()> {
    text.push_str(
        "\nAll processes of a balancer that was just started; `bytes more` since it held one connection (nginx and \
         HAProxy set much of theirs aside at the start).\n\n\
         | idle connections | balancer | memory, KB | bytes/connection | bytes more/connection |\n\
         |---|---|---|---|---|\n",
    );
    let mut idle = idle::Connections::allow(IDLE[1])?;
    let mut all = Vec::new();
    for peer in [Peer::Tercet, Peer::Nginx, Peer::HaProxy] {
        let (peer, running) = balancer(peer)?;
        let before = Usage::of(running.0.id())?.memory;
        for count in IDLE {
            idle.hold(peer.address(Port::Plain), count).with_context(|| peer.name().to_owned())?;
            let memory = Usage::of(running.0.id())?.memory;
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

/// Starts a program on these cores, its output in a file.
fn start(program: &Command, folder: &Path, cores: &str) -> Result<Running> {
    let name =
        Path::new(program.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let said = std::fs::File::create(folder.join(format!("{name}-{cores}.out")))?;
    let mut pinned = Command::new("sh");
    // As many descriptors as this machine allows: the balancers hold thousands of connections.
    pinned.args(["-c", r#"ulimit -n "$(ulimit -Hn)"; exec taskset --cpu-list "$0" "$@""#, cores]);
    pinned.arg(program.get_program()).args(program.get_args());
    pinned.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
    Ok(Running(pinned.spawn().with_context(|| format!("{name}: cannot be started"))?))
}
