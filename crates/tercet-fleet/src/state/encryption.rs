//! Encryption of the operator state, by age: to public keys, or to a passphrase.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use age::secrecy::SecretString;
use age::{DecryptError, Decryptor, Encryptor};
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use tercet_machine::Secret;

use crate::at_once::all_in_one;

/// How much work a passphrase costs, as a power of two: age's own choice, about a second.
const WORK: u8 = if cfg!(test) { 4 } else { 18 };
/// The most work that a ciphertext may demand.
const MOST_WORK: u8 = 22;
/// The fewest characters of a passphrase: its ciphertext lies where others may try for years.
const FEWEST_CHARACTERS: usize = 12;

/// Asks the operator for a passphrase; the argument is its purpose.
pub type Ask<'a> = &'a mut dyn FnMut(&str) -> Result<Secret>;

/// The recipients of the encrypted operator state.
#[derive(Clone, Debug)]
pub struct Recipients(To);

#[derive(Clone, Debug)]
enum To {
    Keys(Vec<String>),
    Passphrase(Secret),
}

impl Recipients {
    /// The public keys of tercet.toml; `None` when it names none.
    ///
    /// # Errors
    /// One of them is none.
    pub fn keys(texts: &[String]) -> Result<Option<Self>> {
        for text in texts {
            recipient(text)?;
        }
        Ok((!texts.is_empty()).then(|| Self(To::Keys(texts.to_vec()))))
    }

    /// A passphrase.
    ///
    /// # Errors
    /// It is too short.
    pub fn passphrase(passphrase: Secret) -> Result<Self> {
        ensure!(
            passphrase.reveal().chars().count() >= FEWEST_CHARACTERS,
            "a passphrase needs at least {FEWEST_CHARACTERS} characters: what it encrypts lies on machines\n\
             hint: five words taken at random are easy to keep"
        );
        Ok(Self(To::Passphrase(passphrase)))
    }

    /// The public keys; none when it is a passphrase.
    pub(crate) fn texts(&self) -> &[String] {
        match &self.0 {
            To::Keys(texts) => texts,
            To::Passphrase(_) => &[],
        }
    }

    pub(crate) fn encrypt(&self, plain: &[u8]) -> Result<Vec<u8>> {
        let recipients: Vec<Box<dyn age::Recipient>> = match &self.0 {
            To::Keys(texts) => texts.iter().map(|text| recipient(text)).collect::<Result<_>>()?,
            To::Passphrase(passphrase) => {
                let mut recipient = age::scrypt::Recipient::new(secret(passphrase));
                recipient.set_work_factor(WORK);
                vec![Box::new(recipient)]
            }
        };
        let encryptor = Encryptor::with_recipients(recipients.iter().map(|it| &**it))?;
        let mut encrypted = Vec::new();
        let mut writer = encryptor.wrap_output(&mut encrypted)?;
        writer.write_all(plain)?;
        writer.finish()?;
        Ok(encrypted)
    }
}

fn recipient(text: &str) -> Result<Box<dyn age::Recipient>> {
    let refused = || {
        let begin: String = text.chars().take(24).collect();
        anyhow!(
            "[state] recipients: {begin}… is no public key\nhint: copy it whole, as `tercet state identity` or ssh-keygen printed it"
        )
    };
    if text.starts_with("ssh-") {
        let key: age::ssh::Recipient = text.parse().map_err(|_| refused())?;
        return Ok(Box::new(key));
    }
    let key: age::x25519::Recipient = text.parse().map_err(|_| refused())?;
    Ok(Box::new(key))
}

/// What the operator state can be decrypted with.
#[derive(Clone, Debug)]
pub enum Key {
    /// Files of age identities or ssh keys, tried in this order.
    Files(Vec<PathBuf>),
    /// A passphrase.
    Passphrase(Secret),
}

