//! What the operator keeps: the certificate authority, passwords. In the project's `.tercet/fleet/`, 0700; files 0600.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use tercet_config::{Server, Tier, Topology};
use tercet_database::Password;
use tercet_database::roles::AUTHENTICATOR;
use tercet_machine::Secret;

use crate::authority::{self, Authority, Identity, Subject};
use crate::identity::Data;
use crate::state::Record;

/// Where it is, in the project's folder.
const FOLDER: &str = ".tercet/fleet";

/// Secrets and certificates, ready to be put on machines.
#[derive(Debug)]
pub struct Secrets {
    /// The project's id: random, made with the rest.
    pub project: String,
    /// Where the project's data is, once it has some.
    pub data: Option<Data>,
    /// The operator state that these were last pushed or pulled as.
    pub state: Option<Record>,
    /// The authority's certificate, PEM.
    pub authority: String,
    /// PostgreSQL's identity.
    pub server: Identity,
    /// What application machines identify themselves with, besides the password.
    pub client: Identity,
    /// The password of `authenticator`.
    pub authenticator: Password,
    /// What PostgreSQL stores of it; kept, since each computation salts anew.
    pub authenticator_verifier: Secret,
    /// What tokens are verified with: what tercet.toml names, else the one `tercet up` and `tercet token` use.
    pub jwt: Secret,
    /// The balancer's certificates, in the order of tercet.toml.
    pub certificates: Vec<Identity>,
    /// The URL of a PostgreSQL that exists already, when tercet.toml names one.
    pub database_url: Option<Secret>,
}

impl Secrets {
    /// Reads what is kept in the project's folder, making what is missing.
    ///
    /// # Errors
    /// Something cannot be read, or others may read it.
    pub fn kept_in(project: &Path, topology: &Topology) -> Result<Self> {
        let folder = private_folder(project)?;
        let ca = Authority::kept_in(&folder, topology.name())?;
        let database = topology.parts().iter().find(|part| part.tier == Tier::Database);
        let address =
            database.map_or(std::net::Ipv4Addr::LOCALHOST.into(), |part| topology.machine_of(part).address);
        let authenticator = Password::kept_in(&folder.join("authenticator"))?;
        let jwt = match &topology.application().server {
            Server::Api(api) => api.jwt_secret.as_ref(),
            Server::Own { .. } => None,
        };
        let read =
            |secret: Option<&tercet_config::Secret>| secret.map(|secret| read(project, secret)).transpose();
        Ok(Self {
            project: Password::kept_in(&folder.join("project"))?.reveal().to_owned(),
            data: data(&folder)?,
            state: Record::of(project)?,
            // By its address: a file that names another machine for a moment costs no certificate.
            server: ca.identity(&format!("database-{address}"), Subject::Server(address))?,
            client: ca.identity("application", Subject::Client(AUTHENTICATOR))?,
            authority: ca.certificate,
            authenticator_verifier: verifier(&folder.join("authenticator.verifier"), &authenticator)?,
            authenticator,
            jwt: match read(jwt)? {
                Some(secret) => secret,
                None => Secret::new(Password::kept_in(&project.join(".tercet/jwt-secret"))?.reveal()),
            },
            certificates: certificates(project, topology)?,
            database_url: read(topology.database().url.as_ref())?,
        })
    }
}

/// Whether anything is kept in the project's folder.
pub(crate) fn are_kept(project: &Path) -> bool {
    project.join(FOLDER).join("authority.key").exists()
}

/// The id of the project whose state is kept in its folder; `None` before it was made.
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
    let pem = |path: &Path, what: &str| -> Result<String> {
        let path = project.join(path);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let begins = |line: &str| {
            line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&format!("{what}-----"))
        };
        if !text.lines().any(begins) {
            bail!("{}: there is no {} in it\nhint: it has to be PEM", path.display(), what.to_lowercase());
        }
        Ok(text)
    };
    let tls = topology.balancer().tls.as_ref();
    let identity = |pair: &tercet_config::Certificate| {
        Ok(Identity {
            certificate: pem(&pair.certificate, "CERTIFICATE")?,
            key: Secret::new(pem(&pair.key, "PRIVATE KEY")?),
        })
    };
    tls.iter().flat_map(|tls| &tls.certificates).map(identity).collect()
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
    // Beside it a trace of the password it was made of: a password somebody replaced gets a new verifier.
    let trace = crate::digest(password.reveal().as_bytes());
    if let Ok(kept) = fs::read_to_string(path)
        && let Some((verifier, of)) = kept.trim().split_once('\n')
        && of == trace
    {
        return Ok(Secret::new(verifier));
    }
    let verifier = password.verifier();
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
