//! The right to change a machine: one operator at a time, for a time.
//!
//! A lease that is not renewed runs out, so an operator whose computer died holds up nobody for long. Each
//! taking raises the fencing number: steps of an operator who lost the lease without knowing are refused.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tercet_machine::Secret;

/// Where a machine keeps it.
const FOLDER: &str = "/var/lib/tercet";

/// Seconds a lease lasts when it is not renewed.
pub(crate) const SECONDS: u64 = 60;

/// What an operator wants of the lease.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeaseRequest {
    /// What to do with it.
    pub wish: Wish,
    /// Who asks: user and host, for messages.
    pub owner: String,
    /// What only this run of the operator's tercet knows.
    pub token: Secret,
}

/// What to do with a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// Take it, or take over one that has run out.
    Take,
    /// Hold it longer.
    Renew,
    /// Give it back.
    Release,
}

/// A lease as the machine keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who has it.
    pub owner: String,
    /// What only they know; empty in answers.
    token: Secret,
    /// When it runs out, in seconds since the Unix epoch.
    pub expires: u64,
    /// Raised at each taking.
    pub fence: u64,
    /// Whose lease had run out and was taken over by this one.
    pub taken_over_from: Option<String>,
}

impl Lease {
    /// Whether somebody holds it.
    fn is_held(&self) -> bool {
        !self.token.reveal().is_empty()
    }
}

/// What becomes of `lease` at `now`.
fn decide(lease: Option<Lease>, request: &LeaseRequest, now: u64) -> Result<Lease> {
    let fence = lease.as_ref().map_or(0, |lease| lease.fence);
    let mine = lease.as_ref().is_some_and(|lease| lease.token == request.token);
    let held = lease.as_ref().filter(|lease| lease.is_held());
    let renewed = |fence, taken_over_from| Lease {
        owner: request.owner.clone(),
        token: request.token.clone(),
        expires: now + SECONDS,
        fence,
        taken_over_from,
    };
    match request.wish {
        Wish::Take => match held {
            Some(other) if !mine && other.expires > now => bail!(
                "{} is changing this machine; their lease runs out in {} s unless they renew it\nhint: wait, or ask them",
                other.owner,
                other.expires - now
            ),
            Some(other) if !mine => Ok(renewed(fence + 1, Some(other.owner.clone()))),
            _ => Ok(renewed(fence + 1, None)),
        },
        Wish::Renew if mine => Ok(renewed(fence, None)),
        Wish::Renew => {
            bail!("the lease was lost{}", held.map(|it| format!(" to {}", it.owner)).unwrap_or_default())
        }
        Wish::Release if mine => Ok(Lease {
            owner: String::new(),
            token: Secret::new(""),
            expires: 0,
            fence,
            taken_over_from: None,
        }),
        // Somebody else's by now: nothing to give back.
        Wish::Release => lease.context("there is no lease"),
    }
}

/// Does it on this machine; nobody else can at the same time.
pub(crate) fn serve(request: &LeaseRequest) -> Result<Lease> {
    let folder = Path::new(FOLDER);
    fs::create_dir_all(folder).with_context(|| FOLDER.to_owned())?;
    let lock = fs::File::create(folder.join("lease.lock"))?;
    lock.lock()?;
    let lease = decide(read()?, request, now())?;
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(Secret::json_of(&lease)?.reveal().as_bytes())?;
    new.as_file().sync_all()?;
    new.persist(folder.join("lease.json"))?;
    Ok(Lease { token: Secret::new(""), ..lease })
}

/// Refuses to go on for an operator who no longer has the lease.
pub(crate) fn check(fence: u64) -> Result<()> {
    match read()? {
        Some(lease) if lease.fence == fence && lease.is_held() => Ok(()),
        Some(lease) if !lease.owner.is_empty() => bail!("the lease was lost to {}", lease.owner),
        _ => bail!("nobody has the lease of this machine"),
    }
}

fn read() -> Result<Option<Lease>> {
    match fs::read(Path::new(FOLDER).join("lease.json")) {
        // Half a lease cannot be: it is renamed into place. One nobody understands is as good as none.
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(wish: Wish, token: &str) -> LeaseRequest {
        LeaseRequest { wish, owner: format!("{token}@desk"), token: Secret::new(token) }
    }

    #[test]
    fn one_operator_at_a_time_until_the_lease_runs_out() {
        let ann = decide(None, &request(Wish::Take, "ann"), 100).unwrap();
        assert_eq!((ann.fence, ann.expires), (1, 160));
        let refused = decide(Some(ann.clone()), &request(Wish::Take, "bob"), 159).unwrap_err().to_string();
        assert!(
            refused.starts_with("ann@desk is changing this machine; their lease runs out in 1 s"),
            "{refused}"
        );
        let renewed = decide(Some(ann.clone()), &request(Wish::Renew, "ann"), 150).unwrap();
        assert_eq!((renewed.fence, renewed.expires), (1, 210));

        let bob = decide(Some(ann), &request(Wish::Take, "bob"), 161).unwrap();
        assert_eq!((bob.fence, bob.taken_over_from.as_deref()), (2, Some("ann@desk")));
        assert!(decide(Some(bob.clone()), &request(Wish::Renew, "ann"), 162).is_err());
        assert_eq!(decide(Some(bob.clone()), &request(Wish::Release, "ann"), 162).unwrap(), bob);

        let free = decide(Some(bob), &request(Wish::Release, "bob"), 163).unwrap();
        let ann = decide(Some(free), &request(Wish::Take, "ann"), 164).unwrap();
        assert_eq!((ann.fence, ann.taken_over_from), (3, None));
    }
}
