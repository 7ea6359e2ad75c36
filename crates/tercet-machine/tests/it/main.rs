//! Plans as a person reads them, and what this machine lets anybody do: files and directories.

mod convergence;
mod inventory;
mod plans;
