#![doc = include_str!("../README.md")]

mod admin;
mod builder;
mod call;
mod client;
mod clock;
mod denied;
mod error;
mod guard;
mod info;
mod key;
mod key_query;
mod layer;
mod limits;
#[cfg(feature = "mcp")]
mod mcp;
mod near;
mod network;
mod options;
mod principal;
mod principal_token;
mod recorder;
mod session;
mod stream;
mod tls;
mod transport;
mod usage;
mod validation;
mod verdict;

/// The generated messages of the contract, used by [`AdminClient`] and the usage calls.
pub use tenant_auth_proto::v1 as proto;
/// The status code in [`Error::Other`].
pub use tonic::Code;

#[cfg(feature = "mcp")]
pub use self::mcp::{
    HandleError, McpBody, McpHandles, McpLayer, McpLayerBuilder, McpPolicy, McpRequestBody, McpRule,
    McpService,
};
pub use self::{
    admin::{AdminClient, ImportedKey, IssuedKey, RotatedKey},
    builder::ClientBuilder,
    client::Client,
    clock::Clock,
    denied::{Denied, NotAdmitted},
    error::{Error, Violation},
    guard::{Ended, Guard, GuardedGrpc, GuardedSse, GuardedStream},
    info::{DatabaseKind, ServerInfo},
    key::PresentedKey,
    key_query::KeyQuery,
    layer::{Authenticate, AuthenticateLayer, AuthenticatedBody, VerifyPrincipal, VerifyPrincipalLayer},
    limits::{
        ConsumeAnswer, ConsumeAnswers, ConsumeRequest, Consumption, Cost, DecidedBy, LimitCredential,
        LimitDecision, LimitOwner, Limits, LocalLimiter, OnExpiry, Reservation, ReservationState,
        ReserveOutcome, ReserveRequest, SessionQuery, SettledLimit, Settlement,
    },
    near::{NearCache, WatchState},
    network::{ClientAddress, InvalidAddress},
    principal::{Principal, Subject},
    principal_token::{PrincipalRejected, PrincipalVerifier, VerifiedPrincipal},
    recorder::{NotRecorded, RecorderSettings, UnsentUsage, UsageRecorder},
    session::{BindSession, Binding, Session, SessionExpiry, SessionPage, Unbinding},
    stream::{Answer, Answers},
    tls::Tls,
    transport::{CallerToken, Transport},
    usage::RecordedUsage,
    validation::{Provenance, Source, Validation},
    verdict::Verdict,
};
