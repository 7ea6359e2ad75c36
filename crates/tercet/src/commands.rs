//! One module per command.

pub(crate) mod api;
pub(crate) mod apply;
pub(crate) mod balancer;
pub(crate) mod child;
pub(crate) mod completions;
pub(crate) mod destroy;
pub(crate) mod exec;
pub(crate) mod init;
pub(crate) mod logs;
pub(crate) mod machine;
pub(crate) mod man;
pub(crate) mod plan;
pub(crate) mod prove;
pub(crate) mod rotate;
pub(crate) mod state;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod up;
