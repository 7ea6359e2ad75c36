//! One order (RFC 8555 section 7.4): from its request to the certificate in the folder.
//!
//! The order and the key are recorded before the authority issues, so that a process that starts again continues the
//! order instead of making another.

use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, Identifier, NewOrder, Order,
    OrderStatus, Problem, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};

use super::Issuance;
use super::folder::{PendingOrder, Record};
use super::schedule::Kind;
use crate::challenges::Challenge;
use crate::x509::{self, Leaf};

/// How long the authority is polled.
const POLL_TIMEOUT: Duration = Duration::from_secs(90);
/// How the authority is polled while it validates or issues.
const POLLING: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(200)).backoff(1.5).timeout(POLL_TIMEOUT);
/// The longest reason that is recorded, in bytes: it is text of the authority.
const MAX_REASON: usize = 500;

/// Why no certificate was obtained.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) kind: Kind,
    pub(super) reason: String,
    /// The type of the challenge that failed.
    pub(super) challenge: Option<ChallengeType>,
}

impl Failed {
    pub(super) fn new(kind: Kind, reason: impl Into<String>) -> Self {
        let mut reason: String = reason.into();
        if reason.len() > MAX_REASON {
            reason.truncate(reason.floor_char_boundary(MAX_REASON));
            reason.push('…');
        }
        Self { kind, reason, challenge: None }
    }

    fn by(kind: Kind, problem: &Problem) -> Self {
        let detail = problem.detail.clone().unwrap_or_else(|| problem.to_string());
        let more = problem.subproblems.iter().filter_map(|it| it.detail.as_deref());
        let reason = std::iter::once(detail.as_str()).chain(more).collect::<Vec<_>>().join("; ");
        Self::new(kind, reason)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::from_ref(&error)
    }
}

impl Failed {
    fn from_ref(error: &Error) -> Self {
        match error {
            Error::Api(problem) => {
                let kind = match error_type(problem) {
                    "rateLimited" => Kind::RateLimited,
                    "badNonce" | "serverInternal" => Kind::Unreachable,
                    "accountDoesNotExist" => Kind::NoAccount,
                    _ => Kind::Refused,
                };
                Self::by(kind, problem)
            }
            Error::Timeout(_) => {
                let seconds = POLL_TIMEOUT.as_secs();
                Self::new(Kind::Unreachable, format!("the authority did not finish within {seconds} s"))
            }
            _ => Self::new(Kind::Unreachable, error.to_string()),
        }
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::new(Kind::Unreachable, error.to_string())
    }
}

/// The last part of a problem's type (RFC 8555 section 6.7).
fn error_type(problem: &Problem) -> &str {
    problem.r#type.as_deref().and_then(|name| name.rsplit(':').next()).unwrap_or_default()
}

impl Issuance {
    /// Obtains a certificate for a domain, and writes it. `replaced` is the one before.
    pub(super) async fn obtain(
        &self,
        domain: &str,
        account: &Account,
        record: &mut Record,
        replaced: Option<&[u8]>,
    ) -> Result<Leaf, Failed> {
        let mut order = match self.continued(account, record).await {
            Some(order) => order,
            None => self.new_order(domain, account, record, replaced).await?,
        };
        let done = self.finish(domain, &mut order, record).await;
        self.set_challenge(domain, None).await;
        if let Err(failed) = &done
            && matches!(failed.kind, Kind::Refused | Kind::RateLimited | Kind::NoAccount)
        {
            // An order that failed cannot be continued.
            record.order = None;
        }
        done
    }

    /// The order that was recorded, if the authority still knows it.
    async fn continued(&self, account: &Account, record: &mut Record) -> Option<Order> {
        let pending = record.order.take().filter(|pending| pending.directory == self.directory())?;
        let mut order = account.order(pending.url.clone()).await.ok()?;
        if order.state().status == OrderStatus::Invalid {
            return None;
        }
        record.order = Some(pending);
        Some(order)
    }

