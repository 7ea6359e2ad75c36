//! The operator state on the operator's side: the files in `.tercet/`, and how others take their place whole or not at all.
//!
//! A rule selects the packed files: every file in `fleet/`, and the token secret. Left out are files that are still
//! being written, and the record of the last push or pull, which is about the state and not of it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tercet_machine::Secret;
use tercet_machine::path::remove;

use super::Held;
use super::sealed::fingerprints;
use crate::authority::write_private;

/// tercet's own folder in the project's.
const STATE: &str = ".tercet";
/// The folder in it that is packed.
const FLEET: &str = "fleet";
/// The token secret beside it.
const TOKEN_SECRET: &str = "jwt-secret";
/// The record in the packed folder that is not packed.
const RECORD: &str = "state.json";
/// What makes a folder one with operator state.
const AUTHORITY_KEY: &str = "fleet/authority.key";
/// A state that is complete on the disk and on its way into its place.
const PULL: &str = "pull";
/// One that is still being written.
const PULL_NEW: &str = "pull.new";

/// The most bytes that are packed.
const MOST_BYTES: usize = 1 << 20;

/// The files of an operator state by their paths in `.tercet/`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Contents(BTreeMap<String, Vec<u8>>);

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Contents {
    /// What the project's folder has; `None` when it has no authority.
    ///
    /// # Errors
    /// It cannot be read, or there is something else than files and folders.
    pub(crate) fn of(project: &Path) -> Result<Option<Self>> {
        let state = project.join(STATE);
        let mut files = BTreeMap::new();
        if state.join(AUTHORITY_KEY).exists() {
            collect(&state, FLEET, &mut files)?;
            if state.join(TOKEN_SECRET).exists() {
                read(&state, TOKEN_SECRET, &mut files)?;
            }
            let size: usize = files.values().map(Vec::len).sum();
            ensure!(
                size <= MOST_BYTES,
                "{}: there are {} KiB in it, and at most {} can be pushed\nhint: move what is not tercet's elsewhere",
                state.join(FLEET).display(),
                size >> 10,
                MOST_BYTES >> 10
            );
        }
        Ok((!files.is_empty()).then_some(Self(files)))
    }

    /// The text that is encrypted.
    pub(crate) fn pack(&self) -> Result<Secret> {
        let files: BTreeMap<&str, String> =
            self.0.iter().map(|(path, bytes)| (path.as_str(), STANDARD.encode(bytes))).collect();
        Ok(Secret::new(serde_json::to_string(&files)?))
    }

    /// Reads a packed state.
    ///
    /// # Errors
    /// It is something else, or has a path that leads elsewhere.
    pub(crate) fn unpack(text: &[u8]) -> Result<Self> {
        let packed: BTreeMap<String, String> =
            serde_json::from_slice(text).ok().context("what was decrypted is no operator state")?;
        let mut files = BTreeMap::new();
        for (path, text) in packed {
            ensure!(
                is_packed(&path),
                "what was decrypted has a path that is not the operator state's: {path:?}"
            );
            let bytes = STANDARD.decode(text).ok().context("what was decrypted is no operator state")?;
            files.insert(path, bytes);
        }
        ensure!(files.contains_key(AUTHORITY_KEY), "what was decrypted has no authority");
        Ok(Self(files))
    }

    /// The digest of the packed files.
    pub(crate) fn digest(&self) -> Result<String> {
        Ok(crate::digest(self.pack()?.reveal().as_bytes()))
    }

    /// A text in it.
    pub(crate) fn text(&self, path: &str) -> Result<&str> {
        let bytes = self.0.get(path).with_context(|| format!("{STATE}/{path} is missing"))?;
        std::str::from_utf8(bytes).ok().with_context(|| format!("{STATE}/{path} is no text"))
    }

    /// The project's id.
    pub(crate) fn project(&self) -> Result<&str> {
        Ok(self.text("fleet/project")?.trim())
    }

    /// The fingerprints of its authority, and of one that it replaces or is replaced by.
    pub(crate) fn authorities(&self) -> Result<Vec<String>> {
        fingerprints(self.text("fleet/authority.crt")?)
    }

    /// The paths at which two differ.
    pub(crate) fn differences<'a>(&'a self, other: &'a Self) -> Vec<&'a str> {
        let names: std::collections::BTreeSet<&str> =
            self.0.keys().chain(other.0.keys()).map(String::as_str).collect();
        names.into_iter().filter(|name| self.0.get(*name) != other.0.get(*name)).collect()
    }
}

