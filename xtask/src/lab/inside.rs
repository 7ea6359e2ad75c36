//! The first process inside the lab's namespaces: it lays the network and keeps the machines running.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::Result;

use super::Folders;
use super::base::MIRROR_PORT;
use super::guest;
use super::machines::{INTERNET, MACHINES, OPERATOR, SWITCH, all, inside, outside, plain};
use super::network::ip;
use crate::command::output;

/// Lays the network, starts the package repository and every machine; returns when no machine is left. `tied` to who
/// started it, it ends with them, and with it all it holds: it is the first process of its namespace.
pub(super) fn run(folders: &Folders, tied: bool) -> Result<()> {
    if tied {
        std::thread::spawn(|| {
            // Nothing is ever written: only its end can come.
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            std::process::exit(1);
        });
    }
    fs::create_dir_all("/run/netns")?;
    output(Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run/netns"]))?;
    ip("link set lo up")?;
    for (number, (bridge, addresses)) in
        [("inner", inside(SWITCH)), ("outer", outside(SWITCH))].iter().enumerate()
    {
        // A bridge without an address of its own takes one of its ports', and another when that one goes: neighbours
        // would go on sending to the old one.
        let hardware = format!("52:54:00:4c:{:02x}:{SWITCH:02x}", number + 1);
        ip(&format!("link add {bridge} address {hardware} type bridge forward_delay 0"))?;
        ip(&format!("link set {bridge} up"))?;
        for address in addresses {
            ip(&format!("address add {address} dev {bridge} nodad"))?;
        }
    }
    for setting in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] {
        output(Command::new("sysctl").args(["-qw", setting]))?;
    }
    computer("operator", "inner", &inside(OPERATOR), &inside(SWITCH))?;
    computer("internet", "outer", &outside(INTERNET), &outside(SWITCH))?;
    let switch = inside(SWITCH);
    let mut repository = Command::new("python3")
        .args(["-m", "http.server", "--bind", plain(&switch[0]), &MIRROR_PORT.to_string(), "--directory"])
        .arg(folders.base.join("repository"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    fs::write(folders.run.join("ready"), "")?;
    std::thread::scope(|scope| {
        for machine in all() {
            scope.spawn(move || {
                let on = MACHINES.contains(&machine);
                if let Err(error) = guest::keep_running(folders, machine, on) {
                    println!("{}: {error:#}", machine.name);
                }
            });
        }
    });
    repository.kill()?;
    Ok(())
}

/// A bare network namespace: the computer of the operator or of an internet client.
fn computer(name: &str, bridge: &str, addresses: &[String; 2], gateways: &[String; 2]) -> Result<()> {
    ip(&format!("netns add {name}"))?;
    ip(&format!("link add v-{name} type veth peer name eth0 netns {name}"))?;
    ip(&format!("link set v-{name} master {bridge} up"))?;
    ip(&format!("-n {name} link set lo up"))?;
    ip(&format!("-n {name} link set eth0 up"))?;
    for (address, gateway) in addresses.iter().zip(gateways) {
        ip(&format!("-n {name} address add {address} dev eth0 nodad"))?;
        ip(&format!("-n {name} route add default via {}", plain(gateway)))?;
    }
    Ok(())
}
