//! What was measured, as Markdown.

use std::fmt::Write as _;

use super::{Arguments, Row, Sample, Server};
use crate::bench::report::{median, verdict};

/// Everything measured, and which goals hold.
pub(super) fn text(machine: &str, rows: &[Row<'_>], arguments: &Arguments) -> String {
    let mut text = format!(
        "## The data API beside FastAPI\n\n{machine}; the application, PostgreSQL and the load share all cores. {} \
         round(s) of {} s each after a second that does not count, medians. FastAPI with asyncpg under uvicorn, 2 workers, \
         access log off; of tercet failures are logged, as by default. tercet sets role, claims and settings in a \
         transaction for every request, FastAPI does not.\n\n\
         \"uvicorn by itself\" is asyncio and h11, what `pip install fastapi uvicorn asyncpg` gives. Its socket is given to it \
         as one that is known to be TCP: on the one it makes for several workers asyncio leaves Nagle's algorithm on, and \
         each answer on a connection that is used again waits 40 ms.\n",
        arguments.rounds, arguments.seconds,
    );
    write_loads(&mut text, rows);
    write_goals(&mut text, rows);
    text
}

fn write_loads(text: &mut String, rows: &[Row<'_>]) {
    text.push_str(
        "\n| request | connections | server | requests/s | p50 ms | p99 ms | CPU µs/request: application | PostgreSQL | \
         PostgreSQL's share | tercet serves |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        for server in Server::ALL {
            let Some(rate) = row.middle(server, |it| it.rate) else { continue };
            let middle = |of: fn(&Sample) -> f64| row.middle(server, of).unwrap_or_default();
            let (application, database) = (middle(|it| it.application), middle(|it| it.database));
            let times = match row.middle(Server::Tercet, |it| it.rate) {
                Some(own) if server != Server::Tercet => format!("{:.1} ×", own / rate),
                _ => String::new(),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {} | {rate:.0} | {:.2} | {:.2} | {application:.1} | {database:.1} | {:.0} % | {times} |",
                row.scenario.workload.name,
                row.connections,
                server.name(),
                middle(|it| it.p50_ms),
                middle(|it| it.p99_ms),
                100.0 * database / (application + database),
            );
        }
    }
}

/// The goals compared with each peer, and whether they are met.
fn write_goals(text: &mut String, rows: &[Row<'_>]) {
    text.push_str("\n| request | connections | goal | measured | |\n|---|---|---|---|---|\n");
    for row in rows {
        for peer in Server::PEERS {
            let pair =
                |of: fn(&Sample) -> f64| Some((row.middle(Server::Tercet, of)?, row.middle(peer, of)?));
            let mut goal = |goal: String, measured: String, holds: bool| {
                let (name, connections) = (row.scenario.workload.name, row.connections);
                // Writing to a String cannot fail.
                let _ =
                    writeln!(text, "| {name} | {connections} | {goal} | {measured} | {} |", verdict(holds));
            };
            if let (Some(least), Some((own, other))) = (row.scenario.goal, pair(|it| it.rate)) {
                let times = own / other;
                goal(format!("≥ {least} × {}", peer.name()), format!("{times:.1} ×"), times >= least);
            }
            if let Some((own, other)) = pair(|it| it.p99_ms) {
                let measured = format!("{own:.2} of {other:.2} ms");
                goal(format!("p99 below that of {}", peer.name()), measured, own < other);
            }
        }
    }
}

impl Row<'_> {
    /// The median of something over a server's rounds, if it was measured.
    fn middle(&self, server: Server, of: fn(&Sample) -> f64) -> Option<f64> {
        let samples = &self.samples[server as usize];
        (!samples.is_empty()).then(|| median(&samples.iter().map(of).collect::<Vec<_>>()))
    }
}
