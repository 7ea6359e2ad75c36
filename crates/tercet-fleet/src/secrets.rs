//! The operator's secrets: the certificate authority, passwords. In the project's `.tercet/fleet/`, 0700; files 0600.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use tercet_config::{Machine, Repository, Tier, Topology};
use tercet_database::Password;
use tercet_database::roles::AUTHENTICATOR;
use tercet_machine::Secret;

use crate::authority::{self, Authority, Identity, Subject};
use crate::identity::{self, Data, how_to_get_state};
use crate::monitor::receivers::Receivers;
use crate::operator_folder::{FOLDER, NEXT};
use crate::phase::{Phase, Record};
use crate::state;
use crate::token_keys;

/// Secrets and certificates, ready to be put on machines.
#[derive(Debug)]
pub struct Secrets {
    /// The project's id: random, made with the rest.
    pub project: String,
    /// Where the project's data is, once it has some.
    pub data: Option<Data>,
    /// The operator state that these were last pushed or pulled as.
    pub state: Option<state::Record>,
    /// How often something of this was replaced: a folder that is behind a machine's is not to change it.
    pub generation: u64,
    /// The certificates of the authorities that are trusted, PEM: while one follows another, both, the new one first.
    pub authority: String,
    /// The digests of the authorities' certificates that a machine's identity may contain; new identities contain the first.
    pub authorities: Vec<String>,
    /// PostgreSQL's identity.
    pub server: Identity,
    /// What application machines identify themselves with, besides the password.
    pub client: Identity,
    /// The password of `authenticator`.
    pub authenticator: Password,
    /// What PostgreSQL stores of it; kept, since each computation salts anew.
    pub authenticator_verifier: Secret,
    /// Whether the client's certificate is enough to log in: while the password is replaced.
    pub certificate_alone: bool,
    /// The random key of release ids, so that an id does not confirm a guess at a release's contents.
    pub release_key: Password,
    /// What tokens are verified with: what tercet.toml names, else the one `tercet up` and `tercet token` use.
    pub jwt: Secret,
    /// The variables of the file that `env-file` in tercet.toml names, for the user's own program.
    pub variables: Variables,
    /// The balancer's certificates, in the order of tercet.toml.
    pub certificates: Vec<Identity>,
    /// The root certificate that the address of the certificate authority of `domains` is verified with, PEM.
    pub acme_root: Option<String>,
    /// The HMAC key of the external account at that authority.
    pub acme_hmac_key: Option<Secret>,
    /// The files with the users of the balancer's routes, in the order of the topology.
    pub users: Vec<Secret>,
    /// The URL of a PostgreSQL that exists already, when tercet.toml names one.
    pub database_url: Option<Secret>,
    /// What machines identify themselves with in the backup protocol, by machine; empty without a backup machine.
    pub backup: BTreeMap<String, Identity>,
    /// The keys of the object store of the backups.
    pub store: Option<Store>,
    /// Where alerts are sent.
    pub receivers: Receivers,
}

/// The keys of an object store.
#[derive(Clone, Debug)]
pub struct Store {
    /// The access key.
    pub key: Secret,
    /// The secret key.
    pub secret: Secret,
    /// The key that the backups are encrypted with. Without it they cannot be read.
    pub cipher: Secret,
}

/// The file of the key that the backups in an object store are encrypted with.
pub(crate) const CIPHER_KEY: &str = "backup-key";

impl Secrets {
    /// The password of the database's owner while a release migrates it: the same each time it is asked for.
    pub(crate) fn owner_password(&self, release: &str) -> Secret {
        let key = self.release_key.reveal();
        Secret::new(&crate::digest(format!("owner {release} {key}").as_bytes())[..40])
    }

    /// Refuses a folder's secrets that are not the machine's.
    ///
    /// # Errors
    /// The machine is another project's, or another operator's of the same name, or its secrets were replaced since; `keeps_state`
    /// says that it has that operator's state.
    pub(crate) fn check(&self, there: &identity::Identity, keeps_state: bool) -> Result<()> {
        if there.project != self.project {
            bail!(
                "it is {there}\nhint: name another machine, or `tercet apply --take-over` makes it this project's"
            );
        }
        if there.generation > self.generation {
            bail!(
                "it is {there}, and its secrets are of generation {}: they were rotated after this folder's copy of generation {} \
                 was made\n\
                 hint: {}, or `tercet apply --take-over` replaces its secrets",
                there.generation,
                self.generation,
                how_to_get_state(keeps_state)
            );
        }
        if !self.authorities.contains(&there.authority) {
            bail!(
                "it is {there}, with another certificate authority than this folder has: its secrets are another operator's\n\
                 hint: {}, or `tercet apply --take-over` replaces its secrets",
                how_to_get_state(keeps_state)
            );
        }
        Ok(())
    }

