//! Users with passwords: a file of names and hashes (htpasswd), and the check of a request's credentials.
//!
//! A hash by bcrypt takes milliseconds by design, so it is computed on other threads than those that serve requests, a few at a
//! time; a password that was right once is recognised without.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::Semaphore;

use crate::client_key;

/// The longest file in bytes.
const MAX_FILE: u64 = 1 << 20;
/// The greatest cost of a hash: a second of work.
const MAX_COST: u32 = 14;
/// Passwords that are hashed at the same time.
const HASHING: usize = 2;
/// Requests that wait for a hash; more get 503.
const WAITING: usize = 64;
/// Of them, those of one client: its guesses do not keep the others out.
const WAITING_OF_CLIENT: usize = 16;
/// The longest credentials in bytes, in base64.
const MAX_CREDENTIALS: usize = 1024;

/// Why a file with users cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}\nhint: {hint}", file.display())]
pub struct UsersError {
    /// The file.
    pub file: PathBuf,
    /// The problem, with its line.
    pub problem: String,
    /// How to solve it.
    pub hint: &'static str,
}

/// The users of a file.
pub struct Users {
    by_name: HashMap<String, User>,
    /// A hash to check the password of an unknown user with: it takes as long as that of a known one.
    stand_in: Arc<str>,
    /// Makes the fingerprints of passwords.
    key: hmac::Key,
    hashing: Arc<Semaphore>,
    waiting: Waiting,
}

struct User {
    hash: Arc<str>,
    /// The fingerprint of the password, once it was given.
    verified: OnceLock<hmac::Tag>,
}

/// The requests that wait for a hash, by client.
#[derive(Debug, Default)]
struct Waiting(Mutex<HashMap<u128, usize>>);

/// The place of a request that waits; given up on drop.
#[derive(Debug)]
struct Place<'a> {
    waiting: &'a Waiting,
    client: u128,
}

impl Waiting {
    /// A place for a request of this client; `None` if too many are waiting.
    fn enter(&self, client: IpAddr) -> Option<Place<'_>> {
        let client = client_key::key(client);
        let mut by_client = self.lock();
        let own = by_client.get(&client).copied().unwrap_or(0);
        if own >= WAITING_OF_CLIENT || by_client.values().sum::<usize>() >= WAITING {
            return None;
        }
        by_client.insert(client, own + 1);
        Some(Place { waiting: self, client })
    }

    /// Ignores poisoning: each change is complete.
    fn lock(&self) -> MutexGuard<'_, HashMap<u128, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut by_client = self.waiting.lock();
        if let Some(count) = by_client.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                by_client.remove(&self.client);
            }
        }
    }
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users").field("count", &self.by_name.len()).finish_non_exhaustive()
    }
}

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The credentials are those of a user.
    Granted,
    /// They are not, or there are none.
    Refused,
    /// Too many passwords are being checked.
    Busy,
}

const MAKE: &str = "htpasswd -nB NAME prints a line of the file: NAME:HASH, with a hash by bcrypt";

impl Users {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, may be read by other users of the machine, or has a line that is no user.
    pub fn load(file: &Path) -> Result<Self, UsersError> {
        let refused = |problem: String, hint| UsersError { file: file.to_owned(), problem, hint };
        let hint = "only the user the balancer runs as may read it: chmod 640";
        let metadata = std::fs::metadata(file).map_err(|error| refused(error.to_string(), hint))?;
        if metadata.permissions().mode() & 0o007 != 0 {
            return Err(refused("other users of the machine may read or change it".to_owned(), hint));
        }
        if metadata.len() > MAX_FILE {
            return Err(refused(format!("it is longer than {MAX_FILE} bytes"), MAKE));
        }
        let text = std::fs::read_to_string(file).map_err(|error| refused(error.to_string(), hint))?;
        Self::parse(&text).map_err(|(line, problem)| refused(format!("line {line}: {problem}"), MAKE))
    }

