//! Certificates from a certificate authority (ACME), with pebble.

mod pebble;
mod renewal_information;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use self::pebble::{EXTERNAL, Options, Pebble};
use super::load::{self, Client};
use super::process::{Balancer, TIMEOUT, configuration, eventually, eventually_within, is_alive};
use super::thread_server::ThreadServer;
use crate::tercet::command;

/// The time in which the first certificate has to be there.
const FIRST: Duration = Duration::from_secs(15);
const SHOP: &str = "shop.example";
const CLUB: &str = "club.example";

/// A balancer with domains, in front of a server that answers `ok`.
struct Site {
    balancer: Balancer,
    _server: ThreadServer,
    http: SocketAddr,
    tls: SocketAddr,
    /// Where the root certificate of its certificates is written.
    root: PathBuf,
    started: Instant,
}

impl Site {
    /// With these domains, which all resolve to it, and more lines of `[acme]`.
    fn start(pebble: &Pebble, domains: &[&str], acme: &str) -> Self {
        Self::start_with(pebble, domains, domains, acme, |_| ())
    }

    /// As [`start`](Self::start) with one domain, the files of another site, and a clock that is off by so much.
    fn start_at(pebble: &Pebble, before: &Self, offset: &str) -> Self {
        Self::start_by(Some(offset), pebble, &[SHOP], &[SHOP], "", |folder| {
            fs::create_dir(folder.join("certificates")).unwrap();
            for name in ["shop.example.pem", "shop.example.json", "account.json"] {
                fs::copy(before.file(name), folder.join("certificates").join(name)).unwrap();
            }
        })
    }

    /// Only the `resolved` domains resolve; `prepare` gets the folder of the configuration file before the start.
    fn start_with(
        pebble: &Pebble,
        domains: &[&str],
        resolved: &[&str],
        acme: &str,
        prepare: impl FnOnce(&Path),
    ) -> Self {
        Self::start_by(None, pebble, domains, resolved, acme, prepare)
    }

    fn start_by(
        clock: Option<&str>,
        pebble: &Pebble,
        domains: &[&str],
        resolved: &[&str],
        acme: &str,
        prepare: impl FnOnce(&Path),
    ) -> Self {
        let (server, started) = (ThreadServer::answering("ok"), Instant::now());
        let hosts: String =
            resolved.iter().map(|domain| format!("{} {domain}\n", pebble.http.ip())).collect();
        let balancer = Balancer::spawn_with(
            |folder| {
                fs::write(folder.join("hosts"), hosts).unwrap();
                prepare(folder);
                let mut command = command();
                let mut preloaded = "libnss_wrapper.so".to_owned();
                if let Some(offset) = clock {
                    preloaded = format!("{preloaded}:{}", faketime().display());
                    // Waits are measured by the monotonic clock, which is right.
                    command.env("FAKETIME", offset).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
                }
                command.env("LD_PRELOAD", preloaded).env("NSS_WRAPPER_HOSTS", folder.join("hosts"));
                command
            },
            pebble.http,
            &site(pebble, domains, server.address, acme),
        );
        eventually("it answers", || load::get(pebble.http).is_ok());
        let root = balancer.file().with_file_name("issuing-root.pem");
        // Until the authority has issued a certificate, one that has issued none.
        fs::copy(pebble.root(), &root).unwrap();
        Self { balancer, _server: server, http: pebble.http, tls: pebble.tls, root, started }
    }

