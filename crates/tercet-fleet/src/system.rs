//! The system of a machine, read by a shell script before tercet is copied to it: whether it meets the requirements.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

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
    /// The TCP sockets that processes outside of tercet's units listen on.
    pub listeners: Vec<Listener>,
    /// The units that run, of those that tercet's own units of the monitoring replace.
    pub replaced: Vec<String>,
    /// The `postgresql.conf` of a cluster that PostgreSQL of this distribution would run and that does not include `conf.d`.
    pub without_conf_d: Option<String>,
    /// Whether sshd accepts passwords.
    pub accepts_passwords: bool,
}

/// A TCP socket that processes listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// The names of the processes.
    pub processes: Vec<String>,
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
    let values = |key: &'static str| {
        text.lines()
            .filter_map(|line| line.split_once('='))
            .filter(move |(name, _)| *name == key)
            .map(|(_, value)| value.trim_matches('"'))
    };
    let value = |key: &'static str| values(key).next().unwrap_or_default();
    // All that is wrong, since each is mended by hand.
    let mut wrong = Vec::new();
    let (system, version) = (value("system"), value("version"));
    let postgresql = match (system, version) {
        ("debian", "12") => 15,
        ("debian", "13") => 17,
        ("ubuntu", "22.04") => 14,
        ("ubuntu", "24.04") => 16,
        _ => {
            wrong.push(format!(
                "it runs {} {version}\nhint: Debian 12 or 13, or Ubuntu 22.04 or 24.04",
                if system.is_empty() { "an unknown system" } else { system }
            ));
            0
        }
    };
    if value("systemd") != "yes" {
        wrong.push("systemd is not its first process".to_owned());
    }
    if value("architecture") != std::env::consts::ARCH {
        wrong.push(format!(
            "it is {}, and this tercet is for {}\nhint: apply with a tercet built for its architecture",
            value("architecture"),
            std::env::consts::ARCH
        ));
    }
    for (key, folder) in [("disk", "/usr/local"), ("free", "/var/lib")] {
        let free: u64 =
            value(key).parse().with_context(|| format!("its free disk space in {folder} is unknown"))?;
        if free < DISK_KIB {
            wrong.push(format!(
                "only {} MiB of its disk are free in {folder}\nhint: tercet needs {} MiB",
                free >> 10,
                DISK_KIB >> 10
            ));
        }
    }
    let broken: Vec<&str> = values("broken").collect();
    if !broken.is_empty() {
        wrong.push(format!(
            "packages are half installed: {}\nhint: `dpkg --audit` there says what to do",
            broken.join(", ")
        ));
    }
    let mut connection = value("connection").split(' ');
    let operator = connection.next().and_then(|address| address.parse().ok());
    let port = connection.nth(2).and_then(|port| port.parse().ok());
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(System {
        distribution: (system.to_owned(), version.to_owned()),
        id: value("machine-id").to_owned(),
        memory_kib: value("memory").parse().context("its memory is unknown")?,
        addresses: values("address").filter_map(address).collect(),
        operator: operator.zip(port).context("sshd does not say where the connection comes from")?,
        postgresql,
        data_kib: value("data").parse().context("the size of its disk is unknown")?,
        listeners: values("listener").filter_map(listener).collect(),
        replaced: values("running").map(str::to_owned).collect(),
        without_conf_d: {
            let own = format!("/etc/postgresql/{postgresql}/");
            values("no-conf.d").find(|path| path.starts_with(&own)).map(str::to_owned)
        },
        accepts_passwords: value("passwords") == "yes",
    })
}

/// The beginnings of the names of interfaces that belong to containers or virtual machines.
pub(crate) const BRIDGES: [&str; 9] =
    ["docker", "br-", "virbr", "veth", "cni", "flannel", "podman", "lxcbr", "lxdbr"];

/// The address of `10.0.0.10/24 eth0`, unless it is a bridge's: those have the same addresses on every machine.
fn address(text: &str) -> Option<IpAddr> {
    let (address, interface) = text.split_once(' ')?;
    let is_machines = !BRIDGES.iter().any(|prefix| interface.starts_with(prefix));
    address.split('/').next().filter(|_| is_machines)?.parse().ok()
}