impl Key {
    /// Decrypts; `recipients` are the public keys that it was encrypted to, and `ask` is for ssh keys that have a
    /// passphrase of their own.
    ///
    /// # Errors
    /// It is the wrong key, or the ciphertext is none.
    pub(crate) fn decrypt(&self, ciphertext: &[u8], recipients: &[String], ask: Ask<'_>) -> Result<Vec<u8>> {
        let mut refused = Vec::new();
        let identities = match self {
            Self::Files(paths) => {
                ensure!(
                    !recipients.is_empty(),
                    "it is encrypted to a passphrase, not to a key\nhint: leave --identity out, or name a --passphrase-file"
                );
                let mut identities = Vec::new();
                for path in paths {
                    // An unusable identity is ignored when another one fits.
                    match identities_in(path, recipients, ask) {
                        Ok(it) => identities.extend(it),
                        Err(error) => refused.push(error),
                    }
                }
                identities
            }
            Self::Passphrase(passphrase) => {
                ensure!(
                    recipients.is_empty(),
                    "it is encrypted to keys, not to a passphrase\nhint: name the file of yours with --identity"
                );
                let mut identity = age::scrypt::Identity::new(secret(passphrase));
                identity.set_max_work_factor(MOST_WORK);
                vec![Box::new(identity) as Box<dyn age::Identity>]
            }
        };
        let decryptor = Decryptor::new(ciphertext).map_err(|error| anyhow!("age: {error}"))?;
        let mut reader = decryptor.decrypt(identities.iter().map(|it| &**it)).map_err(|error| match error {
            DecryptError::NoMatchingKeys | DecryptError::DecryptionFailed
                if matches!(self, Self::Passphrase(_)) =>
            {
                anyhow!("wrong passphrase")
            }
            DecryptError::NoMatchingKeys if !refused.is_empty() => all_in_one(&refused),
            DecryptError::NoMatchingKeys => anyhow!(
                "none of your keys is among its {} recipients\nhint: an operator with one of them adds your public key to [state] \
                 recipients and pushes; `tercet state identity` prints it",
                recipients.len()
            ),
            error => anyhow!("age: {error}"),
        })?;
        let mut plain = Vec::new();
        reader.read_to_end(&mut plain).context("age: the ciphertext is damaged")?;
        Ok(plain)
    }
}

fn secret(text: &Secret) -> SecretString {
    SecretString::from(text.reveal().to_owned())
}

/// The identities in a file that only its owner may read. An ssh key with a passphrase is only asked for when it can help.
fn identities_in(path: &Path, recipients: &[String], ask: Ask<'_>) -> Result<Vec<Box<dyn age::Identity>>> {
    let named = || path.display().to_string();
    let file = fs::File::open(path).with_context(named)?;
    let metadata = file.metadata().with_context(named)?;
    let mode = metadata.permissions().mode() & 0o777;
    if metadata.is_file() && mode & 0o077 != 0 {
        bail!("{} can be read by others (mode {mode:o})\nhint: chmod 600 it", path.display());
    }
    let mut text = String::new();
    file.take(1 << 20).read_to_string(&mut text).with_context(named)?;
    if !text.trim_start().starts_with("-----BEGIN ") {
        let file = age::IdentityFile::from_buffer(text.as_bytes()).ok();
        let file = file.with_context(|| {
            format!(
                "{}: there is something else than age identities (AGE-SECRET-KEY-…) or an ssh key in it",
                path.display()
            )
        })?;
        let identities = file.into_identities().map_err(|error| anyhow!("{}: {error}", path.display()))?;
        return Ok(identities.into_iter().map(|it| it as Box<dyn age::Identity>).collect());
    }
    let identity = age::ssh::Identity::from_buffer(text.as_bytes(), None)
        .ok()
        .with_context(|| format!("{}: no ssh key that can be read", path.display()))?;
    match identity {
        age::ssh::Identity::Encrypted(key) => {
            let public = age::ssh::Recipient::try_from(age::ssh::Identity::from(key.clone()));
            let is_recipient = public.is_ok_and(|public| {
                let public = public.to_string();
                recipients.iter().any(|it| it.split(' ').take(2).eq(public.split(' ').take(2)))
            });
            if !is_recipient {
                return Ok(Vec::new());
            }
            let passphrase = ask(&format!("passphrase of {}", path.display()))?;
            let key = key
                .decrypt(secret(&passphrase))
                .map_err(|_| anyhow!("{}: the passphrase is another one", path.display()))?;
            Ok(vec![Box::new(age::ssh::Identity::from(key))])
        }
        age::ssh::Identity::Unsupported(_) => {
            bail!(
                "{}: an ssh key of a kind that age cannot decrypt with\nhint: use an ed25519 or an rsa key",
                path.display()
            )
        }
        identity @ age::ssh::Identity::Unencrypted(_) => Ok(vec![Box::new(identity)]),
    }
}

