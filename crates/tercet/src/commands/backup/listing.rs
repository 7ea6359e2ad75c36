//! The list of backups, of `tercet up` and of machines.

use jiff::Timestamp;
use serde::Serialize;
use tercet_database::restored::Verification;

use crate::fleet::table;

/// A backup, as the list shows it.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    /// Its id.
    pub(super) id: String,
    /// `full` or `incremental`.
    pub(super) kind: String,
    /// Its end: from here on the database can be restored to any time.
    pub(super) finished: Timestamp,
    /// The size of the database, in bytes.
    pub(super) size: u64,
    /// What it takes where it is kept, in bytes.
    pub(super) stored: u64,
    /// The result of its last check.
    pub(super) checked: Option<Verification>,
}

/// A backup that cannot be read.
#[derive(Debug, Serialize)]
pub(super) struct Damaged {
    /// Its id.
    pub(super) id: String,
    /// The file, and what is wrong with it.
    pub(super) cause: String,
}

/// Prints the list on standard output, the oldest first.
#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
pub(super) fn print(entries: &[Entry], damaged: &[Damaged], as_json: bool) {
    if as_json {
        println!("{:#}", serde_json::json!({ "backups": entries, "damaged": damaged }));
    } else if entries.is_empty() && damaged.is_empty() {
        println!("there is no backup yet\nhint: tercet backup makes one");
    } else {
        print!("{}", text(entries));
        for Damaged { id, cause } in damaged {
            println!("{id} is damaged: {cause}");
        }
    }
}

fn text(entries: &[Entry]) -> String {
    let header = ["id", "kind", "can restore from", "size", "stored", "checked", "data loss then"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    let mut failures = String::new();
    for entry in entries {
        let checked = match &entry.checked {
            None => "not checked".to_owned(),
            Some(checked) if checked.passed() => format!("passed {}", minute(checked.at)),
            Some(checked) => {
                let why: Vec<&str> = checked.failures().collect();
                failures += &format!("{} FAILED its check: {}\n", entry.id, why.join("; "));
                format!("FAILED {}", minute(checked.at))
            }
        };
        let loss = entry.checked.as_ref().and_then(|it| it.heartbeat_seconds);
        rows.push(vec![
            entry.id.clone(),
            entry.kind.clone(),
            minute(entry.finished),
            size(entry.size),
            size(entry.stored),
            checked,
            loss.map_or("-".to_owned(), |seconds| format!("{seconds:.0} s")),
        ]);
    }
    table(&rows) + &failures
}

fn minute(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

fn size(bytes: u64) -> String {
    match bytes >> 20 {
        0 => format!("{} KiB", bytes >> 10),
        mebibytes @ 1..10_240 => format!("{mebibytes} MiB"),
        mebibytes => format!("{} GiB", mebibytes >> 10),
    }
}
