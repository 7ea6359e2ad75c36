//! What tercet reads of an X.509 certificate (RFC 5280): its names, its issuer and how long it is valid.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Name};

/// The end-entity certificate of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// Its DNS names and IP addresses, in lower case.
    pub(crate) names: Vec<String>,
    /// The name of its issuer: the common name and the organisation.
    pub(crate) issuer: String,
    /// The start of its validity, in seconds since 1970.
    pub(crate) not_before: i64,
    /// The end of its validity, in seconds since 1970.
    pub(crate) not_after: i64,
}

impl Leaf {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// It is malformed.
    pub(crate) fn of(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        let names = match certificate.subject_alternative_name() {
            Ok(Some(extension)) => extension.value.general_names.iter().filter_map(name).collect(),
            Ok(None) => Vec::new(),
            Err(error) => return Err(error.to_string()),
        };
        let validity = certificate.validity();
        Ok(Self {
            names,
            issuer: issuer(certificate.issuer()),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }

    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// There is none, or it is malformed.
    pub(crate) fn of_pem(pem: &[u8]) -> Result<Self, String> {
        Self::of(&first(pem)?)
    }
}

/// The first certificate of a PEM text.
///
/// # Errors
/// There is none.
pub(crate) fn first(pem: &[u8]) -> Result<CertificateDer<'static>, String> {
    CertificateDer::from_pem_slice(pem).map_err(|error| error.to_string())
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(octets) => match octets.len() {
            4 => <[u8; 4]>::try_from(*octets).ok().map(|octets| std::net::Ipv4Addr::from(octets).to_string()),
            _ => {
                <[u8; 16]>::try_from(*octets).ok().map(|octets| std::net::Ipv6Addr::from(octets).to_string())
            }
        },
        _ => None,
    }
}

fn issuer(name: &X509Name<'_>) -> String {
    let common = name.iter_common_name().find_map(|it| it.as_str().ok());
    let organisation = name.iter_organization().find_map(|it| it.as_str().ok());
    match (common, organisation) {
        (Some(common), Some(organisation)) => format!("{common} ({organisation})"),
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) => name.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn names_issuer_and_validity_are_read() {
        let key = KeyPair::generate().unwrap();
        let names = ["Shop.example".to_owned(), "10.0.0.1".to_owned(), "::1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "R1");
        params.distinguished_name.push(DnType::OrganizationName, "Authority");
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026, 4, 1);
        let certificate = params.self_signed(&key).unwrap();
        let leaf = Leaf::of_pem(certificate.pem().as_bytes()).unwrap();
        assert_eq!(leaf.names, ["shop.example", "10.0.0.1", "::1"]);
        assert_eq!(leaf.issuer, "R1 (Authority)");
        assert_eq!((leaf.not_before, leaf.not_after), (1_767_225_600, 1_775_001_600));
        let der = certificate.der();
        for length in 0..der.len() {
            assert!(Leaf::of(&der[..length]).is_err());
        }
        assert!(Leaf::of_pem(b"nothing").is_err());
    }
}
