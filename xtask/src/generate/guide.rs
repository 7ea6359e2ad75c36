//! The reference pages of `tercet.toml` and of the balancer's options, and the JSON Schema for editors, made from the
//! declarations of the options.

use anyhow::Result;

use crate::workspace::Workspace;

/// The whole of docs/guide/balancer-options.md.
#[expect(clippy::unnecessary_wraps, reason = "one shape for every maker")]
pub(crate) fn balancer_options(_: &Workspace) -> Result<String> {
    Ok(tercet_options::reference::balancer())
}

/// The whole of docs/guide/reference.md.
#[expect(clippy::unnecessary_wraps, reason = "one shape for every maker")]
pub(crate) fn reference(_: &Workspace) -> Result<String> {
    Ok(tercet_config::markdown())
}

/// The whole of docs/guide/tercet.schema.json.
pub(crate) fn schema(_: &Workspace) -> Result<String> {
    Ok(serde_json::to_string_pretty(&tercet_config::json_schema())? + "\n")
}
