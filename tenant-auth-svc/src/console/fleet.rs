//! The replicas: this one, and its peers, which are asked only while somebody looks.

mod peer;
mod table;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use futures::future::join_all;
use tenant_auth_proto::v1;
use tokio::time::timeout;

use self::peer::{Connections, PeerClient};
pub(super) use self::table::table;
use super::{
    person::Person,
    rpc::{PersonalRpc, call},
};
use crate::{
    config::PeerUrl,
    domain::clock::{SharedClock, UnixMillis},
};

/// How long a peer may take to answer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// For how long answers count as those of now. All who look share them.
const FRESH: Duration = Duration::from_secs(1);
/// For how long answers are better than none, where nobody waits for new ones.
const USABLE: Duration = Duration::from_secs(10);
/// The maximum number of addresses that are asked.
const MAX_ADDRESSES: usize = 64;

/// A replica, and what it says about itself.
#[derive(Clone, Debug)]
pub(super) struct Replica {
    /// Its address, or the URL of a name that has none; empty for this replica if it is not among its peers.
    pub(super) address: String,
    /// Whether it is the replica of this console.
    pub(super) is_this: bool,
    /// What it says about itself, or why that is unknown.
    pub(super) answer: Result<Box<Description>, Silence>,
    /// `None` for a name without addresses.
    pub(super) contact: Option<Contact>,
}

/// What a replica says about itself.
#[derive(Clone, Debug)]
pub(super) struct Description {
    pub(super) info: v1::GetServerInfoResponse,
    /// Its clock minus that of this replica, in milliseconds. The way of the answer takes a part of it.
    pub(super) clock_offset: i64,
}

/// Why it is unknown what a replica says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// It is being asked.
    Asked,
    /// It has not answered, for this reason.
    Failed(String),
}

/// How a replica is called.
#[derive(Clone, Debug)]
pub(super) enum Contact {
    This(PersonalRpc),
    Peer(PeerClient),
}

/// The peers of this replica.
pub(super) struct Fleet {
    peers: Vec<PeerUrl>,
    token_file: Option<PathBuf>,
    clock: SharedClock,
    /// Open while somebody looks.
    connections: Mutex<Weak<Connections>>,
    /// Held while peers are asked, so that they are asked once for all who look.
    asking: tokio::sync::Mutex<()>,
    last: Mutex<Option<(Instant, Arc<[Replica]>)>>,
}

/// Keeps the connections to the peers open.
#[derive(Debug)]
pub(super) struct Watching {
    _connections: Arc<Connections>,
}

impl Fleet {
    pub(super) fn new(peers: Vec<PeerUrl>, token_file: Option<PathBuf>, clock: SharedClock) -> Arc<Self> {
        let (connections, asking, last) = Default::default();
        Arc::new(Self { peers, token_file, clock, connections, asking, last })
    }

    /// Keeps connections open for the asks to come.
    pub(super) fn watch(&self) -> Watching {
        Watching { _connections: self.connections() }
    }

    /// Asks all replicas.
    pub(super) async fn ask(&self, person: &Person) -> Vec<Replica> {
        let (this, peers) = tokio::join!(self.ask_this(person), self.ask_peers());
        merge(this, &peers)
    }

    /// Asks all replicas and waits a moment; peers that are slower are shown as asked. Their answers are kept for the next look.
    pub(super) async fn look(self: &Arc<Self>, person: &Person, patience: Duration) -> Vec<Replica> {
        let fleet = Arc::clone(self);
        let asking = tokio::spawn(async move { fleet.ask_peers().await });
        let (this, peers) = tokio::join!(self.ask_this(person), timeout(patience, asking));
        let peers = match peers {
            Ok(Ok(peers)) => peers,
            Ok(Err(_)) | Err(_) => self.remembered(),
        };
        merge(this, &peers)
    }

    /// The last answers, or that peers are being asked.
    fn remembered(&self) -> Arc<[Replica]> {
        self.answered_within(USABLE).unwrap_or_else(|| {
            let asked = |peer| Replica::without_address(peer, Silence::Asked);
            self.peers.iter().map(asked).collect()
        })
    }

