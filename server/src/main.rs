//! `leasehold`: an SMB 2/3 file server in user space.

mod check;
mod cli;
mod config;
mod directory;
mod failure;
mod interfaces;
mod logging;
mod password;
mod random;
#[cfg(feature = "seeded-faults")]
mod seeded;
mod serve;
mod site;
mod state;
mod throttle;
mod user;
mod users;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::User(arguments) => user::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("leasehold: {failure}");
            ExitCode::FAILURE
        }
    }
}
