//! The `tercet` command: the only place that prints, reads the environment or exits.

mod backups;
mod cli;
mod commands;
mod dashboard;
mod failure;
mod fleet;
mod low_ports;
mod output;
mod project;
mod running;
mod standard_output;
mod supervisor;
mod terminal;
mod timeline;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Arguments, Command};

/// A data API request makes about a hundred small allocations; with the C library's allocator they are a tenth of its cost.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything else: an invalid command line is an error, too.
    let json = std::env::args_os().take_while(|word| word != "--").any(|word| word == "--json");
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if json && error.use_stderr() => {
            return failure::Failure::input_message(error.to_string().trim_end()).report(json);
        }
        Err(error) => error.exit(),
    };
    let is_service = matches!(
        arguments.command,
        Command::Up(_) | Command::Api(_) | Command::Balancer(_) | Command::Machine(_) | Command::Child(_)
    );
    if !is_service {
        standard_output::end_when_it_fails();
    }
    let outcome = match arguments.command {
        Command::Up(arguments) => commands::up::run(&arguments),
        Command::Init(arguments) => commands::init::run(&arguments),
        Command::Migrate(verb) => commands::migrate::run(&verb),
        Command::Sql(arguments) => commands::sql::run(&arguments),
        Command::Run(arguments) => commands::run::run(&arguments),
        Command::Types(language) => commands::types::run(&language),
        Command::Token(arguments) => commands::token::run(&arguments),
        Command::Keys(arguments) => commands::token::keys(&arguments),
        Command::Api(arguments) => commands::api::run(&arguments),
        Command::Balancer(arguments) => commands::balancer::run(&arguments),
        Command::Plan(arguments) => commands::plan::run(&arguments),
        Command::Apply(arguments) => commands::apply::run(&arguments),
        Command::Rollback(arguments) => commands::apply::rollback(&arguments),
        Command::Rotate(what) => commands::rotate::run(&what),
        Command::Destroy(arguments) => commands::destroy::run(&arguments),
        Command::Backup(arguments) => commands::backup::run(&arguments),
        Command::Restore(arguments) => commands::restore::run(&arguments),
        Command::Move(cli::Move::Database(arguments)) => commands::apply::move_database(&arguments),
        Command::Prove(arguments) => commands::prove::run(&arguments),
        Command::Status(arguments) => commands::status::run(&arguments),
        Command::Certificates(arguments) => commands::certificates::run(&arguments),
        Command::Maintenance(verb) => commands::maintenance::run(&verb),
        Command::Dashboard(arguments) => commands::dashboard::run(&arguments),
        Command::Alerts(arguments) => commands::alerts::run(&arguments),
        Command::Monitoring(cli::Monitoring::Export(arguments)) => commands::monitoring::export(&arguments),
        Command::State(arguments) => commands::state::run(arguments),
        Command::Logs(arguments) => commands::logs::run(&arguments),
        Command::Trace(arguments) => commands::logs::trace(&arguments),
        Command::Exec(arguments) => commands::exec::run(&arguments),
        Command::Machine(arguments) => commands::machine::run(&arguments),
        Command::Completions(arguments) => commands::completions::run(&arguments),
        Command::Man(arguments) => commands::man::run(&arguments),
        Command::Archive(arguments) => {
            backups::archive::copy(&arguments.file, &arguments.target).map_err(failure::Failure::Failed)
        }
        Command::Child(arguments) => commands::child::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(json),
    }
}