    /// Reads the text of a file; the error has the number of the line, but none of its text.
    fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut by_name = HashMap::new();
        let mut stand_in: Option<(u32, Arc<str>)> = None;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let refused = |problem| (index + 1, problem);
            let (name, hash) = line.split_once(':').ok_or_else(|| refused("it has no colon"))?;
            if name.is_empty() {
                return Err(refused("the user has no name"));
            }
            let parts: bcrypt::HashParts = hash
                .parse()
                .map_err(|_| refused("the hash is not one by bcrypt, which begins with $2y$ or $2b$"))?;
            if parts.get_cost() > MAX_COST {
                return Err(refused("the cost of the hash is more than 14: each login would take seconds"));
            }
            let hash: Arc<str> = hash.into();
            if stand_in.as_ref().is_none_or(|(cost, _)| *cost < parts.get_cost()) {
                stand_in = Some((parts.get_cost(), Arc::clone(&hash)));
            }
            if by_name.insert(name.to_owned(), User { hash, verified: OnceLock::new() }).is_some() {
                return Err(refused("this user is there already"));
            }
        }
        let (_, stand_in) = stand_in.ok_or((1, "there is no user in it"))?;
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Ok(Self {
            by_name,
            stand_in,
            key: key.map_err(|_| (1, "the system has no random numbers"))?,
            hashing: Arc::new(Semaphore::new(HASHING)),
            waiting: Waiting::default(),
        })
    }

    /// Checks the value of the only `Authorization` of a request of this client.
    pub async fn check(&self, authorization: Option<&[u8]>, client: IpAddr) -> Verdict {
        let Some((name, password)) = authorization.and_then(credentials) else { return Verdict::Refused };
        let user = self.by_name.get(&name);
        if let Some(tag) = user.and_then(|user| user.verified.get())
            && hmac::verify(&self.key, &password, tag.as_ref()).is_ok()
        {
            return Verdict::Granted;
        }
        let Some(_place) = self.waiting.enter(client) else { return Verdict::Busy };
        let Ok(permit) = Arc::clone(&self.hashing).acquire_owned().await else { return Verdict::Busy };
        let hash = Arc::clone(user.map_or(&self.stand_in, |user| &user.hash));
        let tag = hmac::sign(&self.key, &password);
        let matches = tokio::task::spawn_blocking(move || {
            // Until it is computed, even if the request is cancelled.
            let _permit = permit;
            bcrypt::verify(&password, &hash).unwrap_or(false)
        });
        match (matches.await, user) {
            (Ok(true), Some(user)) => {
                // Set by another request meanwhile, it is the same.
                let _ = user.verified.set(tag);
                Verdict::Granted
            }
            (Ok(_), _) => Verdict::Refused,
            (Err(_), _) => Verdict::Busy,
        }
    }
}

/// The name and the password of basic credentials (RFC 7617 section 2).
pub fn credentials(value: &[u8]) -> Option<(String, Vec<u8>)> {
    const SCHEME: &[u8] = b"basic";
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME) || rest.first() != Some(&b' ') || rest.len() > MAX_CREDENTIALS {
        return None;
    }
    let decoded = BASE64_STANDARD.decode(rest.trim_ascii()).ok()?;
    let colon = memchr::memchr(b':', &decoded)?;
    let name = str::from_utf8(&decoded[..colon]).ok()?;
    Some((name.to_owned(), decoded[colon + 1..].to_vec()))
}

/// Checks a file without keeping its users.
///
/// # Errors
/// As [`Users::load`].
pub(crate) fn check_file(file: &Path) -> Result<(), UsersError> {
    Users::load(file).map(drop)
}

