//! The client of one address of a peer.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use prost_types::Timestamp;
use tenant_auth_proto::v1::{self, info_service_client::InfoServiceClient};
use tokio::{net::lookup_host, time::timeout};
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, ClientTlsConfig, Endpoint, Error},
};
use zeroize::Zeroizing;

use super::{Replica, Silence, TIMEOUT};
use crate::config::PeerUrl;

/// The caller token for peers, as the metadata has it, or why there is none.
pub(super) type Token = Result<Option<MetadataValue<Ascii>>, String>;

/// The connections to peers: one per address, and per name that it has in its certificate.
#[derive(Debug, Default)]
pub(super) struct Connections(Mutex<HashMap<(String, SocketAddr), Channel>>);

/// Calls a peer at one of its addresses.
#[derive(Clone, Debug)]
pub(in crate::console) struct PeerClient {
    address: SocketAddr,
    client: InfoServiceClient<Channel>,
    token: Token,
}

/// Reads the token. The file is small, and is read only while somebody looks: so a change needs no watching.
pub(super) async fn read_token(file: Option<&Path>) -> Token {
    let Some(file) = file else { return Ok(None) };
    let text = tokio::fs::read_to_string(file).await;
    let text = Zeroizing::new(text.map_err(|error| format!("the token file cannot be read: {error}"))?);
    let bearer = Zeroizing::new(format!("Bearer {}", text.trim()));
    let mut token: MetadataValue<Ascii> =
        bearer.parse().map_err(|_| "the token file contains no token".to_owned())?;
    token.set_sensitive(true);
    Ok(Some(token))
}

/// The URL, for people.
pub(super) fn url(peer: &PeerUrl) -> String {
    let scheme = if peer.is_encrypted { "https" } else { "http" };
    format!("{scheme}://{}", authority(peer))
}

fn authority(peer: &PeerUrl) -> String {
    match peer.host.contains(':') {
        true => format!("[{}]:{}", peer.host, peer.port),
        false => format!("{}:{}", peer.host, peer.port),
    }
}

/// The milliseconds since 1970 of a time.
pub(super) fn millis(at: &Timestamp) -> i64 {
    at.seconds.saturating_mul(1_000).saturating_add(i64::from(at.nanos / 1_000_000))
}

/// Finds the addresses of a peer. A peer without one is a replica that does not answer.
pub(super) async fn find(
    peer: &PeerUrl,
    connections: &Connections,
    token: &Token,
) -> Vec<Result<PeerClient, Replica>> {
    let unknown = |why| vec![Err(Replica::without_address(peer, Silence::Failed(why)))];
    let addresses: HashSet<_> = match timeout(TIMEOUT, lookup_host((&*peer.host, peer.port))).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return unknown(format!("the name has no address: {error}")),
        Err(_) => return unknown("the name was not resolved within 1 s".to_owned()),
    };
    if addresses.is_empty() {
        return unknown("the name has no address".to_owned());
    }
    let mut clients = Vec::with_capacity(addresses.len());
    for address in addresses {
        let client = match connections.channel(peer, address).await {
            Ok(channel) => {
                let client = InfoServiceClient::new(channel);
                Ok(PeerClient { address, client, token: token.clone() })
            }
            Err(error) => Err(Replica {
                address: address.to_string(),
                ..Replica::without_address(peer, Silence::Failed(error.to_string()))
            }),
        };
        clients.push(client);
    }
    clients
}

impl Connections {
    async fn channel(&self, peer: &PeerUrl, address: SocketAddr) -> Result<Channel, Error> {
        let place = (url(peer), address);
        let known = |places: &HashMap<_, Channel>| places.get(&place).cloned();
        if let Some(channel) = known(&self.0.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(channel);
        }
        let channel = endpoint(peer.clone(), address).await?.connect_lazy();
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(places.entry(place).or_insert(channel).clone())
    }
}

async fn endpoint(peer: PeerUrl, address: SocketAddr) -> Result<Endpoint, Error> {
    let scheme = if peer.is_encrypted { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))?.connect_timeout(TIMEOUT);
    if let Ok(origin) = url(&peer).parse() {
        endpoint = endpoint.origin(origin);
    }
    if !peer.is_encrypted {
        return Ok(endpoint);
    }
    // Reads the root certificates of the operating system from many files.
    let tls = ClientTlsConfig::new().with_native_roots().domain_name(peer.host);
    let plain = endpoint.clone();
    let encrypted = tokio::task::spawn_blocking(move || endpoint.tls_config(tls)).await;
    // Without a result the runtime stops, and nobody reads what follows.
    encrypted.unwrap_or(Ok(plain))
}

impl PeerClient {
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks what the replica says about itself.
    pub(super) async fn describe(&self) -> Result<v1::GetServerInfoResponse, String> {
        let request = self.request(v1::GetServerInfoRequest {}, TIMEOUT)?;
        let mut client = self.client.clone();
        within(TIMEOUT, client.get_server_info(request)).await
    }

    /// Waits until the replica has applied a revision, and returns whether it has.
    pub(in crate::console) async fn wait_for(&self, revision: i64, wait: Duration) -> Result<bool, String> {
        let message =
            v1::WaitForRevisionRequest { revision, timeout: prost_types::Duration::try_from(wait).ok() };
        let request = self.request(message, wait + TIMEOUT)?;
        let mut client = self.client.clone();
        let answer = within(wait + TIMEOUT, client.wait_for_revision(request)).await?;
        Ok(answer.applied)
    }

    fn request<T>(&self, message: T, time: Duration) -> Result<Request<T>, String> {
        let mut request = Request::new(message);
        request.set_timeout(time);
        if let Some(token) = self.token.clone()? {
            request.metadata_mut().insert("authorization", token);
        }
        Ok(request)
    }
}

async fn within<T>(
    time: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, String> {
    match timeout(time, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(error)) => Err(reason(&error)),
        Err(_) => Err(no_answer()),
    }
}

fn no_answer() -> String {
    format!("no answer within {} s", TIMEOUT.as_secs())
}

/// Why a call has failed, for people. The messages of the transport say less.
fn reason(error: &Status) -> String {
    match error.code() {
        Code::Unauthenticated => "it refuses the token of TENANT_AUTH_CONSOLE_PEERS_TOKEN_FILE".to_owned(),
        Code::DeadlineExceeded | Code::Cancelled => no_answer(),
        Code::Unavailable if std::error::Error::source(error).is_some() => {
            let mut cause: &dyn std::error::Error = error;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            format!("no connection: {cause}")
        }
        _ => error.message().to_owned(),
    }
}
