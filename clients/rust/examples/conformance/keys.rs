//! Commands about keys.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use serde_json::{Value, json};
use tenant_auth_client::{Client, ClientAddress, Error, KeyQuery, PresentedKey};
use tokio::{sync::Semaphore, time::Instant};

use crate::answers::{self, code, code_name, text, texts};

/// Returns the client for the address of the customer that a command names, if any.
pub(crate) fn at_address(client: &Client, command: &Value) -> Result<Client, Error> {
    Ok(client.with_client_address(client_address(command)?))
}

fn client_address(command: &Value) -> Result<Option<ClientAddress>, Error> {
    Ok(command["client_address"].as_str().map(ClientAddress::parse).transpose()?)
}

pub(crate) async fn validate(client: &Client, command: &Value) -> Result<Value, Error> {
    let client = at_address(client, command)?;
    let key = PresentedKey::new(text(command, "key"));
    let validation = client.validate(&key, &texts(command, "scopes")).await?;
    Ok(answers::validation(&validation))
}

pub(crate) async fn require(client: &Client, command: &Value) -> Result<Value, Error> {
    let key = PresentedKey::new(text(command, "key"));
    answers::admission(at_address(client, command)?.require(&key, &texts(command, "scopes")).await)
}

/// Starts one call per interval, even if earlier ones are still in flight.
pub(crate) async fn load(client: &Client, command: &Value) -> Result<Value, Error> {
    let number = |name: &str| command[name].as_u64();
    let concurrency = number("concurrency").and_then(|limit| usize::try_from(limit).ok());
    let permits = Arc::new(Semaphore::new(
        concurrency.unwrap_or(Semaphore::MAX_PERMITS).clamp(1, Semaphore::MAX_PERMITS),
    ));
    let interval = Duration::from_millis(number("interval_ms").unwrap_or_default());
    let started_at = Instant::now();
    let mut tasks = Vec::new();
    for call in 0..number("calls").unwrap_or_default() {
        tokio::time::sleep_until(
            started_at + interval.saturating_mul(u32::try_from(call).unwrap_or(u32::MAX)),
        )
        .await;
        let (client, key) = (client.clone(), PresentedKey::new(text(command, "key")));
        let scopes: Vec<_> = texts(command, "scopes").into_iter().map(str::to_owned).collect();
        // The semaphore is never closed, so this does not fail.
        let permit = Arc::clone(&permits).acquire_owned().await.ok();
        tasks.push(tokio::spawn(async move {
            let started_at = Instant::now();
            let scopes: Vec<_> = scopes.iter().map(String::as_str).collect();
            let outcome = client.validate(&key, &scopes).await;
            drop(permit);
            (outcome, started_at.elapsed())
        }));
    }
    let (mut ok, mut verdicts, mut errors) = (0, BTreeMap::new(), BTreeMap::new());
    let mut latency_ms = Vec::new();
    for outcome in join_all(tasks).await {
        let Ok((outcome, latency)) = outcome else {
            *errors.entry("CANCELLED").or_insert(0) += 1;
            continue;
        };
        latency_ms.push(latency.as_secs_f64() * 1_000.0);
        match outcome {
            Ok(validation) => {
                ok += 1;
                *verdicts.entry(validation.verdict.to_string()).or_insert(0) += 1;
            }
            Err(error) => *errors.entry(code_name(code(&error))).or_insert(0) += 1,
        }
    }
    Ok(json!({"ok": ok, "verdicts": verdicts, "errors": errors, "latency_ms": latency_ms}))
}

/// All calls are started before any is awaited.
pub(crate) async fn validate_concurrently(client: &Client, command: &Value) -> Result<Value, Error> {
    let tasks = (0..command["times"].as_u64().unwrap_or(1)).map(|_| {
        let (client, key) = (client.clone(), PresentedKey::new(text(command, "key")));
        tokio::spawn(async move { client.validate(&key, &[]).await })
    });
    let tasks: Vec<_> = tasks.collect();
    let (mut verdicts, mut errors) = (BTreeMap::new(), BTreeMap::new());
    for outcome in join_all(tasks).await {
        match outcome {
            Ok(Ok(validation)) => *verdicts.entry(validation.verdict.to_string()).or_insert(0) += 1,
            Ok(Err(error)) => *errors.entry(code_name(code(&error))).or_insert(0) += 1,
            Err(_) => *errors.entry("CANCELLED").or_insert(0) += 1,
        }
    }
    Ok(json!({"verdicts": verdicts, "errors": errors}))
}

pub(crate) async fn validate_all(client: &Client, command: &Value) -> Result<Value, Error> {
    let (keys, scopes) = (texts(command, "keys"), texts(command, "scopes"));
    let address = match client_address(command) {
        Ok(address) => address,
        // Every query has the address, and its error.
        Err(error) => return Ok(json!({"items": vec![answers::error(&error); keys.len()]})),
    };
    let query = |key: &str| {
        let query = KeyQuery { client_address: address, ..KeyQuery::new(PresentedKey::new(key)) };
        scopes.iter().fold(query, |query, scope| query.requires(*scope))
    };
    let queries: Vec<_> = keys.into_iter().map(query).collect();
    let outcomes = client.validate_batch(&queries).await?;
    let item = |outcome: Result<_, Error>| match outcome {
        Ok(validation) => answers::validation(&validation),
        Err(error) => answers::error(&error),
    };
    Ok(json!({"items": outcomes.into_iter().map(item).collect::<Vec<_>>()}))
}
