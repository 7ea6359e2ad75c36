//! The folders of the balancer's static files and error pages, and the files of its users.

use std::path::{Component, Path, PathBuf};

use tercet_options::Mistakes;
use tercet_options::balancer::Config;
use tercet_options::document::{Section, Spans};

use crate::topology::Topology;

/// The folders of a configuration, each once.
pub(super) fn folders(options: &Config) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    let of_routes = options.route.iter().filter_map(|route| route.files.as_deref());
    for folder in of_routes.chain(options.error_pages.folder.as_deref()).filter_map(inside) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// The files with users of a configuration, each once.
pub(super) fn users(options: &Config) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = Vec::new();
    for login in options.route.iter().filter_map(|route| route.basic_auth.as_ref()) {
        if !files.contains(&login.users) {
            files.push(login.users.clone());
        }
    }
    files
}

/// Reports folders outside of the project, and those that contain what no client may read.
pub(super) fn check(options: &Config, topology: &Topology, mistakes: &mut Mistakes, spans: &Spans) {
    let mut section = Section { mistakes, spans, path: "balancer" };
    let of_routes = options.route.iter().enumerate();
    let of_routes = of_routes
        .filter_map(|(index, route)| Some((format!("route[{index}].files"), route.files.as_deref()?)));
    let pages = options.error_pages.folder.as_deref().map(|folder| ("error-pages.folder".to_owned(), folder));
    for (option, folder) in of_routes.chain(pages) {
        let Some(folder) = inside(folder) else {
            section
                .mistake(&option, "must be a folder in the project's folder", "outside")
                .hint("write it relative to tercet.toml, like public, and without ..");
            continue;
        };
        let mut private = topology.private().into_iter().filter_map(inside);
        if let Some(path) = private.find(|path| path.starts_with(&folder) || is_in(&folder, path)) {
            let verb = if path.starts_with(&folder) { "contains" } else { "is in" };
            section
                .mistake(
                    &option,
                    &format!("{verb} {}, which clients must not read", path.display()),
                    "this folder",
                )
                .hint("move the website to a folder of its own, like public");
        }
    }
}

/// Whether a folder is in another one that is not the project's.
fn is_in(folder: &Path, other: &Path) -> bool {
    !other.as_os_str().is_empty() && folder.starts_with(other)
}

/// A relative path without `.`; `None` if it is absolute or has `..`.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => plain.push(name),
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(plain)
}
