//! The reference of `tercet.toml`, from the documentation of its fields: a page, and a JSON Schema for editors.

use anyhow::Result;

use crate::workspace::Workspace;

/// The whole of docs/guide/reference.md.
#[expect(clippy::unnecessary_wraps, reason = "one shape for every maker")]
pub(crate) fn reference(_: &Workspace) -> Result<String> {
    Ok(tercet_config::markdown())
}

/// The whole of docs/guide/tercet.schema.json.
pub(crate) fn schema(_: &Workspace) -> Result<String> {
    Ok(serde_json::to_string_pretty(&tercet_config::json_schema())? + "\n")
}
