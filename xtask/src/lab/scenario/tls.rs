//! HTTPS with a certificate of the user.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};

use super::{ONE_MACHINE, Scenario, public_address};
use crate::command::output;

/// The name in the certificate.
const NAME: &str = "shop.test";

const CERTIFICATES: &str = "application.servers = 2\n[balancer]\ncertificates = [{ certificate = \"shop.crt\", key = \"shop.key\" }]\n";

/// Served by its name; plain requests are sent there; a certificate that is renewed is served after the next apply,
/// and no connection is refused meanwhile.
pub(super) fn served(scenario: &Scenario<'_>) -> Result<()> {
    let folder = scenario.project.path();
    let authority = ["-subj", "/CN=the lab's authority", "-keyout", "ca.key", "-out", "ca.crt"];
    openssl(folder, &authority)?;
    issue(folder, "1001")?;
    scenario.write(ONE_MACHINE, CERTIFICATES)?;
    scenario.succeed("apply", &["--yes"])?;
    let answer = https(scenario)?;
    ensure!(answer.contains("[{\"number\":0}]"), "{answer}");
    let plain = scenario.get("/event")?;
    let there = format!("Location: https://{}/event", public_address());
    ensure!(plain.starts_with("HTTP/1.1 308") && plain.contains(&there), "no redirect to https:\n{plain}");
    ensure!(serial(scenario)?.contains("1001"), "another certificate is served");

    issue(folder, "1002")?;
    let applied = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut answered = 0;
            while !applied.load(Ordering::Relaxed) {
                https(scenario).with_context(|| format!("after {answered} answers"))?;
                answered += 1;
            }
            anyhow::Ok(answered)
        });
        let result = scenario.succeed("apply", &["--yes"]);
        applied.store(true, Ordering::Relaxed);
        let answered = asking.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        ensure!(answered > 0, "no request was answered while the certificate was renewed");
        result
    })?;
    ensure!(serial(scenario)?.contains("1002"), "the renewed certificate is not served");
    // A key that is another's is refused before anything is touched.
    openssl(folder, &["-subj", "/CN=other", "-keyout", "shop.key", "-out", "other.crt"])?;
    let printed = scenario.end_with(2, "apply", &["--yes"])?;
    ensure!(printed.contains("it is not the key of"), "{printed}");
    https(scenario).map(drop)
}

/// A new key and its certificate; the serial number as openssl shows it, in hexadecimal digits.
fn issue(folder: &Path, serial: &str) -> Result<()> {
    let serial = format!("0x{serial}");
    let (subject, names) = (format!("/CN={NAME}"), format!("subjectAltName=DNS:{NAME}"));
    let authority = ["-CA", "ca.crt", "-CAkey", "ca.key", "-set_serial", &serial];
    let rest = ["-subj", &subject, "-addext", &names, "-keyout", "shop.key", "-out", "shop.crt"];
    openssl(folder, &[authority.as_slice(), &rest].concat())
}

/// Makes a certificate and its key in `folder`.
pub(super) fn openssl(folder: &Path, arguments: &[&str]) -> Result<()> {
    let new =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2"];
    output(Command::new("openssl").current_dir(folder).args(new).args(arguments)).map(drop)
}

/// One request of the internet client, which trusts the authority alone.
fn https(scenario: &Scenario<'_>) -> Result<String> {
    let (authority, address) = (scenario.project.path().join("ca.crt"), public_address());
    let mut curl = scenario.lab.at("internet")?;
    curl.args(["curl", "-sS", "-i", "-m", "10", "--fail", "--resolve", &format!("{NAME}:443:{address}")]);
    output(curl.arg("--cacert").arg(authority).arg(format!("https://{NAME}/event?select=number&number=eq.0")))
}

/// The serial number of the certificate that is served.
fn serial(scenario: &Scenario<'_>) -> Result<String> {
    let shown = format!(
        "openssl s_client -connect {}:443 -servername {NAME} </dev/null 2>/dev/null | openssl x509 -noout -serial",
        public_address()
    );
    output(scenario.lab.at("internet")?.args(["sh", "-c", &shown]))
}
