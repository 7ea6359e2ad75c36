//! How certificates are obtained from a certificate authority (ACME, RFC 8555).

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::authority::Directory;

options! {
    /// How certificates are obtained from a certificate authority (ACME, RFC 8555).
    #[derive(Eq)]
    pub struct Acme {
        /// The certificate authority: `"letsencrypt"`, `"letsencrypt-staging"` (for tests: browsers do not trust its
        /// certificates), `"zerossl"` (needs `eab`), or the URL of an ACME directory.
        #[schemars(extend("examples" = ["letsencrypt-staging"]))]
        directory: Directory = Directory::LetsEncrypt,
        /// The contact address of the account at the authority, given when the account is created. Default: none.
        #[schemars(extend("format" = "email", "examples" = ["operator@example.com"]))]
        email: Option<String> = None,
        /// The certificate profile, one of those that the authority offers, such as `"shortlived"`. Default: the
        /// authority's.
        #[schemars(extend("examples" = ["shortlived"]))]
        profile: Option<String> = None,
        /// External account binding: the account at the authority that the ACME account belongs to. Default: none.
        eab: Option<ExternalAccount> = None,
        /// The PEM file with the root certificate that the authority's own address is verified with, for an authority of
        /// your organisation. Default: the root certificates of the operating system.
        root: Option<PathBuf> = None,
        /// The folder for the certificates, their keys and the account key.
        #[schemars(extend("x-set-by-tercet" = "tercet has a folder for them"))]
        folder: PathBuf = PathBuf::from("certificates"),
    }
}

/// External account binding (RFC 8555 section 7.3.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ExternalAccount {
    /// The key identifier (`kid`) that the authority gave. Required.
    pub kid: String,
    /// The file with the HMAC key that the authority gave, in base64url. Required.
    pub hmac_key_file: PathBuf,
}