/// Whether there is a token secret, with or without an authority.
pub(crate) fn has_token_secret(project: &Path) -> bool {
    project.join(STATE).join(TOKEN_SECRET).exists()
}

/// Adds the files of a folder; `path` is its path in `state`.
fn collect(state: &Path, path: &str, files: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    let folder = state.join(path);
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { bail!("{}: a name that is no text", entry.path().display()) };
        let path = format!("{path}/{name}");
        if entry.file_type()?.is_dir() {
            collect(state, &path, files)?;
        } else if is_packed(&path) {
            read(state, &path, files)?;
        }
    }
    Ok(())
}

fn read(state: &Path, path: &str, files: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    let place = state.join(path);
    let named = || place.display().to_string();
    ensure!(
        fs::symlink_metadata(&place).with_context(named)?.is_file(),
        "{}: it is no regular file, and only files can be pushed",
        place.display()
    );
    files.insert(path.to_owned(), fs::read(&place).with_context(named)?);
    Ok(())
}

/// Whether a path in `.tercet/` is one that is packed.
fn is_packed(path: &str) -> bool {
    let mut components = Path::new(path).components();
    let first = components.next();
    let rest: Vec<_> = components.collect();
    let plain = rest.iter().all(|it| matches!(it, Component::Normal(name) if is_plain(name)));
    let is = |name: &str| first == Some(Component::Normal(name.as_ref()));
    // A path that is spelled as its components are: no `//`, no `/` at the end.
    let spelled = !path.split('/').any(|it| it.is_empty() || it == ".") && !path.contains('\0');
    spelled
        && plain
        && (is(FLEET) && !rest.is_empty() || is(TOKEN_SECRET) && rest.is_empty())
        && path != format!("{FLEET}/{RECORD}")
}

/// Not the name of a file that is still being written.
fn is_plain(name: &std::ffi::OsStr) -> bool {
    name.to_str().is_some_and(|it| !it.starts_with('.'))
        && Path::new(name).extension() != Some("new".as_ref())
}

/// What the folder knows of the last push or pull.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The state that was pushed or pulled.
    pub held: Held,
    /// The digest of what it contains.
    pub(crate) contents: String,
}

impl Record {
    /// Reads the record in the project's folder.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn of(project: &Path) -> Result<Option<Self>> {
        let path = project.join(STATE).join(FLEET).join(RECORD);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).with_context(|| path.display().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    pub(crate) fn write(&self, project: &Path) -> Result<()> {
        let folder = project.join(STATE).join(FLEET);
        write_private(&folder, RECORD, &serde_json::to_string_pretty(self)?)?;
        sync(&folder)
    }
}

/// Puts a state in the place of the project's: whole or, killed at any moment, not at all. `keep` is the name of the folder
/// in `.tercet/` that what was there is moved to; otherwise it is removed.
///
/// # Errors
/// It cannot be written.
pub(crate) fn place(project: &Path, contents: &Contents, record: &Record, keep: Option<&str>) -> Result<()> {
    let state = project.join(STATE);
    if !state.exists() {
        private(&state)?;
        // Nothing in here belongs into a repository.
        fs::write(state.join(".gitignore"), "*\n")?;
    }
    let _lock = lock(&state)?;
    finish(&state)?;
    let new = stage(&state, contents, record, keep)?;
    // From here on it is finished, by this process or by the next.
    fs::rename(&new, state.join(PULL)).with_context(|| new.display().to_string())?;
    sync(&state)?;
    finish(&state)
}

/// Writes a state that is not yet to be taken; where.
fn stage(state: &Path, contents: &Contents, record: &Record, keep: Option<&str>) -> Result<PathBuf> {
    let new = state.join(PULL_NEW);
    remove(&new)?;
    private(&new.join(FLEET))?;
    private(&new.join("old"))?;
    for (path, bytes) in &contents.0 {
        let place = new.join(path);
        private(place.parent().context("a file lies in a folder")?)?;
        write(&place, bytes)?;
    }
    write(&new.join(FLEET).join(RECORD), serde_json::to_string_pretty(record)?.as_bytes())?;
    if let Some(keep) = keep {
        write(&new.join("keep"), keep.as_bytes())?;
        if let Ok(secret) = fs::read(state.join(TOKEN_SECRET)) {
            write(&new.join("old").join(TOKEN_SECRET), &secret)?;
        }
    }
    sync_all(&new)?;
    Ok(new)
}

/// Completes an interrupted pull whose state is complete on the disk. Called before the state is read.
///
/// # Errors
/// It cannot be written.
pub fn recover(project: &Path) -> Result<()> {
    let state = project.join(STATE);
    if !state.join(PULL).exists() {
        return Ok(());
    }
    let _lock = lock(&state)?;
    finish(&state)
}

