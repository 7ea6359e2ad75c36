//! A release of an application: immutable, named by its content, complete in itself.
//!
//! Everything a unit needs to run it is in its record or its folder, so that an older release can be gone back
//! to whatever the project's files say by now.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tercet_config::{Api, Application, Program, Server, Topology};
use tercet_database::Password;
use tercet_machine::Secret;

use crate::paths::LIBRARY;
use crate::website::{self, Website};
use crate::{archive, configuration};

/// The seconds that a server may take until it is ready, unless the file says otherwise.
const START_SECONDS: u64 = 60;

/// How many digits of its digest a release is named by.
pub(crate) const ID_DIGITS: usize = 12;

/// The data API's configuration: a file of the release, and a credential of its units.
pub(crate) const API_CONF: &str = "api.conf";

/// What a release is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Twelve hexadecimal digits of the digest of all the rest.
    pub id: String,
    /// The name of its application, if that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
    /// What runs.
    pub kind: Kind,
    /// tercet's own binary on the machine when the release was made.
    pub program: String,
    /// The static files of the balancer's routes, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub website: Option<Box<Website>>,
}

/// What an application server runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The data API with this configuration (PostgREST's options).
    Api {
        /// The text of its configuration file; `app.settings` may be secrets.
        configuration: Secret,
    },
    /// The person's own program, in the release's folder.
    Own {
        /// The command.
        run: Program,
        /// The command that prepares the folder, once, on each machine.
        build: Option<Program>,
        /// The command that migrates the database, once for the release.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        migrate: Option<Program>,
        /// The path that answers when it is ready; without one it is once it accepts connections.
        #[serde(default)]
        health: Option<String>,
        /// Its environment variables, which are no secrets.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        variables: BTreeMap<String, String>,
        /// The seconds that it may take until it is ready.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        start_timeout: Option<u64>,
        /// The digest of the folder's archive.
        archive: String,
    },
}

/// The releases of all applications and what must be shipped for them.
#[derive(Debug)]
pub(crate) struct Shipment {
    /// The release of each application, in the order of the file.
    pub(crate) releases: Vec<Release>,
    /// The person's own folder as a tar archive, which all programs share; empty for the data API.
    pub(crate) archive: Vec<u8>,
    /// The static files as a tar archive; empty without any.
    pub(crate) website: Vec<u8>,
}

impl Release {
    /// Its folder on a machine.
    pub fn folder(&self) -> PathBuf {
        Path::new(LIBRARY).join("releases").join(&self.id)
    }

    /// Its record on a machine: written last, it says that the release is complete; when it was modified, the release
    /// was last used.
    pub(crate) fn record(&self) -> PathBuf {
        self.folder().join("release.json")
    }

    /// The path that answers when a server of it is ready; without one it is once it accepts connections.
    pub(crate) fn health_path(&self) -> Option<&str> {
        match &self.kind {
            Kind::Api { .. } => Some(configuration::api::READY),
            Kind::Own { health, .. } => health.as_deref(),
        }
    }

    /// The port it answers there on, where that is not the server's own: the data API has an admin endpoint.
    pub(crate) fn health_port(&self, port: u16) -> Option<u16> {
        match self.kind {
            Kind::Api { .. } => Some(tercet_config::admin_port(port)),
            Kind::Own { .. } => None,
        }
    }

    /// The seconds that a server of it may take until it is ready.
    pub(crate) fn start_seconds(&self) -> u64 {
        match self.kind {
            Kind::Own { start_timeout: Some(seconds), .. } => seconds,
            _ => START_SECONDS,
        }
    }

    /// The command that migrates the database.
    pub(crate) fn migrate(&self) -> Option<&Program> {
        match &self.kind {
            Kind::Own { migrate, .. } => migrate.as_ref(),
            Kind::Api { .. } => None,
        }
    }

    /// The command that prepares its folder on a machine.
    pub(crate) fn build(&self) -> Option<&Program> {
        match &self.kind {
            Kind::Own { build, .. } => build.as_ref(),
            Kind::Api { .. } => None,
        }
    }
}

