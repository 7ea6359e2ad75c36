//! Who PostgreSQL runs as: it refuses root, so root lends it an unprivileged account.

use std::io;
use std::process::Command;

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

/// An account could not be found out.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// `id`, which POSIX promises, did not run.
    #[error("cannot ask `id` about this machine's accounts: {0}")]
    Id(#[from] io::Error),
    /// The process runs under a user id without a name.
    #[error("user id {0} has no name, and PostgreSQL needs one; hint: add it to /etc/passwd")]
    Nameless(u32),
    /// Root found nobody to run PostgreSQL as.
    #[error(
        "PostgreSQL refuses to run as root, and there is neither a user postgres nor a user nobody; \
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

    /// Whether a process of this one's must change its user to run as this account.
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

/// What `id` answers, which sees every source of accounts the machine has, not only /etc/passwd.
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
