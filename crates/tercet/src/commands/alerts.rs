//! `tercet alerts`: the alerts that fire, and a test of their receivers.

use anyhow::anyhow;
use serde_json::json;
use tercet_config::{Receiver, Tier, Topology};
use tercet_fleet::agent::{Alert, Delivery};

use crate::cli::{self, AlertsVerb};
use crate::failure::{Failure, Outcome};
use crate::fleet::{Machines, Spinner, table};

pub(crate) fn run(arguments: &cli::Alerts) -> Outcome {
    match &arguments.verb {
        None => list(&arguments.list),
        Some(AlertsVerb::Test(test)) => self::test(test),
    }
}

#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
fn list(arguments: &cli::AlertsList) -> Outcome {
    let machines = open(&arguments.machines)?;
    let spinner = Spinner::new("asking the monitor");
    let (fleet, missing) = machines.open_reachable()?;
    unreachable(&machines.project().topology, missing)?;
    let alerts = fleet.alerts()?;
    spinner.finish();
    if arguments.json {
        println!("{:#}", json!({ "alerts": alerts }));
    } else if alerts.is_empty() {
        println!("no alert fires");
    } else {
        print!("{}", shown(&alerts));
    }
    Ok(())
}

/// A row for each alert, then what to do about those that are sent.
fn shown(alerts: &[Alert]) -> String {
    let mut rows = vec![["alert", "severity", "machine", "since", ""].map(str::to_owned).to_vec()];
    for alert in alerts {
        rows.push(vec![
            alert.name.clone(),
            alert.severity.clone(),
            alert.machine.clone(),
            alert.since.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            if alert.suppressed { "not sent: another alert explains it, or it is silenced" } else { "" }
                .to_owned(),
        ]);
    }
    let mut text = table(&rows);
    for alert in alerts.iter().filter(|alert| !alert.suppressed) {
        text += &format!("\n{}: {}\n  {}\n", alert.name, alert.summary, alert.description);
    }
    text
}

#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
fn test(arguments: &cli::AlertsTest) -> Outcome {
    let machines = open(&arguments.machines)?;
    let topology = &machines.project().topology;
    let receivers = &topology.alerts().to;
    if receivers.is_empty() {
        return Err(Failure::input_message(
            "alerts are sent nowhere\nhint: name receivers, to = [\"webhook:…\"] in [alerts], and apply",
        ));
    }
    let spinner = Spinner::new("sending a test alert, for at most half a minute");
    let (fleet, missing) = machines.open_reachable()?;
    unreachable(topology, missing)?;
    let deliveries = fleet.test_alerts()?;
    spinner.finish();
    let mut rows = vec![["receiver", "", ""].map(str::to_owned).to_vec()];
    for (receiver, delivery) in receivers.iter().zip(&deliveries) {
        let (outcome, why) = match delivery {
            Delivery::Sent => ("sent", ""),
            Delivery::Failed(why) => ("FAILED", why.as_str()),
        };
        rows.push(vec![name(receiver), outcome.to_owned(), why.to_owned()]);
    }
    print!("{}", table(&rows));
    match deliveries.iter().filter(|it| **it != Delivery::Sent).count() {
        0 => Ok(()),
        failed => {
            Err(anyhow!("{failed} of {} receivers did not get the test alert", deliveries.len()).into())
        }
    }
}

/// A receiver without its address, which is a secret, but for the file that holds it.
fn name(receiver: &Receiver) -> String {
    let secret = |kind: &str, secret: &tercet_config::Secret| match secret {
        tercet_config::Secret::File(path) => format!("{kind}:@{}", path.display()),
        tercet_config::Secret::Inline(url) => {
            let host = url.split("://").nth(1).and_then(|rest| rest.split(['/', '?', '#']).next());
            let host = host.and_then(|host| host.rsplit('@').next()).unwrap_or_default();
            format!("{kind}:…{host}…")
        }
    };
    match receiver {
        Receiver::Webhook(url) => secret("webhook", url),
        Receiver::Ntfy(url) => secret("ntfy", url),
        Receiver::Mail(address) => format!("mail:{address}"),
    }
}

/// The machines of a project with a monitor.
fn open(arguments: &cli::Machines) -> Result<Machines, Failure> {
    let machines = Machines::of(arguments)?;
    if machines.project().topology.carrying(Tier::Monitor).is_none() {
        return Err(Failure::input_message(
            "the project has no monitor\nhint: give a machine the tier \"monitor\", and apply",
        ));
    }
    Ok(machines)
}

/// The error of the monitor's machine, if it is among those that cannot be reached.
fn unreachable(topology: &Topology, missing: Vec<(String, anyhow::Error)>) -> Result<(), Failure> {
    let monitor = topology.carrying(Tier::Monitor).map(|machine| &machine.name);
    match missing.into_iter().find(|(name, _)| Some(name) == monitor) {
        Some((_, error)) => Err(error.into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_is_named_without_its_secret() {
        let inline = |url: &str| tercet_config::Secret::Inline(url.to_owned());
        assert_eq!(name(&Receiver::Ntfy(inline("https://u:hush@ntfy.sh/hush?x"))), "ntfy:…ntfy.sh…");
        let file = tercet_config::Secret::File("secrets/hook".into());
        assert_eq!(name(&Receiver::Webhook(file)), "webhook:@secrets/hook");
    }
}
