//! `tercet certificates`: the certificates of the balancer, on machines, under `tercet up`, or of a configuration file.

use std::path::Path;

use anyhow::Context as _;
use jiff::Timestamp;
use tercet_balancer::certificates::{Listed, list};
use tercet_balancer::config;

use crate::cli;
use crate::failure::{Failure, Outcome};
use crate::fleet::{Machines, table};
use crate::output::plain;
use crate::project::Project;

/// Prints the list of the machine that it runs on, by the binary and configuration of the balancer's unit.
const ON_MACHINE: &str = "tercet=$(sed -n 's/^ExecStart=\\([^ ]*\\).*/\\1/p' /etc/systemd/system/tercet-balancer.service) && \
                          exec \"$tercet\" certificates --json --config /etc/tercet/balancer.toml";

#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
pub(crate) fn run(arguments: &cli::Certificates) -> Outcome {
    let listed = match &arguments.config {
        Some(file) => list(&config::load(file).map_err(Failure::input)?),
        None => of_project(&arguments.machines)?,
    };
    if arguments.json {
        println!("{:#}", serde_json::to_value(&listed).context("the certificates")?);
    } else {
        print!("{}", describe(&listed));
    }
    Ok(())
}

fn of_project(arguments: &cli::Machines) -> Result<Vec<Listed>, Failure> {
    let project = Project::open(&arguments.folder)?;
    if project.topology.only_this_machine() {
        let file = project.folder.join(".tercet/run/balancer.toml");
        return of_up(&file);
    }
    let machines = Machines::without_certificates(arguments)?;
    let mut listed = Vec::new();
    for (machine, remote) in machines.remotes(&["balancer".to_owned()])? {
        let text = remote.run(ON_MACHINE, b"")?;
        let here: Vec<Listed> = serde_json::from_str(&text)
            .with_context(|| format!("{}: unexpected list of certificates", machine.name))?;
        listed.extend(here);
    }
    Ok(listed)
}

fn of_up(file: &Path) -> Result<Vec<Listed>, Failure> {
    if !file.exists() {
        return Err(Failure::input_message(format!(
            "{}: there is no such file\nhint: `tercet up` writes it; --config names the file of `tercet balancer`",
            file.display()
        )));
    }
    Ok(list(&config::load(file).map_err(Failure::input)?))
}

fn describe(listed: &[Listed]) -> String {
    if listed.is_empty() {
        return "no certificates: [balancer] has neither domains nor certificates\n".to_owned();
    }
    let mut rows = vec![["name", "issuer", "expires", "renewal", "last error"].map(str::to_owned).to_vec()];
    for it in listed {
        // The authority chooses these texts.
        let or_none = |text: Option<String>| text.map_or_else(|| "-".to_owned(), |text| plain(&text));
        let names = Some(it.names.join(", ")).filter(|names| !names.is_empty());
        rows.push(vec![
            or_none(names),
            or_none(it.issuer.clone()),
            or_none(it.expires.map(time)),
            or_none(it.file.clone().or_else(|| it.next_renewal.map(time))),
            or_none(it.last_error.as_ref().map(|error| error.replace(['\n', '\r', '\t'], " "))),
        ]);
    }
    table(&rows)
}

/// A time in seconds since 1970, in UTC.
fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds)
        .map_or_else(|_| "-".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M").to_string())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_row_for_each_certificate() {
        let listed = [
            Listed {
                names: vec!["shop.example.com".to_owned()],
                issuer: Some("R11 (Let's Encrypt)".to_owned()),
                expires: Some(1_803_798_060),
                next_renewal: Some(1_801_206_060),
                ..Listed::default()
            },
            Listed {
                names: vec!["www.shop.example.com".to_owned()],
                next_renewal: Some(1_796_022_180),
                last_error: Some("it does not\nresolve\x1b[2J\x1b[31m\u{9b}1m".to_owned()),
                failures: 3,
                ..Listed::default()
            },
            Listed {
                last_error: Some("No such file".to_owned()),
                file: Some("tls/a.crt".to_owned()),
                ..Listed::default()
            },
        ];
        expect![[r"
            name                  issuer               expires           renewal           last error
            shop.example.com      R11 (Let's Encrypt)  2027-02-28 07:01  2027-01-29 07:01  -
            www.shop.example.com  -                    -                 2026-11-30 07:03  it does not resolve\u{1b}[2J\u{9b}1m
            -                     -                    -                 tls/a.crt         No such file
        "]]
        .assert_eq(&describe(&listed));
        assert!(describe(&[]).starts_with("no certificates"));
    }
}
