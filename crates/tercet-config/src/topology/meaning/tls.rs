//! The balancer's TLS listeners and certificates.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::addresses;
use super::machines::Placement;
use crate::file::{self, Located};
use crate::topology::{Certificate, Tls};
use tercet_options::Mistakes;

/// The TLS configuration of the section; `plain` are the addresses without TLS.
pub(super) fn read(
    section: &file::Balancer,
    domains: &[String],
    placement: &Placement,
    plain: &[SocketAddr],
    mistakes: &mut Mistakes,
) -> Option<Tls> {
    let certificates: Vec<Certificate> =
        section.certificates.iter().map(|entry| certificate(entry, mistakes)).collect();
    if certificates.is_empty() && domains.is_empty() {
        let keys = [
            ("tls-listen", section.tls_listen.as_ref().map(Located::span)),
            ("redirect-to-https", section.redirect_to_https.as_ref().filter(|on| ***on).map(Located::span)),
            ("hsts", section.hsts.as_ref().map(Located::span)),
        ];
        for (key, span) in keys.into_iter().filter_map(|(key, span)| Some((key, span?))) {
            mistakes
                .add(span, format!("{key} means nothing without a certificate"), "for TLS")
                .hint("add domains = [\"shop.example.com\"], or certificates = [{ certificate = \"FILE\", key = \"FILE\" }]");
        }
        return None;
    }
    let default: &[&str] = if placement.named { &["0.0.0.0:443", "[::]:443"] } else { &["127.0.0.1:8443"] };
    Some(Tls {
        listen: addresses::read(section.tls_listen.as_ref(), default, plain, mistakes),
        listen_named: section.tls_listen.is_some(),
        certificates,
        redirect: section.redirect_to_https.as_ref().map_or(placement.named, |redirect| **redirect),
        hsts: section.hsts.as_ref().map(|hsts| hsts.to_string()),
    })
}

fn certificate(entry: &Located<file::Certificate>, mistakes: &mut Mistakes) -> Certificate {
    let mut path = |key: &str, path: Option<&Located<String>>| match path {
        Some(path) if path.is_empty() => {
            mistakes.add(path.span(), format!("{key} names no file"), "empty");
            PathBuf::new()
        }
        // A message about a file contains its name, and here that would be the private key.
        Some(path) if path.contains("-----BEGIN") => {
            mistakes
                .add(
                    path.span(),
                    format!("{key} has to name a file, and this is what belongs into it"),
                    "PEM",
                )
                .hint("write it to a file beside tercet.toml that git ignores, and name that");
            PathBuf::new()
        }
        Some(path) => PathBuf::from(path.as_str()),
        None => {
            mistakes
                .add(entry.span(), format!("this certificate has no {key}"), "incomplete")
                .hint("write { certificate = \"FILE\", key = \"FILE\" }");
            PathBuf::new()
        }
    };
    Certificate {
        certificate: path("certificate", entry.certificate.as_ref()),
        key: path("key", entry.key.as_ref()),
    }
}