    /// Requests a domain by https; the body, or curl's message.
    fn https(&self, domain: &str) -> Result<String, String> {
        let port = self.tls.port();
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail", "--max-time", "10", "--cacert"]).arg(&self.root);
        curl.args(["--resolve", &format!("{domain}:{port}:{}", self.tls.ip())]);
        let output = curl.arg(format!("https://{domain}:{port}/")).output().expect("curl is installed");
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout).unwrap());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Waits until a domain has a certificate that a client trusts.
    fn wait_for(&self, pebble: &Pebble, domain: &str) {
        self.wait_within(TIMEOUT, pebble, domain);
    }

    fn wait_within(&self, limit: Duration, pebble: &Pebble, domain: &str) {
        eventually_within(limit, &format!("certificate of {domain}\n{}", self.balancer.log()), || {
            pebble.write_issuing_root(&self.root);
            self.https(domain).is_ok()
        });
    }

    /// A file of the certificates process.
    fn file(&self, name: &str) -> PathBuf {
        self.balancer.file().with_file_name("certificates").join(name)
    }

    /// What is recorded of a domain.
    fn record(&self, domain: &str) -> Option<Value> {
        let record = fs::read(self.file(&format!("{domain}.json"))).ok()?;
        serde_json::from_slice(&record).ok()
    }

    /// The recorded failure of a domain.
    fn failure(&self, domain: &str) -> Option<Value> {
        Some(self.record(domain)?["failure"].clone()).filter(Value::is_object)
    }

    /// Status and location of a request without TLS.
    fn plain(&self, host: &str, target: &str) -> String {
        let mut curl = Command::new("curl");
        curl.args([
            "-sS",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{redirect_url}",
            "-H",
            &format!("Host: {host}"),
        ]);
        let output = curl.arg(format!("http://{}{target}", self.http)).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// The certificates process.
    fn process(&self) -> Option<Pid> {
        let supervisor = self.balancer.child.id();
        let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).unwrap();
        children.split_whitespace().find_map(|pid| {
            let arguments = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
            arguments.contains("--certificates").then(|| Pid::from_raw(pid.parse().unwrap()).unwrap())
        })
    }
}

/// The library that sets another time for a program; its folder is named after the architecture.
fn faketime() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut libraries = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    libraries.find(|library| library.exists()).expect("faketime is installed")
}

fn site(pebble: &Pebble, domains: &[&str], server: SocketAddr, acme: &str) -> String {
    let listen = json!([
        { "address": pebble.http, "redirect-to-https": true },
        { "address": pebble.tls, "tls": true },
    ]);
    let listen = listen.to_string().replace("\":", "\"=");
    let more = format!(
        "domains = {}\n[acme]\ndirectory = \"{}\"\nroot = \"{}\"\n{acme}",
        json!(domains),
        pebble.directory(),
        pebble.root().display(),
    );
    let plain = format!("listen = [\"{}\"]", pebble.http);
    configuration(pebble.http, &[server], &more).replace(&plain, &format!("listen = {listen}"))
}

