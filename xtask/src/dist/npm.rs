//! The npm packages: `tercet`, whose launcher starts the binary of the platform's package, an optional dependency.

use anyhow::Result;
use serde_json::{Value, json};

use super::archive::{Entry, gzip, tar};
use super::{Content, SUMMARY};

/// The name of a platform's package.
pub(super) fn platform_package(content: &Content<'_>) -> String {
    let (system, processor) = content.platform.npm;
    format!("@tercet/{system}-{processor}")
}

/// The names and bytes of the packages.
pub(super) fn packages(content: &Content<'_>) -> Result<Vec<(String, Vec<u8>)>> {
    let version = content.version;
    let (system, processor) = content.platform.npm;
    let platform = platform_package(content);
    let own = json!({
        "name": platform,
        "version": version,
        "description": format!("{SUMMARY} ({system}, {processor})"),
        "license": "MIT",
        "os": [system],
        "cpu": [processor],
        "libc": ["glibc"],
        "preferUnplugged": true,
    });
    let launcher = json!({
        "name": "tercet",
        "version": version,
        "description": SUMMARY,
        "license": "MIT",
        "bin": { "tercet": "bin/tercet.js" },
        "engines": { "node": ">=18" },
        "optionalDependencies": { platform.clone(): version },
    });
    let binary = vec![
        manifest(&own),
        Entry::program("package/bin/tercet", content.binary),
        Entry::file("package/LICENSE", content.licence),
        Entry::file("package/LICENSES.txt", content.licences),
    ];
    let start = vec![
        manifest(&launcher),
        Entry::program("package/bin/tercet.js", include_str!("tercet.js")),
        Entry::file("package/LICENSE", content.licence),
        Entry::file("package/README.md", &content.readme),
    ];
    Ok(vec![
        (format!("tercet-{version}.tgz"), gzip(&tar(start))?),
        (format!("tercet-{system}-{processor}-{version}.tgz"), gzip(&tar(binary))?),
    ])
}

fn manifest(value: &Value) -> Entry {
    Entry::file("package/package.json", format!("{value:#}\n"))
}
