//! The operator state as machines keep it: a plain-text header, age's ciphertext, and the authority's signature over
//! both, since age authenticates no sender.
//!
//! ```text
//! tercet state 1
//! {"project":…,"generation":4,…}      JSON
//! YWdlLWVuY3J5cHRpb24…                 base64 of what age made
//! MEUCIQ…                              base64 of an ECDSA signature over the three lines above
//! ```
//!
//! A [`Sealed`] is only made by signing or by a text whose signature fits, so a truncated or changed text is rejected. The
//! caller decides whether its authority is the expected one.

use std::fmt;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, SigningKey as _};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use webpki::EndEntityCert;
use webpki::ring::ECDSA_P256_SHA256;

/// The first line.
const FORMAT: &str = "tercet state 1";

/// The most bytes of text that are looked at.
pub(crate) const MOST_BYTES: usize = 4 << 20;

/// How many earlier generations a header names.
const HISTORY: usize = 500;

/// What can be known of the operator state without decrypting it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The project's id.
    pub project: String,
    /// What the project is called.
    pub name: String,
    /// Raised by each push.
    pub generation: u64,
    /// User and host of the operator who pushed it.
    pub by: String,
    /// When: RFC 3339.
    pub at: String,
    /// The public keys it is encrypted to; none when it is a passphrase.
    pub recipients: Vec<String>,
    /// The certificate of the authority that signed it: DER, base64.
    pub certificate: String,
    /// The ids of the generations it was made from, oldest first.
    pub history: Vec<String>,
}

impl Header {
    /// The history of the generation that is made from the one with this id.
    pub(crate) fn history_with(&self, id: &str) -> Vec<String> {
        let all = self.history.iter().cloned().chain([id.to_owned()]);
        let surplus = (self.history.len() + 1).saturating_sub(HISTORY);
        all.skip(surplus).collect()
    }

    /// Its recipients, as text.
    pub fn recipients(&self) -> String {
        match self.recipients.len() {
            0 => "a passphrase".to_owned(),
            1 => "1 recipient".to_owned(),
            count => format!("{count} recipients"),
        }
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, by, at, .. } = self;
        write!(f, "generation {generation} of the operator state, pushed by {by} at {at}")
    }
}

/// A signed, encrypted operator state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    text: String,
    header: Header,
    certificate: Vec<u8>,
    ciphertext: Vec<u8>,
}

impl Sealed {
    /// Signs `ciphertext` and its header with the authority's `key` (PEM); `certificates` (PEM) has its
    /// certificate, which replaces the header's.
    pub(crate) fn sign(header: Header, ciphertext: Vec<u8>, key: &str, certificates: &str) -> Result<Self> {
        let key = KeyPair::from_pem(key).context("authority.key")?;
        let probe = key.sign(FORMAT.as_bytes())?;
        let certificate = certificates_in(certificates)?
            .into_iter()
            .find(|it| verify(it, FORMAT.as_bytes(), &probe).is_ok())
            .context("authority.crt has no certificate of authority.key")?;
        let header = Header { certificate: STANDARD.encode(&certificate), ..header };
        let signed =
            format!("{FORMAT}\n{}\n{}\n", serde_json::to_string(&header)?, STANDARD.encode(&ciphertext));
        let signature = STANDARD.encode(key.sign(signed.as_bytes())?);
        Ok(Self {
            text: format!("{signed}{signature}\n"),
            header,
            certificate: certificate.to_vec(),
            ciphertext,
        })
    }

    /// Reads a text.
    ///
    /// # Errors
    /// It is no operator state, or its signature does not fit.
    pub(crate) fn parse(text: String) -> Result<Self> {
        ensure!(text.len() <= MOST_BYTES, "it is longer than {} MiB", MOST_BYTES >> 20);
        let lines: Vec<&str> = text.split('\n').collect();
        let [format, header, ciphertext, signature, ""] = lines[..] else {
            bail!("it is cut or no operator state of tercet's");
        };
        ensure!(format == FORMAT, "it is no operator state that this tercet can read ({FORMAT})");
        let end = text.len() - signature.len() - 1;
        let wrong = "it was tampered with or damaged: its signature does not fit";
        let decode = |text: &str| STANDARD.decode(text).context(wrong);
        let parsed: Header = serde_json::from_str(header).context(wrong)?;
        let certificate = decode(&parsed.certificate)?;
        let signature = decode(signature)?;
        verify(&CertificateDer::from(certificate.as_slice()), &text.as_bytes()[..end], &signature)
            .context(wrong)?;
        Ok(Self { ciphertext: decode(ciphertext)?, certificate, header: parsed, text })
    }

