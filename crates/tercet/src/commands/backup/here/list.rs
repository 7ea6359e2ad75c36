//! `tercet backup list` of `tercet up`.

use jiff::Timestamp;
use serde_json::json;
use tercet_database::restored::Outcome as Grade;

use super::live::Live;
use super::say;
use crate::backups::{Entry, Size, replacement};
use crate::failure::Outcome;

pub(super) fn run(live: &Live, json: bool) -> Outcome {
    let entries = live.backups.all()?;
    if json {
        let backups: Vec<_> = entries.iter().map(as_json).collect();
        say(&json!({ "backups": backups, "archives": archives(live)? }).to_string());
        return Ok(());
    }
    if entries.is_empty() {
        say("no backups; hint: tercet backup");
        return Ok(());
    }
    say(&format!("{:15}  {:4}  {:>7}  {:20}  {}", "BACKUP", "KIND", "SIZE", "GOES BACK TO", "CHECKED"));
    for entry in &entries {
        let (kind, goes_back) = match &entry.backup {
            Ok(backup) => (backup.kind.as_str(), seconds(backup.ended)),
            Err(_) => ("?", "nothing".to_owned()),
        };
        say(&format!(
            "{:15}  {kind:4}  {:>7}  {goes_back:20}  {}",
            entry.id,
            Size(entry.bytes),
            checked(entry)
        ));
        if let Err(cause) = &entry.backup {
            say(&format!("  damaged: {cause}"));
        }
    }
    for (system_identifier, bytes) in archives(live)? {
        let folder = live.backups.archive(&system_identifier);
        say(&format!("WAL archive {}: {}", folder.folder().display(), Size(bytes)));
    }
    if let Some(before) = replacement::newest(live.folder())? {
        say(&format!("database before the last restore (tercet restore --undo): {}", before.display()));
    }
    say(&format!("remove a backup: rm -r {}/ID", live.backups.folder().display()));
    Ok(())
}

/// A time without fractions of a second.
fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn checked(entry: &Entry) -> String {
    let Some(verification) = &entry.checked else { return "never".to_owned() };
    let result = match verification.worst() {
        Grade::Passed => "passed".to_owned(),
        Grade::Warning => "passed with warnings".to_owned(),
        Grade::Failed => format!("FAILED: {}", verification.failures().collect::<Vec<_>>().join("; ")),
    };
    format!("{} {result}", seconds(verification.at))
}

fn as_json(entry: &Entry) -> serde_json::Value {
    let (backup, damaged) = match &entry.backup {
        Ok(backup) => (Some(backup), None),
        Err(cause) => (None, Some(cause)),
    };
    json!({
        "id": entry.id,
        "kind": backup.map(|backup| &backup.kind),
        "began": backup.map(|backup| backup.began),
        "goes_back_to": backup.map(|backup| backup.ended),
        "bytes": entry.bytes,
        "damaged": damaged,
        "checked": entry.checked,
        "passed": entry.checked.as_ref().map(tercet_database::restored::Verification::passed),
    })
}

/// The archive of each cluster and its size on disk.
fn archives(live: &Live) -> anyhow::Result<Vec<(String, u64)>> {
    let mut archives = Vec::new();
    for system_identifier in live.backups.archived_systems()? {
        let bytes = live.backups.archive(&system_identifier).bytes()?;
        archives.push((system_identifier, bytes));
    }
    Ok(archives)
}
