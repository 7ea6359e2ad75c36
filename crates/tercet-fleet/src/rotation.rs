//! Rotations: a secret, a certificate or a key is replaced while everything serves.
//!
//! A rotation is a sequence of phases. A phase is a change of what the operator keeps, and then the ordinary execution
//! plan of it: application servers are replaced one after the other, so those of two phases that follow each other run side
//! by side, and everything they need is valid in both. Knows nothing of machines but what secrets they get.

use std::fs::{File, TryLockError};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use tercet_config::{End, Protocol, Tier, Topology};

use crate::fleet::Fleet;
use crate::operator_folder::{FOLDER, NEXT};
pub use crate::phase::{Kind, Phase};
use crate::phase::{Record, clear};
use crate::secrets::Secrets;
use crate::token_keys;

/// A rotation of a fleet's secrets, in one of its phases. The fleet that is handed over always has that phase's secrets.
#[derive(Debug)]
pub struct Rotation<'a> {
    project: &'a Path,
    topology: &'a Topology,
    record: Record,
    phase: Phase,
    /// Whether the phase is written down.
    recorded: bool,
    /// Two rotations of one folder would overtake each other.
    _lock: Lock,
}

/// The lock of the folder, released on drop. Closing the file is not enough: a process that another thread is just
/// starting has the file open, too, until it executes its program.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // An error leaves it to the end of the process.
        let _ = self.0.unlock();
    }
}

impl<'a> Rotation<'a> {
    /// Begins a rotation, or continues an interrupted one. No phase is in force before [`Self::enter`].
    ///
    /// # Errors
    /// There is nothing of this kind to rotate, another rotation is not over, or a file cannot be read or written.
    pub fn begin(fleet: &mut Fleet<'a>, kind: Kind) -> Result<Self> {
        let rotation = Self::of(fleet.folder, fleet.topology, kind)?;
        rotation.read_again(fleet)?;
        Ok(rotation)
    }

    fn of(project: &'a Path, topology: &'a Topology, kind: Kind) -> Result<Self> {
        check(project, topology, kind)?;
        let folder = project.join(FOLDER);
        let lock = File::open(&folder).with_context(|| folder.display().to_string())?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("{}: another tercet rotate works on it\nhint: wait for its end", folder.display())
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| folder.display().to_string());
            }
        }
        let record = Record::open(project)?;
        let rotation =
            |record, phase, recorded| Self { project, topology, record, phase, recorded, _lock: Lock(lock) };
        match record.phase() {
            Some(phase) if phase.kind() == kind => Ok(rotation(record, phase, true)),
            Some(phase) => bail!("{}", unfinished(phase)),
            None => {
                match (kind, record.is_retiring_token_key()) {
                    (Kind::TokenKeys, true) => bail!(
                        "the token key before the present one is still accepted\nhint: when its last token has expired, tercet \
                         rotate token-keys --retire; then rotate again"
                    ),
                    (Kind::RetiredTokenKey, false) => {
                        bail!(
                            "there is no token key to retire\nhint: tercet rotate token-keys makes a new one"
                        )
                    }
                    _ => {}
                }
                clear(&folder)?;
                std::fs::DirBuilder::new().create(folder.join(NEXT)).context(NEXT)?;
                let phase = kind.phases()[0];
                Ok(rotation(record.entering(phase), phase, false))
            }
        }
    }

    fn secrets(&self) -> Result<Secrets> {
        Secrets::by(&self.record, self.project, self.topology)
    }

    /// The remaining phases, numbered, for the operator to confirm.
    pub fn runbook(&self) -> String {
        let kind = self.phase.kind();
        let phases = kind.phases();
        let line = |phase: &Phase| {
            format!("  phase {} of {}: {}\n", phase.number(), phases.len(), describe(*phase, self.topology))
        };
        let verb = if self.recorded { "goes on" } else { "begins" };
        let lines: String = phases[self.phase.number() - 1..].iter().map(line).collect();
        format!("rotate {kind}, which {verb} with phase {}:\n{lines}", self.phase.number())
    }

    /// The phase's heading.
    pub fn heading(&self) -> String {
        format!("phase {} of {}", self.phase.number(), self.phase.kind().phases().len())
    }

    /// Writes down that the phase is in force. From now on every plan of this folder keeps to it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn enter(&mut self) -> Result<()> {
        if !self.recorded {
            self.record.write(self.project)?;
            self.recorded = true;
        }
        Ok(())
    }

    /// Gives the fleet the phase's secrets again, after the operator state was pushed.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn read_again(&self, fleet: &mut Fleet<'a>) -> Result<()> {
        fleet.secrets = Some(self.secrets()?);
        Ok(())
    }

    /// Goes on to the next phase when the machines are done with the present one, and ends the rotation after the last;
    /// whether there is one more.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn advance(&mut self, fleet: &mut Fleet<'a>) -> Result<bool> {
        let more = self.go_on()?;
        self.read_again(fleet)?;
        Ok(more)
    }

    fn go_on(&mut self) -> Result<bool> {
        let Some(phase) = self.phase.next() else {
            self.record.finish(self.project, self.phase)?;
            return Ok(false);
        };
        self.phase = phase;
        self.record = self.record.entering(phase);
        self.record.write(self.project)?;
        Ok(true)
    }

    /// Abandons a rotation that the operator does not confirm, without a trace.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn abandon(self) -> Result<()> {
        if self.recorded { Ok(()) } else { clear(&self.project.join(FOLDER)) }
    }
}