/// Each may be repeated after a kill at any moment.
const STEPS: [fn(&Path) -> Result<()>; 4] = [place_token_secret, move_old, move_new, clean_up];

fn finish(state: &Path) -> Result<()> {
    STEPS.iter().try_for_each(|step| step(state))
}

/// Whether the new folder is not yet in its place.
fn is_pending(state: &Path) -> bool {
    state.join(PULL).join(FLEET).exists()
}

fn place_token_secret(state: &Path) -> Result<()> {
    if !is_pending(state) {
        return Ok(());
    }
    match fs::read_to_string(state.join(PULL).join(TOKEN_SECRET)) {
        Ok(secret) => write_private(state, TOKEN_SECRET, &secret),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(remove(&state.join(TOKEN_SECRET))?),
        Err(error) => Err(error).context(TOKEN_SECRET),
    }
}

fn move_old(state: &Path) -> Result<()> {
    let fleet = state.join(FLEET);
    if is_pending(state) && fleet.exists() {
        let old = state.join(PULL).join("old").join(FLEET);
        fs::rename(&fleet, &old).with_context(|| fleet.display().to_string())?;
    }
    Ok(())
}

fn move_new(state: &Path) -> Result<()> {
    let new = state.join(PULL).join(FLEET);
    if is_pending(state) {
        fs::rename(&new, state.join(FLEET)).with_context(|| new.display().to_string())?;
        sync(state)?;
    }
    Ok(())
}

fn clean_up(state: &Path) -> Result<()> {
    let pull = state.join(PULL);
    let old = pull.join("old");
    if let (Ok(keep), true) = (fs::read_to_string(pull.join("keep")), old.exists()) {
        fs::rename(&old, state.join(keep)).with_context(|| old.display().to_string())?;
        sync(state)?;
    }
    Ok(remove(&pull)?)
}

/// The lock on the folder, held as long as the file is open.
fn lock(state: &Path) -> Result<fs::File> {
    let path = state.join("state.lock");
    let file = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    let file = file.with_context(|| path.display().to_string())?;
    file.lock()?;
    Ok(file)
}

/// Makes a folder that is its owner's alone, and those above it.
pub(crate) fn private(folder: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| folder.display().to_string())
}

fn write(path: &PathBuf, bytes: &[u8]) -> Result<()> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.with_context(|| path.display().to_string())?;
    file.write_all(bytes)?;
    Ok(file.sync_all()?)
}

fn sync(folder: &Path) -> Result<()> {
    fs::File::open(folder)?.sync_all().with_context(|| folder.display().to_string())
}

