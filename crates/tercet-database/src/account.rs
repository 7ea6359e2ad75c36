//! Accounts of the operating system: PostgreSQL refuses to run as root, so root runs it as another account.

#[cfg(target_os = "linux")]
mod handover;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;

#[cfg(target_os = "linux")]
pub use self::handover::take_over;

/// An account of the operating system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its user id.
    pub uid: u32,
    /// Its group id.
    pub gid: u32,
}

/// An account with the groups and home directory of a login session (getent(1), id(1)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Its name.
    pub name: String,
    /// Its user id.
    pub uid: u32,
    /// Its group id.
    pub gid: u32,
    /// All groups it is in.
    pub groups: Vec<u32>,
    /// Its home directory, if it has one.
    pub home: Option<PathBuf>,
}

impl Login {
    /// Looks up an account by name, or by user id in digits.
    ///
    /// # Errors
    /// The user database cannot be read.
    pub fn find(name: &str) -> Result<Option<Self>, AccountError> {
        let Some(line) = passwd(name)? else { return Ok(None) };
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields.as_slice() else { return Ok(None) };
        let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) else { return Ok(None) };
        let groups = ask(&["-G", name])?.unwrap_or_default();
        Ok(Some(Self {
            name: (*name).to_owned(),
            uid,
            gid,
            groups: groups.split_whitespace().filter_map(|group| group.parse().ok()).collect(),
            home: Some(PathBuf::from(home)).filter(|home| home.is_dir()),
        }))
    }
}

/// The passwd(5) line of a name or user id.
fn passwd(key: &str) -> io::Result<Option<String>> {
    match Command::new("getent").args(["passwd", "--", key]).output() {
        Ok(output) => {
            let line = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            Ok((output.status.success() && !line.is_empty()).then_some(line))
        }
        // Systems without getent have the file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let is = |line: &&str| {
                let mut fields = line.split(':');
                fields.next() == Some(key) || fields.nth(1) == Some(key)
            };
            Ok(fs::read_to_string("/etc/passwd")?.lines().find(is).map(str::to_owned))
        }
        Err(error) => Err(error),
    }
}

/// An account could not be determined.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// `id` failed to run.
    #[error("running `id` failed: {0}")]
    Id(#[from] io::Error),
    /// The process runs under a user id without a name.
    #[error("user id {0} has no name, and PostgreSQL needs one; hint: add it to /etc/passwd")]
    Nameless(u32),
    /// Root found no account to run PostgreSQL as.
    #[error(
        "PostgreSQL refuses to run as root, and there is neither a user `postgres` nor a user `nobody`; \
         hint: run tercet as an ordinary user, or `useradd --system postgres`"
    )]
    NobodyElse,
}

impl Account {
    /// The account this process runs as.
    ///
    /// # Errors
    /// Its user id has no name.
    pub fn current() -> Result<Self, AccountError> {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        match ask(&["-un"])? {
            Some(name) => Ok(Self { name, uid, gid }),
            None => Err(AccountError::Nameless(uid)),
        }
    }

    /// The account PostgreSQL should run as: this one, or for root `postgres` if it exists, else `nobody`.
    ///
    /// # Errors
    /// The current user has no name, or root finds neither account.
    pub fn for_postgresql() -> Result<Self, AccountError> {
        let current = Self::current()?;
        if current.uid != 0 {
            return Ok(current);
        }
        for name in ["postgres", "nobody"] {
            if let Some(account) = Self::named(name)?
                && account.uid != 0
            {
                return Ok(account);
            }
        }
        Err(AccountError::NobodyElse)
    }

    /// Whether this process must change its user id to run as this account.
    pub fn is_another(&self) -> bool {
        self.uid != rustix::process::geteuid().as_raw()
    }

    fn named(name: &str) -> Result<Option<Self>, AccountError> {
        let number =
            |flag| Ok::<_, io::Error>(ask(&[flag, name])?.and_then(|number| number.parse::<u32>().ok()));
        Ok(match (number("-u")?, number("-g")?) {
            (Some(uid), Some(gid)) => Some(Self { name: name.to_owned(), uid, gid }),
            _ => None,
        })
    }
}

/// The output of `id`, which knows every source of accounts, not only /etc/passwd.
fn ask(arguments: &[&str]) -> io::Result<Option<String>> {
    let output = Command::new("id").args(arguments).output()?;
    let answer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok((output.status.success() && !answer.is_empty()).then_some(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgresql_never_runs_as_root() {
        let account = Account::for_postgresql().unwrap();
        assert_ne!(account.uid, 0);
        assert_eq!(account.is_another(), rustix::process::geteuid().is_root());
        assert_eq!(Account::named(&account.name).unwrap().unwrap().uid, account.uid);
        assert_eq!(Account::named("no such account").unwrap(), None);
    }
}