impl From<UsersError> for io::Error {
    fn from(error: UsersError) -> Self {
        Self::other(error)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// `ann` with the password `secret`, `bob` with `pass:word`.
    fn users() -> Users {
        let hash = |password: &str| bcrypt::hash(password, 4).unwrap();
        let text = format!("# users\n\nann:{}\r\nbob:{}\n", hash("secret"), hash("pass:word"));
        Users::parse(&text).unwrap_or_else(|(line, problem)| panic!("{line}: {problem}"))
    }

    fn basic(text: &str) -> Vec<u8> {
        format!("Basic {}", BASE64_STANDARD.encode(text)).into_bytes()
    }

    #[tokio::test]
    async fn only_a_name_with_its_password_is_granted() {
        let users = users();
        // The second time without a hash.
        for _ in 0..2 {
            for (value, verdict) in [
                (Some(basic("ann:secret")), Verdict::Granted),
                (Some(basic("bob:pass:word")), Verdict::Granted),
                (Some(basic("ann:secret ")), Verdict::Refused),
                (Some(basic("ann:")), Verdict::Refused),
                (Some(basic("ann:pass:word")), Verdict::Refused),
                (Some(basic("ANN:secret")), Verdict::Refused),
                (Some(basic("eve:secret")), Verdict::Refused),
                (Some(basic(":secret")), Verdict::Refused),
                (Some(basic("ann")), Verdict::Refused),
                (Some(basic("ann:sec\0ret")), Verdict::Refused),
                (Some(basic(&format!("ann:{}", "a".repeat(2000)))), Verdict::Refused),
                (Some(b"basic YW5uOnNlY3JldA==".to_vec()), Verdict::Granted),
                (Some(b"Basic   YW5uOnNlY3JldA== ".to_vec()), Verdict::Granted),
                (Some(b"Basic YW5uOnNlY3JldA".to_vec()), Verdict::Refused),
                (Some(b"BasicYW5uOnNlY3JldA==".to_vec()), Verdict::Refused),
                (Some(b"Bearer YW5uOnNlY3JldA==".to_vec()), Verdict::Refused),
                (Some(b"Basic \xff\xfe".to_vec()), Verdict::Refused),
                (Some(b"Basic".to_vec()), Verdict::Refused),
                (Some(Vec::new()), Verdict::Refused),
                (None, Verdict::Refused),
            ] {
                let shown = value.as_deref().map(String::from_utf8_lossy);
                assert_eq!(users.check(value.as_deref(), CLIENT).await, verdict, "{shown:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_password_is_hashed_once_and_waiting_requests_are_bounded() {
        let users = users();
        let (right, wrong) = (basic("ann:secret"), basic("ann:guess"));
        assert_eq!(users.check(Some(&right), CLIENT).await, Verdict::Granted);
        // No hash can be computed meanwhile.
        let none = users.hashing.acquire_many(HASHING as u32).await.unwrap();
        let check = users.check(Some(&right), CLIENT);
        assert_eq!(tokio::time::timeout(Duration::from_secs(20), check).await, Ok(Verdict::Granted));
        drop(none);
        // One more than a client may have, in one network for IPv6: it is refused without a hash, and others are not.
        let guesser = |index: usize| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, index as u16]);
        let enter = |client| users.waiting.enter(client);
        let own: Vec<Place<'_>> = (0..WAITING_OF_CLIENT).filter_map(|index| enter(guesser(index))).collect();
        assert_eq!(own.len(), WAITING_OF_CLIENT);
        assert_eq!(users.check(Some(&wrong), guesser(100)).await, Verdict::Busy);
        assert_eq!(users.check(Some(&wrong), CLIENT).await, Verdict::Refused);
        // One more than may wait: the right password still is not hashed.
        let client = |index: usize| IpAddr::from([192, 0, 2, index as u8]);
        let others: Vec<Place<'_>> = (own.len()..WAITING).filter_map(|index| enter(client(index))).collect();
        assert_eq!(others.len(), WAITING - own.len());
        assert_eq!(users.check(Some(&wrong), CLIENT).await, Verdict::Busy);
        assert_eq!(users.check(Some(&right), CLIENT).await, Verdict::Granted);
        drop((own, others));
        assert!(users.waiting.lock().is_empty());
    }

    #[test]
    fn a_line_that_is_no_user_is_reported_without_its_text() {
        let hash = bcrypt::hash("secret", 4).unwrap();
        for (text, expected) in [
            ("", (1, "there is no user in it")),
            ("# none\n", (1, "there is no user in it")),
            ("ann\n", (1, "it has no colon")),
            (&format!("\n:{hash}\n"), (2, "the user has no name")),
            (&format!("ann:{hash}\nann:{hash}"), (2, "this user is there already")),
            ("ann:secret", (1, "the hash is not one by bcrypt, which begins with $2y$ or $2b$")),
            ("ann:$apr1$a$b", (1, "the hash is not one by bcrypt, which begins with $2y$ or $2b$")),
            ("ann:{SHA}abc=", (1, "the hash is not one by bcrypt, which begins with $2y$ or $2b$")),
            (
                &format!("ann:{}", hash.replacen("$04$", "$15$", 1)),
                (1, "the cost of the hash is more than 14: each login would take seconds"),
            ),
        ] {
            assert_eq!(Users::parse(text).err(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_file_that_other_users_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users");
        std::fs::write(&file, format!("ann:{}", bcrypt::hash("secret", 4).unwrap())).unwrap();
        for (mode, usable) in [(0o644, false), (0o602, false), (0o640, true), (0o600, true)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Users::load(&file).is_ok(), usable, "{mode:o}");
        }
        let error = Users::load(&folder.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("/none: No such file") && error.contains("\nhint: "), "{error}");
    }
}
