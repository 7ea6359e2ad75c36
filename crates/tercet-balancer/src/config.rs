//! The balancer's configuration: the options of `tercet balancer --config FILE`, which `tercet-options` declares.
//!
//! Nothing here knows `tercet.toml` or what a machine is.

use std::path::{Path, PathBuf};

pub use tercet_options::balancer::{
    APPLICATION, AccessLog, AccessLogFormat, AccessLogTo, Acme, Admin, BackendPool, BasicAuth, Certificate,
    Compress, Compression, Config, ContentCoding, ErrorPages, HashOn, Health, Limits, Listen, Maintenance,
    Policy, Pool, Retries, Route, Server, ServerAddress, Timeouts,
};
pub use tercet_options::otlp::Otlp;
use tercet_options::{Mistakes, Section};

use crate::http1::HeadLimits;
use crate::pages::Pages;
use crate::users;

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
        check_users(config, section);
        if let Err(error) = Pages::load(config.error_pages.folder.as_deref(), false) {
            let message = format!("cannot be used: {}: {}", error.path.display(), error.problem);
            section
                .mistake("error-pages.folder", &message, "this folder")
                .hint("name a folder with pages: 404.html, 4xx.html, 5xx.html, maintenance.html");
        }
    })
}

/// Reports folders of static files that do not exist, or contain the configuration, a private key or a log, or are in the
/// folder of certificates.
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
    let obtained = (!config.domains.is_empty()).then_some(config.acme.folder.as_path());
    let hmac_key = config.acme.eab.as_ref().map(|eab| eab.hmac_key_file.as_path());
    let users = config.route.iter().filter_map(|route| Some(route.basic_auth.as_ref()?.users.as_path()));
    let private = [file].into_iter().chain(keys).chain(users).chain(log).chain(hmac_key).chain(obtained);
    let private: Vec<PathBuf> = private.filter_map(real).collect();
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
                let is_or_in = |path: &&PathBuf| path.starts_with(&real) || real.starts_with(path);
                if let Some(path) = private.iter().find(is_or_in) {
                    let verb = if path.starts_with(&real) { "contains" } else { "is in" };
                    section
                        .mistake(
                            &option,
                            &format!("{verb} {}, which clients must not read", path.display()),
                            "this folder",
                        )
                        .hint("move the website to a folder of its own");
                }
            }
        }
    }
}

/// Reports files with users that cannot be used.
fn check_users(config: &Config, section: &mut Section<'_>) {
    for (index, route) in config.route.iter().enumerate() {
        let Some(basic_auth) = &route.basic_auth else { continue };
        if let Err(error) = users::check_file(&basic_auth.users) {
            let message = format!("cannot be used: {}: {}", error.file.display(), error.problem);
            section
                .mistake(&format!("route[{index}].basic-auth.users"), &message, "this file")
                .hint(error.hint);
        }
    }
}

fn start_paths_at(config: &mut Config, folder: &Path) {
    let certificates = config.listen.iter_mut().flat_map(|listen| &mut listen.certificates);
    let mut paths: Vec<&mut PathBuf> =
        certificates.flat_map(|pair| [&mut pair.certificate, &mut pair.key]).collect();
    paths.extend(&mut config.admin.socket);
    paths.extend(config.route.iter_mut().flat_map(|route| {
        let users = route.basic_auth.as_mut().map(|login| &mut login.users);
        route.files.as_mut().into_iter().chain(users)
    }));
    paths.extend(&mut config.error_pages.folder);
    paths.push(&mut config.maintenance.file);
    paths.push(&mut config.acme.folder);
    paths.extend(&mut config.acme.root);
    paths.extend(config.acme.eab.as_mut().map(|eab| &mut eab.hmac_key_file));
    if let AccessLogTo::File(path) = &mut config.access_log.to {
        paths.push(path);
    }
    for path in paths {
        *path = folder.join(&*path);
    }
    let of_pools = config.pool.values_mut().flat_map(|pool| &mut pool.servers);
    for server in config.servers.iter_mut().chain(of_pools) {
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
