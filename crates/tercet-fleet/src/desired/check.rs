//! The daily check of every machine: it warns about certificates that expire soon.

use std::path::{Path, PathBuf};

use tercet_machine::Desired;
use tercet_machine::unit::{Goal, Unit};

use super::file::unit_file;
use super::hardening;
use super::project::Project;
use crate::monitor::textfile;
use crate::paths::{CREDENTIALS, CREDENTIALS_PREFIX};

/// The certificates of the machine, which is complete otherwise; without those of application servers, which come with a release.
fn certificates(desired: &Desired) -> Vec<PathBuf> {
    let releases = format!("{CREDENTIALS}/{CREDENTIALS_PREFIX}");
    let of_release = |path: &Path| path.to_string_lossy().starts_with(&releases);
    let is_certificate = |path: &Path| path.extension().is_some_and(|it| it == "crt");
    let paths = desired.files.iter().map(|file| &file.path);
    paths.filter(|path| is_certificate(path) && !of_release(path)).cloned().collect()
}

/// The timer's name; the service's is the same.
const TIMER: &str = "tercet-check.timer";

/// Adds the daily check to what the machine should be.
pub(super) fn add(desired: &mut Desired, project: &Project<'_>) {
    let service = unit_file(
        "tercet-check.service",
        format!(
            "[Unit]\nDescription=tercet: warn about certificates whose end is near\n\n\
             [Service]\nType=oneshot\nExecStart={} machine certificates\nPrivateNetwork=yes\nReadWritePaths=-{}\n{}",
            project.program,
            textfile::FOLDER,
            hardening::measurement(),
        ),
    );
    let timer = unit_file(
        TIMER,
        "[Unit]\nDescription=tercet: each day, and when certificates change\n\n\
         [Timer]\nOnActiveSec=1s\nAccuracySec=1s\nOnCalendar=daily\nPersistent=yes\n\n[Install]\nWantedBy=timers.target\n"
            .to_owned(),
    );
    desired.units.push(Unit {
        name: TIMER.to_owned(),
        enabled: Some(true),
        goal: Goal::Running,
        restart_when: [timer.path.clone()].into_iter().chain(certificates(desired)).collect(),
        reload_when: vec![],
    });
    desired.files.extend([service, timer]);
}