/// The releases that the project's files now are. `key` is a random secret of the project: the identifier is shown in
/// plans and unit names, and without a key it would confirm a guess at a secret of the configuration.
///
/// The static files belong to the last application of the file, so that a change of them makes no release of the others.
///
/// # Errors
/// The person's own folder cannot be read or is too large.
pub(crate) fn prepare(topology: &Topology, folder: &Path, program: &str, key: &Password) -> Result<Shipment> {
    // The program must not read them, and a release is readable by every user of its machine.
    let pack = || pack(folder, &topology.secret_files());
    let archive = if topology.has_programs() { pack()? } else { Vec::new() };
    let (website, files) = website::pack(topology, folder)?.map(|(it, files)| (Box::new(it), files)).unzip();
    let mut releases = Vec::new();
    for application in topology.applications() {
        let is_last = releases.len() + 1 == topology.applications().len();
        let website = website.clone().filter(|_| is_last);
        releases.push(of(application, topology.name(), program, key, &archive, website)?);
    }
    Ok(Shipment { releases, archive, website: files.unwrap_or_default() })
}

/// The release of an application.
fn of(
    application: &Application,
    project: &str,
    program: &str,
    key: &Password,
    archive: &[u8],
    website: Option<Box<Website>>,
) -> Result<Release> {
    let kind = match &application.server {
        Server::Api(api) => {
            Kind::Api { configuration: Secret::new(toml::to_string(&api_options(api, project))?) }
        }
        Server::Own { program, build, health } => {
            let environment = &application.environment;
            Kind::Own {
                run: program.clone(),
                build: build.clone(),
                migrate: environment.migrate.clone(),
                health: health.clone(),
                variables: environment.variables.clone(),
                start_timeout: environment
                    .start_timeout
                    .map(|timeout| timeout.as_millis().div_ceil(1000) as u64),
                archive: crate::digest(archive),
            }
        }
    };
    let name = &application.name;
    let content = match (&website, name) {
        (None, None) => Secret::json_of(&(&kind, program, key.reveal()))?,
        (Some(website), None) => Secret::json_of(&(&kind, program, key.reveal(), website))?,
        (_, Some(name)) => Secret::json_of(&(&kind, program, key.reveal(), &website, name))?,
    };
    let id = crate::digest(content.reveal().as_bytes())[..ID_DIGITS].to_owned();
    Ok(Release { id, application: name.clone(), kind, program: program.to_owned(), website })
}

/// The data API's options; it logs every request unless the file sets another level.
fn api_options(api: &Api, project: &str) -> toml::Table {
    let mut options = configuration::api::options(api, project);
    options.entry("log-level").or_insert_with(|| "info".into());
    options
}

/// The folder as a tar archive that is the same whenever the files are the same: what git knows or would know
/// of it where it is in a git checkout, else everything but what is tercet's own; never what is `private`.
fn pack(folder: &Path, private: &[&Path]) -> Result<Vec<u8>> {
    let listed = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate", "--", "."])
        .output();
    let files: Vec<u8> = match listed {
        Ok(output) if output.status.success() && !output.stdout.is_empty() => output.stdout,
        _ => walk(folder, Path::new(""))?,
    };
    archive::pack(folder, &existing(folder, &files, private))
}

/// Those of the NUL-separated paths that are there and not `private`: git also lists what was deleted and not yet
/// committed.
fn existing(folder: &Path, paths: &[u8], private: &[&Path]) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt as _;
    let private: Vec<PathBuf> =
        private.iter().filter_map(|path| folder.join(path).canonicalize().ok()).collect();
    paths
        .split(|byte| *byte == 0)
        .filter(|path| !path.is_empty())
        .filter(|path| {
            let path = folder.join(std::ffi::OsStr::from_bytes(path));
            std::fs::symlink_metadata(&path).is_ok()
                && !path.canonicalize().is_ok_and(|path| private.contains(&path))
        })
        .flat_map(|path| path.iter().copied().chain([0]))
        .collect()
}

