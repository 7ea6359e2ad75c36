//! The balancer's configuration: the options of `tercet balancer --config FILE`, which `tercet-options` declares.
//!
//! Nothing here knows `tercet.toml` or what a machine is.

use std::path::{Path, PathBuf};

pub use tercet_options::balancer::{
    AccessLog, AccessLogFormat, AccessLogTo, Acme, Admin, Certificate, Config, HashOn, Health, Limits,
    Listen, Policy, Retries, Route, Server, ServerAddress, Timeouts,
};
use tercet_options::{Mistakes, Section};

use crate::http1::HeadLimits;

/// Reads a configuration file. Relative paths in it start at its folder.
///
/// # Errors
/// The file cannot be read, or all mistakes in it.
pub fn load(file: &Path) -> Result<Config, Mistakes> {
    let text = std::fs::read_to_string(file).map_err(|error| Mistakes::unreadable(file, &error))?;
    let folder = file.parent().unwrap_or(Path::new(""));
    Config::parse_with(&text, &file.display().to_string(), |config, section| {
        start_paths_at(config, folder);
        check_files(config, file, section);
    })
}

/// Reports folders of static files that do not exist, or contain the configuration, a private key or a log.
fn check_files(config: &Config, file: &Path, section: &mut Section<'_>) {
    let keys = config.listen.iter().flat_map(|listen| &listen.certificates).map(|pair| pair.key.as_path());
    let log = match &config.access_log.to {
        AccessLogTo::File(path) => Some(path.as_path()),
        AccessLogTo::Stdout | AccessLogTo::Off => None,
    };
    // A log may be made later.
    let real = |path: &Path| match path.canonicalize() {
        Err(_) => Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?)),
        real => real.ok(),
    };
    let private: Vec<PathBuf> = [file].into_iter().chain(keys).chain(log).filter_map(real).collect();
    for (index, route) in config.route.iter().enumerate() {
        let Some(folder) = &route.files else { continue };
        let option = format!("route[{index}].files");
        let shown = folder.display();
        match folder.canonicalize() {
            Err(error) => {
                let hint = "create the folder, or build the website first";
                section
                    .mistake(&option, &format!("cannot be opened: {shown}: {error}"), "this folder")
                    .hint(hint);
            }
            Ok(real) if !real.is_dir() => {
                section
                    .mistake(&option, &format!("is no folder: {shown}"), "a file")
                    .hint("name the folder it is in");
            }
            Ok(real) => {
                if let Some(path) = private.iter().find(|path| path.starts_with(&real)) {
                    section
                        .mistake(
                            &option,
                            &format!("contains {}, which clients must not read", path.display()),
                            "this folder",
                        )
                        .hint("move the website to a folder of its own");
                }
            }
        }
    }
}

fn start_paths_at(config: &mut Config, folder: &Path) {
    let certificates = config.listen.iter_mut().flat_map(|listen| &mut listen.certificates);
    let mut paths: Vec<&mut PathBuf> =
        certificates.flat_map(|pair| [&mut pair.certificate, &mut pair.key]).collect();
    paths.extend(&mut config.admin.socket);
    paths.extend(config.route.iter_mut().filter_map(|route| route.files.as_mut()));
    paths.push(&mut config.acme.folder);
    paths.extend(&mut config.acme.root);
    paths.extend(config.acme.eab.as_mut().map(|eab| &mut eab.hmac_key_file));
    if let AccessLogTo::File(path) = &mut config.access_log.to {
        paths.push(path);
    }
    for path in paths {
        *path = folder.join(&*path);
    }
    for server in &mut config.servers {
        server.address.start_at(folder);
    }
}

impl HeadLimits {
    /// The limits of requests.
    pub fn of_requests(limits: &Limits) -> Self {
        Self {
            head_bytes: *limits.head as usize,
            headers: limits.headers,
            target_bytes: *limits.target as usize,
            body_bytes: *limits.body,
        }
    }

    /// The limits of responses, whose bodies have none.
    pub fn of_responses(limits: &Limits) -> Self {
        Self {
            head_bytes: *limits.response_head as usize,
            headers: limits.headers,
            target_bytes: 0,
            body_bytes: u64::MAX,
        }
    }
}

#[cfg(test)]
mod tests;
