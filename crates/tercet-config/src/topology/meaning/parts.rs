//! The parts, each with its machine and port.

use std::collections::BTreeSet;
use std::ops::Range;

use super::machines::Placement;
use crate::file::{self, File, Located};
use crate::topology::monitor::{ALERTMANAGER, POSTGRES_EXPORTER, PROMETHEUS, node_exporter};
use crate::topology::{ADMIN_PORT_DISTANCE, Balancer, Part, Port, Tier, admin_port};
use tercet_options::Mistakes;

/// The default of the first application server's port.
const APPLICATION_PORT: u16 = 8081;
/// The default of PostgreSQL's port.
const DATABASE_PORT: u16 = 5432;
/// The port of the backup protocol, pgBackRest's default.
pub(crate) const BACKUP_PORT: u16 = 8432;
/// The balancer's metrics: below those of the first application server.
pub(super) const METRICS_PORT: u16 = APPLICATION_PORT - 1 + ADMIN_PORT_DISTANCE;

/// Assigns the balancer, the application servers, the database, its backups and the monitoring to machines and ports.
pub(super) fn place(
    file: &File,
    balancer: &mut Balancer,
    placement: &Placement,
    has_own_prometheus: bool,
    mistakes: &mut Mistakes,
) -> Vec<Part> {
    let mut parts = Vec::new();
    for machine in placement.carrying(Tier::Balancer).take(1) {
        let number = balancer.listen.first().map_or(0, std::net::SocketAddr::port);
        let port = Port { number, fixed: placement.named || file.balancer.listen.is_some() };
        parts.push(Part::of("balancer", Tier::Balancer, port, machine));
    }
    applications(file, placement, &mut parts, mistakes);
    if file.database.url.is_none() {
        for machine in placement.carrying(Tier::Database).take(1) {
            let port = port(file.database.port.as_ref(), DATABASE_PORT, placement);
            parts.push(Part::of("database", Tier::Database, port, machine));
        }
    }
    for machine in placement.carrying(Tier::Backup).take(1) {
        let port = Port { number: BACKUP_PORT, fixed: true };
        parts.push(Part::of("backup", Tier::Backup, port, machine));
    }
    // It gives way to the others.
    balancer.metrics_port = 0;
    apart(file, balancer, &parts, placement.named, mistakes);
    for machine in placement.carrying(Tier::Balancer).take(1) {
        let taken = ports(&parts, balancer, machine);
        let free = (1..=METRICS_PORT).rev().find(|port| !taken.contains(port));
        balancer.metrics_port = free.unwrap_or(METRICS_PORT);
    }
    let monitor = placement.carrying(Tier::Monitor).next();
    if monitor.is_some() || has_own_prometheus {
        monitoring(balancer, placement, monitor, &mut parts);
    }
    parts
}

/// The ports that parts use on a machine, the admin ports among them.
fn ports(parts: &[Part], balancer: &Balancer, machine: usize) -> BTreeSet<u16> {
    let here = parts.iter().filter(|part| part.machine == machine);
    here.flat_map(|part| ports_of(part, balancer)).collect()
}

/// The ports that a part serves at.
fn listening(part: &Part, balancer: &Balancer) -> Vec<u16> {
    match part.tier {
        Tier::Balancer => balancer.addresses().map(|address| address.port()).collect(),
        Tier::Application | Tier::Database | Tier::Backup | Tier::Monitor => part.ports(),
    }
}

/// The ports that a part uses, admin ports among them.
fn ports_of(part: &Part, balancer: &Balancer) -> Vec<u16> {
    let mut ports = listening(part, balancer);
    match part.tier {
        Tier::Balancer => ports.push(balancer.metrics_port),
        Tier::Application => ports.extend(part.ports().into_iter().map(admin_port)),
        Tier::Database | Tier::Backup | Tier::Monitor => {}
    }
    ports
}

/// Assigns Prometheus and Alertmanager to the monitor's machine, if there is one, and the exporters to all: each to its default port, or the next one that no part of its machine uses.
fn monitoring(balancer: &Balancer, placement: &Placement, monitor: Option<usize>, parts: &mut Vec<Part>) {
    let exporters = (0..placement.machines.len())
        .map(|machine| (node_exporter(&placement.machines[machine].name), 9100, machine));
    let postgresql = parts
        .iter()
        .find(|part| part.tier == Tier::Database)
        .map(|part| (POSTGRES_EXPORTER.to_owned(), 9187, part.machine));
    let here = monitor.into_iter().flat_map(|machine| {
        [(PROMETHEUS.to_owned(), 9090, machine), (ALERTMANAGER.to_owned(), 9093, machine)]
    });
    for (name, default, machine) in here.chain(exporters).chain(postgresql) {
        let taken = ports(parts, balancer, machine);
        let number = (default..=u16::MAX).find(|port| !taken.contains(port)).unwrap_or(default);
        let port = Port { number, fixed: true };
        parts.push(Part::of(&name, Tier::Monitor, port, machine));
    }
}

fn port(named: Option<&Located<u16>>, default: u16, placement: &Placement) -> Port {
    Port { number: named.map_or(default, |port| **port), fixed: placement.named || named.is_some() }
}