    async fn new_order(
        &self,
        domain: &str,
        account: &Account,
        record: &mut Record,
        replaced: Option<&[u8]>,
    ) -> Result<Order, Failed> {
        let identifiers = [Identifier::Dns(domain.to_owned())];
        let plain = || {
            let new = NewOrder::new(&identifiers);
            match &self.config.acme.profile {
                Some(profile) => new.profile(profile),
                None => new,
            }
        };
        let replaced = replaced.and_then(|pem| x509::first(pem).ok());
        let replaced = replaced.as_ref().and_then(|der| CertificateIdentifier::try_from(der).ok());
        let has_renewal_information = record.renewal.as_ref().is_some_and(|renewal| renewal.at.is_some());
        let order = match replaced.filter(|_| has_renewal_information) {
            Some(replaced) => match account.new_order(&plain().replaces(replaced)).await {
                // It may have been replaced by an order that was lost, or the authority ignores the field.
                Err(error) if Failed::from_ref(&error).kind != Kind::RateLimited => {
                    account.new_order(&plain()).await?
                }
                other => other?,
            },
            None => account.new_order(&plain()).await?,
        };
        let key = KeyPair::generate().map_err(unexpected)?.serialize_pem();
        let url = order.url().to_owned();
        record.order = Some(PendingOrder { url, directory: self.directory().to_owned(), key });
        self.folder.set_record(domain, record)?;
        Ok(order)
    }

    async fn finish(&self, domain: &str, order: &mut Order, record: &Record) -> Result<Leaf, Failed> {
        let pending = record.order.as_ref().ok_or_else(|| Failed::new(Kind::Unreachable, "no order"))?;
        if order.state().status == OrderStatus::Pending {
            let http_failed = record.failure.as_ref().is_some_and(|failure| failure.http_failed);
            let challenge = self.prove(domain, order, http_failed).await?;
            let validated = validated(order).await;
            validated.map_err(|failed| Failed { challenge, ..failed })?;
        }
        if order.state().status == OrderStatus::Ready {
            let key = KeyPair::from_pem(&pending.key).map_err(unexpected)?;
            let mut params = CertificateParams::new([domain.to_owned()]).map_err(unexpected)?;
            params.distinguished_name = DistinguishedName::new();
            let request = params.serialize_request(&key).map_err(unexpected)?;
            order.finalize_csr(request.der()).await?;
        }
        let chain = order.poll_certificate(&POLLING).await?;
        self.folder
            .set_certificate(domain, &pending.key, &chain)
            .map_err(|reason| Failed::new(Kind::Refused, reason))
    }

    /// Has the challenge of each pending authorization answered and validated: HTTP-01, or TLS-ALPN-01 if the authority
    /// does not offer that or `http_failed` before. Returns its type.
    async fn prove(
        &self,
        domain: &str,
        order: &mut Order,
        http_failed: bool,
    ) -> Result<Option<ChallengeType>, Failed> {
        let mut proven_by = None;
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let is_offered =
                |kind: &ChallengeType| authorization.challenges.iter().any(|offered| offered.r#type == *kind);
            let mut kinds = [ChallengeType::Http01, ChallengeType::TlsAlpn01];
            if http_failed {
                kinds.reverse();
            }
            let kind = kinds.into_iter().find(is_offered);
            let kind = kind.ok_or_else(|| {
                Failed::new(
                    Kind::Refused,
                    "the authority offers neither an HTTP-01 nor a TLS-ALPN-01 challenge",
                )
            })?;
            let missing = || Failed::new(Kind::Refused, "the authority withdrew the challenge");
            let mut challenge = authorization.challenge(kind.clone()).ok_or_else(missing)?;
            let proof = challenge.key_authorization();
            let answer = match kind {
                ChallengeType::Http01 => {
                    let (token, response) = (challenge.token.clone(), proof.as_str().to_owned());
                    Challenge::Http { token, response }
                }
                _ => alpn(domain, proof.digest().as_ref()).map_err(unexpected)?,
            };
            self.set_challenge(domain, Some(answer)).await;
            challenge
                .set_ready()
                .await
                .map_err(|error| Failed { challenge: Some(kind.clone()), ..error.into() })?;
            proven_by = Some(kind);
        }
        Ok(proven_by)
    }
}

/// Waits until the authority has validated the challenges.
async fn validated(order: &mut Order) -> Result<(), Failed> {
    if order.poll_ready(&POLLING).await? == OrderStatus::Ready {
        return Ok(());
    }
    let mut reason = None;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        let state = authorization.refresh().await?;
        let problem = state.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        reason = reason.or_else(|| problem.map(|problem| Failed::by(Kind::Refused, problem)));
    }
    Err(reason.unwrap_or_else(|| Failed::new(Kind::Refused, "the authority gave no reason")))
}

/// The certificate of a TLS-ALPN-01 challenge (RFC 8737 section 3).
fn alpn(domain: &str, digest: &[u8]) -> Result<Challenge, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([domain.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key)?.pem();
    Ok(Challenge::Alpn { domain: domain.to_owned(), certificate, key: key.serialize_pem() })
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unexpected(error: rcgen::Error) -> Failed {
    Failed::new(Kind::Unreachable, error.to_string())
}
