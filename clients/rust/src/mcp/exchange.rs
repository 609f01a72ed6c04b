//! One request through the layer: what it may do, what the server behind sees, and what the client gets.

use http::{HeaderName, Method, Request, Response, header::ACCEPT_ENCODING, request::Parts};
use http_body::Body;
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use tonic::codegen::Bytes;
use tower_service::Service;

use super::{
    body::{self, BoxError, McpRequestBody, Notes},
    builder::Settings,
    decision::{self, Asked},
    headers::NamedInHeaders,
    lists::ListFilter,
    metadata::is_metadata_path,
    policy::Demand,
    rejection::McpRejection,
    response::Reply,
    revision::{Repeated, Revision},
    session,
};
use crate::{
    Principal, Verdict,
    guard::Admission,
    layer::{
        Admitted, Rejection, SESSION_ID_HEADER, add_limit_headers, is_exempt, is_preflight,
        loggable_request_id,
    },
};

/// The response body of a [`McpLayer`](crate::McpLayer).
pub type McpBody = UnsyncBoxBody<Bytes, BoxError>;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A request that may proceed.
pub(super) struct Prepared<B> {
    request: Request<McpRequestBody<B>>,
    pub(super) reply: Reply,
}

/// Answers a request, mostly with the response of the service behind.
pub(super) async fn answer<S, B, R>(
    settings: &Settings,
    inner: &mut S,
    request: Request<B>,
) -> Result<Response<McpBody>, S::Error>
where
    S: Service<Request<McpRequestBody<B>>, Response = Response<R>> + Send,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    if is_preflight(&request) || is_exempt(&settings.exempt, &request) {
        let request = request.map(|body| McpRequestBody::noted(body, None, 0));
        return Ok(inner.call(request).await?.map(boxed));
    }
    let (parts, body) = request.into_parts();
    if is_metadata_path(parts.uri.path()) {
        let found = match &settings.metadata {
            Some(metadata) => metadata.respond(&parts.method, parts.uri.path()),
            None => Err(McpRejection::NotFound),
        };
        return Ok(found.unwrap_or_else(|rejection| rejection.into_response(None)).map(boxed));
    }
    match prepare(settings, parts, body).await {
        Ok(Prepared { request, reply }) => {
            let (response, limits) = (inner.call(request).await?, reply.limits.clone());
            Ok(match reply.complete(settings, inner, response).await {
                Ok(mut response) => {
                    add_limit_headers(response.headers_mut(), &limits);
                    response
                }
                Err(rejection) => rejected(settings, rejection),
            })
        }
        Err(rejection) => Ok(rejected(settings, rejection)),
    }
}

fn rejected(settings: &Settings, rejection: McpRejection) -> Response<McpBody> {
    let url = settings.metadata.as_ref().map(|metadata| metadata.url.as_str());
    rejection.into_response(url).map(boxed)
}

pub(super) fn boxed<R>(body: R) -> McpBody
where
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// Decides whether a request may proceed, and what the service behind gets.
async fn prepare<B>(settings: &Settings, mut parts: Parts, body: B) -> Result<Prepared<B>, McpRejection>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let authenticator = &settings.authenticator;
    let request_id = loggable_request_id(&parts.headers);
    let Admitted { principal, key, client, limits } = admit(settings, &parts).await?;
    let revision = Revision::read(&parts.headers).map_err(|Repeated| McpRejection::RepeatedRevision)?;
    let session_id = match revision {
        Revision::Handshake => session::session_id_of(&parts.headers)?,
        Revision::Stateless(_) => {
            // A client that lies about its revision must not reach a session unchecked.
            parts.headers.remove(SESSION_ID_HEADER);
            parts.headers.remove(LAST_EVENT_ID);
            None
        }
    };
    let session = match session_id.clone() {
        Some(id) => Some(session::validate(authenticator, &client, id, &key, request_id.as_deref()).await?),
        None => None,
    };
    let (body, asked, notes) = decide(settings, &parts, body, &revision, &principal).await?;
    record_usage(settings, &principal, &asked)?;

    let filter = list_filter(settings, &parts.method, &revision, &principal, &asked);
    if filter.is_some() {
        // A compressed list could not be filtered.
        parts.headers.remove(ACCEPT_ENCODING);
    }
    let scopes: Vec<_> = asked.demand.all_scopes().into_iter().collect();
    let admission = match session {
        Some(session) => Admission::KeyWithSession(key, session),
        None => Admission::Key(key),
    };
    let principal = principal.with_credentials(client.credentials(admission, &scopes));
    parts.extensions.insert(principal.clone());
    if let Some(limits) = limits.clone() {
        parts.extensions.insert(limits);
    }
    let is_handshake = revision == Revision::Handshake;
    // Without a session, the response may open one.
    let opening = (is_handshake && session_id.is_none()).then(|| parts.clone());
    let reply = Reply {
        client,
        principal,
        request_id,
        limits: limits.unwrap_or_default(),
        is_handshake,
        method: parts.method.clone(),
        session_id,
        filter,
        request_ids: asked.request_ids,
        notes,
        opening,
    };
    Ok(Prepared { request: Request::from_parts(parts, body), reply })
}

