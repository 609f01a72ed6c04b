//! The command line, with one file per group of commands.

pub(crate) mod audit;
pub(crate) mod check;
pub(crate) mod database;
mod explain;
pub(crate) mod grace;
pub(crate) mod import;
pub(crate) mod key;
mod key_update;
pub(crate) mod limit;
mod replay;
mod replica;
pub(crate) mod replicas;
pub(crate) mod scan;
pub(crate) mod session;
pub(crate) mod tenant;
pub(crate) mod usage;
pub(crate) mod validate;
pub(crate) mod wait;

use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, builder::Resettable};
use clap_complete::Shell;
use tenant_auth_client::Client;
use uuid::Uuid;

use self::{
    audit::AuditCommand, database::DatabaseCommand, grace::GraceCommand, key::KeyCommand,
    limit::LimitCommand, replicas::Replicas, scan::Scan, session::SessionCommand, tenant::TenantCommand,
    usage::UsageCommand, validate::Validate,
};
use crate::{
    args::{Globals, OptionSources},
    exit::{self, Exit},
    failure::Failure,
    output::Output,
    probe,
    time::Moment,
    view::InfoView,
};

/// Manages the tenants, keys and sessions of a tenant-auth service.
#[derive(Debug, Parser)]
#[command(name = "tenantctl", version, after_help = exit::EXIT_CODES_HELP, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create, show, change, suspend and resume tenants
    #[command(subcommand)]
    Tenant(TenantCommand),

    /// Issue, import, change, pause, rotate, revoke, list, show and check keys
    #[command(subcommand)]
    Key(KeyCommand),

    /// Bind, validate, unbind and list sessions
    #[command(subcommand)]
    Session(SessionCommand),

    /// Set, show, list and delete limits, add credits, and show what is used
    #[command(subcommand)]
    Limit(LimitCommand),

    /// Show the audit log, and replay it after a restore
    #[command(subcommand)]
    Audit(AuditCommand),

    /// Show whether the database is trusted, and accept it after a restore
    #[command(subcommand)]
    Database(DatabaseCommand),
    /// Show and change how long one replica answers from its cache while the database is unreachable
    ///
    /// This applies only to the replica at --endpoint, not to others behind the same address: use the own
    /// address of each replica, one after the other. A restart resets the grace, and empties the cache to
    /// which it applies.
    #[command(subcommand)]
    Grace(GraceCommand),

    /// Show and record the usage of tenants
    #[command(subcommand)]
    Usage(UsageCommand),

    /// Validate a key
    ///
    /// The key is read from standard input, or from a prompt without echo on a terminal.
    Validate(Validate),

    /// Find keys in files, archives and the history of repositories
    ///
    /// A text is a key if its checksum is right. Keys are found offline, in any surroundings, also in binary files and in
    /// UTF-16, and in zip, tar and gzip archives. Base64 and encrypted contents are not searched.
    ///
    /// Each finding is a line: path, line, the first characters of the key, and the first digits of its SHA-256. After !
    /// is an entry of an archive, after @ an object of a repository. The key itself is never shown or sent.
    Scan(Scan),

    /// Show the version and the state of the answering service
    Info,

    /// Show each replica behind the name in --endpoint: its build, its state, and which changes it has applied
    Replicas(Replicas),

    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

impl Cli {
    /// Parses the command line and the environment variables. An empty variable counts as not set.
    pub(crate) fn read() -> Result<Self, clap::Error> {
        let matches = command().try_get_matches()?;
        let mut cli = Self::from_arg_matches(&matches)?;
        cli.globals.sources = OptionSources::from_matches(&matches);
        Ok(cli)
    }
}

fn command() -> clap::Command {
    Cli::command().mut_args(|arg| {
        let value = arg.get_env().and_then(std::env::var_os);
        if value.is_some_and(|value| value.to_string_lossy().trim().is_empty()) {
            arg.env(Resettable::Reset)
        } else {
            arg
        }
    })
}

/// The context of a command: the endpoint and the output.
pub(crate) struct Context {
    globals: Globals,
    /// The request id of this run in the log of the service.
    request_id: String,
    pub(crate) output: Output,
}

impl Context {
    pub(crate) fn new(globals: Globals) -> Self {
        let request_id = Uuid::now_v7().simple().to_string();
        Self { output: Output::new(globals.json), request_id, globals }
    }

    pub(crate) fn client(&self) -> Result<Client, Failure> {
        self.client_for(&self.globals.endpoint, None, self.globals.timeout)
    }

    /// Returns a client of another endpoint. `server_name` is the name in its certificate, if it is not its
    /// host.
    fn client_for(
        &self,
        endpoint: &str,
        server_name: Option<&str>,
        timeout: Duration,
    ) -> Result<Client, Failure> {
        let builder = Client::builder(endpoint)
            .timeout(timeout)
            // A run needs each answer once.
            .without_near_cache()
            .request_id(&self.request_id)
            .user_agent(concat!("tenantctl/", env!("CARGO_PKG_VERSION")));
        self.globals.credentials.connect(builder, endpoint, server_name, self.globals.sources)
    }

    /// Returns the time of the service. The clock of this machine may be wrong, and the service does not use
    /// it.
    pub(crate) async fn now(&self) -> Result<Moment, Failure> {
        let info = self.client()?.server_info().await.map_err(Failure::from_service(&[]))?;
        Ok(info.now.into())
    }

    pub(crate) async fn report_failure(&self, failure: &Failure) {
        let protocol = match failure.is_unreachable() {
            true => probe::detect_protocol(&self.globals.endpoint).await,
            false => None,
        };
        self.output.report(&failure.report(&self.globals.request_context(), protocol, &self.request_id));
    }
}

/// Runs a command.
pub(crate) async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Tenant(command) => tenant::run(context, command).await,
        Command::Key(command) => key::run(context, command).await,
        Command::Session(command) => session::run(context, command).await,
        Command::Limit(command) => limit::run(context, command).await,
        Command::Grace(command) => grace::run(context, command).await,
        Command::Audit(command) => audit::run(context, command).await,
        Command::Database(command) => database::run(context, command).await,
        Command::Usage(command) => usage::run(context, command).await,
        Command::Validate(command) => validate::run(context, command).await,
        Command::Scan(command) => scan::run(context, command).await,
        Command::Info => info(context).await,
        Command::Replicas(command) => replicas::run(context, &command).await,
        Command::Completions { shell } => completions(context, shell),
    }
}

async fn info(context: &Context) -> Result<Exit, Failure> {
    let info = context.client()?.server_info().await.map_err(Failure::from_service(&[]))?;
    context.output.show(&InfoView::new(&context.globals.endpoint, info))?;
    Ok(Exit::Done)
}

fn completions(context: &Context, shell: Shell) -> Result<Exit, Failure> {
    // Buffered first, because the generator panics on a broken pipe.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tenantctl", &mut script);
    let script = String::from_utf8_lossy(&script);
    context.output.line(script.trim_end())?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::OPTIONS_WITH_VARIABLES;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// A command line is visible in the shell history and in the process list.
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

    #[test]
    fn every_option_with_a_variable_is_listed() {
        let command = Cli::command();
        let with_variable = command.get_arguments().filter_map(|arg| {
            Some((arg.get_id().as_str(), format!("--{}", arg.get_long()?), arg.get_env()?.to_str()?))
        });
        let known = OPTIONS_WITH_VARIABLES.map(|(id, name, variable)| (id, name.to_owned(), variable));
        assert_eq!(with_variable.collect::<Vec<_>>(), known);
    }
}
