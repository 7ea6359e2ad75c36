//! Plans as printed, and convergence of files and directories, which needs no root.

mod convergence;
mod inventory;
mod plans;
