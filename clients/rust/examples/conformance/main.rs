//! The client in the hands of a driver: one JSON command a line on standard input, one JSON answer a line on standard
//! output, in any order, matched by `id`.
//!
//! `TENANT_AUTH_ENDPOINTS` are the services (`host:port`, separated by commas); `TENANT_AUTH_NEAR_CACHE=off` and
//! `TENANT_AUTH_WATCH=off` do what they say.

mod answers;
mod keys;
mod sessions;
mod usage;

use std::{
    env,
    error::Error as StdError,
    io::{self, Write as _},
    time::Duration,
};

use serde_json::{Value, json};
use tenant_auth_client::{Client, Error, NearCache};
use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};

/// Unless a command says otherwise.
const TIMEOUT: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let client = client()?;
    say(&json!({"ready": true}))?;
    let mut commands = BufReader::new(stdin()).lines();
    while let Some(line) = commands.next_line().await? {
        let command: Value = serde_json::from_str(&line)?;
        if command["op"] == "close" {
            return Ok(say(&with_id(&command, json!({"closed": true})))?);
        }
        let client = client.clone();
        tokio::spawn(async move {
            let answer = act(&client, &command).await;
            // A driver that left is told nothing more.
            let _ = say(&with_id(&command, answer));
        });
    }
    Ok(())
}

fn client() -> Result<Client, Box<dyn StdError>> {
    let endpoints = env::var("TENANT_AUTH_ENDPOINTS")?;
    let mut urls = endpoints.split(',').map(|endpoint| format!("http://{}", endpoint.trim()));
    let first = urls.next().ok_or("TENANT_AUTH_ENDPOINTS is empty")?;
    let mut builder = Client::builder(first).timeout(TIMEOUT).user_agent("conformance-rust/1.0");
    for url in urls {
        builder = builder.endpoint(url);
    }
    let off = |name| env::var(name).is_ok_and(|value| value == "off");
    if off("TENANT_AUTH_NEAR_CACHE") {
        builder = builder.without_near_cache();
    } else if off("TENANT_AUTH_WATCH") {
        builder = builder.near_cache(NearCache::new().unwatched());
    }
    Ok(builder.connect_lazy()?)
}

async fn act(client: &Client, command: &Value) -> Value {
    let timeout = command["timeout_ms"].as_u64().map_or(TIMEOUT, Duration::from_millis);
    let client = &client.with_timeout(timeout);
    let outcome = match command["op"].as_str().unwrap_or_default() {
        "validate_key" => keys::validate(client, command).await,
        "validate_key_concurrently" => keys::validate_concurrently(client, command).await,
        "validate_keys" => keys::validate_all(client, command).await,
        "bind_session" => sessions::bind(client, command).await,
        "validate_session" => sessions::validate(client, command).await,
        "unbind_session" => sessions::unbind(client, command).await,
        "record_usage" => usage::record(client, command).await,
        "query_usage" => usage::query(client, command).await,
        "watch_state" => Ok(watch_state(client)),
        "server_info" => server_info(client).await,
        _ => Ok(json!({"error": "UNSUPPORTED"})),
    };
    outcome.unwrap_or_else(|error| answers::error(&error))
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

fn say(answer: &Value) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{answer}")?;
    stdout.flush()
}