/// The listener of `10.0.0.10:80 users:(("nginx",pid=12,fd=6),("nginx",pid=13,fd=6))`, as ss(8) shows it.
fn listener(text: &str) -> Option<Listener> {
    let (socket, users) = text.split_once(' ')?;
    let socket = listening_at(socket)?;
    let processes = users.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    Some(Listener { address: socket.ip(), port: socket.port(), processes })
}

/// Where `10.0.0.10%eth0:80` listens, as ss(8) shows it. `*` stands for all addresses of both families.
pub(crate) fn listening_at(socket: &str) -> Option<SocketAddr> {
    let (address, port) = socket.rsplit_once(':')?;
    let address = address.split('%').next().unwrap_or_default().trim_matches(['[', ']']);
    let address = if address == "*" { Some(Ipv6Addr::UNSPECIFIED.into()) } else { address.parse().ok() };
    Some(SocketAddr::new(address?, port.parse().ok()?))
}

impl System {
    /// The processes of others that listen where a part of the machine would: on `port` of `address`. Those of tercet's units
    /// and of PostgreSQL's are not among the listeners, but for the sockets that systemd holds for them.
    pub(crate) fn occupant(&self, address: IpAddr, port: u16) -> Option<&Listener> {
        let ours = ["tercet", "systemd"];
        self.listeners.iter().find(|it| {
            let overlaps = it.address == address || it.address.is_unspecified() || address.is_unspecified();
            let is_ours = it.processes.iter().any(|name| ours.contains(&name.as_str()));
            it.port == port && overlaps && !is_ours && !it.processes.is_empty()
        })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const GOOD: &str = "system=debian\nversion=\"12\"\nsystemd=yes\narchitecture=ARCH\nmemory=1024\ndisk=999999\ndata=999999\nfree=999999\n\
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
            "disk=999999",
            "disk=2048",
            expect![[r#"
                only 2 MiB of its disk are free in /usr/local
                hint: tercet needs 512 MiB"#]],
        );
        check(
            "systemd=yes\n",
            "broken=curl\nbroken=vim\n",
            expect![[r#"
            systemd is not its first process
            packages are half installed: curl, vim
            hint: `dpkg --audit` there says what to do"#]],
        );
        check("connection=10", "connection=x", expect!["sshd does not say where the connection comes from"]);
    }

    #[test]
    fn bridges_of_containers_are_no_addresses_and_a_port_in_use_names_its_process() {
        let text = format!(
            "{}address=10.0.0.10/24 eth0\naddress=172.17.0.1/16 docker0\nlistener=0.0.0.0:80 users:((\"nginx\",pid=1,fd=6),(\"nginx\",pid=2,fd=6))\n\
             listener=[::]:80 users:((\"nginx\",pid=1,fd=7))\nlistener=*:5432 users:((\"systemd\",pid=1,fd=5))\nlistener=127.0.0.1:8081 users:((\"node\",pid=8,fd=5))\n",
            GOOD.replace("ARCH", std::env::consts::ARCH)
        );
        let running = check_system(&format!("{text}running=prometheus.service\n")).unwrap().replaced;
        assert_eq!(running, ["prometheus.service"]);
        let other = "no-conf.d=/etc/postgresql/9/main/postgresql.conf\n";
        assert_eq!(check_system(&format!("{text}{other}")).unwrap().without_conf_d, None);
        let own = "no-conf.d=/etc/postgresql/15/main/postgresql.conf\n";
        let found = check_system(&format!("{text}{other}{own}")).unwrap().without_conf_d;
        assert_eq!(found.as_deref(), Some("/etc/postgresql/15/main/postgresql.conf"));
        let system = check_system(&text).unwrap();
        assert_eq!(system.addresses, [IpAddr::from([10, 0, 0, 10])]);
        let occupant =
            |address: [u8; 4], port| system.occupant(address.into(), port).map(|it| it.processes.join(" "));
        assert_eq!(occupant([0, 0, 0, 0], 80).as_deref(), Some("nginx nginx"));
        assert_eq!(occupant([10, 0, 0, 10], 5432), None);
        assert_eq!(occupant([10, 0, 0, 10], 8081), None);
        assert_eq!(occupant([127, 0, 0, 1], 8081).as_deref(), Some("node"));
    }
}
