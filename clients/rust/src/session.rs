//! Sessions: an MCP or CLI session id, bound to a tenant through the key that opened it.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use futures::{Stream, TryStreamExt as _, stream};
use tenant_auth_proto::v1::{
    self, session_service_client::SessionServiceClient, validation_service_client::ValidationServiceClient,
};

use crate::{
    Client, Error, NotAdmitted, PresentedKey, Principal, Validation, Verdict,
    call::{RpcClient, invalid_reply, parse_time, required_field},
    near::{ChangeSubject, InvalidationGuard, apply_required_scopes},
};

/// What the service gives at most on one page.
const MAX_SESSIONS_PER_PAGE: usize = 500;
/// The contract's longest id of a session.
const MAX_SESSION_ID_LEN: usize = 128;

/// A session to bind.
#[derive(Clone, Debug)]
pub struct BindSession {
    session_id: String,
    ttl: Duration,
    expiry: SessionExpiry,
    attributes: BTreeMap<String, String>,
}

/// How a session's end moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionExpiry {
    /// Ends its lifetime after it was bound.
    Fixed,
    /// Ends its lifetime after it was last validated, to a tenth of it or a minute, whichever is shorter.
    Sliding,
}

/// The outcome of a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a session that was not bound is an answer, too: look at the verdict"]
#[non_exhaustive]
pub struct Binding {
    /// [`Verdict::Valid`] when bound; [`Verdict::TenantMismatch`] when another tenant holds it; else the verdict on the
    /// key.
    pub verdict: Verdict,
    /// The session, when it is bound.
    pub session: Option<Session>,
    /// Whether it was bound before this call. After a retry, true may mean that the first attempt bound it.
    pub already_bound: bool,
}

/// A bound session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Session {
    /// The id the caller's protocol gave it.
    pub session_id: String,
    /// The tenant it belongs to.
    pub tenant_id: String,
    /// The public id of the key that opened it.
    pub key_id: String,
    /// When it was bound.
    pub created_at: SystemTime,
    /// When it ends by itself.
    pub expires_at: SystemTime,
    /// How that end moves.
    pub expiry: SessionExpiry,
    /// What the caller attached.
    pub attributes: BTreeMap<String, String>,
}

/// A page of a tenant's sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionPage {
    /// Newest first.
    pub sessions: Vec<Session>,
    /// For the next page; empty on the last.
    pub next_page_token: String,
}

impl BindSession {
    /// A session of 1 to 128 visible ASCII characters that lives for 1 s to 30 days.
    #[must_use]
    pub fn new(session_id: impl Into<String>, ttl: Duration) -> Self {
        let session_id = session_id.into();
        Self { session_id, ttl, expiry: SessionExpiry::Fixed, attributes: BTreeMap::new() }
    }

    /// Lets each validation move the end; the lifetime must be 60 s at least.
    #[must_use]
    pub fn sliding(mut self) -> Self {
        self.expiry = SessionExpiry::Sliding;
        self
    }

    /// Attaches something to be handed back at validation; at most 16 entries and 2 KiB together.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.insert(name.into(), value.into());
        self
    }

    fn to_message(self, key: &PresentedKey) -> Result<v1::BindSessionRequest, Error> {
        let too_long = |_| Error::Setup { message: "the session's lifetime is too long".to_owned() };
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
            created_at: clamped_time(required_field(message.created_at, "time of the binding")?),
            expires_at: clamped_time(required_field(message.expires_at, "end of the session")?),
            expiry,
            attributes: message.attributes.into_iter().collect(),
        })
    }
}

/// A moment of a session. One that this machine cannot have is taken for the end of the year 9999, after which the service has
/// none: the session is bound, and one session of a page does not hide the others.
fn clamped_time(message: impl TryInto<SystemTime>) -> SystemTime {
    parse_time(message).unwrap_or(SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799))
}

