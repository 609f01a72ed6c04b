//! `check-config`: validates the configuration and, with `--connect`, tests the database.

use std::{process::ExitCode, time::Duration};

use clap::Args;

use super::{fail, print_line, settings::SettingsArgs, start_logging};
use crate::{
    database::{
        client::DatabaseClient,
        migrate::{self, SchemaError},
        sql::{identity, probe},
    },
    domain::{
        clock::SystemClock,
        key::Peppers,
        store::{Call, FailureKind, Lane, ReadFrom, StoreError},
    },
    server,
};

/// Timeout of the test write; TENANT_AUTH_DATABASE_WRITE_TIMEOUT may be shorter.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// Timeout of a test read of the read replica.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// What to check.
#[derive(Args, Debug)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Also test the database: read it, with its schema and the peppers, and write to it
    ///
    /// Prints one line for reads, one for writes, and one for the read replica if there is one; each may fail alone. The write increments the heartbeat and
    /// decrements it again in one transaction, so it leaves no change behind. The test does not show whether a quota
    /// or a disk is nearly exhausted, or whether the token may write every table.
    #[arg(long)]
    connect: bool,
}

pub(super) async fn run(args: CheckArgs) -> ExitCode {
    let (config, settings) = match args.settings.read() {
        Ok(read) => read,
        Err(error) => return fail(2, &error.to_string()),
    };
    let width = settings.iter().map(|setting| setting.variable.len()).max().unwrap_or_default();
    for setting in settings {
        let origin = setting.origin.as_str();
        print_line(&format!("{:width$}  {}  ({origin})", setting.variable, setting.value));
    }
    let clock = SystemClock::shared();
    for line in server::expiry::describe_expiries(&config.tls, &config.database, &clock) {
        print_line(&line);
    }
    if !args.connect {
        print_line(
            "the configuration is valid; use --connect to test reads and writes of the database as well",
        );
        return ExitCode::SUCCESS;
    }
    let _log = start_logging(&config.log);
    let peppers = config.keys.peppers;
    let database_client = match server::build_database_client(config.database, &clock) {
        Ok(database_client) => database_client,
        Err(error) => return fail(1, &error.to_string()),
    };
    // At the same time, so that an unresponsive database is waited for only once.
    let (reads, writes, read_replica) = futures::join!(
        verify_reads(&database_client, &peppers),
        probe::write(&database_client, Call::within(Lane::Maintenance, WRITE_TIMEOUT)),
        verify_read_replica(&database_client)
    );
    print_line(&format!("reads   {}", reads_line(&reads)));
    print_line(&format!("writes  {}", writes_line(&writes)));
    if let Some(outcome) = &read_replica {
        print_line(&format!("replica {}", read_replica_line(outcome)));
    }
    let problems = [
        reads_problem(&reads),
        writes_problem(&reads, &writes),
        read_replica.and_then(|outcome| read_replica_problem(&outcome)),
    ];
    let problems: Vec<_> = problems.into_iter().flatten().collect();
    if problems.is_empty() {
        print_line("the configuration is valid, and the database accepts reads and writes");
        return ExitCode::SUCCESS;
    }
    fail(1, &problems.join("; "))
}

async fn verify_reads(database_client: &DatabaseClient, peppers: &Peppers) -> Result<(), SchemaError> {
    migrate::verify(database_client).await?;
    migrate::verify_peppers(database_client, peppers).await
}

/// Reads the identity of the database from both servers, if there is a read URL. Returns whether it is the same.
async fn verify_read_replica(database_client: &DatabaseClient) -> Option<Result<bool, StoreError>> {
    database_client.read_router().read_replica()?;
    let call = |read_from| Call::within(Lane::Maintenance, READ_TIMEOUT).reading_from(read_from);
    let (at_read_replica, at_primary) = futures::join!(
        identity::read(database_client, call(ReadFrom::ReadReplica)),
        identity::read(database_client, call(ReadFrom::Primary))
    );
    Some(match (at_read_replica, at_primary) {
        (Ok(found), Ok(expected)) => Ok(found == expected),
        // The line about reads reports a failure of the primary.
        (Ok(_), Err(_)) => Ok(true),
        (Err(error), _) => Err(error),
    })
}

fn read_replica_line(outcome: &Result<bool, StoreError>) -> String {
    match outcome {
        Ok(true) => "works: it answers reads".to_owned(),
        Ok(false) => "works, but it is one of another database".to_owned(),
        Err(error) => failure_line(error),
    }
}

fn read_replica_problem(outcome: &Result<bool, StoreError>) -> Option<String> {
    match outcome {
        Ok(true) => None,
        Ok(false) => Some("TENANT_AUTH_DATABASE_READ_URL is the URL of another database".to_owned()),
        Err(error) => Some(format!("reads of the read replica fail: {}", describe_store_error(error))),
    }
}

fn reads_line(outcome: &Result<(), SchemaError>) -> String {
    match outcome {
        Ok(()) => {
            format!("work: the schema is at version {}, and no pepper is missing", migrate::KNOWN_VERSION)
        }
        Err(SchemaError::Store(error)) => failure_line(error),
        // The database was read, but its content is unusable.
        Err(error) => format!("work, but the database is unusable ({}): {error}", error.kind()),
    }
}

fn writes_line(outcome: &Result<(), StoreError>) -> String {
    match outcome {
        Ok(()) => "work: a row was changed and changed back in one transaction".to_owned(),
        Err(error) if error.kind == FailureKind::SchemaMissing => {
            format!("not tried: there is no row to change ({})", error.message)
        }
        Err(error) => failure_line(error),
    }
}

fn reads_problem(reads: &Result<(), SchemaError>) -> Option<String> {
    match reads {
        Ok(()) => None,
        Err(SchemaError::Store(error)) => {
            Some(format!("database reads fail: {}", describe_store_error(error)))
        }
        Err(error) => Some(error.to_string()),
    }
}

fn writes_problem(reads: &Result<(), SchemaError>, writes: &Result<(), StoreError>) -> Option<String> {
    match (reads, writes) {
        (_, Ok(())) => None,
        // There is nothing to write to; the message for reads says how to create the schema.
        (Err(_), Err(error)) if error.kind == FailureKind::SchemaMissing => None,
        (_, Err(error)) => Some(format!("database writes fail: {}", describe_store_error(error))),
    }
}

fn failure_line(error: &StoreError) -> String {
    format!("failing ({}): {}", error.kind.as_str(), describe_store_error(error))
}

/// Describes an error: its cause, if known, and the database's message.
fn describe_store_error(error: &StoreError) -> String {
    match error.kind.cause() {
        Some(cause) => format!("{cause} ({})", error.message),
        None => error.message.clone(),
    }
}
