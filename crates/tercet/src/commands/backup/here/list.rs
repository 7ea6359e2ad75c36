//! `tercet backup list` of `tercet up`.

use super::super::listing;
use super::live::Live;
use super::say;
use crate::backups::{Entry, Size, replacement, size_on_disk};
use crate::failure::Outcome;

pub(super) fn run(live: &Live, json: bool) -> Outcome {
    let (mut whole, mut damaged) = (Vec::new(), Vec::new());
    for Entry { id, backup, bytes, checked, .. } in live.backups.all()? {
        match backup {
            Ok(backup) => whole.push(listing::Entry {
                id,
                kind: backup.kind,
                finished: backup.ended,
                size: backup.data_bytes,
                stored: bytes,
                checked,
            }),
            Err(cause) => damaged.push(listing::Damaged { id, cause }),
        }
    }
    listing::print(&whole, &damaged, json);
    if !json {
        footer(live)?;
    }
    Ok(())
}

/// What else uses the disk, and how to remove it.
fn footer(live: &Live) -> anyhow::Result<()> {
    for system_identifier in live.backups.archived_systems()? {
        let archive = live.backups.archive(&system_identifier);
        say(&format!("write-ahead log in {}: {}", archive.folder().display(), Size(archive.bytes()?)));
    }
    for before in replacement::all(live.folder())? {
        let size = Size(size_on_disk(&before)?);
        say(&format!("the database before a restore, {}: {size}", before.display()));
    }
    Ok(())
}
