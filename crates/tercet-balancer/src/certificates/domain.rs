//! Keeps the certificate of one domain current: waits until it is due, obtains it, and tries again after a failure.

use std::convert::Infallible;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use instant_acme::{Account, CertificateIdentifier, ChallengeType, Error};
use tercet_observe::event::BalancerEvent;

use super::folder::{Record, Renewal};
use super::order::Failed;
use super::schedule::{self, Kind, LONGEST_WAIT};
use super::self_check::Finding;
use super::{Issuance, Notice};
use crate::x509::{self, Leaf};

/// The longest wait before the clock is read again, which may be set meanwhile.
const NAP: u64 = 600;
/// The least time before renewal information is asked for again, in seconds; the authority suggests one.
const ASK_AGAIN: i64 = 60;
/// When renewal information is asked for again after a failure, in seconds.
const POSTPONED: i64 = 6 * 3600;
/// A difference between the clocks from which on it is logged, in seconds.
const CLOCK_OFF: i64 = 3600;

/// Obtains and renews the certificate of a domain. What is known of it is also kept here, since the disk may be full.
///
/// # Errors
/// The process ends.
pub(super) async fn keep_current(issuance: Rc<Issuance>, domain: String) -> io::Result<Infallible> {
    let mut record = issuance.folder.record(&domain);
    let mut is_saved = true;
    loop {
        is_saved = is_saved || issuance.folder.set_record(&domain, &record).is_ok();
        let current = issuance.folder.certificate(&domain);
        let now = issuance.now();
        let leaf = current.as_ref().map(|(_, leaf)| leaf);
        let attempt = schedule::next_attempt(&record, leaf, issuance.directory(), now);
        let question = schedule::next_question(&record, leaf, now);
        let next = question.map_or(attempt, |question| attempt.min(question));
        if next > now {
            tokio::time::sleep(Duration::from_secs(u64::try_from(next - now).unwrap_or(0).min(NAP))).await;
            continue;
        }
        let Ok(_permit) = issuance.permits.acquire().await else {
            return Err(io::ErrorKind::Interrupted.into());
        };
        let due = attempt <= now;
        let outcome = issuance.attempt(&domain, &mut record, current, due).await;
        if let Err(failed) = outcome {
            issuance.record_failure(&domain, &mut record, failed);
        }
        let saved = issuance.folder.set_record(&domain, &record);
        is_saved = saved.is_ok();
        if let (Err(error), None) = (saved, &record.failure) {
            issuance.record_failure(&domain, &mut record, error.into());
        }
    }
}

impl Issuance {
    /// Asks for renewal information, and obtains a certificate if one is `due`.
    async fn attempt(
        &self,
        domain: &str,
        record: &mut Record,
        current: Option<(Vec<u8>, Leaf)>,
        due: bool,
    ) -> Result<(), Failed> {
        let account = self.account().await;
        self.report_clock(current.as_ref().map(|(_, leaf)| leaf));
        if let Some((pem, leaf)) = &current {
            match &account {
                Ok(account) => self.ask_renewal(account, record, pem).await,
                Err(_) => record.renewal = Some(postponed(record.renewal.take(), self.now())),
            }
            // The authority's clock, or its window, may say that it is not yet due.
            if schedule::next_attempt(record, Some(leaf), self.directory(), self.now()) > self.now() {
                return Ok(());
            }
        }
        if !due {
            return Ok(());
        }
        let account = account?;
        let doubt = match self.check_domain(domain).await {
            Finding::Here => None,
            Finding::Elsewhere(reason)
                if record.order.is_none() && schedule::holds_back(record.failure.as_ref()) =>
            {
                return Err(Failed::new(Kind::SelfCheck, reason));
            }
            Finding::Unknown(reason) | Finding::Elsewhere(reason) => Some(reason),
        };
        let pem = current.as_ref().map(|(pem, _)| &**pem);
        let obtained = self.obtain(domain, &account, record, pem).await;
        let leaf = obtained.map_err(|failed| match doubt {
            Some(found) if failed.challenge.is_some() => Failed {
                challenge: failed.challenge,
                ..Failed::new(failed.kind, format!("{} (self-check: {found})", failed.reason))
            },
            _ => failed,
        })?;
        *record = Record {
            directory: Some(self.directory().to_owned()),
            renewal: Some(Renewal { at: None, ask_again: self.now() }),
            ..Record::default()
        };
        self.events.event(BalancerEvent::CertificateObtained {
            domain,
            issuer: &leaf.issuer,
            expires: &date(leaf.not_after),
        });
        // Fails when the process ends.
        let _ = self.notices.send(Notice::Changed).await;
        Ok(())
    }

