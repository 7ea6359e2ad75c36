//! Every secret and certificate replaced under load; what was before is refused at the end.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::{Scenario, lossless, nothing_to_do, public_address};
use crate::lab::signal;
use crate::lab::traffic::Kind;

/// Begins a login to PostgreSQL with the certificate in a folder; the code of its authentication request (PostgreSQL
/// manual, section 55.7: 10 is SASL, so the password is asked for too), or what went wrong.
const LOGIN: &str = "import socket, ssl, struct, sys
folder, authority = sys.argv[1:]
plain = socket.create_connection(('10.77.0.20', 5432))
plain.sendall(struct.pack('!ii', 8, 80877103))
plain.recv(1)
context = ssl.create_default_context(cafile=authority)
context.load_cert_chain(folder + '/client.crt', folder + '/client.key')
try:
    tls = context.wrap_socket(plain, server_hostname='10.77.0.20')
    names = b'user\\0authenticator\\0database\\0shop\\0\\0'
    tls.sendall(struct.pack('!ii', 8 + len(names), 196608) + names)
    answer = tls.recv(9)
    print(answer[:1].decode(), struct.unpack('!i', answer[5:9])[0])
except ssl.SSLError as error:
    print(error.reason)
";

pub(super) fn all_kinds(scenario: &Scenario<'_>) -> Result<()> {
    scenario.on("app1", "rm -rf /run/before; cp -r /etc/tercet/credentials/application-* /run/before")?;
    let verifier = "runuser -u postgres -- psql -Atc \"select rolpassword from pg_authid where rolname = 'authenticator'\"";
    let before = scenario.on("db", verifier)?;
    let old = token(scenario)?;
    let traffic = scenario.traffic(Kind::Read)?;
    for kind in ["secrets", "certificates"] {
        let printed = scenario.succeed("rotate", &[kind, "--yes"])?;
        ensure!(printed.contains("rotated: ") && printed.contains("proven: "), "{printed}");
        ensure!(!printed.contains("ship release"), "the release is another:\n{printed}");
        nothing_to_do(scenario)?;
    }
    authority_in_two_parts(scenario)?;
    scenario.succeed("rotate", &["token-keys", "--yes"])?;
    let new = token(scenario)?;
    for (which, token) in [("old", &old), ("new", &new)] {
        let status = status(scenario, token)?;
        ensure!(status == "200", "a token of the {which} key before the old one is retired: {status}");
    }
    let printed = scenario.fail("rotate", &["token-keys", "--yes"])?;
    ensure!(printed.contains("still accepted"), "{printed}");
    scenario.succeed("rotate", &["token-keys", "--retire", "--yes"])?;
    lossless(&traffic.stop()?)?;

    let (status_of_old, status_of_new) = (status(scenario, &old)?, status(scenario, &new)?);
    ensure!((&*status_of_old, &*status_of_new) == ("401", "200"), "{status_of_old}, {status_of_new}");
    ensure!(before != scenario.on("db", verifier)?, "the password is the same");
    let now = scenario.on("app1", "ls -d /etc/tercet/credentials/application-*")?;
    ensure!(now.lines().count() == 1, "old credentials are left:\n{now}");
    let login = |folder: &str, authority: &str| {
        scenario.on("app1", &format!("python3 -c \"{LOGIN}\" {folder} {authority}/authority.crt"))
    };
    let now = now.trim();
    let accepted = login(now, now)?;
    ensure!(accepted.trim() == "R 10", "the new certificate: {accepted}");
    let refused = login("/run/before", now)?;
    ensure!(refused.contains("UNKNOWN_CA"), "the old certificate: {refused}");
    let refused = login(now, "/run/before")?;
    ensure!(refused.contains("CERTIFICATE_VERIFY_FAILED"), "the old authority: {refused}");
    scenario.on("app1", "rm -r /run/before")?;
    nothing_to_do(scenario)
}

/// Ctrl-C in its second phase; an apply keeps to that, and the same command goes on with it.
fn authority_in_two_parts(scenario: &Scenario<'_>) -> Result<()> {
    let mut rotate = scenario.tercet("rotate", &["authority", "--yes"])?;
    rotate.arg(scenario.project.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = rotate.spawn()?;
    let (mut printed, mut started) = (String::new(), 0);
    for line in BufReader::new(child.stderr.take().context("standard error is piped")?).lines() {
        let line = line?;
        if line.contains("] app1: start app-1") {
            started += 1;
            if started == 2 {
                signal(&child, "INT")?;
            }
        }
        printed += &format!("{line}\n");
    }
    ensure!(started == 2 && !child.wait()?.success() && printed.contains("interrupted"), "{printed}");
    let printed = scenario.succeed("apply", &["--yes"])?;
    ensure!(printed.contains("phase 2 of 3"), "apply does not say that a rotation is not over:\n{printed}");
    let printed = scenario.fail("rotate", &["secrets", "--yes"])?;
    ensure!(printed.contains("tercet rotate authority goes on with it"), "{printed}");
    let printed = scenario.succeed("rotate", &["authority", "--yes"])?;
    ensure!(printed.contains("goes on with phase 2") && printed.contains("rotated: "), "{printed}");
    nothing_to_do(scenario)
}

/// Those on PostgreSQL's own machine change to TLS and back.
pub(super) fn on_one_machine(scenario: &Scenario<'_>) -> Result<()> {
    let traffic = scenario.traffic(Kind::Read)?;
    for kind in ["secrets", "authority"] {
        scenario.succeed("rotate", &[kind, "--yes"])?;
    }
    lossless(&traffic.stop()?)?;
    nothing_to_do(scenario)
}

/// A token of the key that signs now.
fn token(scenario: &Scenario<'_>) -> Result<String> {
    let mut token = Command::new(&scenario.tercet);
    token.arg("token").arg(scenario.project.path()).args(["--role", "anon"]);
    Ok(crate::command::output(&mut token)?.trim().to_owned())
}

/// The status code of a request with a token, the same from both servers.
fn status(scenario: &Scenario<'_>, token: &str) -> Result<String> {
    let url = format!("http://{}/event?number=eq.0", public_address());
    let header = format!("Authorization: Bearer {token}");
    let ask = || {
        let mut curl = scenario.lab.at("internet")?;
        curl.args(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", "5", "-H", &header, &url]);
        crate::command::output(&mut curl)
    };
    let (one, other) = (ask()?, ask()?);
    ensure!(one == other, "one server says {one}, the other {other}");
    Ok(one)
}
