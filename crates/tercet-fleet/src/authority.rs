//! The private certificate authority between the application machines and PostgreSQL.
//!
//! Made at the first apply and kept by the operator (0600): no machine ever holds its key. Certificates last
//! three years and are renewed by any apply after the first, by the dates written in them.

use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use tercet_machine::Secret;

use crate::validity::Validity;

/// How long the authority itself lasts, in days.
const AUTHORITY_DAYS: u64 = 3650;
/// How long a certificate lasts, in days: three years, so that it outlives a year without an apply, and the weeks
/// in which the machines warn.
const CERTIFICATE_DAYS: u64 = 3 * 365;
/// Tolerance for clocks that are behind, in days.
const BACKDATED_DAYS: u64 = 1;

/// The authority, in the operator's folder.
#[derive(Debug)]
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, PEM.
    pub certificate: String,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: Secret,
}

/// The subject of a certificate.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject<'a> {
    /// A PostgreSQL server reached at this address, and on its own machine at loopback.
    Server(IpAddr),
    /// A client that logs in as this role.
    Client(&'a str),
    /// Both ends of the backup protocol on the machine of this name and address.
    Machine(&'a str, IpAddr),
}

impl Authority {
    /// The authority kept in `folder`; made there when there is none.
    ///
    /// # Errors
    /// The folder cannot be read or written, or a file in it is not a key.
    pub(crate) fn kept_in(folder: &Path, project: &str) -> Result<Self> {
        let params = authority_params(project);
        let key = match fs::read_to_string(folder.join("authority.key")) {
            Ok(pem) => {
                KeyPair::from_pem(&pem).with_context(|| folder.join("authority.key").display().to_string())?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = KeyPair::generate()?;
                write(&folder.join("authority.key"), &key.serialize_pem(), 0o600)?;
                key
            }
            Err(error) => {
                return Err(error).with_context(|| folder.join("authority.key").display().to_string());
            }
        };
        let path = folder.join("authority.crt");
        let certificate = match fs::read_to_string(&path) {
            Ok(pem) => pem,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let pem = params.self_signed(&key)?.pem();
                write(&path, &pem, 0o644)?;
                pem
            }
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// The identity called `name` that is kept in `folder`; issued when there is none, or a third of its validity is over.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub(crate) fn identity(&self, folder: &Path, name: &str, subject: Subject<'_>) -> Result<Identity> {
        self.identity_at(folder, name, subject, SystemTime::now())
    }

    fn identity_at(
        &self,
        folder: &Path,
        name: &str,
        subject: Subject<'_>,
        now: SystemTime,
    ) -> Result<Identity> {
        let [certificate, key, record] =
            ["crt", "key", "subject"].map(|kind| folder.join(format!("{name}.{kind}")));
        let kept = fs::read_to_string(&certificate).ok().and_then(|pem| Validity::of(&pem).ok());
        let young = kept.is_some_and(|validity| validity.is_young(now));
        // An address may change.
        let speaks_for_it = fs::read_to_string(&record).is_ok_and(|it| it == subject.record());
        if !(young && key.exists() && speaks_for_it) {
            let pair = KeyPair::generate()?;
            let pem = identity_params(subject, now)?.signed_by(&pair, &self.issuer)?.pem();
            // The certificate last: without it the key is not used.
            write(&key, &pair.serialize_pem(), 0o600)?;
            write(&record, &subject.record(), 0o600)?;
            write(&certificate, &pem, 0o600)?;
        }
        let read = |path: &Path| fs::read_to_string(path).with_context(|| path.display().to_string());
        Ok(Identity { certificate: read(&certificate)?, key: Secret::new(read(&key)?) })
    }
}

impl Subject<'_> {
    /// The record beside a certificate: with another record, it was issued for another subject.
    fn record(self) -> String {
        match self {
            Self::Server(address) => format!("Server({address}) and loopback"),
            Self::Client(_) | Self::Machine(..) => format!("{self:?}"),
        }
    }
}

