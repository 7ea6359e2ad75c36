//! Files of metrics in Prometheus' text format, which the node exporter reads (its textfile collector).

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use tercet_machine::file::{Contents, File};
use tercet_machine::path::Owner;

/// The folder of the files.
pub(crate) const FOLDER: &str = "/var/lib/tercet/metrics";

/// The file of the state of the archive, on the database's machine.
pub(crate) const ARCHIVE: &str = "archive.prom";
/// The file of the backups and their checks, on the machine that makes them.
pub(crate) const BACKUPS: &str = "backup.prom";
/// The file of the certificates of a machine.
pub(crate) const CERTIFICATES: &str = "certificates.prom";
/// The file of the nightly test of connections.
pub(crate) const PROVE: &str = "prove.prom";

/// A gauge with its samples.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Gauge {
    /// Its name, with the unit.
    pub(crate) name: &'static str,
    /// Its description.
    pub(crate) help: &'static str,
    /// Its values, each with one label or none.
    pub(crate) samples: Vec<(Option<Label>, f64)>,
}

/// The name and the value of a label.
pub(crate) type Label = (&'static str, String);

impl Gauge {
    /// A gauge with one value.
    pub(crate) fn of(name: &'static str, help: &'static str, value: f64) -> Self {
        Self { name, help, samples: vec![(None, value)] }
    }
}

/// The text of a file.
fn text(gauges: &[Gauge]) -> String {
    let mut text = String::new();
    for Gauge { name, help, samples } in gauges {
        write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n").expect(INFALLIBLE);
        for (label, value) in samples {
            let label = label.as_ref().map_or(String::new(), |(name, value)| {
                let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                format!("{{{name}=\"{value}\"}}")
            });
            writeln!(text, "{name}{label} {value}").expect(INFALLIBLE);
        }
    }
    text
}

const INFALLIBLE: &str = "writing to a String cannot fail";

/// Writes a file whole or not at all, readable for every user and owned by `account`.
///
/// # Errors
/// The folder is missing or cannot be written.
pub(crate) fn write(name: &str, account: &str, gauges: &[Gauge]) -> Result<()> {
    let path = Path::new(FOLDER).join(name);
    let file = File { path, contents: Contents::Text(text(gauges)), owner: Owner::of(account), mode: 0o644 };
    file.write().with_context(|| file.path.display().to_string())
}

/// Whether the metrics of this machine are read: without a monitor and without backups, there is no folder for them.
pub(crate) fn is_read() -> bool {
    Path::new(FOLDER).is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_keeps_its_characters() {
        let label = |value: &str| Some(("path", value.to_owned()));
        let gauge = Gauge {
            name: "a_seconds",
            help: "Seconds.",
            samples: vec![(label("/a\"b\\c\n"), 1.5), (label("/d"), 2.0)],
        };
        assert_eq!(
            text(&[gauge, Gauge::of("b", "B.", 0.0)]),
            "# HELP a_seconds Seconds.\n# TYPE a_seconds gauge\na_seconds{path=\"/a\\\"b\\\\c\\n\"} 1.5\n\
             a_seconds{path=\"/d\"} 2\n# HELP b B.\n# TYPE b gauge\nb 0\n"
        );
    }
}
