//! One module per command.

pub(crate) mod alerts;
pub(crate) mod api;
pub(crate) mod apply;
pub(crate) mod backup;
pub(crate) mod balancer;
pub(crate) mod certificates;
pub(crate) mod child;
pub(crate) mod completions;
pub(crate) mod dashboard;
pub(crate) mod destroy;
pub(crate) mod exec;
pub(crate) mod init;
pub(crate) mod logs;
pub(crate) mod machine;
pub(crate) mod maintenance;
pub(crate) mod man;
pub(crate) mod migrate;
pub(crate) mod monitoring;
pub(crate) mod plan;
pub(crate) mod prove;
pub(crate) mod restore;
pub(crate) mod rotate;
pub(crate) mod run;
pub(crate) mod sql;
pub(crate) mod state;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod types;
pub(crate) mod up;

/// The environment variables that are UTF-8: no other is tercet's, or libpq's.
fn environment() -> std::collections::BTreeMap<String, String> {
    let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(utf8).collect()
}