    /// Updates when to renew (RFC 9773 section 4.2). A failure leaves the time as it is.
    async fn ask_renewal(&self, account: &Account, record: &mut Record, pem: &[u8]) {
        let before = record.renewal.take();
        let der = x509::first(pem).ok();
        let Some(identifier) = der.as_ref().and_then(|der| CertificateIdentifier::try_from(der).ok()) else {
            record.renewal = Some(postponed(before, self.now()));
            return;
        };
        let answer = account.renewal_info(&identifier).await;
        // Its Retry-After is about the next question, not about an order.
        let _ = self.observed.take_retry_after();
        record.renewal = match answer {
            Ok((information, after)) => {
                let window = &information.suggested_window;
                let (start, end) = (window.start.unix_timestamp(), window.end.unix_timestamp());
                let at = schedule::in_window(before.and_then(|before| before.at), start, end, random());
                let after = i64::try_from(after.as_secs()).unwrap_or(i64::MAX).clamp(ASK_AGAIN, LONGEST_WAIT);
                Some(Renewal { at: Some(at), ask_again: self.now() + after })
            }
            Err(Error::Unsupported(_)) => Some(Renewal { at: None, ask_again: self.now() + LONGEST_WAIT }),
            Err(_) => Some(postponed(before, self.now())),
        };
    }

    fn record_failure(&self, domain: &str, record: &mut Record, failed: Failed) {
        let now = self.now();
        let Failed { kind, reason, challenge } = failed;
        if kind == Kind::NoAccount {
            self.folder.remove_account();
        }
        let after = self.observed.take_retry_after().filter(|_| kind != Kind::SelfCheck);
        let mut failure =
            schedule::failed(record.failure.as_ref(), self.directory(), (kind, reason), after, now);
        match challenge {
            Some(ChallengeType::Http01) => failure.http_failed = true,
            Some(_) => failure.http_failed = false,
            None => {}
        }
        let seconds = u64::try_from(failure.retry_at - now).unwrap_or(0);
        self.events.event(BalancerEvent::CertificateFailed { domain, reason: &failure.reason, seconds });
        record.failure = Some(failure);
    }

    /// Logs that the clock of the machine is wrong, each time the difference has changed: by the authority's clock, or by
    /// a certificate that is not valid yet.
    fn report_clock(&self, leaf: Option<&Leaf>) {
        let by_certificate = leaf.map_or(0, |leaf| (leaf.not_before - self.now()).max(0));
        let skew = Some(self.observed.skew()).filter(|skew| *skew != 0).unwrap_or(by_certificate);
        let before = self.reported_skew.replace(skew);
        if skew.abs() > CLOCK_OFF && (skew - before).abs() > CLOCK_OFF {
            self.events.event(BalancerEvent::ClockOff { seconds: -skew });
        }
    }
}

/// The renewal information from before, to be asked for again later.
fn postponed(before: Option<Renewal>, now: i64) -> Renewal {
    Renewal { at: before.and_then(|before| before.at), ask_again: now + POSTPONED }
}

/// A random number in 0..1.
fn random() -> f64 {
    (RandomState::new().hash_one(0) >> 11) as f64 / (1_u64 << 53) as f64
}

/// A time in seconds since 1970, for people.
pub(super) fn date(seconds: i64) -> String {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    httpdate::fmt_http_date(std::time::UNIX_EPOCH + since)
}
