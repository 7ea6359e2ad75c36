//! Keeps the keys of the identity provider up to date, beside the requests: at the start, when they expire, and when a token
//! has a signature that none of them verifies.

use std::sync::Arc;
use std::time::Duration;

use tercet_observe::LogHandle;
use tercet_observe::event::ApiEvent;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::state::Shared;
use crate::identity_provider::{Fetched, IdentityProvider};

/// How long keys are fresh if the provider does not say so.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);
/// The bounds of what the provider says.
const MIN_LIFETIME: Duration = Duration::from_secs(60);
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// The minimum time between two attempts that tokens cause.
const ON_DEMAND: Duration = Duration::from_secs(30);
/// The wait after the first failure; it doubles with each further one, up to [`MAX_BACKOFF`].
const INITIAL_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// Requests that wait for newer keys. Each is answered, by closing its channel, after an attempt or at once if none is due.
pub(super) type Wanted = mpsc::UnboundedReceiver<oneshot::Sender<()>>;

/// Fetches the keys of the provider in the present configuration, for as long as requests may want them.
pub(super) async fn keep_fresh(shared: Arc<Shared>, log: LogHandle, mut wanted: Wanted) {
    let mut monitor: Option<Monitor> = None;
    loop {
        let mut replaced = std::pin::pin!(shared.replaced.notified());
        replaced.as_mut().enable();
        let provider = shared.settings.load().config.identity_provider.clone();
        if provider.as_ref() != monitor.as_ref().map(|it| &it.provider) {
            monitor = provider.map(Monitor::new);
            shared.provided.store(monitor.as_ref().and_then(|it| it.provider.kept()).map(Arc::new));
        }
        let due = monitor.as_ref().map(|monitor| monitor.next);
        let expired = async {
            match due {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        // Its end tells the request that there is nothing to wait for any more.
        let mut waiting = None;
        let attempt = tokio::select! {
            () = replaced => false,
            () = expired => true,
            request = wanted.recv() => match request {
                Some(request) => {
                    waiting = Some(request);
                    monitor.as_mut().is_some_and(Monitor::is_due_on_demand)
                }
                None => return,
            },
        };
        if let Some(monitor) = monitor.as_mut().filter(|_| attempt) {
            monitor.attempt(&shared, &log).await;
            // Those that asked meanwhile have waited for the same attempt.
            while wanted.try_recv().is_ok() {}
        }
        drop(waiting);
    }
}

/// When the keys of a provider are fetched.
struct Monitor {
    provider: IdentityProvider,
    next: Instant,
    backoff: Duration,
    last_on_demand: Option<Instant>,
    /// Whether the newest keys are in the file.
    is_cached: bool,
}

impl Monitor {
    fn new(provider: IdentityProvider) -> Self {
        Self {
            provider,
            next: Instant::now(),
            backoff: INITIAL_BACKOFF,
            last_on_demand: None,
            is_cached: false,
        }
    }

    /// Whether a token may cause an attempt now; if so, the next one has to wait.
    fn is_due_on_demand(&mut self) -> bool {
        let is_due = self.last_on_demand.is_none_or(|last| last.elapsed() >= ON_DEMAND);
        if is_due {
            self.last_on_demand = Some(Instant::now());
        }
        is_due
    }

    /// Fetches the keys; those that are there stay if that fails.
    async fn attempt(&mut self, shared: &Shared, log: &LogHandle) {
        match self.provider.fetch().await {
            Ok(Fetched { keys, lifetime }) => {
                self.backoff = INITIAL_BACKOFF;
                let lifetime = lifetime.unwrap_or(DEFAULT_LIFETIME).clamp(MIN_LIFETIME, MAX_LIFETIME);
                self.next = Instant::now() + lifetime;
                let is_known = shared.provided.load().as_ref().is_some_and(|known| **known == keys);
                if !is_known || !self.is_cached {
                    let written = keys.write();
                    self.is_cached = written.is_ok();
                    if let (Err(error), Some(file)) = (written, &self.provider.file) {
                        let (file, reason) = (&*file.display().to_string(), &*error.to_string());
                        log.event(ApiEvent::JwksCacheWriteFailed { file, reason });
                    }
                }
                // Other keys only: each thread then verifies its cached tokens again.
                if !is_known {
                    let fresh_seconds = lifetime.as_secs();
                    log.event(ApiEvent::JwksFetched { keys: keys.keys.count(), fresh_seconds });
                    shared.provided.store(Some(Arc::new(keys)));
                }
            }
            Err(error) => {
                let retry_seconds = self.backoff.as_secs_f64();
                self.next = Instant::now() + self.backoff;
                self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
                log.event(ApiEvent::JwksFetchFailed { reason: &error.to_string(), retry_seconds });
            }
        }
    }
}