fn authority_params(project: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&format!("tercet authority of {project}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    lasting(&mut params, AUTHORITY_DAYS, SystemTime::now());
    params
}

fn identity_params(subject: Subject<'_>, now: SystemTime) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    match subject {
        Subject::Server(address) => {
            params.distinguished_name = common_name("database");
            params.subject_alt_names =
                vec![SanType::IpAddress(address), SanType::DnsName("database".try_into()?)];
            let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
            if address != loopback {
                params.subject_alt_names.push(SanType::IpAddress(loopback));
            }
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        }
        Subject::Machine(name, address) => {
            params.distinguished_name = common_name(name);
            // pgBackRest compares the text of the address with DNS names.
            params.subject_alt_names =
                vec![SanType::IpAddress(address), SanType::DnsName(address.to_string().try_into()?)];
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        }
        Subject::Client(role) => {
            params.distinguished_name = common_name(role);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }
    }
    lasting(&mut params, CERTIFICATE_DAYS, now);
    Ok(params)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn lasting(params: &mut CertificateParams, days: u64, now: SystemTime) {
    let day = std::time::Duration::from_secs(86_400);
    params.not_before = (now - day * BACKDATED_DAYS as u32).into();
    params.not_after = (now + day * days as u32).into();
}

/// Writes a private file whole or not at all; two may be written at the same time.
pub(crate) fn write_private(folder: &Path, name: &str, text: &str) -> Result<()> {
    crash_point::before_a_write()?;
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(|| folder.display().to_string())?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(folder.join(name)).with_context(|| folder.join(name).display().to_string())?;
    sync(folder)
}

/// Has the names in a folder be on the disk.
pub(crate) fn sync(folder: &Path) -> Result<()> {
    let synced = fs::File::open(folder).and_then(|it| it.sync_all());
    synced.with_context(|| folder.display().to_string())
}

/// Writes a file whole or not at all.
pub(crate) fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    crash_point::before_a_write()?;
    let partial = path.with_extension("new");
    let _ = fs::remove_file(&partial);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&partial)
        .with_context(|| partial.display().to_string())?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&partial, path).with_context(|| path.display().to_string())?;
    path.parent().map_or(Ok(()), sync)
}

/// Where tests end a process: before a write to the operator's folder.
pub(crate) mod crash_point {
    /// Fails when a test interrupts the process before this write.
    #[cfg(not(test))]
    #[expect(clippy::unnecessary_wraps, reason = "only tests kill")]
    pub(crate) fn before_a_write() -> anyhow::Result<()> {
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn before_a_write() -> anyhow::Result<()> {
        WRITES.with(|writes| match writes.get() {
            Some(0) => anyhow::bail!("killed"),
            left => {
                writes.set(left.map(|left| left - 1));
                Ok(())
            }
        })
    }

    #[cfg(test)]
    thread_local! {
        /// How many writes there are until the process is killed; `None`: it is not.
        pub(crate) static WRITES: std::cell::Cell<Option<u32>> = const { std::cell::Cell::new(None) };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A copied folder has new file times, and old certificates.
    #[test]
    fn a_certificate_is_renewed_by_the_dates_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::kept_in(folder.path(), "shop").unwrap();
        let subject = Subject::Client("authenticator");
        let issued = |days: u64| {
            let now = SystemTime::now() - Duration::from_secs(days * 86_400);
            authority.identity_at(folder.path(), "application", subject, now).unwrap().certificate
        };
        let old = issued(400);
        assert_eq!(issued(200), old);
        let renewed = authority.identity(folder.path(), "application", subject).unwrap().certificate;
        assert_ne!(renewed, old);
        assert_eq!(authority.identity(folder.path(), "application", subject).unwrap().certificate, renewed);
    }

    #[test]
    fn identities_are_kept_until_their_subject_changes() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::kept_in(folder.path(), "shop").unwrap();
        let address = |last| IpAddr::from([10, 0, 0, last]);
        let identity = |authority: &Authority, last| {
            authority.identity(folder.path(), "db", Subject::Server(address(last))).unwrap()
        };
        let first = identity(&authority, 1);
        let again = Authority::kept_in(folder.path(), "shop").unwrap();
        assert_eq!(again.certificate, authority.certificate);
        assert_eq!(identity(&again, 1).certificate, first.certificate);
        assert_ne!(identity(&again, 2).certificate, first.certificate);
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(folder.path().join("authority.key")).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }
}
