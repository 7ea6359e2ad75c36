//! The balancer's configuration: the options of `tercet balancer --config FILE`, which `tercet-options` declares.
//!
//! Nothing here knows `tercet.toml` or what a machine is.

use std::path::{Path, PathBuf};

use tercet_options::Mistakes;
pub use tercet_options::balancer::{
    AccessLog, AccessLogFormat, AccessLogTo, Admin, Certificate, Config, HashOn, Health, Limits, Listen,
    Policy, Retries, Server, Timeouts,
};

use crate::http1::HeadLimits;

/// Reads a configuration file. Relative paths in it start at its folder.
///
/// # Errors
/// The file cannot be read, or all mistakes in it.
pub fn load(file: &Path) -> Result<Config, Mistakes> {
    let text = std::fs::read_to_string(file).map_err(|error| Mistakes::unreadable(file, &error))?;
    let mut config = Config::parse(&text, &file.display().to_string())?;
    start_paths_at(&mut config, file.parent().unwrap_or(Path::new("")));
    Ok(config)
}

fn start_paths_at(config: &mut Config, folder: &Path) {
    let certificates = config.listen.iter_mut().flat_map(|listen| &mut listen.certificates);
    let mut paths: Vec<&mut PathBuf> =
        certificates.flat_map(|pair| [&mut pair.certificate, &mut pair.key]).collect();
    paths.extend(&mut config.admin.socket);
    if let AccessLogTo::File(path) = &mut config.access_log.to {
        paths.push(path);
    }
    for path in paths {
        *path = folder.join(&*path);
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
