//! A project: a folder with a `tercet.toml`.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tercet_config::{Api, Origin, Secret, Topology};
use tercet_database::Password;
use tercet_fleet::token_keys;

use crate::cli;
use crate::failure::Failure;

/// The folder of the migrations, unless the file names another.
const MIGRATIONS: &str = "migrations";
/// The folder in it with tercet's own files.
pub(crate) const STATE: &str = ".tercet";
/// The folder in that with the log files.
pub(crate) const LOG: &str = "log";
/// The file in it with the project's name, which the first `tercet up` writes.
pub(crate) const NAME: &str = "name";
/// The file in it that turns the balancer's maintenance on while it exists.
pub(crate) const MAINTENANCE: &str = "maintenance";

/// A folder with a `tercet.toml`.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    /// The folder, absolute.
    pub(crate) folder: PathBuf,
    /// The topology that the file describes.
    pub(crate) topology: Topology,
}

impl Project {
    /// Opens a folder for `tercet up`: a missing `tercet.toml` is the same as an empty one if there are migrations. A folder with nothing of
    /// a project is a mistake, and gets no database.
    pub(crate) fn to_bring_up(folder: &Path) -> Result<Self, Failure> {
        let is_project = [MIGRATIONS, STATE].iter().any(|name| folder.join(name).is_dir());
        Self::read(folder, is_project)
    }

    /// Opens a folder that is a project already: it has a `tercet.toml`, or a `.tercet/` from an earlier `up`.
    pub(crate) fn open(folder: &Path) -> Result<Self, Failure> {
        Self::read(folder, folder.join(STATE).is_dir())
    }

    /// Opens the project of a command, if that is about its `tercet up`: with `--here`, or because `tercet.toml` names no
    /// machines.
    pub(crate) fn of_up(arguments: &cli::Machines, here: bool) -> Result<Option<Self>, Failure> {
        let project = Self::open(&arguments.folder)?;
        Ok((here || project.topology.only_this_machine()).then_some(project))
    }

    fn read(folder: &Path, may_be_missing: bool) -> Result<Self, Failure> {
        let file = folder.join(tercet_config::FILE);
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound && may_be_missing => String::new(),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Failure::input_message(format!(
                    "there is no {}\nhint: tercet init {} writes one; an empty file will do",
                    file.display(),
                    folder.display()
                )));
            }
            Err(error) => {
                return Err(Failure::input_message(format!("{} can't be read: {error}", file.display())));
            }
        };
        let folder = folder.canonicalize().with_context(|| format!("{} can't be found", folder.display()))?;
        let name = match std::fs::read_to_string(folder.join(STATE).join(NAME)) {
            Ok(recorded) if !recorded.trim().is_empty() => recorded.trim_end().to_owned(),
            _ => folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        };
        let shown = file.display().to_string();
        let origin = Origin { file: shown.strip_prefix("./").unwrap_or(&shown), folder: &name };
        // Complete an interrupted pull before its files are read.
        tercet_fleet::state::recover(&folder)?;
        let topology = tercet_config::parse(&text, origin).map_err(Failure::input)?;
        Ok(Self { folder, topology })
    }

    /// The folder `.tercet/`, for data, passwords and logs. Created with mode 0700 if it is missing.
    pub(crate) fn state(&self) -> anyhow::Result<PathBuf> {
        let state = self.folder.join(STATE);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&state)
            .with_context(|| format!("{} can't be made", state.display()))?;
        Ok(state)
    }

    /// The value of a secret: inline, or read from its file.
    pub(crate) fn reveal(&self, secret: &Secret) -> Result<String, Failure> {
        match secret {
            Secret::Inline(text) => Ok(text.clone()),
            Secret::File(path) => {
                let path = self.folder.join(path);
                match std::fs::read_to_string(&path) {
                    Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
                    Err(error) => {
                        Err(Failure::input_message(format!("{} can't be read: {error}", path.display())))
                    }
                }
            }
        }
    }

    /// The `jwt-secret` option of the data API, including the previous key until it is retired
    /// (`tercet rotate token-keys`).
    pub(crate) fn accepted_jwt_secret(&self, api: &Api) -> anyhow::Result<String> {
        let both = match &api.jwt_secret {
            Some(_) => None,
            None => token_keys::both(&self.folder, token_keys::are_base64(api))?,
        };
        both.map_or_else(|| self.jwt_secret(api), |keys| Ok(keys.reveal().to_owned()))
    }

    /// The `jwt-secret` option of the data API that tokens are signed with: the one in `tercet.toml`, or else a secret that is
    /// generated once and kept in `.tercet/jwt-secret`.
    pub(crate) fn jwt_secret(&self, api: &Api) -> anyhow::Result<String> {
        match &api.jwt_secret {
            Some(Secret::Inline(secret)) => Ok(secret.clone()),
            Some(Secret::File(path)) => Ok(format!("@{}", self.folder.join(path).display())),
            None => {
                let path = self.state()?.join("jwt-secret");
                Password::kept_in(&path)
                    .with_context(|| format!("no secret for tokens in {}", path.display()))?;
                Ok(format!("@{}", path.display()))
            }
        }
    }
}
