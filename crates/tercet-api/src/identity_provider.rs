//! An identity provider whose keys are fetched by URL: its JWK set (RFC 7517 section 5), at `jwks-url` or where the metadata of
//! `jwt-issuer` says (OpenID Connect Discovery 1.0 section 4).
//!
//! The keys are fetched beside the requests and kept in a file, so a restart while the provider is down refuses no token.

mod download;

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use self::download::DownloadError;
use self::download::{Client, Download};
use crate::token_keys::{Keys, KeysError};

/// The path of the metadata below the issuer's.
const METADATA: &str = "/.well-known/openid-configuration";

/// Where the keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityProvider {
    /// `jwt-issuer`: what `iss` of a token must be.
    pub issuer: Option<String>,
    /// `jwks-url`; without it the issuer's metadata has it.
    pub key_set: Option<Uri>,
    /// `jwks-cache-file`: where the keys are kept.
    pub file: Option<PathBuf>,
}

/// The keys of a provider.
#[derive(Debug)]
pub struct ProvidedKeys {
    /// Whose they are.
    pub provider: IdentityProvider,
    /// The keys: none of them is symmetric.
    pub keys: Keys,
    /// The document they are from.
    document: Bytes,
}

impl ProvidedKeys {
    fn parse(provider: &IdentityProvider, document: Bytes) -> Result<Self, KeysError> {
        Ok(Self { provider: provider.clone(), keys: Keys::of_provider(&document)?, document })
    }
}

impl ProvidedKeys {
    /// Writes them to the provider's file, if it has one: all of them or, if the machine fails meanwhile, none.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self) -> io::Result<()> {
        let IdentityProvider { issuer, key_set, file: Some(file) } = &self.provider else { return Ok(()) };
        let keys: &RawValue = serde_json::from_slice(&self.document)?;
        let url = key_set.as_ref().map(ToString::to_string);
        let text = serde_json::to_string(&Kept { issuer: issuer.as_deref(), url: url.as_deref(), keys })?;
        let new = file.with_added_extension("new");
        let mut written =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        written.write_all(text.as_bytes())?;
        written.sync_all()?;
        fs::rename(&new, file)
    }
}

impl PartialEq for ProvidedKeys {
    fn eq(&self, other: &Self) -> bool {
        (&self.provider, &self.document) == (&other.provider, &other.document)
    }
}

/// Keys that were fetched.
#[derive(Debug)]
pub struct Fetched {
    /// The keys.
    pub keys: ProvidedKeys,
    /// How long they are fresh (RFC 9111 section 5.2.2.1), if the provider says so.
    pub lifetime: Option<Duration>,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The system has no certificates to trust.
    #[error("the system's certificates cannot be read: {0}\nhint: apt install ca-certificates")]
    Certificates(io::Error),
    /// A document could not be fetched.
    #[error("{url}: {source}")]
    Download {
        /// Its URL.
        url: Uri,
        /// Why.
        source: DownloadError,
    },
    /// The metadata is malformed.
    #[error("{url}: the metadata cannot be read: {reason}")]
    Metadata {
        /// Its URL.
        url: Uri,
        /// What is wrong.
        reason: String,
    },
    /// The metadata is another issuer's (OpenID Connect Discovery 1.0 section 4.3).
    #[error(
        "{url}: the metadata is of the issuer {found:?}, but jwt-issuer is {wanted:?}; they must be the same, character by character"
    )]
    OtherIssuer {
        /// Its URL.
        url: Uri,
        /// The issuer in it.
        found: String,
        /// `jwt-issuer`.
        wanted: String,
    },
    /// The document has no keys that can be used.
    #[error("{url}: {source}")]
    Keys {
        /// The URL of the document.
        url: Uri,
        /// What is wrong with the keys.
        source: KeysError,
    },
}

/// The metadata of an OpenID provider, as far as it matters.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

/// The file with the keys.
#[derive(Deserialize, Serialize)]
struct Kept<'a> {
    issuer: Option<&'a str>,
    url: Option<&'a str>,
    #[serde(borrow)]
    keys: &'a RawValue,
}

impl IdentityProvider {
    /// The keys that were kept in the file, if they are this provider's.
    pub fn kept(&self) -> Option<ProvidedKeys> {
        let text = fs::read_to_string(self.file.as_ref()?).ok()?;
        let kept: Kept<'_> = serde_json::from_str(&text).ok()?;
        let url = self.key_set.as_ref().map(ToString::to_string);
        if kept.issuer != self.issuer.as_deref() || kept.url != url.as_deref() {
            return None;
        }
        ProvidedKeys::parse(self, kept.keys.get().to_owned().into()).ok()
    }

    /// Fetches the keys.
    ///
    /// # Errors
    /// The provider cannot be reached, or what it answers has no keys that can be used.
    pub async fn fetch(&self) -> Result<Fetched, ProviderError> {
        let client = Client::new().map_err(ProviderError::Certificates)?;
        let found;
        let url = if let Some(url) = &self.key_set {
            url
        } else {
            found = self.find_key_set(&client).await?;
            &found
        };
        let Download { body, lifetime } = get(&client, url).await?;
        let failed = |source| ProviderError::Keys { url: url.clone(), source };
        let keys = ProvidedKeys::parse(self, body).map_err(failed)?;
        Ok(Fetched { keys, lifetime })
    }

    /// The URL of the JWK set in the issuer's metadata.
    async fn find_key_set(&self, client: &Client) -> Result<Uri, ProviderError> {
        let issuer = self.issuer.as_deref().unwrap_or_default();
        let url = format!("{}{METADATA}", issuer.trim_end_matches('/'));
        let url: Uri = url.parse().unwrap_or_default();
        let body = get(client, &url).await?.body;
        let malformed = |reason: String| ProviderError::Metadata { url: url.clone(), reason };
        let metadata: Metadata =
            serde_json::from_slice(&body).map_err(|error| malformed(error.to_string()))?;
        if metadata.issuer != issuer {
            let (found, wanted) = (metadata.issuer, issuer.to_owned());
            return Err(ProviderError::OtherIssuer { url, found, wanted });
        }
        let key_set: Uri =
            metadata.jwks_uri.parse().map_err(|_| malformed("jwks_uri is no URL".to_owned()))?;
        if key_set.scheme_str() != Some("https") {
            return Err(malformed("jwks_uri does not begin with https://".to_owned()));
        }
        Ok(key_set)
    }
}

async fn get(client: &Client, url: &Uri) -> Result<Download, ProviderError> {
    client.get(url).await.map_err(|source| ProviderError::Download { url: url.clone(), source })
}