#[test]
fn the_first_certificate_comes_within_seconds_and_then_http_redirects() {
    let mut pebble = Pebble::stopped(Options::default());
    let site = Site::start(&pebble, &[SHOP], "");
    // Before it, http serves the application, and https says why there is nothing.
    assert_eq!(site.plain(SHOP, "/"), "200");
    let refused = site.https(SHOP).unwrap_err();
    assert!(refused.contains("unrecognized name"), "{refused}");
    let said = "there is no certificate for shop.example yet";
    eventually("it is logged", || site.balancer.log().contains(said));
    eventually("the authority is down", || site.failure(SHOP).is_some());
    let reason = site.failure(SHOP).unwrap()["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("Connection refused"), "{reason}");

    pebble.run();
    // The backoff may have grown until the authority was there.
    site.wait_within(Duration::from_secs(60), &pebble, SHOP);
    assert_eq!(site.https(SHOP).unwrap(), "ok");
    let location = format!("308 https://{SHOP}/a");
    assert_eq!(site.plain(SHOP, "/a"), location);
    // Another host: it gets the certificate there is.
    assert_eq!(site.plain("other.example", "/a"), "308 https://other.example/a");
    for name in ["shop.example.pem", "shop.example.json", "account.json"] {
        assert_eq!(fs::metadata(site.file(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    assert_eq!(fs::metadata(site.file("")).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(site.failure(SHOP), None);
    let process = site.process().unwrap();
    let sockets = fs::read_to_string(format!("/proc/{}/net/tcp", process.as_raw_nonzero())).unwrap();
    assert!(!listens(process, &sockets), "the certificates process listens");
}

/// Whether the process has one of the listening sockets (state 0A) of its network namespace.
fn listens(process: Pid, sockets: &str) -> bool {
    let listening: Vec<&str> = sockets
        .lines()
        .filter(|line| line.split_whitespace().nth(3) == Some("0A"))
        .filter_map(|line| line.split_whitespace().nth(9))
        .collect();
    let descriptors = fs::read_dir(format!("/proc/{}/fd", process.as_raw_nonzero())).unwrap();
    descriptors.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok()).any(|link| {
        let link = link.to_string_lossy().into_owned();
        listening.iter().any(|inode| link == format!("socket:[{inode}]"))
    })
}

#[test]
fn the_first_certificate_is_there_15_seconds_after_the_start() {
    let pebble = Pebble::start(Options { rejected_nonces: 20, ..Options::default() });
    let site = Site::start(&pebble, &[SHOP, CLUB], "email = \"operator@example.com\"");
    site.wait_for(&pebble, SHOP);
    site.wait_for(&pebble, CLUB);
    assert!(site.started.elapsed() < FIRST, "{:?}", site.started.elapsed());
    assert!(pebble.log().contains("reject 20% of good nonces"), "{}", pebble.log());
}

#[test]
fn unknown_tokens_go_to_the_application_unless_the_host_is_a_domain() {
    let pebble = Pebble::start(Options::default());
    let site = Site::start(&pebble, &[SHOP], "");
    let path = "/.well-known/acme-challenge";
    assert_eq!(site.plain(SHOP, &format!("{path}/unknown")), "404");
    assert_eq!(site.plain(SHOP, &format!("{path}/..%2f")), "404");
    site.wait_for(&pebble, SHOP);
    assert_eq!(site.plain(SHOP, &format!("{path}/unknown")), "404");
    let mut client = Client::new(site.http);
    for _ in 0..2 {
        let (status, _) = client.ask("GET", &format!("{path}/unknown"), "").unwrap();
        assert_eq!(status, 308, "the host is `test`: the redirect of the application");
    }
}

#[test]
fn tls_alpn_01_follows_a_failed_http_01() {
    let pebble = Pebble::start(Options::default());
    let failure = json!({ "failure": {
        "directory": pebble.directory(), "count": 1, "reason": "port 80 is closed", "at": 0, "retry-at": 0, "http-failed": true,
    }});
    let site = Site::start_with(&pebble, &[SHOP], &[SHOP], "", |folder| {
        fs::create_dir(folder.join("certificates")).unwrap();
        fs::write(folder.join("certificates/shop.example.json"), failure.to_string()).unwrap();
    });
    site.wait_for(&pebble, SHOP);
    let log = fs::read_to_string(site.balancer.file().with_file_name("access.log")).unwrap();
    assert!(!log.contains("LetsEncrypt-Pebble-VA"), "it was validated by HTTP-01:\n{log}");
}

#[test]
fn a_dead_domain_does_not_hold_the_others_back() {
    let pebble = Pebble::start(Options::default());
    let dead = "dead.example";
    let site = Site::start_with(&pebble, &[dead, SHOP], &[SHOP], "", |_| ());
    site.wait_for(&pebble, SHOP);
    assert!(site.started.elapsed() < FIRST);
    eventually("the dead one is reported", || site.failure(dead).is_some());
    let failure = site.failure(dead).unwrap();
    assert!(failure["reason"].as_str().unwrap().contains("dead.example does not resolve"), "{failure}");
    let refused = site.https(dead).unwrap_err();
    assert!(refused.contains("unrecognized name"), "{refused}");
    // There is https for the other one, but not for this.
    assert_eq!(site.plain(dead, "/"), "200");
    assert_eq!(pebble.issued(), 1);
}

#[test]
fn a_domain_that_leads_elsewhere_is_refused_with_the_reason_of_the_authority() {
    let pebble = Pebble::start(Options::default());
    pebble.resolve(SHOP, "127.255.255.254");
    let site = Site::start(&pebble, &[SHOP, CLUB], "");
    eventually("it is refused", || site.failure(SHOP).is_some());
    let failure = site.failure(SHOP).unwrap();
    let reason = failure["reason"].as_str().unwrap();
    assert!(reason.contains("127.255.255.254") && reason.contains("self-check"), "{failure}");
    assert_eq!(failure["http-failed"], true);
    let wait = failure["retry-at"].as_i64().unwrap() - failure["at"].as_i64().unwrap();
    assert_eq!(wait, 120);
    // The backoff survives a restart: an order is made for the other domain alone.
    site.wait_for(&pebble, CLUB);
    let orders = || pebble.log().matches("/order-plz").count();
    let (before, issued) = (orders(), pebble.issued());
    fs::remove_file(site.file("club.example.pem")).unwrap();
    kill_process(site.process().unwrap(), Signal::KILL).unwrap();
    eventually("the other certificate is obtained again", || pebble.issued() > issued);
    assert_eq!(site.failure(SHOP).unwrap(), failure);
    assert_eq!(orders(), before + 1, "{}", pebble.log());
}

#[test]
fn an_order_is_continued_wherever_the_process_was_killed() {
    // What is waited for before it is killed: a line of the authority's log.
    for step in
        ["/sign-me-up", "/order-plz", "/chalZ/", "/finalize-order/", "Issued certificate serial", "/certZ/"]
    {
        let pebble = Pebble::start(Options::default());
        let site = Site::start(&pebble, &[SHOP], "");
        eventually(step, || pebble.log().contains(step));
        // It may have obtained it by now: that is one of the moments.
        kill_process(site.process().unwrap(), Signal::KILL).unwrap();
        site.wait_for(&pebble, SHOP);
        assert_eq!(pebble.issued(), 1, "{step}: more than one certificate\n{}", site.balancer.log());
    }
}

#[test]
fn a_disk_that_is_full_costs_no_order_and_ends_no_process() {
    // A folder in place of the file that is written next cannot be written, by root neither.
    for (name, has_order) in [(".shop.example.json.new", false), (".shop.example.pem.new", true)] {
        let pebble = Pebble::start(Options::default());
        let site = Site::start_with(&pebble, &[SHOP], &[SHOP], "", |folder| {
            fs::create_dir_all(folder.join("certificates").join(name)).unwrap();
        });
        eventually("the failure is logged", || site.balancer.log().contains("Is a directory"));
        let process = site.process().unwrap();
        assert_eq!(pebble.log().contains("/order-plz"), has_order, "{name}");
        fs::remove_dir(site.file(name)).unwrap();
        site.wait_for(&pebble, SHOP);
        assert_eq!(pebble.issued(), 1, "{name}: the order is continued\n{}", site.balancer.log());
        assert_eq!(site.process(), Some(process), "{name}");
        eventually("it is recorded", || site.record(SHOP).is_some_and(|record| record["order"].is_null()));
    }
}

#[test]
fn a_certificates_process_that_hangs_is_killed_when_the_balancer_stops() {
    let pebble = Pebble::start(Options::default());
    let mut site = Site::start(&pebble, &[SHOP], "");
    site.wait_for(&pebble, SHOP);
    let process = site.process().unwrap();
    kill_process(process, Signal::STOP).unwrap();
    let started = Instant::now();
    site.balancer.stop();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert!(!is_alive(process), "it was waited for");
}

#[test]
fn a_start_with_a_usable_certificate_makes_no_order_and_damaged_files_are_replaced() {
    let pebble = Pebble::start(Options::default());
    let site = Site::start(&pebble, &[SHOP], "");
    site.wait_for(&pebble, SHOP);
    let restart = |issued: usize, what: &str| {
        let log = || site.balancer.log().matches("started, version").count();
        let before = log();
        eventually("it runs", || site.process().is_some());
        kill_process(site.process().unwrap(), Signal::KILL).unwrap();
        eventually("it is started again", || log() > before);
        site.wait_for(&pebble, SHOP);
        eventually(what, || pebble.issued() == issued);
    };
    restart(1, "no order");
    for name in ["shop.example.json", "account.json"] {
        let file = site.file(name);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, &text[..text.len() / 2]).unwrap();
        restart(1, "its certificate is still usable");
    }
    let file = site.file("shop.example.pem");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, &text[..text.len() / 2]).unwrap();
    restart(2, "a damaged certificate is obtained again");
}

#[test]
fn a_clock_that_is_a_year_off_is_logged_and_makes_no_order() {
    for (offset, said) in [("+365d", "365 days ahead of"), ("-365d", "365 days behind")] {
        let pebble = Pebble::start(Options::default());
        let right = Site::start(&pebble, &[SHOP], "");
        right.wait_for(&pebble, SHOP);
        eventually("renewal information was asked for", || {
            let record = fs::read_to_string(right.file("shop.example.json")).unwrap_or_default();
            record.contains("ask-again") && pebble.log().matches("/dir ->").count() > 2
        });
        let mut right = right;
        right.balancer.stop();
        let site = Site::start_at(&pebble, &right, offset);
        eventually(said, || site.balancer.log().contains(said));
        site.wait_for(&pebble, SHOP);
        assert_eq!(pebble.issued(), 1, "{}", site.balancer.log());
        assert_eq!(site.failure(SHOP), None);
    }
}

#[test]
fn five_renewals_under_load_fail_no_request() {
    let pebble = Pebble::start(Options { validity: 30, ..Options::default() });
    let site = Site::start(&pebble, &[SHOP], "");
    site.wait_for(&pebble, SHOP);
    let stop = AtomicBool::new(false);
    let answered = std::thread::scope(|scope| {
        let clients = [(); 2].map(|()| {
            scope.spawn(|| {
                let mut answered = 0;
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(site.https(SHOP).as_deref(), Ok("ok"), "after {answered}");
                    answered += 1;
                }
                answered
            })
        });
        let started = Instant::now();
        while pebble.issued() < 6 && clients.iter().all(|client| !client.is_finished()) {
            assert!(started.elapsed() < Duration::from_secs(200), "{}", site.balancer.log());
            std::thread::park_timeout(Duration::from_millis(200));
        }
        stop.store(true, Ordering::Relaxed);
        clients.map(|client| client.join().unwrap()).iter().sum::<usize>()
    });
    assert!(answered > 100, "{answered} requests");
    assert_eq!(site.failure(SHOP), None);
}

#[test]
fn a_certificate_is_renewed_when_the_authority_suggests() {
    let mut pebble = Pebble::start(Options { validity: 600, ..Options::default() });
    let now = i64::try_from(UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    let suggested = now + 300..=now + 310;
    pebble.suggest_renewals(suggested.clone());
    let site = Site::start(&pebble, &[SHOP], "");
    site.wait_for(&pebble, SHOP);
    let renewal = || site.record(SHOP).unwrap_or_default()["renewal"].clone();
    eventually("the authority was asked", || renewal()["at"].is_i64());
    let first = renewal();
    assert!(suggested.contains(&first["at"].as_i64().unwrap()), "{first}, not in {suggested:?}");
    let ask_again = first["ask-again"].as_i64().unwrap() - now;
    // The clock of the answer has whole seconds.
    assert!((21_598..21_700).contains(&ask_again), "the authority said six hours: {ask_again}");

    // The authority will revoke it: the window is over. It is seen at the next question, which a restart does not hasten.
    pebble.renewal_information().set_window(now - 20..=now - 10);
    let mut record = site.record(SHOP).unwrap();
    record["renewal"]["ask-again"] = json!(0);
    fs::write(site.file("shop.example.json"), record.to_string()).unwrap();
    kill_process(site.process().unwrap(), Signal::KILL).unwrap();
    eventually("it is renewed", || pebble.issued() == 2);
    let asked = pebble.renewal_information().asked();
    assert!(asked.len() >= 2, "{asked:?}");
    for certificate in asked {
        let (key, serial) = certificate.split_once('.').expect("key identifier and serial number");
        let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        assert!(!key.is_empty() && !serial.is_empty(), "{certificate}");
        assert!(key.bytes().chain(serial.bytes()).all(is_base64url), "{certificate}");
    }
    assert_eq!(site.failure(SHOP), None);
}

#[test]
fn an_external_account_is_bound() {
    let pebble = Pebble::start(Options { external_accounts: true, ..Options::default() });
    let (kid, key) = EXTERNAL;
    let eab = format!("eab = {{ kid = \"{kid}\", hmac-key-file = \"eab.key\" }}");
    let site = Site::start_with(&pebble, &[SHOP], &[SHOP], &eab, |folder| {
        fs::write(folder.join("eab.key"), format!("{key}\n")).unwrap();
    });
    site.wait_for(&pebble, SHOP);
    assert!(!site.balancer.log().contains(key));
}

#[test]
fn an_authority_that_needs_an_external_account_says_so() {
    let pebble = Pebble::start(Options { external_accounts: true, ..Options::default() });
    let site = Site::start(&pebble, &[SHOP], "");
    eventually("it is refused", || site.failure(SHOP).is_some());
    let reason = site.failure(SHOP).unwrap()["reason"].to_string();
    assert!(reason.to_lowercase().contains("external"), "{reason}");
}
