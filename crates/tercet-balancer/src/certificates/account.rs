//! The account at the certificate authority (RFC 8555 section 7.3): created once, then loaded from the folder.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use instant_acme::{Account, AccountBuilder, AccountCredentials, ExternalAccountKey, NewAccount};
use serde::{Deserialize, Serialize};

use super::Issuance;
use super::http::Http;
use super::order::Failed;
use super::schedule::Kind;

/// The account as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Stored {
    directory: String,
    /// The key identifier of the external account that it is bound to.
    kid: Option<String>,
    credentials: AccountCredentials,
}

impl Issuance {
    /// The account; with it the directory is read, and the authority's time.
    pub(super) async fn account(&self) -> Result<Account, Failed> {
        let _one_at_a_time = self.account.lock().await;
        let acme = &self.config.acme;
        let kid = acme.eab.as_ref().map(|eab| eab.kid.clone());
        let is_current = |stored: &Stored| stored.directory == self.directory() && stored.kid == kid;
        if let Some(stored) = self.folder.account::<Stored>().filter(is_current) {
            return Ok(self.builder()?.from_credentials(stored.credentials).await?);
        }
        let contact = acme.email.as_ref().map(|email| format!("mailto:{email}"));
        let contact: Vec<&str> = contact.as_deref().into_iter().collect();
        let new =
            NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let binding = self.external_account()?;
        let (account, credentials) =
            self.builder()?.create(&new, self.directory().to_owned(), binding.as_ref()).await?;
        let stored = Stored { directory: self.directory().to_owned(), kid, credentials };
        self.folder.set_account(&stored)?;
        Ok(account)
    }

    fn builder(&self) -> Result<AccountBuilder, Failed> {
        let http = Http::new(self.config.acme.root.as_deref(), self.observed.clone());
        let http = http.map_err(|reason| Failed::new(Kind::Unreachable, reason))?;
        Ok(Account::builder_with_http(Box::new(http)))
    }

    /// The key that binds a new account to the one at the authority (RFC 8555 section 7.3.4).
    fn external_account(&self) -> Result<Option<ExternalAccountKey>, Failed> {
        let Some(eab) = &self.config.acme.eab else { return Ok(None) };
        let file = &eab.hmac_key_file;
        let refused = |problem: &dyn std::fmt::Display| {
            Failed::new(Kind::Unreachable, format!("acme.eab.hmac-key-file {}: {problem}", file.display()))
        };
        let text = std::fs::read_to_string(file).map_err(|error| refused(&error))?;
        let key = BASE64_URL_SAFE_NO_PAD.decode(text.trim().trim_end_matches('=')).map_err(|_| {
            refused(&"it is not base64url\nhint: it has the HMAC key as the authority shows it")
        })?;
        Ok(Some(ExternalAccountKey::new(eab.kid.clone(), &key)))
    }
}