impl Client {
    /// Binds a session to the tenant of a key. Idempotent for the same tenant; never moves a session to another.
    ///
    /// # Errors
    /// When nothing could be decided; [`Error::Overloaded`] without a time to retry when the tenant has as many
    /// sessions as it may have. A denial is not an error.
    pub async fn bind_session(&self, session: BindSession, key: &PresentedKey) -> Result<Binding, Error> {
        self.rpc().check_open()?;
        check_session_id(&session.session_id)?;
        if key.is_over_max_len() {
            return Ok(Binding { verdict: Verdict::Malformed, session: None, already_bound: false });
        }
        let message = session.to_message(key)?;
        let _changing = self.invalidate_session_on_drop(&message.session_id);
        let send =
            async |transport, request| SessionServiceClient::new(transport).bind_session(request).await;
        let reply = self.rpc().call_retried(message, send).await?;
        let verdict = Verdict::from_wire(reply.verdict);
        if verdict.is_valid() && reply.session.is_none() {
            return Err(invalid_reply("the reply holds no session"));
        }
        let session = reply.session.map(Session::from_wire).transpose()?;
        Ok(Binding { verdict, session, already_bound: reply.already_bound })
    }

    /// Decides about one session: about its binding first, then about the key presented along with it, if any, then
    /// about the key that opened it, which must hold all of `required_scopes`.
    ///
    /// # Errors
    /// When nothing could be decided. A denial is not an error.
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
        let question = |scopes| {
            request_session_validation(
                self.rpc().ignoring_close(),
                validate_session_message(session_id, key, scopes),
            )
        };
        let Some(memory) = self.cache() else {
            return question(required_scopes).await;
        };
        let near = memory.cache();
        let tag = near.session_tag(session_id, key);
        if let Some(validation) = near.get(tag, required_scopes) {
            return Ok(validation);
        }
        let validation = self.with_call_timeout(near.get_or_request(tag, || question(&[]))).await?;
        match apply_required_scopes(validation, required_scopes) {
            Some(validation) => Ok(validation),
            None => question(required_scopes).await,
        }
    }

    /// Lets a session in, by the same questions as [`Self::validate_session`], and nobody else.
    ///
    /// # Errors
    /// [`NotAdmitted::Denied`] with every verdict but [`Verdict::Valid`]; [`NotAdmitted::Undecided`] when nothing could
    /// be decided.
    pub async fn require_session(
        &self,
        session_id: &str,
        key: Option<&PresentedKey>,
        required_scopes: &[&str],
    ) -> Result<Principal, NotAdmitted> {
        Ok(self.validate_session(session_id, key, required_scopes).await?.into_principal()?)
    }

    /// Ends a session of a tenant. Idempotent. Says whether it was bound until now; after a retry, false may mean that
    /// the first attempt ended it.
    ///
    /// # Errors
    /// When the service did not answer, or found a field invalid.
    pub async fn unbind_session(&self, session_id: &str, tenant_id: &str) -> Result<bool, Error> {
        self.rpc().check_open()?;
        check_session_id(session_id)?;
        let message =
            v1::UnbindSessionRequest { session_id: session_id.to_owned(), tenant_id: tenant_id.to_owned() };
        let _changing = self.invalidate_session_on_drop(session_id);
        let send =
            async |transport, request| SessionServiceClient::new(transport).unbind_session(request).await;
        Ok(self.rpc().call_retried(message, send).await?.was_bound)
    }

    /// A tenant's sessions, newest first, read page by page as they are taken.
    ///
    /// Ends after the first error.
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

    /// One page of at most `page_size` (500 at most) of a tenant's sessions; an empty token is the first page.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a token of another list.
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
            .map(|memory| memory.cache().invalidate_on_drop(ChangeSubject::Session(session_id.to_owned())))
    }
}

/// Refuses what could make a message too large, which looks as if the service had too much to do.
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
    required_scopes: &[&str],
) -> v1::ValidateSessionRequest {
    v1::ValidateSessionRequest {
        session_id: session_id.to_owned(),
        key: key.unwrap_or_default().to_owned(),
        required_scopes: required_scopes.iter().map(|scope| (*scope).to_owned()).collect(),
    }
}

async fn request_session_validation(
    caller: RpcClient,
    message: v1::ValidateSessionRequest,
) -> Result<Validation, Error> {
    let session_id = message.session_id.clone();
    let send =
        async |transport, request| ValidationServiceClient::new(transport).validate_session(request).await;
    Validation::from_session_response(session_id, caller.call_hedged(message, send).await?)
}
