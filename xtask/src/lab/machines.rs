//! The machines of the lab and their addresses: 10.77.0.0/24 and fd77::/64 inside, documentation addresses
//! (RFC 5737, RFC 3849) outside.

use anyhow::{Context as _, Result};

/// A machine of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Its name.
    pub(crate) name: &'static str,
    /// The last part of its addresses.
    pub(crate) host: u8,
    /// Whether it also has an address on the internet.
    pub(crate) public: bool,
    /// The user that `apply` logs in as: root, as on rented machines, or [`SUDOER`], as on cloud images.
    pub(crate) login: &'static str,
    /// Its operating system.
    pub(crate) debian: Debian,
}

/// A release of Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Debian {
    /// Debian 12.
    Bookworm,
    /// Debian 13, with PostgreSQL 17.
    Trixie,
}

impl Debian {
    /// Its code name.
    pub(crate) fn suite(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }
}

/// A user with passwordless sudo on every machine.
pub(crate) const SUDOER: &str = "debian";

const LB: Machine = Machine { public: true, ..machine("lb", 10) };
const APP1: Machine = machine("app1", 11);
const APP2: Machine = Machine { login: SUDOER, ..machine("app2", 12) };
const DB: Machine = Machine { login: SUDOER, ..machine("db", 20) };
/// The machine of the backups: off until a stage starts it.
pub(crate) const VAULT: Machine = machine("vault", 30);
/// The machine of the monitor: off until a stage starts it.
pub(crate) const MON: Machine = machine("mon", 50);
/// A machine with another operating system: off until a stage starts it.
pub(crate) const NEXT: Machine = Machine { debian: Debian::Trixie, ..machine("next", 40) };
/// More application machines, to measure what they cost: off until they are started.
pub(crate) const MORE: [Machine; 14] = [
    machine("app3", 103),
    machine("app4", 104),
    machine("app5", 105),
    machine("app6", 106),
    machine("app7", 107),
    machine("app8", 108),
    machine("app9", 109),
    machine("app10", 110),
    machine("app11", 111),
    machine("app12", 112),
    machine("app13", 113),
    machine("app14", 114),
    machine("app15", 115),
    machine("app16", 116),
];

const fn machine(name: &'static str, host: u8) -> Machine {
    Machine { name, host, public: false, login: "root", debian: Debian::Bookworm }
}

/// The machines that are on from the start, the public one first.
pub(crate) const MACHINES: [Machine; 4] = [LB, APP1, APP2, DB];

/// All machines.
pub(crate) fn all() -> impl Iterator<Item = Machine> {
    MACHINES.into_iter().chain([VAULT, MON, NEXT]).chain(MORE)
}

/// The last part of the operator's and of the internet client's address.
pub(crate) const OPERATOR: u8 = 5;
pub(crate) const INTERNET: u8 = 99;

/// The object store's name, at the switch's address.
pub(crate) const OBJECT_STORE: &str = "s3.lab";

/// The switch's and router's own.
pub(crate) const SWITCH: u8 = 1;

pub(crate) fn inside(host: u8) -> [String; 2] {
    [format!("10.77.0.{host}/24"), format!("fd77::{host}/64")]
}

pub(crate) fn outside(host: u8) -> [String; 2] {
    [format!("198.51.100.{host}/24"), format!("2001:db8::{host}/64")]
}

/// An address without its prefix length.
pub(crate) fn plain(address: &str) -> &str {
    address.split('/').next().expect("split yields at least one part")
}

impl Machine {
    pub(crate) fn named(name: &str) -> Result<Self> {
        all().find(|machine| machine.name == name).with_context(|| {
            let names: Vec<&str> = all().map(|machine| machine.name).collect();
            format!("no machine {name} in the lab\nhint: there are {}", names.join(", "))
        })
    }

    /// Its inner IPv4 address.
    pub(crate) fn address(self) -> String {
        plain(&inside(self.host)[0]).to_owned()
    }
}
