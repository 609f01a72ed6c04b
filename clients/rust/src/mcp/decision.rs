//! Decides from the headers and the body whether a key may do what a request asks for.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{
    McpPolicy,
    headers::{HeaderMismatch, NamedInHeaders},
    lists::is_list,
    message::{Body, BodyError, Message},
    operation::operations,
    policy::{Demand, Refusal},
    rejection::{HEADER_MISMATCH, INVALID_PARAMS, INVALID_REQUEST, McpRejection, PARSE_ERROR},
};
use crate::Principal;

/// What an admitted request asks for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) demand: Demand,
    /// The ids of requests that expect a response.
    pub(super) request_ids: Vec<Box<RawValue>>,
    /// Those that expect a list.
    pub(super) list_ids: Vec<Box<RawValue>>,
}

/// Decides from the headers of a stateless revision alone.
pub(super) fn decide_headers(
    policy: &McpPolicy,
    named: &NamedInHeaders,
    principal: &Principal,
    required: &[String],
) -> Result<(), McpRejection> {
    let mut demand = Demand::default();
    let operations: Vec<_> = named.operation().into_iter().collect();
    policy
        .add_demand(&mut demand, named.method(), &operations, required)
        .map_err(|refusal| refused(&refusal, None))?;
    check_scopes(&demand, principal)
}

/// Decides from the body. For a stateless revision, it must be one message and agree with the headers.
pub(super) fn decide_body(
    policy: &McpPolicy,
    body: &Bytes,
    stateless: Option<(&NamedInHeaders, &[u8])>,
    principal: &Principal,
    required: &[String],
) -> Result<Asked, McpRejection> {
    let body = Body::parse(body).map_err(unreadable)?;
    if let Some((named, version)) = stateless {
        let Body::One(message) = &body else {
            return Err(McpRejection::json_rpc(INVALID_REQUEST, "A batch is not a message.", None));
        };
        named
            .compare(message, version)
            .map_err(unreadable)?
            .map_err(|mismatch| mismatched(&mismatch, message.id))?;
    }
    let mut asked = Asked { demand: Demand::of_all(required), ..Asked::default() };
    for message in body.messages() {
        asked.add(policy, message, stateless.is_some(), required)?;
    }
    check_scopes(&asked.demand, principal)?;
    Ok(asked)
}

/// Checks that a key holds the scopes. The rejection names those of the operations that it may not do.
pub(super) fn check_scopes(demand: &Demand, principal: &Principal) -> Result<(), McpRejection> {
    let lacks = |scope: &&String| !principal.holds(scope);
    let refused = demand.scopes.iter().filter(|scopes| scopes.iter().any(|scope| lacks(&scope)));
    let required: BTreeSet<String> = refused.flatten().cloned().collect();
    let missing: Vec<_> = required.iter().filter(lacks).cloned().collect();
    if missing.is_empty() { Ok(()) } else { Err(McpRejection::InsufficientScope { required, missing }) }
}

/// Returns the ids of the requests in a body that was not decided.
pub(super) fn request_ids(body: &[u8]) -> Vec<Box<RawValue>> {
    let body = Body::parse(body);
    let messages = body.as_ref().map(Body::messages).unwrap_or_default();
    messages.iter().filter(|message| message.method.is_some()).filter_map(id_of).collect()
}

pub(super) fn mismatched(mismatch: &HeaderMismatch, id: Option<&RawValue>) -> McpRejection {
    McpRejection::json_rpc(HEADER_MISMATCH, format!("Header mismatch: {}.", mismatch.0), id)
}

impl Asked {
    fn add(
        &mut self,
        policy: &McpPolicy,
        message: &Message<'_>,
        is_stateless: bool,
        required: &[String],
    ) -> Result<(), McpRejection> {
        let operations = operations(message, is_stateless).map_err(unreadable)?;
        policy
            .add_demand(&mut self.demand, message.method.as_deref(), &operations, required)
            .map_err(|refusal| refused(&refusal, message.id))?;
        if let Some(method) = &message.method {
            self.request_ids.extend(id_of(message));
            if is_list(method) {
                self.list_ids.extend(id_of(message));
            }
        }
        Ok(())
    }
}

fn id_of(message: &Message<'_>) -> Option<Box<RawValue>> {
    message.id.map(ToOwned::to_owned)
}

fn unreadable(error: BodyError) -> McpRejection {
    match error {
        BodyError::Parse => McpRejection::json_rpc(PARSE_ERROR, "The body is not JSON.", None),
        BodyError::Invalid => McpRejection::json_rpc(
            INVALID_REQUEST,
            "The body is not a message, or repeats a member that must be there once.",
            None,
        ),
    }
}

fn refused(refusal: &Refusal, id: Option<&RawValue>) -> McpRejection {
    match refusal {
        Refusal::NotInPolicy => McpRejection::NotInPolicy,
        Refusal::Unnamed => {
            McpRejection::json_rpc(INVALID_PARAMS, "The params do not name what to use: give a string.", id)
        }
    }
}