    fn answered_within(&self, age: Duration) -> Option<Arc<[Replica]>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|(at, _)| at.elapsed() < age).map(|(_, peers)| Arc::clone(peers))
    }

    async fn ask_this(&self, person: &Person) -> Replica {
        let mut client = person.rpc.info();
        let answer = client.get_server_info(call(v1::GetServerInfoRequest {})).await;
        let answer = match answer {
            Ok(info) => Ok(Box::new(Description { info: info.into_inner(), clock_offset: 0 })),
            Err(error) => Err(Silence::Failed(error.message().to_owned())),
        };
        Replica {
            address: String::new(),
            is_this: true,
            answer,
            contact: Some(Contact::This(person.rpc.clone())),
        }
    }

    async fn ask_peers(&self) -> Arc<[Replica]> {
        let _asking = self.asking.lock().await;
        if let Some(peers) = self.answered_within(FRESH) {
            return peers;
        }
        let connections = self.connections();
        let token = peer::read_token(self.token_file.as_deref()).await;
        let found = join_all(self.peers.iter().map(|peer| peer::find(peer, &connections, &token))).await;
        let asked = found.into_iter().flatten().take(MAX_ADDRESSES).map(async |found| match found {
            Ok(client) => self.ask_peer(client).await,
            Err(unknown) => unknown,
        });
        let mut peers = join_all(asked).await;
        peers.sort_by(|one, other| one.address.cmp(&other.address));
        peers.dedup_by(|one, other| one.address == other.address);
        let peers: Arc<[Replica]> = peers.into();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Instant::now(), Arc::clone(&peers)));
        peers
    }

    async fn ask_peer(&self, client: PeerClient) -> Replica {
        let sent_at = self.clock.now();
        let answer = client.describe().await;
        let between = UnixMillis((sent_at.0 + self.clock.now().0) / 2);
        let answer = match answer {
            Ok(info) => {
                let clock_offset = info.now.as_ref().map_or(0, |now| peer::millis(now) - between.0);
                Ok(Box::new(Description { info, clock_offset }))
            }
            Err(why) => Err(Silence::Failed(why)),
        };
        let address = client.address().to_string();
        Replica { address, is_this: false, answer, contact: Some(Contact::Peer(client)) }
    }

    fn connections(&self) -> Arc<Connections> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.upgrade().unwrap_or_else(|| {
            let new = Arc::new(Connections::default());
            *connections = Arc::downgrade(&new);
            new
        })
    }
}

impl Replica {
    /// A name whose addresses are not known.
    fn without_address(peer: &PeerUrl, why: Silence) -> Self {
        Self { address: peer::url(peer), is_this: false, answer: Err(why), contact: None }
    }

    fn instance(&self) -> Option<&str> {
        self.answer.as_ref().ok().map(|described| &*described.info.instance).filter(|id| !id.is_empty())
    }

    /// The name for people.
    pub(super) fn name(&self) -> &str {
        if self.address.is_empty() { "this replica" } else { &self.address }
    }
}

/// This replica first. A name that stands for all replicas stands for this one, too: it is listed once.
fn merge(mut this: Replica, peers: &[Replica]) -> Vec<Replica> {
    let is_this = |peer: &&Replica| this.instance().is_some() && peer.instance() == this.instance();
    let (same, others): (Vec<_>, Vec<_>) = peers.iter().partition(is_this);
    this.address = same.first().map(|same| same.address.clone()).unwrap_or_default();
    std::iter::once(this).chain(others.into_iter().cloned()).collect()
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").field("peers", &self.peers).finish_non_exhaustive()
    }
}

impl Description {
    /// The revision up to which it has applied all changes.
    pub(super) fn applied_revision(&self) -> i64 {
        self.info.replica.as_ref().map_or(0, |replica| replica.applied_revision)
    }
}

impl Contact {
    /// Waits until the replica has applied a revision, and returns whether it has, or why that is unknown.
    pub(super) async fn wait_for(&self, revision: i64, wait: Duration) -> Result<bool, String> {
        match self {
            Self::Peer(client) => client.wait_for(revision, wait).await,
            Self::This(rpc) => {
                let timeout = prost_types::Duration::try_from(wait).ok();
                let mut request = tonic::Request::new(v1::WaitForRevisionRequest { revision, timeout });
                request.set_timeout(wait + TIMEOUT);
                let answer = rpc.info().wait_for_revision(request).await;
                answer.map(|answer| answer.into_inner().applied).map_err(|error| error.message().to_owned())
            }
        }
    }
}
