//! Sessions: the id of an MCP or CLI session, bound to a tenant through the key that opened it.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use futures::{Stream, TryStreamExt as _, stream};
use tenant_auth_proto::v1::{
    self, session_service_client::SessionServiceClient, validation_service_client::ValidationServiceClient,
};

use crate::{
    Client, ClientAddress, Error, NotAdmitted, PresentedKey, Principal, Validation, Verdict,
    call::{RpcClient, invalid_reply, parse_time, required_field},
    key_query::address_text,
    near::{ChangeSubject, InvalidationGuard, Requirements, apply_requirements},
};

/// Maximum sessions of one page that the service returns.
const MAX_SESSIONS_PER_PAGE: usize = 500;
/// Maximum length of a session id in the contract.
pub(crate) const MAX_SESSION_ID_LEN: usize = 1_024;

/// A session to bind.
#[derive(Clone, Debug)]
pub struct BindSession {
    session_id: String,
    ttl: Duration,
    expiry: SessionExpiry,
    attributes: BTreeMap<String, String>,
}

/// How the expiry of a session moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionExpiry {
    /// The session expires one lifetime after it was bound.
    Fixed,
    /// The session expires one lifetime after its last validation, with a granularity of a tenth of it or a
    /// minute, whichever is shorter.
    Sliding,
}

/// The outcome of binding a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a session that was not bound is not an error: check the verdict"]
#[non_exhaustive]
pub struct Binding {
    /// [`Verdict::Valid`] if the session is bound; [`Verdict::TenantMismatch`] if another tenant holds it;
    /// otherwise the verdict on the key.
    pub verdict: Verdict,
    /// The session, if it is bound.
    pub session: Option<Session>,
    /// Whether it was bound before this call. After a retry, true may mean that the first attempt bound it.
    pub already_bound: bool,
}

/// A bound session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Session {
    /// The id that the protocol of the calling service assigned.
    pub session_id: String,
    /// The id of the tenant that owns the session.
    pub tenant_id: String,
    /// The public id of the key that opened the session.
    pub key_id: String,
    /// When the session was bound.
    pub created_at: SystemTime,
    /// When the session expires.
    pub expires_at: SystemTime,
    /// How the expiry moves.
    pub expiry: SessionExpiry,
    /// The attributes that the calling service attached.
    pub attributes: BTreeMap<String, String>,
}

/// One page of the sessions of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionPage {
    /// The sessions, newest first.
    pub sessions: Vec<Session>,
    /// The token of the next page; empty on the last page.
    pub next_page_token: String,
}

/// The result of unbinding a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unbinding {
    /// Whether the session was bound until now. After a retry, false may mean that the first attempt unbound it.
    pub was_bound: bool,
    /// The change-log revision that includes the change, for [`Client::wait_for_revision`].
    pub revision: i64,
}

impl BindSession {
    /// Creates a session to bind. The id is 1 to 1,024 visible ASCII characters; the lifetime is 1 s to 30
    /// days.
    #[must_use]
    pub fn new(session_id: impl Into<String>, ttl: Duration) -> Self {
        let session_id = session_id.into();
        Self { session_id, ttl, expiry: SessionExpiry::Fixed, attributes: BTreeMap::new() }
    }

    /// Makes each validation extend the expiry; the lifetime must be at least 60 s.
    #[must_use]
    pub fn sliding(mut self) -> Self {
        self.expiry = SessionExpiry::Sliding;
        self
    }

    /// Attaches an attribute, which is returned with each validation; at most 16 attributes and 2 KiB in
    /// total.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.insert(name.into(), value.into());
        self
    }

    fn into_message(
        self,
        key: &PresentedKey,
        client_address: Option<ClientAddress>,
    ) -> Result<v1::BindSessionRequest, Error> {
        let too_long =
            |_| Error::Setup { message: "ttl: the lifetime of the session is too long".to_owned() };
        let expiry = match self.expiry {
            SessionExpiry::Fixed => v1::SessionExpiry::Fixed,
            SessionExpiry::Sliding => v1::SessionExpiry::Sliding,
        };
        Ok(v1::BindSessionRequest {
            session_id: self.session_id,
            key: key.expose().to_owned(),
            ttl: Some(self.ttl.try_into().map_err(too_long)?),
            expiry: expiry.into(),
            attributes: self.attributes.into_iter().collect(),
            client_address: address_text(client_address),
        })
    }
}

