//! `tenantctl` manages the tenants, keys and audit log of tenant-auth from the command line.

mod args;
mod command;
mod exit;
mod failure;
mod import;
mod listing;
mod output;
mod page;
mod probe;
mod retry;
mod scan;
mod secret;
mod time;
mod view;

use std::process::ExitCode;

use crate::{
    command::{Cli, Context},
    exit::Exit,
    failure::ErrorReport,
    output::Output,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        // Help and version also arrive as errors.
        Err(error) if !error.use_stderr() || !wants_json() => error.exit(),
        Err(error) => {
            Output::new(true).report(&ErrorReport::from_clap(&error));
            return ExitCode::from(Exit::Usage.code());
        }
    };
    let context = Context::new(cli.globals);
    let exit = match command::run(&context, cli.command).await {
        Ok(exit) => exit,
        Err(failure) => {
            context.report_failure(&failure).await;
            failure.exit()
        }
    };
    ExitCode::from(exit.code())
}

/// Returns whether an invalid command line asks for errors as JSON.
fn wants_json() -> bool {
    std::env::args_os().skip(1).take_while(|arg| arg != "--").any(|arg| arg == "--json")
}