/// Assigns the servers of each application: to the ports from the one that it names, or else from the next that no other
/// application has.
fn applications(file: &File, placement: &Placement, parts: &mut Vec<Part>, mistakes: &mut Mistakes) {
    let sections = file.application.sections();
    let named: Vec<Servers<'_>> =
        sections.iter().filter_map(|(name, section)| Servers::read(*name, section, placement)).collect();
    if sections.len() != named.len() {
        return;
    }
    let mut taken: Vec<Range<usize>> =
        named.iter().filter(|it| it.section.port.is_some()).map(|it| it.ports(it.first.number)).collect();
    for (index, mut servers) in named.into_iter().enumerate() {
        if servers.section.port.is_none() {
            let is_free = |number: &u16| {
                let ports = servers.ports(*number);
                taken.iter().all(|taken| {
                    let (admin, taken_admin) = (admin_ports(&ports), admin_ports(taken));
                    are_apart(taken, &ports) && are_apart(taken, &admin) && are_apart(&taken_admin, &ports)
                })
            };
            servers.first.number = (servers.first.number..=u16::MAX).find(is_free).unwrap_or(u16::MAX);
            taken.push(servers.ports(servers.first.number));
        }
        servers.place(index, parts, mistakes);
    }
}

/// The admin ports of servers at these ports.
fn admin_ports(ports: &Range<usize>) -> Range<usize> {
    let distance = usize::from(ADMIN_PORT_DISTANCE);
    ports.start + distance..ports.end + distance
}

fn are_apart(first: &Range<usize>, second: &Range<usize>) -> bool {
    first.end <= second.start || second.end <= first.start
}

/// The servers of an application.
struct Servers<'a> {
    name: Option<&'a str>,
    section: &'a file::Application,
    /// The machines, assigned by round-robin.
    machines: Vec<usize>,
    named_machines: bool,
    count: usize,
    first: Port,
}

impl<'a> Servers<'a> {
    /// `None` if no machine carries the tier.
    fn read(name: Option<&'a str>, section: &'a file::Application, placement: &Placement) -> Option<Self> {
        let machines: Vec<usize> = placement.carrying(Tier::Application).collect();
        let count = match &section.servers {
            Some(servers) => usize::from(**servers),
            None if placement.named => machines.len(),
            None => 2,
        };
        let first = port(section.port.as_ref(), APPLICATION_PORT, placement);
        let named_machines = placement.named;
        (!machines.is_empty()).then_some(Self { name, section, machines, named_machines, count, first })
    }

    /// The most servers on a machine.
    fn each(&self) -> usize {
        self.count.div_ceil(self.machines.len())
    }

    /// The ports from the first one on. On named machines each server has a second port for its successor.
    fn ports(&self, first: u16) -> Range<usize> {
        let count = if self.named_machines { 2 * self.each() } else { self.each() };
        usize::from(first)..usize::from(first) + count
    }

    fn place(&self, application: usize, parts: &mut Vec<Part>, mistakes: &mut Mistakes) {
        let Self { section, machines, named_machines, count, first, .. } = self;
        if let Some(servers) = section.servers.as_ref().filter(|_| *count < machines.len()) {
            let message = format!("{} application machines can't share {count} server(s)", machines.len());
            let added = mistakes.add(servers.span(), message, "too few");
            added.hint(format!("at least {}, or leave it out for one each", machines.len()));
        }
        // On named machines each port has an admin port.
        let distance = if *named_machines { usize::from(ADMIN_PORT_DISTANCE) } else { 0 };
        let last = self.ports(first.number).end - 1 + distance;
        if last > usize::from(u16::MAX) {
            let span = section.port.as_ref().map(Located::span).unwrap_or_default();
            let ports = last + 1 - usize::from(first.number);
            mistakes.add(span, format!("there are no {ports} ports from here on"), "too high");
            return;
        }
        let prefix = self.name.map_or("app".to_owned(), |name| format!("app-{name}"));
        for index in 0..*count {
            let number = first.number + (index / machines.len()) as u16;
            parts.push(Part {
                standby: named_machines.then_some(number + self.each() as u16),
                application: Some(application),
                ..Part::of(
                    &format!("{prefix}-{}", index + 1),
                    Tier::Application,
                    Port { number, ..*first },
                    machines[index % machines.len()],
                )
            });
        }
    }
}

/// Reports parts of one machine with the same port, as far as the file names the ports. Admin ports are fixed on named machines.
fn apart(file: &File, balancer: &Balancer, parts: &[Part], named: bool, mistakes: &mut Mistakes) {
    let sections = file.application.sections();
    let span = |part: &Part| match part.tier {
        Tier::Balancer => file.balancer.listen.as_ref().and_then(|listen| listen.first()).map(Located::span),
        Tier::Application => sections.get(part.application?)?.1.port.as_ref().map(Located::span),
        Tier::Database => file.database.port.as_ref().map(Located::span),
        Tier::Backup | Tier::Monitor => None,
    };
    for (index, second) in parts.iter().enumerate() {
        for first in parts[..index].iter().filter(|first| first.machine == second.machine) {
            let (Some(first_span), Some(second_span)) = (span(first), span(second)) else { continue };
            // Two servers of an application have their ports from one number.
            let is_one = first.application.is_some() && first.application == second.application;
            let ports = |part| if named { ports_of(part, balancer) } else { listening(part, balancer) };
            let others = ports(second);
            let shared = ports(first).into_iter().find(|port| others.contains(port));
            if let Some(port) = shared.filter(|_| !is_one) {
                let message = format!("{} and {} share a machine and port {port}", first.name, second.name);
                mistakes.add(second_span, message, second.name.clone()).and(first_span, first.name.clone());
            }
        }
    }
}
