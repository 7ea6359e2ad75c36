//! The arguments of `tercet rollback`.

use clap::Args;

use super::Change;

/// The application that goes back.
#[derive(Args, Debug)]
pub(crate) struct Rollback {
    #[command(flatten)]
    pub(crate) change: Change,
    /// The application, if there are several
    #[arg(long, value_name = "NAME")]
    pub(crate) application: Option<String>,
}