    /// What names this state and no other.
    pub fn id(&self) -> String {
        crate::digest(self.text.as_bytes())
    }

    /// The part that is not encrypted.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The fingerprint of the authority that signed it.
    pub fn authority(&self) -> String {
        fingerprint(&self.certificate)
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn ciphertext(&self) -> &[u8] {
        &self.ciphertext
    }
}

/// The fingerprints of the certificates in a PEM text.
pub(crate) fn fingerprints(pem: &str) -> Result<Vec<String>> {
    Ok(certificates_in(pem)?.iter().map(|it| fingerprint(it)).collect())
}

/// A certificate's SHA-256, as `openssl x509 -fingerprint -sha256` has it, in tercet.toml's notation.
fn fingerprint(der: &[u8]) -> String {
    format!("sha256:{}", crate::digest(der))
}

fn certificates_in(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    certificates.ok().context("authority.crt is not PEM")
}

fn verify(certificate: &CertificateDer<'_>, message: &[u8], signature: &[u8]) -> Result<()> {
    let certificate = EndEntityCert::try_from(certificate).ok().context("a certificate that is not X.509")?;
    certificate
        .verify_signature(ECDSA_P256_SHA256, message, signature)
        .ok()
        .context("the signature does not fit")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::authority::Authority;

    /// A sealed state, its authority kept in `folder`.
    pub(crate) fn sealed(folder: &std::path::Path, generation: u64, history: &[String]) -> Sealed {
        let authority = Authority::kept_in(folder, "shop").unwrap();
        let header = Header {
            project: "the-project".to_owned(),
            name: "shop".to_owned(),
            generation,
            by: "ann@desk".to_owned(),
            at: "2026-11-29T12:00:00Z".to_owned(),
            recipients: Vec::new(),
            certificate: String::new(),
            history: history.to_vec(),
        };
        let key = std::fs::read_to_string(folder.join("authority.key")).unwrap();
        Sealed::sign(header, b"age-encryption.org/v1 and so on".to_vec(), &key, &authority.certificate)
            .unwrap()
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let sealed = sealed(folder.path(), 4, &["a".to_owned()]);
        assert_eq!(Sealed::parse(sealed.text.clone()).unwrap(), sealed);
        let bytes = sealed.text.as_bytes();
        for place in 0..bytes.len() {
            for bit in [1, 2, 0x20] {
                let mut bytes = bytes.to_vec();
                bytes[place] ^= bit;
                // JSON is always UTF-8.
                let Ok(text) = String::from_utf8(bytes) else { continue };
                assert!(Sealed::parse(text).is_err(), "byte {place}, bit {bit}");
            }
            assert!(Sealed::parse(sealed.text[..place].to_owned()).is_err(), "cut at {place}");
            let mut more = sealed.text.clone();
            more.insert(place, 'A');
            assert!(Sealed::parse(more).is_err(), "more at {place}");
        }
        for more in ["\n", "A", " "] {
            assert!(Sealed::parse(format!("{}{more}", sealed.text)).is_err());
        }
    }

    #[test]
    fn is_signed_by_the_certificate_of_the_key_among_several() {
        let [one, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let first = sealed(one.path(), 1, &[]);
        let both =
            [one.path(), other.path()].map(|it| Authority::kept_in(it, "shop").unwrap().certificate).concat();
        let key = std::fs::read_to_string(other.path().join("authority.key")).unwrap();
        let again = Sealed::sign(first.header.clone(), Vec::new(), &key, &both).unwrap();
        assert_eq!(fingerprints(&both).unwrap(), [first.authority(), again.authority()]);
        let foreign = std::fs::read_to_string(one.path().join("authority.key")).unwrap();
        let certificate = Authority::kept_in(other.path(), "shop").unwrap().certificate;
        assert!(Sealed::sign(first.header, Vec::new(), &foreign, &certificate).is_err());
    }

    #[test]
    fn the_history_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let ids: Vec<String> = (0..HISTORY).map(|it| it.to_string()).collect();
        let history = sealed(folder.path(), 9, &ids).header.history_with("new");
        assert_eq!((history.len(), &*history[0], &*history[HISTORY - 1]), (HISTORY, "1", "new"));
    }
}
