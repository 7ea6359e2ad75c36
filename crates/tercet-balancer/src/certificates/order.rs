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
use super::folder::{PendingOrder, Record, Unset};
use super::schedule::Kind;
use crate::challenges::Challenge;
use crate::x509::{self, Leaf};

/// How long the authority is polled.
const POLL_TIMEOUT: Duration = Duration::from_secs(90);
/// How the authority is polled while it validates or issues.
const POLLING: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(200)).backoff(1.5).timeout(POLL_TIMEOUT);
/// How many attempts continue an order. An authority that never says what became of it must not stop renewals.
const MAX_CONTINUED: u32 = 8;
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
        Self::new(Kind::Unwritable, error.to_string())
    }
}

impl From<Unset> for Failed {
    fn from(unset: Unset) -> Self {
        match unset {
            Unset::Unusable(reason) => Self::new(Kind::Refused, reason),
            Unset::Unwritable(error) => error.into(),
        }
    }
}

impl PendingOrder {
    /// The order for one more attempt to continue it; `None` after too many.
    fn once_more(self) -> Option<Self> {
        let continued = self.continued + 1;
        (continued <= MAX_CONTINUED).then_some(Self { continued, ..self })
    }
}

/// Whether an order can be continued after an attempt that failed like this: the authority has not said that it failed.
fn can_continue(kind: Kind) -> bool {
    match kind {
        Kind::Unreachable | Kind::Unwritable | Kind::RateLimited | Kind::SelfCheck => true,
        Kind::Refused | Kind::NoAccount => false,
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
        let mut order = match self.continued(domain, account, record).await? {
            Some(order) => order,
            None => self.new_order(domain, account, record, replaced).await?,
        };
        let done = self.finish(domain, &mut order, record).await;
        self.set_challenge(domain, None).await;
        if done.as_ref().is_err_and(|failed| !can_continue(failed.kind)) {
            record.order = None;
        }
        done
    }

    /// The order that was recorded, if the authority still knows it.
    ///
    /// # Errors
    /// The authority does not say; the order stays recorded.
    async fn continued(
        &self,
        domain: &str,
        account: &Account,
        record: &mut Record,
    ) -> Result<Option<Order>, Failed> {
        let pending = record.order.take().filter(|pending| pending.directory == self.directory());
        let Some(pending) = pending.and_then(PendingOrder::once_more) else { return Ok(None) };
        let url = pending.url.clone();
        record.order = Some(pending);
        self.folder.set_record(domain, record)?;
        let order = match account.order(url).await.map_err(Failed::from) {
            Ok(mut order) => (order.state().status != OrderStatus::Invalid).then_some(order),
            Err(failed) if can_continue(failed.kind) => return Err(failed),
            Err(_) => None,
        };
        if order.is_none() {
            record.order = None;
        }
        Ok(order)
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
        let key = KeyPair::generate().map_err(unexpected)?.serialize_pem();
        let mut pending =
            PendingOrder { url: String::new(), directory: self.directory().to_owned(), key, continued: 0 };
        // Written before the order is made: a disk that is full must not cost orders, which are rate-limited.
        record.order = Some(pending.clone());
        let written = self.folder.set_record(domain, record);
        record.order = None;
        written?;
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
        order.url().clone_into(&mut pending.url);
        record.order = Some(pending);
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
        Ok(self.folder.set_certificate(domain, &pending.key, &chain)?)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_continued_until_the_authority_says_that_it_failed_but_not_forever() {
        let order = PendingOrder {
            url: "https://ca.example/order/1".to_owned(),
            directory: "https://ca.example/dir".to_owned(),
            key: String::new(),
            continued: 0,
        };
        let attempts = std::iter::successors(Some(order), |order| order.clone().once_more());
        assert_eq!(attempts.count(), 1 + 8);
        let kind = |text: &str| {
            let r#type = Some(format!("urn:ietf:params:acme:error:{text}"));
            let problem = Problem { r#type, detail: None, status: Some(400), subproblems: Vec::new() };
            Failed::from(Error::Api(problem)).kind
        };
        for (failed, expected) in [
            (kind("serverInternal"), true),
            (kind("rateLimited"), true),
            (Failed::from(Error::Timeout(None)).kind, true),
            (Failed::from(Unset::Unwritable(std::io::ErrorKind::StorageFull.into())).kind, true),
            (Failed::from(Unset::Unusable("not for the domain".to_owned())).kind, false),
            (kind("malformed"), false),
            (kind("accountDoesNotExist"), false),
        ] {
            assert_eq!(can_continue(failed), expected, "{failed:?}");
        }
    }
}