/// Validates the key. If the request has costs, they are taken before the policy is applied, so a key that lacks a scope which
/// every request needs must be refused here.
async fn admit(settings: &Settings, parts: &Parts) -> Result<Admitted, McpRejection> {
    let has_costs = settings.authenticator.costs.is_some();
    let required = if has_costs { settings.required_scopes.as_slice() } else { &[] };
    settings.authenticator.admit(parts, required).await.map_err(|rejection| match rejection {
        Rejection::Denied(denied) if denied.verdict() == Verdict::InsufficientScope => {
            McpRejection::InsufficientScope {
                required: required.iter().cloned().collect(),
                missing: denied.missing_scopes().to_vec(),
            }
        }
        rejection => rejection.into(),
    })
}

/// Applies the policy. Without one, the body is not read.
async fn decide<B>(
    settings: &Settings,
    parts: &Parts,
    body: B,
    revision: &Revision,
    principal: &Principal,
) -> Result<(McpRequestBody<B>, Asked, Option<Notes>), McpRejection>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let required = &settings.required_scopes;
    let may_have_messages =
        !matches!(parts.method, Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS);
    let Some(policy) = settings.policy.as_ref().filter(|_| may_have_messages) else {
        let asked = Asked { demand: Demand::of_all(required), ..Asked::default() };
        decision::check_scopes(&asked.demand, principal)?;
        let notes = may_have_messages.then(Notes::default);
        return Ok((McpRequestBody::noted(body, notes.clone(), settings.body_limit), asked, notes));
    };
    let named = match revision {
        Revision::Handshake => None,
        Revision::Stateless(version) => {
            let named = NamedInHeaders::read(&parts.headers);
            let named = named.map_err(|mismatch| decision::mismatched(&mismatch, None))?;
            decision::decide_headers(policy, &named, principal, required)?;
            Some((named, version.as_slice()))
        }
    };
    let bytes = body::read(body, settings.body_limit).await?;
    let stateless = named.as_ref().map(|(named, version)| (named, *version));
    let asked = decision::decide_body(policy, &bytes, stateless, principal, required)?;
    Ok((McpRequestBody::read(bytes), asked, None))
}

/// Records what the request is about to use. The recorder never waits; if it takes no more, the request is rejected, so
/// that no usage is lost.
fn record_usage(settings: &Settings, principal: &Principal, asked: &Asked) -> Result<(), McpRejection> {
    let Some(recorder) = &settings.recorder else { return Ok(()) };
    for usage in &asked.demand.usage {
        if let Err(error) = recorder.record(principal.tenant_id(), &usage.metric, usage.quantity) {
            settings.unrecorded.log_unrecorded(&error, &usage.metric);
            return Err(McpRejection::UsageNotRecorded);
        }
    }
    Ok(())
}

fn list_filter(
    settings: &Settings,
    method: &Method,
    revision: &Revision,
    principal: &Principal,
    asked: &Asked,
) -> Option<ListFilter> {
    let policy = settings.policy.as_ref().filter(|_| settings.filter_lists)?;
    if method == Method::GET && *revision == Revision::Handshake {
        return Some(ListFilter::of_stream(policy, principal));
    }
    (!asked.list_ids.is_empty()).then(|| ListFilter::of_responses(policy, principal, asked.list_ids.clone()))
}
