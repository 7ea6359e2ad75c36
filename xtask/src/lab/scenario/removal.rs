//! Machines that leave the file, and projects that are taken down: nothing is lost, nothing is left, the data stays.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{FOUR_MACHINES, Named, Scenario, faults, interrupted, lossless, nothing_to_do};
use crate::lab::machines::{MACHINES, Machine};
use crate::lab::traffic::Kind;
use crate::lab::{kill, until};

pub(super) const STAGES: &[Named] = &[
    ("machines with the packages already, as they were before", first_apply),
    ("an application machine removed from the file under load: nothing is lost or left", removed),
    ("a removed machine that is off is listed, and cleaned up when it is back", removed_while_off),
    ("destroy, killed at every operation: nothing is left, the data stays and is taken up", destroyed),
    ("destroy with the data leaves other databases alone", destroyed_with_data),
];

/// What a machine has that tercet could have made, but for what programs of the system write all the time.
const STATE: &str = "find /etc /usr/local /var/lib/tercet /run/tercet /run/tercet-balancer -xdev \\( ! -type d -o -name '*tercet*' \\) \
    ! -name '*-' ! -path '/etc/machine-id' -printf '%p %y %m %u:%g %l\\n' 2>/dev/null | sort; \
    find /etc /usr/local -xdev -type f ! -name '*-' -exec sha256sum {} + 2>/dev/null | sort -k 2; \
    getent passwd | cut -d: -f1; getent group | cut -d: -f1; nft list tables; sysctl -n net.core.somaxconn; \
    systemctl list-units --all --plain --no-legend 'tercet*'; ss -Hltn | awk '{print $4}' | sort";

/// Where a stage finds what the machines were before the first apply.
fn bare(scenario: &Scenario<'_>, machine: &str) -> std::path::PathBuf {
    scenario.project.path().join(".tercet/before").join(machine)
}

/// Compares a machine with what it was.
fn is_bare(scenario: &Scenario<'_>, machine: &str) -> Result<()> {
    let before = std::fs::read_to_string(bare(scenario, machine))?;
    let now = scenario.on(machine, STATE)?;
    let (before, now): (BTreeSet<&str>, BTreeSet<&str>) = (before.lines().collect(), now.lines().collect());
    let more: Vec<_> = now.difference(&before).collect();
    let less: Vec<_> = before.difference(&now).collect();
    ensure!(more.is_empty() && less.is_empty(), "{machine} has {more:#?}\nand has no more {less:#?}");
    Ok(())
}

/// The packages are there before, so that files of an apply can be distinguished from theirs.
fn first_apply(scenario: &Scenario<'_>) -> Result<()> {
    for machine in MACHINES {
        let packages = if machine.name == "db" { "nftables postgresql-15" } else { "nftables" };
        scenario.on(
            machine.name,
            &format!(
                "export DEBIAN_FRONTEND=noninteractive; apt-get -qq update && \
                 apt-get -qq install --no-install-recommends {packages} >/dev/null 2>&1"
            ),
        )?;
        let path = bare(scenario, machine.name);
        std::fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        std::fs::write(path, scenario.on(machine.name, STATE)?)?;
    }
    scenario.on("db", "runuser -u postgres -- psql -qc 'create database other'")?;
    scenario.succeed("apply", &["--yes"])?;
    nothing_to_do(scenario)
}

/// How many sessions of the database come from a machine, and lines of `pg_hba.conf` that let it in.
fn access(scenario: &Scenario<'_>, machine: &str) -> Result<String> {
    let address = Machine::named(machine)?.address();
    scenario.on(
        "db",
        &format!(
            "runuser -u postgres -- psql -Atc \"select count(*) from pg_stat_activity where client_addr = '{address}'\"; \
             grep -c '{address}/' /etc/postgresql/15/main/pg_hba.conf || true"
        ),
    )
}

/// The first of two, so that the other takes its place and its name.
fn removed(scenario: &Scenario<'_>) -> Result<()> {
    let traffic = scenario.traffic(Kind::Read)?;
    scenario.write("lb=balancer app2=application db=database", "")?;
    let printed = scenario.succeed("apply", &["--yes"])?;
    ensure!(printed.contains("proven:"), "{printed}");
    lossless(&traffic.stop()?)?;
    is_bare(scenario, "app1")?;
    ensure!(access(scenario, "app1")? == "0\n0\n", "the database still lets app1 in");
    nothing_to_do(scenario)?;
    // Back again, and the other one goes.
    let traffic = scenario.traffic(Kind::Read)?;
    scenario.write(FOUR_MACHINES, "")?;
    scenario.succeed("apply", &["--yes"])?;
    scenario.write("lb=balancer app1=application db=database", "")?;
    scenario.succeed("apply", &["--yes"])?;
    lossless(&traffic.stop()?)?;
    is_bare(scenario, "app2")?;
    scenario.write(FOUR_MACHINES, "")?;
    scenario.succeed("apply", &["--yes"])?;
    nothing_to_do(scenario)
}

