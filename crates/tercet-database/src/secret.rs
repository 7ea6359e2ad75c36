//! Passwords: generated, kept in files only their owner can read, and never printed.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tercet_postgres::Verifier;

/// A database password. Its `Debug` form is redacted.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// A new password of 256 random bits, in characters that need no quoting.
    ///
    /// # Errors
    /// The system's random source cannot be read.
    pub fn generate() -> io::Result<Self> {
        let mut bytes = [0; 32];
        fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The one kept in `path`; generated and written there, mode 0600, when the file is missing or empty.
    ///
    /// # Errors
    /// The file cannot be read or written, or others may read it.
    pub fn kept_in(path: &Path) -> io::Result<Self> {
        match fs::read_to_string(path) {
            Ok(kept) if !kept.trim().is_empty() => {
                let mode = fs::metadata(path)?.permissions().mode();
                if mode & 0o077 != 0 {
                    return Err(io::Error::new(
                        io::ErrorKind::PermissionDenied,
                        format!(
                            "{} can be read by others (mode {:o}); hint: chmod 600 it",
                            path.display(),
                            mode & 0o777
                        ),
                    ));
                }
                Ok(Self(kept.trim().to_owned()))
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => {
                let password = Self::generate()?;
                // A temporary file and a rename: a power cut leaves the old state or the new one.
                let partial = path.with_extension("new");
                match fs::remove_file(&partial) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
                file.write_all(password.0.as_bytes())?;
                file.sync_all()?;
                fs::rename(&partial, path)?;
                Ok(password)
            }
        }
    }

    /// The password in the clear.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The SCRAM-SHA-256 verifier that PostgreSQL stores.
    pub fn verifier(&self) -> Verifier {
        Verifier::of(&self.0)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_generated_once_kept_private_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("owner");
        let password = Password::kept_in(&path).unwrap();
        assert_eq!(password.reveal().len(), 43);
        assert_eq!(Password::kept_in(&path).unwrap(), password);
        assert_ne!(Password::generate().unwrap(), password);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!format!("{password:?}").contains(password.reveal()));
        assert!(password.verifier().reveal().starts_with("SCRAM-SHA-256$4096:"));

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Password::kept_in(&path).unwrap_err().to_string();
        assert!(error.contains("mode 644") && !error.contains(password.reveal()), "{error}");
    }
}
