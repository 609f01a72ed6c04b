//! Commands about sessions.

use std::time::Duration;

use serde_json::{Value, json};
use tenant_auth_client::{BindSession, Client, Error, PresentedKey};

use crate::{
    answers::{self, text, texts},
    keys::at_address,
};

pub(crate) async fn bind(client: &Client, command: &Value) -> Result<Value, Error> {
    let ttl = Duration::from_millis(command["ttl_ms"].as_u64().unwrap_or_default());
    let mut session = BindSession::new(text(command, "session_id"), ttl);
    if command["sliding"] == true {
        session = session.sliding();
    }
    for (name, value) in command["attributes"].as_object().into_iter().flatten() {
        session = session.attribute(name, value.as_str().unwrap_or_default());
    }
    let client = at_address(client, command)?;
    let binding = client.bind_session(session, &PresentedKey::new(text(command, "key"))).await?;
    Ok(json!({"verdict": binding.verdict.to_string(), "already_bound": binding.already_bound}))
}

pub(crate) async fn validate(client: &Client, command: &Value) -> Result<Value, Error> {
    let key = command["key"].as_str().map(PresentedKey::new);
    let scopes = texts(command, "scopes");
    let client = at_address(client, command)?;
    let validation = client.validate_session(text(command, "session_id"), key.as_ref(), &scopes).await?;
    let mut answer = answers::validation(&validation);
    answer["attributes"] = json!(validation.subject.attributes());
    answer["presented_key_id"] = json!(validation.subject.presented_key_id());
    Ok(answer)
}

pub(crate) async fn unbind(client: &Client, command: &Value) -> Result<Value, Error> {
    let unbinding = client.unbind_session(text(command, "session_id"), text(command, "tenant_id")).await?;
    Ok(json!({"was_bound": unbinding.was_bound}))
}
