//! Development commands, one file each; `cargo xtask` is an alias in `.cargo/config.toml`.
#![expect(clippy::print_stdout, reason = "a command prints")]

mod bench;
mod ci;
mod command;
mod dist;
mod fuzz;
mod generate;
mod lab;
mod packages;
mod prerequisites;
mod s3;
mod test;
mod tools;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

use crate::workspace::Workspace;

/// Development commands of the project.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Run all tests, after checking and preparing their prerequisites.
    Test {
        /// Passed on to `cargo test --workspace`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run the other checks: formatting, lints, documentation, licences, dependency directions, …
    Ci {
        /// Only the steps whose names begin with one of these.
        only: Vec<String>,
    },
    /// Write the generated files.
    Generate {
        /// Change nothing; fail if a file is out of date.
        #[arg(long)]
        check: bool,
    },
    /// Compile the fuzz targets with the stable toolchain and run one, or each.
    Fuzz {
        /// A file of fuzz/fuzz_targets, without `.rs`.
        target: Option<String>,
        /// How long each runs.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Run benchmarks of tercet and of the peers that are installed.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Start machines as containers, to try `tercet apply` on.
    #[command(subcommand)]
    Lab(lab::Lab),
    /// Make the packages that people install tercet from, or test them.
    Dist(dist::Arguments),
    /// Serve a stand-in for an S3 object store, to try backups with.
    S3(s3::Arguments),
}

fn main() -> ExitCode {
    let result = Workspace::find().and_then(|workspace| match Task::parse() {
        Task::Test { arguments } => test::run(&workspace, &arguments),
        Task::Ci { only } => ci::run(&workspace, &only),
        Task::Generate { check: false } => generate::write(&workspace),
        Task::Generate { check: true } => generate::check(&workspace),
        Task::Fuzz { target, seconds } => {
            fuzz::run(&workspace, target.as_deref(), fuzz::Effort::Seconds(seconds))
        }
        Task::Bench(bench) => bench.run(&workspace),
        Task::Lab(lab) => lab.run(&workspace),
        Task::Dist(arguments) => dist::run(&workspace, &arguments),
        Task::S3(arguments) => s3::run(&arguments),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
