//! One file per verb.

pub(crate) mod api;
pub(crate) mod balancer;
pub(crate) mod child;
pub(crate) mod completions;
pub(crate) mod init;
pub(crate) mod man;
pub(crate) mod token;
pub(crate) mod up;