/// Makes an identity in `path`, 0600, unless there is one; its public key.
///
/// # Errors
/// The file cannot be read or written, or holds something else.
pub fn identity_kept_in(path: &Path) -> Result<String> {
    use age::secrecy::ExposeSecret as _;
    let named = || path.display().to_string();
    if !path.exists() {
        let folder = path.parent().context("a file lies in a folder")?;
        crate::state::folder::private(folder)?;
        let identity = age::x25519::Identity::generate();
        let text =
            format!("# public key: {}\n{}\n", identity.to_public(), identity.to_string().expose_secret());
        let mut file = tempfile::NamedTempFile::new_in(folder).with_context(named)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(path) {
            Err(error) if error.error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(error.error).with_context(named);
            }
            _ => {}
        }
    }
    let text = fs::read_to_string(path).with_context(named)?;
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let identities: Option<Vec<age::x25519::Identity>> = lines.map(|line| line.parse().ok()).collect();
    match identities.as_deref() {
        Some([identity, ..]) => Ok(identity.to_public().to_string()),
        _ => bail!("{}: there is no age identity (AGE-SECRET-KEY-…) in it", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_question(what: &str) -> Result<Secret> {
        bail!("asked for {what}")
    }

    fn decrypt(key: &Key, ciphertext: &[u8], to: &Recipients) -> Result<String> {
        Ok(String::from_utf8(key.decrypt(ciphertext, to.texts(), &mut no_question)?).unwrap())
    }

    #[test]
    fn a_passphrase_decrypts_and_another_does_not() {
        let to = Recipients::passphrase(Secret::new("a good passphrase")).unwrap();
        let ciphertext = to.encrypt(b"state").unwrap();
        let key = |text: &str| Key::Passphrase(Secret::new(text));
        assert_eq!(decrypt(&key("a good passphrase"), &ciphertext, &to).unwrap(), "state");
        let refused = decrypt(&key("another passphrase"), &ciphertext, &to).unwrap_err().to_string();
        assert_eq!(refused, "wrong passphrase");
        assert!(Recipients::passphrase(Secret::new("too short")).is_err());
        let files = decrypt(&Key::Files(Vec::new()), &ciphertext, &to).unwrap_err().to_string();
        assert!(files.starts_with("it is encrypted to a passphrase"), "{files}");
    }

    /// An ssh key with or without a passphrase; its public key.
    fn ssh_key(path: &Path, kind: &str, passphrase: &str) -> String {
        let made = std::process::Command::new("ssh-keygen")
            .args(["-q", "-t", kind, "-N", passphrase, "-C", "ann at her desk", "-f"])
            .arg(path)
            .status()
            .unwrap();
        assert!(made.success());
        let public = fs::read_to_string(path.with_extension("pub")).unwrap();
        public.split(' ').take(2).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn only_recipients_decrypt() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let publics = [
            identity_kept_in(&at("keys/ann")).unwrap(),
            ssh_key(&at("ed25519"), "ed25519", ""),
            ssh_key(&at("rsa"), "rsa", ""),
            ssh_key(&at("locked"), "ed25519", "its passphrase"),
        ];
        assert_eq!(identity_kept_in(&at("keys/ann")).unwrap(), publics[0]);
        let to = Recipients::keys(&publics).unwrap().unwrap();
        let ciphertext = to.encrypt(b"state").unwrap();
        for name in ["keys/ann", "ed25519", "rsa"] {
            assert_eq!(decrypt(&Key::Files(vec![at(name)]), &ciphertext, &to).unwrap(), "state", "{name}");
        }
        let mut asked = Vec::new();
        let mut ask = |what: &str| {
            asked.push(what.to_owned());
            Ok(Secret::new("its passphrase"))
        };
        let locked = Key::Files(vec![at("locked")]);
        assert_eq!(locked.decrypt(&ciphertext, to.texts(), &mut ask).unwrap(), b"state");
        assert_eq!(asked, [format!("passphrase of {}", at("locked").display())]);

        identity_kept_in(&at("eve")).unwrap();
        ssh_key(&at("eves"), "ed25519", "never asked for");
        let eve = Key::Files(vec![at("eve"), at("eves")]);
        let refused = decrypt(&eve, &ciphertext, &to).unwrap_err().to_string();
        assert!(refused.starts_with("none of your keys is among its 4 recipients"), "{refused}");
        let passphrase = Key::Passphrase(Secret::new("a good passphrase"));
        assert!(decrypt(&passphrase, &ciphertext, &to).is_err());
    }

    #[test]
    fn a_key_that_others_may_read_and_a_text_that_is_none_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ann");
        let to = Recipients::keys(&[identity_kept_in(&path).unwrap()]).unwrap().unwrap();
        let ciphertext = to.encrypt(b"state").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = decrypt(&Key::Files(vec![path.clone()]), &ciphertext, &to).unwrap_err().to_string();
        assert!(refused.contains("can be read by others (mode 640)"), "{refused}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let hush = fs::read_to_string(&path).unwrap().replace("AGE-SECRET-KEY-", "AGE-SECRET-KEY-X");
        fs::write(&path, &hush).unwrap();
        let refused = format!("{:#}", decrypt(&Key::Files(vec![path]), &ciphertext, &to).unwrap_err());
        assert!(refused.contains("something else than age identities"), "{refused}");
        assert!(!refused.contains("SECRET-KEY-X"), "{refused}");
        for text in ["age1ql3z7hjy", "ssh-ed25519 AAAA", "ssh-dss AAAA", ""] {
            assert!(Recipients::keys(&[text.to_owned()]).is_err(), "{text}");
        }
        assert!(Recipients::keys(&[]).unwrap().is_none());
    }
}
