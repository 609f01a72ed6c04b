//! Commands about keys.

use std::collections::BTreeMap;

use futures::future::join_all;
use serde_json::{Value, json};
use tenant_auth_client::{Client, Error, PresentedKey, Question};

use crate::answers::{self, code, code_name, text, texts};

pub(crate) async fn validate(client: &Client, command: &Value) -> Result<Value, Error> {
    let key = PresentedKey::new(text(command, "key"));
    let validation = client.validate(&key, &texts(command, "scopes")).await?;
    Ok(answers::validation(&validation))
}

/// All are started before any is awaited.
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
    let scopes = texts(command, "scopes");
    let question = |key: &str| {
        let question = Question::new(PresentedKey::new(key));
        scopes.iter().fold(question, |question, scope| question.requires(*scope))
    };
    let questions: Vec<_> = texts(command, "keys").into_iter().map(question).collect();
    let outcomes = client.validate_batch(&questions).await?;
    let item = |outcome: Result<_, Error>| match outcome {
        Ok(validation) => answers::validation(&validation),
        Err(error) => answers::error(&error),
    };
    Ok(json!({"items": outcomes.into_iter().map(item).collect::<Vec<_>>()}))
}
