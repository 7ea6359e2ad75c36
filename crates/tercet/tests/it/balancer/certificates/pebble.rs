//! A certificate authority for tests: Debian's `pebble`, with `pebble-challtestsrv` as its DNS server.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::json;
use tempfile::TempDir;

use super::super::process::{eventually, own_address};
use super::renewal_information::RenewalInformation;

/// A running authority, ended with the test.
pub(super) struct Pebble {
    address: SocketAddr,
    management: SocketAddr,
    /// Where it validates HTTP-01 challenges: this port of the address that a domain resolves to.
    pub(super) http: SocketAddr,
    /// Likewise for TLS-ALPN-01.
    pub(super) tls: SocketAddr,
    dns: SocketAddr,
    dns_management: SocketAddr,
    renewal_information: Option<RenewalInformation>,
    folder: TempDir,
    processes: Vec<Child>,
}

/// What differs from test to test.
#[derive(Clone, Copy)]
pub(super) struct Options {
    /// Seconds for which certificates are valid.
    pub(super) validity: u64,
    /// The percentage of valid nonces that it rejects.
    pub(super) rejected_nonces: u8,
    /// Whether an account needs to be bound to an external one.
    pub(super) external_accounts: bool,
}

/// The external account that pebble knows, with its HMAC key.
pub(super) const EXTERNAL: (&str, &str) =
    ("kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W");

impl Default for Options {
    fn default() -> Self {
        Self { validity: 90 * 24 * 3600, rejected_nonces: 5, external_accounts: false }
    }
}

impl Pebble {
    /// An authority that was not started yet.
    pub(super) fn stopped(options: Options) -> Self {
        let pebble = Self {
            address: own_address(),
            management: own_address(),
            http: own_address(),
            tls: own_address(),
            dns: own_address(),
            dns_management: own_address(),
            renewal_information: None,
            folder: tempfile::tempdir().unwrap(),
            processes: Vec::new(),
        };
        let root_key = KeyPair::generate().unwrap();
        let mut root = CertificateParams::new(Vec::new()).unwrap();
        // openssl takes a certificate whose issuer has its own name to be its own issuer.
        root.distinguished_name.push(DnType::CommonName, "root of the authority's address");
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        fs::write(pebble.root(), root.self_signed(&root_key).unwrap().pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new([pebble.address.ip().to_string()]).unwrap();
        let own = own.signed_by(&key, &Issuer::new(root, root_key)).unwrap();
        fs::write(pebble.file("pebble.pem"), own.pem()).unwrap();
        fs::write(pebble.file("pebble.key"), key.serialize_pem()).unwrap();
        let (kid, key) = EXTERNAL;
        let configuration = json!({ "pebble": {
            "listenAddress": pebble.address,
            "managementListenAddress": pebble.management,
            "certificate": pebble.file("pebble.pem"),
            "privateKey": pebble.file("pebble.key"),
            "httpPort": pebble.http.port(),
            "tlsPort": pebble.tls.port(),
            "externalAccountBindingRequired": options.external_accounts,
            "externalAccountMACKeys": { kid: key },
            "certificateValidityPeriod": options.validity,
        }});
        fs::write(pebble.file("pebble.json"), configuration.to_string()).unwrap();
        fs::write(pebble.file("nonces"), options.rejected_nonces.to_string()).unwrap();
        pebble
    }

    pub(super) fn start(options: Options) -> Self {
        let mut pebble = Self::stopped(options);
        pebble.run();
        pebble
    }

    /// Starts it, and returns when it answers.
    pub(super) fn run(&mut self) {
        let log = File::create(self.file("pebble.log")).unwrap();
        let dns = Command::new("pebble-challtestsrv")
            .args([
                "-defaultIPv4",
                &self.http.ip().to_string(),
                "-defaultIPv6",
                "",
                "-http01",
                "",
                "-https01",
                "",
            ])
            .args(["-tlsalpn01", "", "-dns01", &self.dns.to_string()])
            .args(["-management", &self.dns_management.to_string()])
            .stdout(log.try_clone().unwrap())
            .stderr(log.try_clone().unwrap())
            .spawn()
            .expect("pebble is installed");
        let pebble = Command::new("pebble")
            .args(["-dnsserver", &self.dns.to_string(), "-config"])
            .arg(self.file("pebble.json"))
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_WFE_NONCEREJECT", fs::read_to_string(self.file("nonces")).unwrap())
            .env("PEBBLE_AUTHZREUSE", "0")
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.processes = vec![dns, pebble];
        eventually("pebble answers", || self.get(&self.directory()).is_some());
    }

    /// Ends it. Started again, it knows no account and has other root certificates.
    pub(super) fn stop(&mut self) {
        for mut process in self.processes.drain(..) {
            // Gone already is as good.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Lets it resolve a domain to another address.
    pub(super) fn resolve(&self, domain: &str, address: &str) {
        let body = json!({ "host": domain, "addresses": [address] }).to_string();
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail", "--data", &body, &format!("http://{}/add-a", self.dns_management)]);
        assert!(curl.status().unwrap().success());
    }

    /// Adds renewal information to it, which suggests this time, in seconds since 1970.
    pub(super) fn suggest_renewals(&mut self, window: RangeInclusive<i64>) {
        let directory = self.get(&self.directory()).unwrap();
        let added = RenewalInformation::start(serde_json::from_str(&directory).unwrap());
        let mut roots = File::options().append(true).open(self.root()).unwrap();
        roots.write_all(added.server.certificate.as_bytes()).unwrap();
        added.set_window(window);
        self.renewal_information = Some(added);
    }

    /// The renewal information that was added to it.
    pub(super) fn renewal_information(&self) -> &RenewalInformation {
        self.renewal_information.as_ref().unwrap()
    }

    /// The URL of its ACME directory.
    pub(super) fn directory(&self) -> String {
        match &self.renewal_information {
            Some(added) => format!("{}/dir", added.server.origin()),
            None => format!("https://{}/dir", self.address),
        }
    }

    /// The root certificates that its own address, and that of its directory, are verified with.
    pub(super) fn root(&self) -> PathBuf {
        self.file("root.pem")
    }

    /// Writes the root certificate of the certificates that it issues.
    pub(super) fn write_issuing_root(&self, file: &Path) {
        fs::write(file, self.get(&format!("https://{}/roots/0", self.management)).unwrap()).unwrap();
    }

    /// How many certificates it has issued.
    pub(super) fn issued(&self) -> usize {
        fs::read_to_string(self.file("pebble.log")).unwrap().matches("Issued certificate serial").count()
    }

    /// Its log.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.file("pebble.log")).unwrap()
    }

    fn get(&self, url: &str) -> Option<String> {
        let output =
            Command::new("curl").args(["-s", "--fail", "--cacert"]).arg(self.root()).arg(url).output();
        let output = output.expect("curl is installed");
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        self.stop();
    }
}
