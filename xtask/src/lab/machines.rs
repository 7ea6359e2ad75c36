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
}

/// A user with passwordless sudo on every machine.
pub(crate) const SUDOER: &str = "debian";

const LB: Machine = Machine { name: "lb", host: 10, public: true, login: "root" };
const APP1: Machine = Machine { name: "app1", host: 11, public: false, login: "root" };
const APP2: Machine = Machine { name: "app2", host: 12, public: false, login: SUDOER };
const DB: Machine = Machine { name: "db", host: 20, public: false, login: SUDOER };
/// The machine of the backups: off until a stage starts it.
pub(crate) const VAULT: Machine = Machine { name: "vault", host: 30, public: false, login: "root" };

/// The machines that are on from the start, the public one first.
pub(crate) const MACHINES: [Machine; 4] = [LB, APP1, APP2, DB];
/// All machines.
pub(crate) const ALL: [Machine; 5] = [LB, APP1, APP2, DB, VAULT];

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
        ALL.into_iter().find(|machine| machine.name == name).with_context(|| {
            let names = ALL.map(|machine| machine.name).join(", ");
            format!("no machine {name} in the lab\nhint: there are {names}")
        })
    }

    /// Its inner IPv4 address.
    pub(crate) fn address(self) -> String {
        plain(&inside(self.host)[0]).to_owned()
    }
}