fn removed_while_off(scenario: &Scenario<'_>) -> Result<()> {
    scenario.lab.cut(Machine::named("app2")?)?;
    scenario.write("lb=balancer app1=application db=database", "")?;
    let printed = scenario.succeed("apply", &["--yes"])?;
    for text in [
        "lb: take app-2 out of rotation",
        "db: end the database sessions of app2 (10.77.0.12)",
        "app2 (10.77.0.12, application) left the project and could not be cleaned up",
        "the database's password",
        "--forget app2",
    ] {
        ensure!(printed.contains(text), "{text:?} is not printed:\n{printed}");
    }
    let plan = scenario.succeed("plan", &[])?;
    ensure!(plan.contains("nothing to do") && plan.contains("could not be cleaned up"), "{plan}");
    scenario.lab.start(Machine::named("app2")?)?;
    scenario.succeed("apply", &["--yes"])?;
    is_bare(scenario, "app2")?;
    let plan = scenario.succeed("plan", &[])?;
    ensure!(plan.contains("nothing to do") && !plan.contains("note:"), "{plan}");
    // Forgotten while it is off: never asked for again, and what it has stays.
    scenario.write(FOUR_MACHINES, "")?;
    scenario.succeed("apply", &["--yes"])?;
    scenario.lab.cut(Machine::named("app2")?)?;
    scenario.write("lb=balancer app1=application db=database", "")?;
    scenario.succeed("apply", &["--yes", "--forget", "app2"])?;
    let plan = scenario.succeed("plan", &[])?;
    ensure!(plan.contains("nothing to do") && !plan.contains("note:"), "{plan}");
    ensure!(access(scenario, "app2")? == "0\n0\n", "the database still lets app2 in");
    scenario.lab.start(Machine::named("app2")?)?;
    scenario.write(FOUR_MACHINES, "")?;
    scenario.succeed("apply", &["--yes"])?;
    until("both servers in rotation", Duration::from_secs(60), || Ok(faults::servers_up(scenario) == 2))
}

/// The operator's process is killed at each operation; the next one continues.
fn destroyed(scenario: &Scenario<'_>) -> Result<()> {
    scenario.on("db", "runuser -u postgres -- psql -qc 'insert into event (number) values (41)' shop")?;
    let printed = scenario.end_with(2, "destroy", &["--yes", "store"])?;
    ensure!(printed.contains("another project"), "{printed}");
    // Another operator's apply is not cut.
    let held = |owner: &str, expires: u64| {
        format!(
            "sed -i 's/\"owner\":\"[^\"]*\"/\"owner\":\"{owner}\"/; s/\"token\":\"[^\"]*\"/\"token\":\"t\"/; \
             s/\"expires\":[0-9]*/\"expires\":{expires}/' /var/lib/tercet/lease.json"
        )
    };
    scenario.on("db", &held("ann@desk", 99_999_999_999))?;
    let printed = scenario.fail("destroy", &["--yes", "shop"])?;
    ensure!(printed.contains("db: ann@desk is changing this machine"), "{printed}");
    scenario.on("db", &held("ann@desk", 1))?;
    scenario.answered(Duration::from_secs(10))?;
    let mut killed: BTreeMap<String, usize> = BTreeMap::new();
    loop {
        let mut destroy = scenario.tercet("destroy", &["--yes", "shop"])?;
        destroy
            .arg(scenario.project.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = destroy.spawn()?;
        let (mut printed, mut hit) = (String::new(), false);
        for line in BufReader::new(child.stderr.take().context("standard error is piped")?).lines() {
            let line = line?;
            printed += &format!("{line}\n");
            let operation = line.strip_prefix('[').and_then(|line| line.split_once("] "));
            let Some((_, operation)) = operation else { continue };
            let times = killed.entry(operation.to_owned()).or_default();
            *times += 1;
            if *times == 1 {
                kill(&mut child)?;
                hit = true;
                break;
            }
        }
        if hit {
            interrupted::let_leases_run_out(scenario)?;
            continue;
        }
        ensure!(child.wait()?.success(), "{printed}");
        break;
    }
    ensure!(killed.len() >= 8, "killed only at {killed:#?}");
    for machine in MACHINES {
        is_bare(scenario, machine.name)?;
    }
    let state = scenario.project.path().join(".tercet");
    let aside = std::fs::read_dir(&state)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let aside: Vec<String> = aside.filter(|name| name.starts_with("fleet")).collect();
    ensure!(aside.len() == 1 && aside[0].starts_with("fleet-destroyed-"), "{aside:?}");
    let printed = scenario.fail("destroy", &["--yes", "shop"])?;
    ensure!(printed.contains("has no operator state"), "{printed}");
    // The data belongs to no project, and is used only with --take-over.
    let printed = scenario.fail("apply", &["--yes"])?;
    ensure!(printed.contains("its PostgreSQL has a database shop already"), "{printed}");
    scenario.succeed("apply", &["--yes", "--take-over"])?;
    let answer = scenario.get("/event?number=eq.41")?;
    ensure!(answer.contains("\"number\":41"), "{answer}");
    nothing_to_do(scenario)
}

fn destroyed_with_data(scenario: &Scenario<'_>) -> Result<()> {
    let printed = scenario.succeed("destroy", &["--yes", "shop", "--with-data"])?;
    ensure!(printed.contains("DROP DATABASE shop AND ALL DATA IN IT"), "{printed}");
    for machine in MACHINES {
        is_bare(scenario, machine.name)?;
    }
    let left = scenario.on(
        "db",
        "runuser -u postgres -- psql -Atc \"select datname from pg_database where not datistemplate union all \
         select rolname from pg_roles where rolname !~ '^pg_' order by 1\"",
    )?;
    ensure!(left.split_whitespace().eq(["other", "postgres", "postgres"]), "left: {left}");
    scenario.succeed("apply", &["--yes"])?;
    scenario.answered(Duration::from_secs(10))
}
