//! Certificates from a certificate authority on the internet: Debian's pebble, with its DNS server.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::tls::openssl;
use super::{FOUR_MACHINES, Scenario, nothing_to_do, public_address};
use crate::command::output;
use crate::lab::machines::{INTERNET, outside, plain};
use crate::lab::{kill, until};

const NAMES: [&str; 2] = ["shop.test", "www.shop.test"];
/// The time from the end of an apply to https.
const FIRST: Duration = Duration::from_secs(15);
/// How long a certificate is valid, in seconds.
const VALIDITY: u64 = 30;

/// The authority and its DNS server, ended with the stage.
struct Authority(Vec<Child>);

impl Authority {
    fn start(scenario: &Scenario<'_>) -> Result<Self> {
        let folder = scenario.project.path();
        let address = address();
        openssl(
            folder,
            &["-subj", "/CN=pebble's root", "-keyout", "pebble-ca.key", "-out", "pebble-ca.crt"],
        )?;
        let names = format!("subjectAltName=IP:{address}");
        let issue =
            ["-CA", "pebble-ca.crt", "-CAkey", "pebble-ca.key", "-subj", "/CN=pebble", "-addext", &names];
        let rest =
            ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "pebble.key", "-out", "pebble.crt"];
        openssl(folder, &[issue.as_slice(), &rest].concat())?;
        let configuration = json!({ "pebble": {
            "listenAddress": format!("{address}:14000"),
            "managementListenAddress": format!("{address}:15000"),
            "certificate": folder.join("pebble.crt"),
            "privateKey": folder.join("pebble.key"),
            "httpPort": 80,
            "tlsPort": 443,
            "certificateValidityPeriod": VALIDITY,
        }});
        fs::write(folder.join("pebble.json"), configuration.to_string())?;
        let mut started = Self(Vec::new());
        let mut dns = scenario.lab.at("internet")?;
        dns.args([
            "pebble-challtestsrv",
            "-defaultIPv4",
            &public_address(),
            "-defaultIPv6",
            "",
            "-http01",
            "",
        ]);
        dns.args(["-https01", "", "-tlsalpn01", "", "-management", "", "-dns01", &format!("{address}:53")]);
        started.0.push(dns.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        let mut pebble = scenario.lab.at("internet")?;
        pebble.args(["env", "PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0", "pebble"]);
        pebble.args(["-dnsserver", &format!("{address}:53"), "-config"]).arg(folder.join("pebble.json"));
        started.0.push(pebble.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        until("the certificate authority", Duration::from_secs(10), || Ok(issuing_root(scenario).is_ok()))?;
        Ok(started)
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        for process in &mut self.0 {
            // Gone already is as good.
            let _ = kill(process);
        }
    }
}

/// `domains` in the operator's file, https from the internet client; renewals under load.
pub(super) fn obtained(scenario: &Scenario<'_>) -> Result<()> {
    let _authority = Authority::start(scenario)?;
    scenario.on("lb", &format!("echo 'nameserver {}' >/etc/resolv.conf", address()))?;
    let domains = json!(NAMES);
    let acme =
        format!("acme = {{ directory = \"https://{}:14000/dir\", root = \"pebble-ca.crt\" }}", address());
    scenario.write(FOUR_MACHINES, &format!("[balancer]\ndomains = {domains}\n{acme}\n"))?;
    scenario.succeed("apply", &["--yes"])?;
    let applied = Instant::now();
    fs::write(scenario.project.path().join("issuing-root.crt"), issuing_root(scenario)?)?;
    for name in NAMES {
        let mut last = Ok(String::new());
        until(&format!("https://{name}"), FIRST, || {
            last = https(scenario, name);
            Ok(last.is_ok())
        })
        .with_context(|| {
            format!("{last:?}\n{}", scenario.succeed("certificates", &[]).unwrap_or_default())
        })?;
    }
    ensure!(applied.elapsed() <= FIRST, "the certificates came after {:?}", applied.elapsed());
    let plain = scenario.get("/event")?;
    ensure!(plain.starts_with("HTTP/1.1 308"), "no redirect to https:\n{plain}");
    let shown = scenario.succeed("certificates", &[])?;
    ensure!(
        NAMES.iter().all(|name| shown.contains(name)) && shown.contains("Pebble Intermediate"),
        "{shown}"
    );

    // Two renewals, each request answered.
    let (first, begin) = (expiry(scenario)?, Instant::now());
    let mut renewed = 0;
    let mut latest = first;
    while renewed < 2 {
        ensure!(
            begin.elapsed() < Duration::from_secs(3 * VALIDITY),
            "no renewal:\n{}",
            scenario.succeed("certificates", &[])?
        );
        https(scenario, NAMES[0]).context("during renewals")?;
        let now = expiry(scenario)?;
        if now != latest {
            (latest, renewed) = (now, renewed + 1);
        }
    }
    nothing_to_do(scenario)?;
    let modes = scenario.on("lb", "find /var/lib/tercet-balancer -type f ! -perm 600")?;
    ensure!(modes.trim().is_empty(), "readable by others: {modes}");
    Ok(())
}

/// The address of the internet client, where the authority is.
fn address() -> String {
    plain(&outside(INTERNET)[0]).to_owned()
}

/// The root certificate of the certificates that the authority issues.
fn issuing_root(scenario: &Scenario<'_>) -> Result<String> {
    let mut curl = scenario.lab.at("internet")?;
    curl.args(["curl", "-sS", "--fail", "-m", "5", "--cacert"])
        .arg(scenario.project.path().join("pebble-ca.crt"));
    output(curl.arg(format!("https://{}:15000/roots/0", address())))
}

/// One request of the internet client, which trusts the authority alone.
fn https(scenario: &Scenario<'_>, name: &str) -> Result<String> {
    let root = scenario.project.path().join("issuing-root.crt");
    let mut curl = scenario.lab.at("internet")?;
    curl.args([
        "curl",
        "-sS",
        "-m",
        "10",
        "--fail",
        "--resolve",
        &format!("{name}:443:{}", public_address()),
    ]);
    output(curl.arg("--cacert").arg(root).arg(format!("https://{name}/event?number=eq.0")))
}

/// When the certificate that is served expires.
fn expiry(scenario: &Scenario<'_>) -> Result<String> {
    let shown = format!(
        "openssl s_client -connect {}:443 -servername {} </dev/null 2>/dev/null | openssl x509 -noout -enddate",
        public_address(),
        NAMES[0]
    );
    output(scenario.lab.at("internet")?.args(["sh", "-c", &shown]))
}
