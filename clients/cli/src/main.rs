//! `tenantctl`: tenants, keys and the audit log of tenant-auth, from the command line.

mod args;
mod command;
mod exit;
mod failure;
mod import;
mod output;
mod page;
mod retry;
mod secret;
mod time;
mod view;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{args::Cli, command::Context};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let context = Context::new(cli.globals);
    let exit = match command::run(&context, cli.command).await {
        Ok(exit) => exit,
        Err(failure) => {
            context.tell(&failure);
            failure.exit()
        }
    };
    ExitCode::from(exit.code())
}
