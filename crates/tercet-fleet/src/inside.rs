//! What this machine's processes listen on, whichever firewall is in front: read on the machine itself.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::nftables::Ruleset;
use crate::system::listening_at;

/// The ports of a machine that could be open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inside {
    /// The addresses and ports that processes listen on.
    listeners: Vec<SocketAddr>,
    /// The ports whose connections a table other than tercet's translates.
    translated: Vec<u16>,
}

impl Inside {
    /// The ports that others could reach.
    pub(crate) fn ports(&self) -> BTreeSet<u16> {
        let outside = self.listeners.iter().filter(|listener| !listener.ip().is_loopback());
        outside.map(SocketAddr::port).chain(self.translated.iter().copied()).collect()
    }

    /// The addresses that processes listen on at a port.
    pub(crate) fn at(&self, port: u16) -> String {
        let at = self.listeners.iter().filter(|listener| listener.port() == port);
        at.map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// Reads it.
pub(crate) fn read() -> Result<Inside> {
    let output = Command::new("ss").args(["-H", "-l", "-t", "-n"]).output().context("ss")?;
    let listeners = String::from_utf8_lossy(&output.stdout).lines().filter_map(listener).collect();
    Ok(Inside { listeners, translated: ruleset()?.translated_ports() })
}

/// The rules in force; none without nft.
pub(crate) fn ruleset() -> Result<Ruleset> {
    match Command::new("nft").args(["-s", "list", "ruleset"]).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Ruleset::default()),
        output => Ok(Ruleset::read(&String::from_utf8_lossy(&output.context("nft")?.stdout))),
    }
}

/// The socket of a line like `LISTEN 0 128 10.0.0.10:80 0.0.0.0:*`.
fn listener(line: &str) -> Option<SocketAddr> {
    listening_at(line.split_whitespace().nth(3)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_of_loopback_cannot_be_reached() {
        let lines = [
            "LISTEN 0 128 10.0.0.10%eth0:80 0.0.0.0:*",
            "LISTEN 0 128 [::]:22 [::]:*",
            "LISTEN 0 128 127.0.0.1:5432 0.0.0.0:*",
            "LISTEN 0 128 *:9090 *:*",
        ];
        let inside = Inside {
            listeners: lines.iter().filter_map(|line| listener(line)).collect(),
            translated: vec![6379],
        };
        assert_eq!(inside.ports(), BTreeSet::from([22, 80, 6379, 9090]));
        assert_eq!(inside.at(5432), "127.0.0.1:5432");
    }
}
