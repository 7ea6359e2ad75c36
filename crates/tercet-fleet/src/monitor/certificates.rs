//! The metric of the certificates on this machine.

use anyhow::Result;

use super::textfile::{self, Gauge};
use crate::validity;

/// Writes when each certificate expires; nothing where no metrics are read.
///
/// # Errors
/// The file cannot be written.
pub fn measure() -> Result<()> {
    if !textfile::is_read() {
        return Ok(());
    }
    let ends = validity::ends();
    let samples = ends
        .into_iter()
        .map(|(path, end)| (Some(("path", path.display().to_string())), end as f64))
        .collect();
    let gauge = Gauge {
        name: "tercet_certificate_expiry_timestamp_seconds",
        help: "When the certificate expires.",
        samples,
    };
    textfile::write(textfile::CERTIFICATES, "root", &[gauge])
}