    /// Reads the secrets in the project's folder and generates the missing ones.
    ///
    /// # Errors
    /// Something cannot be read, or others may read it.
    pub fn kept_in(project: &Path, topology: &Topology) -> Result<Self> {
        Self::by(&Record::open(project)?, project, topology)
    }

    /// The secrets in the phase of a rotation that `record` names.
    pub(crate) fn by(record: &Record, project: &Path, topology: &Topology) -> Result<Self> {
        let folder = private_folder(project)?;
        let next = folder.join(NEXT);
        let phase = record.phase();
        let is = |phases: &[Phase]| phase.is_some_and(|phase| phases.contains(&phase));
        let replaced = |phases: &[Phase]| if is(phases) { &next } else { &folder };

        let ca = Authority::kept_in(replaced(&[Phase::NewIssuer, Phase::TrustNew]), topology.name())?;
        let trusted = match phase {
            Some(Phase::TrustBoth) => {
                vec![Authority::kept_in(&next, topology.name())?.certificate, ca.certificate.clone()]
            }
            Some(Phase::NewIssuer) => {
                vec![ca.certificate.clone(), Authority::kept_in(&folder, topology.name())?.certificate]
            }
            _ => vec![ca.certificate.clone()],
        };
        let mut authorities: Vec<String> = trusted.iter().map(|it| crate::digest(it.as_bytes())).collect();
        if is(&[Phase::TrustNew]) {
            let old = Authority::kept_in(&folder, topology.name())?.certificate;
            authorities.push(crate::digest(old.as_bytes()));
        }
        let issued = replaced(&[Phase::NewCertificates, Phase::NewIssuer, Phase::TrustNew]);
        let database = topology.parts().iter().find(|part| part.tier == Tier::Database);
        let address =
            database.map_or(std::net::Ipv4Addr::LOCALHOST.into(), |part| topology.machine_of(part).address);
        let passwords = replaced(&[Phase::NewPassword, Phase::BothFactors]);
        let authenticator = Password::kept_in(&passwords.join("authenticator"))?;
        let read =
            |secret: Option<&tercet_config::Secret>| secret.map(|secret| read(project, secret)).transpose();
        let api = topology.data_api();
        let jwt = match read(api.and_then(|api| api.jwt_secret.as_ref()))? {
            Some(secret) => secret,
            None => token_keys::accepted(project, record, api.is_some_and(token_keys::are_base64))?,
        };
        Ok(Self {
            project: Password::kept_in(&folder.join("project"))?.reveal().to_owned(),
            data: data(&folder)?,
            state: state::Record::of(project)?,
            generation: record.generation,
            // By its address: a file that names another machine for a moment costs no certificate.
            server: ca.identity(issued, &format!("database-{address}"), Subject::Server(address))?,
            client: ca.identity(issued, "application", Subject::Client(AUTHENTICATOR))?,
            authority: trusted.concat(),
            authorities,
            authenticator_verifier: verifier(&passwords.join("authenticator.verifier"), &authenticator)?,
            authenticator,
            certificate_alone: is(&[Phase::CertificateAlone, Phase::NewPassword]),
            release_key: Password::kept_in(&folder.join("release-key"))?,
            jwt,
            variables: variables(project, topology)?,
            certificates: certificates(project, topology)?,
            acme_root: acme_root(project, topology)?,
            acme_hmac_key: match &topology.balancer().acme.eab {
                Some(eab) => {
                    Some(self::read(project, &tercet_config::Secret::File(eab.hmac_key_file.clone()))?)
                }
                None => None,
            },
            users: (topology.balancer().users.iter())
                .map(|file| self::read(project, &tercet_config::Secret::File(file.clone())))
                .collect::<Result<_>>()?,
            database_url: read(topology.database().url.as_ref())?,
            backup: machines_of_backup(topology)
                .map(|machine| {
                    let subject = Subject::Machine(&machine.name, machine.address);
                    let name = format!("backup-{}", machine.name);
                    Ok((machine.name.clone(), ca.identity(issued, &name, subject)?))
                })
                .collect::<Result<_>>()?,
            store: match topology.backup().map(|backup| &backup.repository) {
                Some(Repository::S3(s3)) => Some(Store {
                    key: self::read(project, &s3.key)?,
                    secret: self::read(project, &s3.secret)?,
                    cipher: Secret::new(Password::kept_in(&folder.join(CIPHER_KEY))?.reveal()),
                }),
                _ => None,
            },
            receivers: Receivers::of(topology, |secret| self::read(project, secret))?,
        })
    }
}

/// Secret environment variables, by the name of the application.
pub type Variables = BTreeMap<Option<String>, Vec<(String, Secret)>>;

