//! The certificates process: obtains and renews the certificates of `domains` from a certificate authority (ACME, RFC
//! 8555).
//!
//! It alone connects to the authority and has the account key; it listens nowhere. Challenges go to the worker process
//! over the channel of the supervisor, certificates through files. This module does not depend on requests of clients.

mod account;
mod domain;
mod folder;
mod http;
mod listing;
mod order;
mod schedule;
mod self_check;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tercet_observe::LogHandle;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use self::folder::Folder;
use self::http::Observed;
pub use self::listing::{Listed, list};
use crate::challenges::Challenge;
use crate::config::Config;

/// Orders at the same time.
const CONCURRENT: usize = 4;
/// How long the worker process may take to set challenges; the authority tries them more than once.
const SET_TIMEOUT: Duration = Duration::from_secs(5);

/// A message to the worker process.
#[derive(Debug)]
pub(crate) enum Notice {
    /// Answer these challenges and no others; then reply.
    Challenges(Vec<Challenge>, oneshot::Sender<()>),
    /// The file of a certificate has changed.
    Changed,
}

/// What the tasks of all domains share.
struct Issuance {
    config: Config,
    folder: Folder,
    notices: mpsc::Sender<Notice>,
    events: LogHandle,
    observed: Arc<Observed>,
    /// The difference of the clocks that was logged last, in seconds.
    reported_skew: Cell<i64>,
    /// Held while the account is loaded or created.
    account: Mutex<()>,
    permits: Semaphore,
    /// The challenges to answer, by their domain.
    challenges: RefCell<BTreeMap<String, Challenge>>,
}

/// Keeps the certificates of all domains current. Returns only on an error.
///
/// # Errors
/// The folder cannot be used.
pub(crate) async fn run(config: Config, notices: mpsc::Sender<Notice>, events: LogHandle) -> io::Result<()> {
    let issuance = Rc::new(Issuance {
        folder: Folder::open(&config.acme.folder)?,
        config,
        notices,
        events,
        observed: Arc::default(),
        reported_skew: Cell::default(),
        account: Mutex::default(),
        permits: Semaphore::new(CONCURRENT),
        challenges: RefCell::default(),
    });
    let mut tasks = JoinSet::new();
    for domain in &issuance.config.domains {
        tasks.spawn_local(domain::keep_current(Rc::clone(&issuance), domain.clone()));
    }
    match tasks.join_next().await {
        Some(Ok(Err(error))) => Err(error),
        Some(Ok(Ok(never))) => match never {},
        Some(Err(error)) => Err(io::Error::other(error)),
        None => Ok(()),
    }
}

impl Issuance {
    /// The URL of the authority's ACME directory.
    fn directory(&self) -> &str {
        self.config.acme.directory.url()
    }

    /// The time in seconds since 1970.
    fn now(&self) -> i64 {
        self.observed.now()
    }

    /// Replaces the challenge of a domain, and waits until it is answered.
    async fn set_challenge(&self, domain: &str, challenge: Option<Challenge>) {
        let all = {
            let mut challenges = self.challenges.borrow_mut();
            match challenge {
                Some(challenge) => challenges.insert(domain.to_owned(), challenge),
                None => challenges.remove(domain),
            };
            challenges.values().cloned().collect()
        };
        let (reply, set) = oneshot::channel();
        if self.notices.send(Notice::Challenges(all, reply)).await.is_ok() {
            // Without a worker process there is no reply, and the authority finds no answer.
            let _ = tokio::time::timeout(SET_TIMEOUT, set).await;
        }
    }
}
