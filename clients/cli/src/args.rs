//! The command line.

mod credentials;
mod expiry;
mod given;
mod limit;
mod when;

use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

pub(crate) use self::{
    credentials::{Credentials, is_secure},
    expiry::Expiry,
    given::Given,
    limit::Limit,
    when::When,
};
use crate::{
    command::{
        audit::AuditCommand, database::DatabaseCommand, grace::GraceCommand, key::KeyCommand,
        session::SessionCommand, tenant::TenantCommand, usage::UsageCommand, validate::Validate,
    },
    exit, time,
};

/// Manages the tenants, keys and sessions of a tenant-auth service.
#[derive(Debug, Parser)]
#[command(name = "tenantctl", version, after_help = exit::HELP, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Globals {
    /// Where the service listens: http:// or https://
    #[arg(
        long,
        global = true,
        env = "TENANTCTL_ENDPOINT",
        default_value = "http://127.0.0.1:50051",
        value_name = "URL"
    )]
    pub(crate) endpoint: String,

    #[command(flatten)]
    pub(crate) credentials: Credentials,

    /// How long to wait for one answer, such as 500ms or 1m
    #[arg(long, global = true, default_value = "5s", value_parser = time::wait, value_name = "TIME")]
    pub(crate) timeout: Duration,

    /// Print one JSON document instead of text, an error too (on standard error)
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Which of these came from their variables.
    #[arg(skip)]
    pub(crate) given: Given,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create, look at, suspend and resume tenants
    #[command(subcommand)]
    Tenant(TenantCommand),

    /// Issue, import, rotate, revoke, list, look at and check keys
    #[command(subcommand)]
    Key(KeyCommand),

    /// Bind, validate, end and list sessions
    #[command(subcommand)]
    Session(SessionCommand),

    /// Look at who changed what
    #[command(subcommand)]
    Audit(AuditCommand),

    /// Look whether the database is believed, and accept it after a restore
    #[command(subcommand)]
    Database(DatabaseCommand),
    /// Show and change how long one replica answers from memory while the database is away
    ///
    /// It concerns the replica at --endpoint alone, not others behind the same address: name each replica by an address of its own,
    /// one after the other. A restart ends what was set, and empties the memory that it was set for.
    #[command(subcommand)]
    Grace(GraceCommand),

    /// Show and record what tenants consumed
    #[command(subcommand)]
    Usage(UsageCommand),

    /// Ask whether a key is good
    ///
    /// The key is read from standard input, or asked for without echo on a terminal.
    Validate(Validate),

    /// Describe the service that answers
    Info,

    /// Print a completion script for a shell
    Completions {
        /// The shell to complete for
        shell: Shell,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// What is on a command line is in the shell's history and in the process list.
    #[test]
    fn no_argument_takes_a_key() {
        fn check(command: &clap::Command) {
            for arg in command.get_arguments() {
                let id = arg.get_id().as_str();
                let suspicious = ["key", "plaintext", "secret", "token", "api_key"].contains(&id);
                assert!(!suspicious, "{} takes {id}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
