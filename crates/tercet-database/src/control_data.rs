//! The control file of a data directory, as `pg_controldata` prints it.

use std::io;
use std::path::Path;

use crate::installation::Installation;

/// What the control file says (<https://www.postgresql.org/docs/current/app-pgcontroldata.html>).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlData {
    /// Identifies the cluster and its copies; `initdb` generates it.
    pub system_identifier: String,
    /// The timeline of the last checkpoint.
    pub timeline: u32,
    /// The size of a WAL segment in bytes.
    pub segment_size: u64,
    /// Whether pages have checksums.
    pub checksums: bool,
    /// Whether the server was shut down cleanly.
    pub shut_down: bool,
    /// The WAL segment of the last checkpoint's REDO location, where crash recovery begins.
    pub redo_segment: String,
}

impl ControlData {
    /// Reads the control file of a data directory, also of a running server.
    ///
    /// # Errors
    /// `pg_controldata` fails: the file is missing, damaged or of another major version.
    pub fn read(installation: &Installation, data: &Path) -> io::Result<Self> {
        let output = std::process::Command::new(installation.program("pg_controldata"))
            .arg("-D")
            .arg(data)
            .env_clear()
            .envs(installation.environment())
            .output()?;
        let invalid = |reason: &str| io::Error::other(format!("pg_controldata: {}", reason.trim()));
        let text = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        // A wrong checksum of the file is a warning with exit status 0.
        if !output.status.success() || text.contains("WARNING") || complaint.contains("warning") {
            let first = complaint.lines().chain(text.lines()).find(|line| !line.trim().is_empty());
            return Err(invalid(first.unwrap_or("no output")));
        }
        Self::parse(&text).ok_or_else(|| invalid("unexpected output"))
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |name: &str| {
            text.lines()
                .find_map(|line| Some(line.split_once(':')?).filter(|(key, _)| *key == name))
                .map(|(_, value)| value.trim())
        };
        Some(Self {
            system_identifier: value("Database system identifier")?.to_owned(),
            timeline: value("Latest checkpoint's TimeLineID")?.parse().ok()?,
            segment_size: value("Bytes per WAL segment")?.parse().ok()?,
            checksums: value("Data page checksum version")? != "0",
            shut_down: value("Database cluster state")? == "shut down",
            redo_segment: value("Latest checkpoint's REDO WAL file")?.to_owned(),
        })
    }
}