/// What a phase does to the parts of a topology.
fn describe(phase: Phase, topology: &Topology) -> String {
    let names = |local: bool| {
        let edges = topology.edges();
        let names =
            edges.iter().filter(|edge| edge.protocol == Protocol::Postgres && (!local || edge.is_local()));
        let names = names.filter_map(|edge| match edge.from {
            End::Part(part, _) => Some(part.name.as_str()),
            End::Internet | End::OwnPrometheus(_) => None,
        });
        names.collect::<Vec<_>>().join(", ")
    };
    let parts = topology.parts().iter();
    let servers: Vec<&str> =
        parts.clone().filter(|it| it.tier == Tier::Application).map(|it| it.name.as_str()).collect();
    let servers = servers.join(", ");
    let database = parts.clone().find(|it| it.tier == Tier::Database);
    let database = database
        .map_or("PostgreSQL".to_owned(), |it| format!("PostgreSQL on {}", topology.machine_of(it).name));
    let local = names(true);
    match phase {
        Phase::CertificateAlone if local.is_empty() => {
            format!("{database} lets {servers} in by their certificate alone")
        }
        Phase::CertificateAlone => format!(
            "{database} lets {servers} in by their certificate alone; those on its own machine change to TLS: {local}"
        ),
        Phase::NewPassword => format!("the new password: {database}, then {servers}, one after the other"),
        Phase::BothFactors if local.is_empty() => {
            format!("{database} asks for the certificate and the new password; the old one is deleted")
        }
        Phase::BothFactors => format!(
            "{database} asks for the certificate and the new password; the old one is deleted; those on its own machine change \
             back from TLS: {local}"
        ),
        Phase::NewCertificates => {
            format!("new certificates of the same authority: {database}, then {servers}, one after the other")
        }
        Phase::TrustBoth => format!(
            "the new authority is trusted beside the old one: {database}, then {servers}, one after the other"
        ),
        Phase::NewIssuer => {
            format!("certificates of the new authority: {database}, then {servers}, one after the other")
        }
        Phase::TrustNew => format!(
            "the old authority is no longer trusted: {database}, then {servers}, one after the other; its key is deleted"
        ),
        Phase::AcceptBoth => {
            format!(
                "tokens of the new key are accepted beside those of the old one: {servers}, one after the other"
            )
        }
        Phase::AcceptNew => format!(
            "tokens of the old key are refused: {servers}, one after the other; the old key is deleted"
        ),
    }
}

/// Refuses to rotate secrets and certificates that tercet did not create.
fn check(project: &Path, topology: &Topology, kind: Kind) -> Result<()> {
    if matches!(kind, Kind::TokenKeys | Kind::RetiredTokenKey) {
        return match topology.data_api() {
            None => bail!("this project runs your own program, and tokens are for the data API"),
            Some(api) if api.jwt_secret.is_some() => bail!(
                "tercet.toml names the key itself, by jwt-secret\nhint: make it a JSON Web Key Set with the new key and the old \
                 one (kty oct) and apply; take the old one out when its last token has expired, and apply again"
            ),
            Some(api) => token_keys::check(project, api),
        };
    }
    if topology.database().url.is_some() {
        bail!(
            "tercet does not run this database, [database] url names it: its passwords and certificates are not tercet's to \
             rotate\nhint: let the \
             database have two roles that may do the same, put the URL of the other one in place and apply; then change the password \
             of the first"
        );
    }
    Ok(())
}

fn unfinished(phase: Phase) -> String {
    let kind = phase.kind();
    format!(
        "a rotation is in phase {} of {}\nhint: tercet rotate {kind} goes on with it",
        phase.number(),
        kind.phases().len()
    )
}

/// Completes a rotation that was interrupted after its last phase on the machines, and returns its kind.
///
/// # Errors
/// The project's record cannot be read, or a file cannot be put in place.
pub fn finish(project: &Path) -> Result<Option<Kind>> {
    Record::read(project)?.go_on(project)
}

/// A note about a rotation in progress, or about a token key that is still to be retired.
///
/// # Errors
/// The project's record cannot be read.
pub fn note(project: &Path) -> Result<Option<String>> {
    let record = Record::open(project)?;
    Ok(match record.phase() {
        Some(phase) => Some(unfinished(phase)),
        None if record.is_retiring_token_key() => Some(
            "tokens of the key before the present one are still accepted\nhint: tercet rotate token-keys --retire ends that"
                .to_owned(),
        ),
        None => None,
    })
}

#[cfg(test)]
mod tests;