impl Session {
    fn from_wire(message: v1::Session) -> Result<Self, Error> {
        let expiry = match message.expiry() {
            v1::SessionExpiry::Sliding => SessionExpiry::Sliding,
            v1::SessionExpiry::Fixed | v1::SessionExpiry::Unspecified => SessionExpiry::Fixed,
        };
        Ok(Self {
            session_id: message.session_id,
            tenant_id: message.tenant_id,
            key_id: message.key_id,
            created_at: clamped_time(required_field(message.created_at, "created_at")?),
            expires_at: clamped_time(required_field(message.expires_at, "expires_at")?),
            expiry,
            attributes: message.attributes.into_iter().collect(),
        })
    }
}

/// Parses a timestamp of a session. A time that this machine cannot represent becomes the end of the year
/// 9999, the maximum of the service: the session is bound, and one session of a page must not hide the
/// others.
fn clamped_time(message: impl TryInto<SystemTime>) -> SystemTime {
    parse_time(message).unwrap_or(SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799))
}

impl Client {
    /// Binds a session to the tenant of a key. Idempotent for the same tenant; a session never moves to
    /// another tenant.
    ///
    /// # Errors
    /// If nothing could be decided; [`Error::Overloaded`] without a retry time if the tenant has reached its
    /// session limit. A denial is not an error.
    pub async fn bind_session(&self, session: BindSession, key: &PresentedKey) -> Result<Binding, Error> {
        self.rpc().check_open()?;
        check_session_id(&session.session_id)?;
        if key.is_over_max_len() {
            return Ok(Binding { verdict: Verdict::Malformed, session: None, already_bound: false });
        }
        let message = session.into_message(key, self.requirements(&[]).client_address)?;
        let _changing = self.invalidate_session_on_drop(&message.session_id);
        let send =
            async |transport, request| SessionServiceClient::new(transport).bind_session(request).await;
        let reply = self.rpc().call_retried(message, send).await?;
        let verdict = Verdict::from_wire(reply.verdict);
        if verdict.is_valid() && reply.session.is_none() {
            return Err(invalid_reply("the response has no session"));
        }
        let session = reply.session.map(Session::from_wire).transpose()?;
        Ok(Binding { verdict, session, already_bound: reply.already_bound })
    }

    /// Validates one session: first its binding, then the key presented with it, if any, then the key that
    /// opened it, which must hold all of `required_scopes`.
    ///
    /// # Errors
    /// If nothing could be decided. A denial is not an error.
    pub async fn validate_session(
        &self,
        session_id: &str,
        key: Option<&PresentedKey>,
        required_scopes: &[&str],
    ) -> Result<Validation, Error> {
        self.rpc().check_open()?;
        check_session_id(session_id)?;
        if key.is_some_and(PresentedKey::is_over_max_len) {
            return Ok(Validation::malformed(Some(session_id)));
        }
        let key = key.map(PresentedKey::expose);
        let request = |scopes| {
            request_session_validation(
                self.rpc().ignoring_close(),
                validate_session_message(session_id, key, self.requirements(scopes)),
            )
        };
        let Some(handle) = self.cache() else {
            return request(required_scopes).await;
        };
        let cache = handle.cache();
        let tag = cache.session_tag(session_id, key);
        if let Some(validation) = cache.get(tag, self.requirements(required_scopes)) {
            return Ok(validation);
        }
        let validation = self.with_call_timeout(cache.get_or_request(tag, || request(&[]))).await?;
        match apply_requirements(validation, self.requirements(required_scopes)) {
            Some(validation) => Ok(validation),
            None => request(required_scopes).await,
        }
    }

    /// Validates a session as [`Self::validate_session`] does, and returns its principal if it is valid.
    ///
    /// # Errors
    /// [`NotAdmitted::Denied`] for every verdict except [`Verdict::Valid`]; [`NotAdmitted::Undecided`] if
    /// nothing could be decided.
    pub async fn require_session(
        &self,
        session_id: &str,
        key: Option<&PresentedKey>,
        required_scopes: &[&str],
    ) -> Result<Principal, NotAdmitted> {
        Ok(self.validate_session(session_id, key, required_scopes).await?.into_principal()?)
    }