/// The variables of `env-file` of each application.
fn variables(project: &Path, topology: &Topology) -> Result<Variables> {
    let all = topology.applications().iter().filter_map(|it| Some((&it.name, it.environment.file.as_ref()?)));
    all.map(|(name, file)| Ok((name.clone(), variables_of(project, file)?))).collect()
}

fn variables_of(project: &Path, file: &Path) -> Result<Vec<(String, Secret)>> {
    let text = read(project, &tercet_config::Secret::File(file.to_owned()))?;
    let variables = tercet_config::environment::variables(text.reveal());
    let variables = variables.map_err(|line| anyhow::anyhow!("{}:{line}: not NAME=value", file.display()))?;
    Ok(variables.into_iter().map(|(name, value)| (name.to_owned(), Secret::new(value))).collect())
}

/// The key that the backups are encrypted with; `None` where they are not.
///
/// # Errors
/// It cannot be read or made.
pub fn backup_key(project: &Path, topology: &Topology) -> Result<Option<Secret>> {
    let Some(Repository::S3(_)) = topology.backup().map(|backup| &backup.repository) else { return Ok(None) };
    let key = Password::kept_in(&private_folder(project)?.join(CIPHER_KEY))?;
    Ok(Some(Secret::new(key.reveal())))
}

/// The machines that speak the backup protocol.
fn machines_of_backup(topology: &Topology) -> impl Iterator<Item = &Machine> {
    let has_tier = topology.machines().iter().any(|it| it.tiers.contains(&Tier::Backup));
    let speaks = move |it: &&Machine| {
        has_tier && (it.tiers.contains(&Tier::Database) || it.tiers.contains(&Tier::Backup))
    };
    topology.machines().iter().filter(speaks)
}

/// Whether anything is kept in the project's folder.
pub(crate) fn are_kept(project: &Path) -> bool {
    project.join(FOLDER).join("authority.key").exists()
}

/// The id of the project in the folder's state; `None` before it is generated.
pub(crate) fn project_id(project: &Path) -> Result<Option<String>> {
    let path = project.join(FOLDER).join("project");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// Where the project's data is, as it was written down.
fn data(folder: &Path) -> Result<Option<Data>> {
    let path = folder.join("data.json");
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).with_context(|| path.display().to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// Writes down where the project's data is.
pub(crate) fn record_data(project: &Path, data: &Data) -> Result<()> {
    let text = serde_json::to_string_pretty(data)? + "\n";
    authority::write_private(&project.join(FOLDER), "data.json", &text)
}

/// What the balancer identifies itself with, read from the files tercet.toml names.
fn certificates(project: &Path, topology: &Topology) -> Result<Vec<Identity>> {
    let tls = topology.balancer().tls.as_ref();
    let identity = |pair: &tercet_config::Certificate| {
        Ok(Identity {
            certificate: pem(project, &pair.certificate, "CERTIFICATE")?,
            key: Secret::new(pem(project, &pair.key, "PRIVATE KEY")?),
        })
    };
    tls.iter().flat_map(|tls| &tls.certificates).map(identity).collect()
}

fn acme_root(project: &Path, topology: &Topology) -> Result<Option<String>> {
    let root = topology.balancer().acme.root.as_ref();
    root.map(|path| pem(project, path, "CERTIFICATE")).transpose()
}

/// The text of a PEM file with at least one object whose label ends in `what`.
fn pem(project: &Path, path: &Path, what: &str) -> Result<String> {
    let path = project.join(path);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let begins =
        |line: &str| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&format!("{what}-----"));
    if !text.lines().any(begins) {
        bail!("{}: there is no {} in it\nhint: it has to be PEM", path.display(), what.to_lowercase());
    }
    Ok(text)
}

fn private_folder(project: &Path) -> Result<PathBuf> {
    let folder = project.join(FOLDER);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .with_context(|| folder.display().to_string())?;
    Ok(folder)
}

/// The verifier of a password that stays the same as long as the password does.
fn verifier(path: &Path, password: &Password) -> Result<Secret> {
    // Beside it a digest of its password: after the password was replaced, a new verifier is computed.
    let trace = crate::digest(password.reveal().as_bytes());
    if let Ok(kept) = fs::read_to_string(path)
        && let Some((verifier, of)) = kept.trim().split_once('\n')
        && of == trace
    {
        return Ok(Secret::new(verifier));
    }
    let verifier = password.verifier();
    let verifier = verifier.reveal();
    authority::write(path, &format!("{verifier}\n{trace}\n"), 0o600)?;
    Ok(Secret::new(verifier))
}

fn read(project: &Path, secret: &tercet_config::Secret) -> Result<Secret> {
    Ok(Secret::new(match secret {
        tercet_config::Secret::Inline(text) => text.clone(),
        tercet_config::Secret::File(path) => {
            let path = project.join(path);
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            if text.trim().is_empty() {
                bail!("{}: it is empty\nhint: put the secret in it", path.display());
            }
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
    }))
}