/// Syncs a folder and those in it.
fn sync_all(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&entry.path())?;
        }
    }
    sync(folder)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::authority::Authority;
    use crate::state::sealed::tests::sealed;

    /// A project's folder with a state of its own, in which everything says `mark`.
    pub(crate) fn project(mark: &str) -> tempfile::TempDir {
        let project = tempfile::tempdir().unwrap();
        let fleet = project.path().join(".tercet/fleet");
        private(&fleet.join("phases")).unwrap();
        Authority::kept_in(&fleet, "shop").unwrap();
        for name in ["fleet/project", "fleet/authenticator", "fleet/phases/tomorrow", "jwt-secret"] {
            fs::write(project.path().join(".tercet").join(name), mark).unwrap();
        }
        project
    }

    fn record(of: &Contents) -> Record {
        let folder = tempfile::tempdir().unwrap();
        let sealed = sealed(folder.path(), 1, &[]);
        Record { held: Held::of(&sealed), contents: of.digest().unwrap() }
    }

    fn contents(project: &Path) -> Contents {
        Contents::of(project).unwrap().unwrap()
    }

    #[test]
    fn packs_by_rule_and_nothing_that_is_being_written() {
        let project = project("ann");
        let packed = contents(project.path());
        assert_eq!(Contents::unpack(packed.pack().unwrap().reveal().as_bytes()).unwrap(), packed);
        let names: Vec<&str> = packed.0.keys().map(String::as_str).collect();
        let expected = ["authenticator", "authority.crt", "authority.key", "phases/tomorrow", "project"];
        assert_eq!(
            names,
            [expected.map(|it| format!("fleet/{it}")).as_slice(), &["jwt-secret".to_owned()]].concat()
        );
        let digest = packed.digest().unwrap();
        record(&packed).write(project.path()).unwrap();
        for name in ["fleet/.tmpAbc", "fleet/authority.new", "fleet/phases/.x", "lock"] {
            fs::write(project.path().join(".tercet").join(name), "half").unwrap();
        }
        assert_eq!(contents(project.path()).digest().unwrap(), digest);
        std::os::unix::fs::symlink("/etc/passwd", project.path().join(".tercet/fleet/link")).unwrap();
        assert!(Contents::of(project.path()).unwrap_err().to_string().contains("no regular file"));
        assert!(Contents::of(tempfile::tempdir().unwrap().path()).unwrap().is_none());
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_refused() {
        let good = contents(project("ann").path());
        for path in [
            "../x",
            "fleet/../../x",
            "/etc/passwd",
            "fleet",
            "fleet/",
            "fleet//x",
            "fleet/./x",
            "secrets/owner",
            "jwt-secret/x",
            "fleet/state.json",
            "fleet/.x",
            "",
            "x",
            "fleet/a\0b",
        ] {
            let mut bad = good.clone();
            bad.0.insert(path.to_owned(), Vec::new());
            let refused = Contents::unpack(bad.pack().unwrap().reveal().as_bytes()).unwrap_err().to_string();
            assert!(refused.contains("a path that is not the operator state's"), "{path}: {refused}");
        }
        assert!(Contents::unpack(b"{}").is_err());
        assert!(Contents::unpack(b"{\"fleet/authority.key\":\"!\"}").is_err());
        assert!(Contents::unpack(b"no JSON").is_err());
    }

    #[test]
    fn is_placed_private_in_a_clone_and_keeps_what_it_replaces_when_asked_to() {
        let bob = contents(project("bob").path());
        let clone = tempfile::tempdir().unwrap();
        place(clone.path(), &bob, &record(&bob), None).unwrap();
        assert_eq!(contents(clone.path()), bob);
        assert_eq!(Record::of(clone.path()).unwrap(), Some(record_of(clone.path())));
        let mut paths = vec![clone.path().join(".tercet")];
        while let Some(path) = paths.pop() {
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            if path.is_dir() {
                assert_eq!(mode, 0o700, "{}", path.display());
                paths.extend(fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()));
            } else if !path.ends_with(".gitignore") {
                assert_eq!(mode, 0o600, "{}", path.display());
            }
        }
        let ann = contents(project("ann").path());
        place(clone.path(), &ann, &record(&ann), Some("replaced-today")).unwrap();
        assert_eq!(contents(clone.path()), ann);
        let kept = clone.path().join(".tercet/replaced-today");
        assert_eq!(fs::read_to_string(kept.join("fleet/authenticator")).unwrap(), "bob");
        assert_eq!(fs::read_to_string(kept.join("jwt-secret")).unwrap(), "bob");
    }

    fn record_of(project: &Path) -> Record {
        let text = fs::read(project.join(".tercet/fleet/state.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// A complete state on the disk is put in place by the next command; an incomplete one is ignored.
    #[test]
    fn a_kill_at_any_step_leaves_the_old_state_or_the_new() {
        let bob = contents(project("bob").path());
        for keep in [None, Some("replaced-today")] {
            for killed_after in 0..=STEPS.len() {
                let clone = project("ann");
                let state = clone.path().join(".tercet");
                let before = contents(clone.path());
                // As `place` leaves it before its rename.
                stage(&state, &bob, &record(&bob), keep).unwrap();
                recover(clone.path()).unwrap();
                assert_eq!(contents(clone.path()), before, "not complete, so not taken");

                fs::rename(state.join(PULL_NEW), state.join(PULL)).unwrap();
                STEPS[..killed_after].iter().for_each(|step| step(&state).unwrap());
                recover(clone.path()).unwrap();
                assert_eq!(contents(clone.path()), bob, "after {killed_after} steps");
                assert!(!state.join(PULL).exists());
                if let Some(keep) = keep {
                    let kept = |name: &str| fs::read_to_string(state.join(keep).join(name)).unwrap();
                    assert_eq!((kept("fleet/project"), kept("jwt-secret")), ("ann".into(), "ann".into()));
                }
                recover(clone.path()).unwrap();
                assert_eq!(contents(clone.path()), bob);
            }
        }
        // The rest of an interrupted pull is ignored.
        let clone = project("ann");
        let eve = contents(project("eve").path());
        stage(&clone.path().join(".tercet"), &eve, &record(&eve), None).unwrap();
        place(clone.path(), &bob, &record(&bob), None).unwrap();
        assert_eq!(contents(clone.path()), bob);
    }
}