/// Every file below `folder`, NUL-separated, but for what tercet and others make anew anywhere.
fn walk(folder: &Path, below: &Path) -> Result<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut paths = Vec::new();
    for entry in
        std::fs::read_dir(folder.join(below)).with_context(|| folder.join(below).display().to_string())?
    {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_str(), Some(".tercet" | ".git" | ".venv" | "node_modules" | "__pycache__")) {
            continue;
        }
        let path = below.join(&name);
        if entry.file_type()?.is_dir() {
            paths.extend(walk(folder, &path)?);
        } else {
            paths.extend_from_slice(path.as_os_str().as_bytes());
            paths.push(0);
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_application_has_a_release_and_the_last_one_the_website() {
        let folder = tempfile::tempdir().unwrap();
        let key = Password::kept_in(&folder.path().join("key")).unwrap();
        let project = folder.path().join("project");
        std::fs::create_dir_all(project.join("public")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(project.join(name), text).unwrap();
        let releases = |text: &str| -> Vec<(Option<String>, String, bool)> {
            let origin = tercet_config::Origin { file: tercet_config::FILE, folder: "shop" };
            let topology = tercet_config::parse(text, origin).unwrap();
            let shipment = prepare(&topology, &project, "/tercet", &key).unwrap();
            assert_eq!(shipment.archive.is_empty(), !topology.has_programs());
            let releases = shipment.releases.into_iter();
            releases.map(|it| (it.application, it.id, it.website.is_some())).collect()
        };
        let routes = "[[balancer.route]]\npath = '/api'\nto = 'api'\n[[balancer.route]]\npath = '/shop'\nto = 'shop'\n\
                      [[balancer.route]]\nfiles = 'public'\n";
        let two = format!("[application.api]\n[application.shop]\nrun = 'a'\n{routes}");
        write("public/index.html", "1");
        write("main.py", "1");
        let first = releases(&two);
        let names: Vec<_> = first.iter().map(|(name, _, website)| (name.as_deref(), *website)).collect();
        assert_eq!(names, [(Some("api"), false), (Some("shop"), true)]);
        assert_eq!(releases(&two), first);
        // A changed file of the project is a release of the program, and a changed option one of the data API.
        write("main.py", "2");
        let second = releases(&two);
        assert_eq!((&second[0], second[1] == first[1]), (&first[0], false));
        let third = releases(&format!("{two}[api]\ndb-max-rows = 1\n"));
        assert_eq!((third[0] == second[0], &third[1]), (false, &second[1]));
        // Two programs with the same command are two releases.
        let programs = releases(&two.replace("[application.api]", "[application.api]\nrun = 'a'"));
        assert_ne!(programs[0].1, programs[1].1);
        assert_eq!(releases("[application.api]\n").len(), 1);
        assert_ne!(releases("[application.api]\n")[0].1, releases("")[0].1);
    }

    #[test]
    fn the_same_files_are_the_same_archive_whatever_their_times() {
        let pack_of = |text: &str| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(folder.path().join(".tercet")).unwrap();
            std::fs::write(folder.path().join(".tercet/secret"), text).unwrap();
            std::fs::create_dir(folder.path().join("app")).unwrap();
            std::fs::write(folder.path().join("app/main.py"), "print()").unwrap();
            std::fs::create_dir(folder.path().join("tls")).unwrap();
            std::fs::write(folder.path().join("tls/shop.key"), text).unwrap();
            std::fs::create_dir(folder.path().join("secrets")).unwrap();
            for name in ["on-call", "topic", "heartbeat", "smtp", "app.env", "s3-key", "s3-secret"] {
                std::fs::write(folder.path().join("secrets").join(name), text).unwrap();
            }
            let settings = format!(
                r#"name = "shop"
                # {text}
                machine = [
                    {{ name = "one", ssh = "one", address = "10.0.0.10", tiers = ["balancer", "application", "monitor"] }},
                    {{ name = "two", ssh = "two", address = "10.0.0.11", tiers = ["database"] }},
                ]
                [application]
                run = "app"
                env-file = "@secrets/app.env"
                [balancer]
                certificates = [{{ certificate = "shop.crt", key = "./tls/shop.key" }}]
                [backup]
                to = "s3://bucket/shop?endpoint=s3.example.com&region=eu-central-1"
                key = "@secrets/s3-key"
                secret = "@secrets/s3-secret"
                [alerts]
                to = ["webhook:@secrets/on-call", "ntfy:@./secrets/topic", "mail:ops@example.com"]
                heartbeat = "@secrets/heartbeat"
                smtp = "@secrets/smtp"
                "#
            );
            std::fs::write(folder.path().join(tercet_config::FILE), &settings).unwrap();
            let origin = tercet_config::Origin { file: tercet_config::FILE, folder: "shop" };
            let topology = tercet_config::parse(&settings, origin).unwrap();
            pack(folder.path(), &topology.secret_files()).unwrap()
        };
        assert_eq!(pack_of("one"), pack_of("two"));
        let packed = String::from_utf8_lossy(&pack_of("hush")).into_owned();
        assert!(packed.contains("print()") && !packed.contains("hush"));
    }
}
