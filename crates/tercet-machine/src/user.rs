//! System users.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::command::{CommandError, output, run};

/// A system user with a group of the same name, no home and no shell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct User(pub String);

/// The users among `users` that exist.
pub(crate) fn probe(users: &[User]) -> Result<BTreeSet<String>, CommandError> {
    let mut present = BTreeSet::new();
    for User(name) in users {
        if exists(name)? {
            present.insert(name.clone());
        }
    }
    Ok(present)
}

/// Whether there is a user of this name.
pub(crate) fn exists(name: &str) -> Result<bool, CommandError> {
    Ok(output("getent", &["passwd", "--", name], "")?.status.success())
}

/// Removes the user and its group.
pub(crate) fn remove(name: &str) -> Result<(), CommandError> {
    if exists(name)? { run("userdel", &["--", name]).map(drop) } else { Ok(()) }
}

/// Makes the user and its group.
pub(crate) fn create(name: &str) -> Result<(), CommandError> {
    run(
        "useradd",
        &[
            "--system",
            "--user-group",
            "--no-create-home",
            "--home-dir",
            "/nonexistent",
            "--shell",
            "/usr/sbin/nologin",
            "--",
            name,
        ],
    )
    .map(drop)
}
