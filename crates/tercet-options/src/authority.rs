//! Certificate authorities, and the domain names and addresses that they accept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A certificate authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "String", into = "String")]
#[schemars(with = "String", extend("format" = "acme directory"))]
pub enum Directory {
    /// Let's Encrypt.
    LetsEncrypt,
    /// The staging environment of Let's Encrypt.
    LetsEncryptStaging,
    /// ZeroSSL.
    ZeroSsl,
    /// The authority with the ACME directory at this URL.
    Url(String),
}

const NAMES: [(&str, Directory); 3] = [
    ("letsencrypt", Directory::LetsEncrypt),
    ("letsencrypt-staging", Directory::LetsEncryptStaging),
    ("zerossl", Directory::ZeroSsl),
];

impl Directory {
    /// The URL of its ACME directory.
    pub fn url(&self) -> &str {
        match self {
            Self::LetsEncrypt => "https://acme-v02.api.letsencrypt.org/directory",
            Self::LetsEncryptStaging => "https://acme-staging-v02.api.letsencrypt.org/directory",
            Self::ZeroSsl => "https://acme.zerossl.com/v2/DV90",
            Self::Url(url) => url,
        }
    }

    /// Whether a text names an authority or is the URL of a directory.
    pub(crate) fn is(text: &str) -> bool {
        NAMES.iter().any(|(name, _)| *name == text) || is_https(text)
    }
}

fn is_https(text: &str) -> bool {
    text.parse::<http::Uri>()
        .is_ok_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| !host.is_empty()))
}

impl From<String> for Directory {
    fn from(text: String) -> Self {
        let named = NAMES.into_iter().find(|(name, _)| *name == text);
        named.map_or(Self::Url(text), |(_, directory)| directory)
    }
}

impl From<Directory> for String {
    fn from(directory: Directory) -> Self {
        let name = NAMES.into_iter().find(|(_, named)| *named == directory);
        name.map_or_else(|| directory.url().to_owned(), |(name, _)| name.to_owned())
    }
}

/// Whether a text is a domain name that a certificate can be obtained for: ASCII letters, digits and hyphens in two
/// labels or more (RFC 1123 section 2.1, RFC 1035 section 2.3.4), not an IP address and without a wildcard.
pub(crate) fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253
        && text.contains('.')
        && text.split('.').all(is_label)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a text is an email address: one `@` between texts without white space, control characters or commas.
pub(crate) fn is_email(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_graphic() && !b",<>?".contains(&byte))
    };
    text.split_once('@').is_some_and(|(name, host)| is_part(name) && is_part(host) && !host.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_has_two_labels_and_no_wildcard() {
        for domain in ["shop.example.com", "a.b", "xn--bcher-kva.example", "1.example", "Shop.Example"] {
            assert!(is_domain(domain), "{domain}");
        }
        let long = format!("{}.example", "a".repeat(64));
        for other in [
            "",
            "shop",
            "*.example.com",
            "shop.example.",
            ".example",
            "-a.example",
            "a_b.example",
            "10.0.0.1",
            "b\u{fc}cher.example",
            &long,
            "https://a.example",
            "a.example:80",
        ] {
            assert!(!is_domain(other), "{other}");
        }
    }

    #[test]
    fn a_directory_is_a_name_or_a_url_of_https() {
        for text in ["letsencrypt", "letsencrypt-staging", "zerossl", "https://ca.lab:14000/dir"] {
            assert!(Directory::is(text), "{text}");
            assert_eq!(String::from(Directory::from(text.to_owned())), text);
        }
        for text in ["lets-encrypt", "http://ca.lab/dir", "https://", ""] {
            assert!(!Directory::is(text), "{text}");
        }
    }
}
