//! The system of a machine, read by a shell script before tercet is copied to it: whether it meets the requirements.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};

use crate::ssh::Remote;

/// Prints `key=value` lines; needs nothing but what every Debian has. Reads, never changes.
const SCRIPT: &str = include_str!("system/system.sh");

/// Disk space that installing takes at most, in KiB: 512 MiB.
const DISK_KIB: u64 = 512 << 10;

/// The system of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// `debian` or `ubuntu`, and its version.
    pub distribution: (String, String),
    /// Its machine-id(5).
    pub id: String,
    /// Memory in KiB.
    pub memory_kib: u64,
    /// All its addresses but loopback and link-local ones.
    pub addresses: Vec<IpAddr>,
    /// The source address of the operator's connection, and the port of sshd.
    pub operator: (IpAddr, u16),
    /// The major version of PostgreSQL its distribution has.
    pub postgresql: u32,
    /// The size of the file system that PostgreSQL's data is on, in KiB.
    pub data_kib: u64,
}

/// Reads the system of a machine.
///
/// # Errors
/// It cannot be reached, or does not meet the requirements: the error names the machine, the reason and what to do.
pub(crate) fn look(remote: &Remote<'_>) -> Result<System> {
    let text = remote.run("sh -s", SCRIPT.as_bytes())?;
    check_system(&text).with_context(|| format!("{} cannot be used", remote.name))
}

fn check_system(text: &str) -> Result<System> {
    let value = |key: &str| {
        text.lines()
            .filter_map(|line| line.split_once('='))
            .find(|(name, _)| *name == key)
            .map_or("", |(_, value)| value.trim_matches('"'))
    };
    let (system, version) = (value("system"), value("version"));
    let postgresql = match (system, version) {
        ("debian", "12") => 15,
        ("debian", "13") => 17,
        ("ubuntu", "22.04") => 14,
        ("ubuntu", "24.04") => 16,
        _ => bail!(
            "it runs {} {version}\nhint: Debian 12 or 13, or Ubuntu 22.04 or 24.04",
            if system.is_empty() { "an unknown system" } else { system }
        ),
    };
    if value("systemd") != "yes" {
        bail!("systemd is not its first process");
    }
    if value("architecture") != std::env::consts::ARCH {
        bail!(
            "it is {}, and this tercet is for {}\nhint: apply with a tercet built for its architecture",
            value("architecture"),
            std::env::consts::ARCH
        );
    }
    let disk: u64 = value("disk").parse().context("its free disk space is unknown")?;
    if disk < DISK_KIB {
        bail!("only {} MiB of its disk are free\nhint: tercet needs {} MiB", disk >> 10, DISK_KIB >> 10);
    }
    let mut connection = value("connection").split(' ');
    let operator = connection.next().and_then(|address| address.parse().ok());
    let port = connection.nth(2).and_then(|port| port.parse().ok());
    Ok(System {
        distribution: (system.to_owned(), version.to_owned()),
        id: value("machine-id").to_owned(),
        memory_kib: value("memory").parse().context("its memory is unknown")?,
        addresses: text
            .lines()
            .filter_map(|line| line.strip_prefix("address=")?.split('/').next()?.parse().ok())
            .collect(),
        operator: operator.zip(port).context("sshd does not say where the connection comes from")?,
        postgresql,
        data_kib: value("data").parse().context("the size of its disk is unknown")?,
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const GOOD: &str = "system=debian\nversion=\"12\"\nsystemd=yes\narchitecture=ARCH\nmemory=1024\ndisk=999999\ndata=999999\n\
                        machine-id=1\nconnection=10.0.0.5 50000 10.0.0.20 22\n";

    #[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
    fn check(from: &str, to: &str, expected: Expect) {
        let text = GOOD.replace(from, to).replace("ARCH", std::env::consts::ARCH);
        let verdict = match check_system(&text) {
            Ok(system) => format!("PostgreSQL {}, operator {:?}", system.postgresql, system.operator),
            Err(error) => format!("{error:#}"),
        };
        expected.assert_eq(&verdict);
    }

    #[test]
    fn an_unfit_machine_is_refused_with_what_to_do() {
        check("", "", expect!["PostgreSQL 15, operator (10.0.0.5, 22)"]);
        check(
            "debian",
            "arch",
            expect![[r"
            it runs arch 12
            hint: Debian 12 or 13, or Ubuntu 22.04 or 24.04"]],
        );
        check("systemd=yes", "", expect!["systemd is not its first process"]);
        check(
            "999999",
            "2048",
            expect![[r"
            only 2 MiB of its disk are free
            hint: tercet needs 512 MiB"]],
        );
        check("connection=10", "connection=x", expect!["sshd does not say where the connection comes from"]);
    }
}
