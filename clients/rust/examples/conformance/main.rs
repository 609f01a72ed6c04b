//! A conformance runner: it reads one JSON command per line from standard input and writes one JSON answer
//! per line to standard output, in any order, matched by `id`.
//!
//! It is configured by the environment: `TENANT_AUTH_ENDPOINTS` (separated by commas),
//! `TENANT_AUTH_TLS_CA_FILE`, `TENANT_AUTH_TLS_CERT_FILE`, `TENANT_AUTH_TLS_KEY_FILE`,
//! `TENANT_AUTH_TLS_SERVER_NAME`, `TENANT_AUTH_TOKEN_FILE`, `TENANT_AUTH_TOKEN`, `TENANT_AUTH_TIMEOUT_MS`;
//! `TENANT_AUTH_NEAR_CACHE=off` disables the near-cache and `TENANT_AUTH_WATCH=off` the invalidation stream.
//! If the configuration is invalid, it reports the error instead of `ready` and exits with 2.

mod answers;
mod keys;
mod limits;
mod sessions;
mod setup;
mod usage;

use std::{
    error::Error as StdError,
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use serde_json::{Value, json};
use tenant_auth_client::{Client, Error};
use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn StdError>> {
    let client = match setup::client() {
        Ok(client) => client,
        Err(error) => {
            print_answer(&json!({"ready": false, "error": error.to_string()}))?;
            return Ok(ExitCode::from(2));
        }
    };
    print_answer(&json!({"ready": true}))?;
    let mut commands = BufReader::new(stdin()).lines();
    while let Some(line) = commands.next_line().await? {
        let command: Value = serde_json::from_str(&line)?;
        if command["op"] == "close" {
            client.close();
            print_answer(&with_id(&command, json!({"closed": true})))?;
            return Ok(ExitCode::SUCCESS);
        }
        let client = client.clone();
        tokio::spawn(async move {
            let answer = run_command(&client, &command).await.unwrap_or_else(|error| answers::error(&error));
            // The driver may have exited.
            let _ = print_answer(&with_id(&command, answer));
        });
    }
    Ok(ExitCode::SUCCESS)
}

async fn run_command(client: &Client, command: &Value) -> Result<Value, Error> {
    let client = &match command["timeout_ms"].as_u64() {
        None | Some(0) => client.clone(),
        Some(timeout) => client.with_timeout(Duration::from_millis(timeout))?,
    };
    match command["op"].as_str().unwrap_or_default() {
        "validate_key" => keys::validate(client, command).await,
        "require_key" => keys::require(client, command).await,
        "validate_key_concurrently" => keys::validate_concurrently(client, command).await,
        "validate_keys" => keys::validate_all(client, command).await,
        "load" => keys::load(client, command).await,
        "bind_session" => sessions::bind(client, command).await,
        "validate_session" => sessions::validate(client, command).await,
        "unbind_session" => sessions::unbind(client, command).await,
        "record_usage" => usage::record(client, command).await,
        "record_many" => usage::record_many(client, command).await,
        "query_usage" => usage::query(client, command).await,
        "consume" => limits::consume(client, command).await,
        "consume_many" => limits::consume_many(client, command).await,
        "reserve" => limits::reserve(client, command).await,
        "settle" => limits::settle(client, command).await,
        "cancel" => limits::cancel(client, command).await,
        "limit_state" => limits::limit_state(client, command).await,
        "watch_state" => Ok(watch_state(client)),
        "server_info" => server_info(client).await,
        _ => Ok(json!({"error": "UNSUPPORTED"})),
    }
}

fn watch_state(client: &Client) -> Value {
    let state = client.watch_state();
    json!({
        "live": state.is_some_and(|state| state.live),
        "revision": state.map_or(0, |state| state.revision),
    })
}

async fn server_info(client: &Client) -> Result<Value, Error> {
    Ok(json!({"version": client.server_info().await?.version}))
}

fn with_id(command: &Value, mut answer: Value) -> Value {
    if let (Some(id), Some(fields)) = (command.get("id"), answer.as_object_mut()) {
        fields.insert("id".to_owned(), id.clone());
    }
    answer
}

fn print_answer(answer: &Value) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{answer}")?;
    stdout.flush()
}
