//! The `[system]` section.

use super::backup::days;
use crate::file;
use crate::topology::System;
use tercet_options::Mistakes;

/// How many days logs are kept without `keep-logs`.
const KEEP_LOGS_DAYS: u32 = 28;

pub(super) fn read(section: &file::System, mistakes: &mut Mistakes) -> System {
    let file::System { keep_logs, ssh_keys_only, security_updates } = section;
    System {
        keep_logs_days: keep_logs.as_ref().map_or(KEEP_LOGS_DAYS, |keep| days(keep, mistakes)),
        ssh_keys_only: ssh_keys_only.unwrap_or_default(),
        security_updates: security_updates.unwrap_or_default(),
    }
}