    /// Unbinds a session of a tenant. Idempotent.
    ///
    /// # Errors
    /// If the service did not respond, or rejected a field.
    pub async fn unbind_session(&self, session_id: &str, tenant_id: &str) -> Result<Unbinding, Error> {
        self.rpc().check_open()?;
        check_session_id(session_id)?;
        let message = v1::UnbindSessionRequest {
            session_id: session_id.to_owned(),
            tenant_id: tenant_id.to_owned(),
            reason: String::new(),
        };
        let _changing = self.invalidate_session_on_drop(session_id);
        let send =
            async |transport, request| SessionServiceClient::new(transport).unbind_session(request).await;
        let v1::UnbindSessionResponse { was_bound, revision } =
            self.rpc().call_retried(message, send).await?;
        Ok(Unbinding { was_bound, revision })
    }

    /// Returns a stream of the sessions of a tenant, newest first. Pages are read as items are consumed.
    ///
    /// The stream ends after the first error.
    pub fn list_sessions(
        &self,
        tenant_id: &str,
    ) -> impl Stream<Item = Result<Session, Error>> + Send + Unpin + use<> {
        let (client, tenant_id) = (self.clone(), tenant_id.to_owned());
        let next = move |token: Option<String>| {
            let (client, tenant_id) = (client.clone(), tenant_id.clone());
            async move {
                let Some(token) = token else { return Ok(None) };
                let page = client.list_sessions_page(&tenant_id, MAX_SESSIONS_PER_PAGE, token).await?;
                let token = Some(page.next_page_token).filter(|token| !token.is_empty());
                Ok::<_, Error>(Some((stream::iter(page.sessions.into_iter().map(Ok)), token)))
            }
        };
        Box::pin(stream::try_unfold(Some(String::new()), next).try_flatten())
    }

    /// Returns one page of at most `page_size` (maximum 500) sessions of a tenant; an empty token reads the
    /// first page.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a page token of another list.
    pub async fn list_sessions_page(
        &self,
        tenant_id: &str,
        page_size: usize,
        page_token: String,
    ) -> Result<SessionPage, Error> {
        let message = v1::ListSessionsRequest {
            tenant_id: tenant_id.to_owned(),
            page_size: i32::try_from(page_size.min(MAX_SESSIONS_PER_PAGE)).unwrap_or(i32::MAX),
            page_token,
        };
        let send =
            async |transport, request| SessionServiceClient::new(transport).list_sessions(request).await;
        let reply = self.rpc().call_hedged(message, send).await?;
        let sessions = reply.sessions.into_iter().map(Session::from_wire).collect::<Result<_, _>>()?;
        Ok(SessionPage { sessions, next_page_token: reply.next_page_token })
    }

    fn invalidate_session_on_drop(&self, session_id: &str) -> Option<InvalidationGuard> {
        self.cache()
            .map(|handle| handle.cache().invalidate_on_drop(ChangeSubject::Session(session_id.to_owned())))
    }
}

/// Rejects an id that could make the message too large: the rejection by the service would look like
/// overload.
fn check_session_id(session_id: &str) -> Result<(), Error> {
    if session_id.len() > MAX_SESSION_ID_LEN {
        return Err(Error::invalid_field(
            "session_id",
            &format!("must have at most {MAX_SESSION_ID_LEN} characters"),
        ));
    }
    Ok(())
}

fn validate_session_message(
    session_id: &str,
    key: Option<&str>,
    required: Requirements<'_>,
) -> v1::ValidateSessionRequest {
    v1::ValidateSessionRequest {
        session_id: session_id.to_owned(),
        key: key.unwrap_or_default().to_owned(),
        required_scopes: required.scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        client_address: address_text(required.client_address),
    }
}

async fn request_session_validation(
    rpc: RpcClient,
    message: v1::ValidateSessionRequest,
) -> Result<Validation, Error> {
    let session_id = message.session_id.clone();
    let send =
        async |transport, request| ValidationServiceClient::new(transport).validate_session(request).await;
    Validation::from_session_response(session_id, rpc.call_hedged(message, send).await?)
}
