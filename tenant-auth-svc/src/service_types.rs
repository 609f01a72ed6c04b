//! The concrete types that the service is made of, for `server`, which assembles it, and for `jobs`.

use crate::{
    cache::{
        PendingRead, RecordCache,
        lookup::{KeyLookup, SessionLookup},
    },
    change_feed::poller::FeedPoller,
    database::{
        client::{DatabaseClient, RoutingEngine, write_queue::WriteQueue},
        sql::SqlStore,
    },
    domain::usage::UsageRecorder,
    limit_leases::LimitLeases,
    usage_batcher::UsageBatcher,
};

/// The store that the use cases read and write.
pub type ServiceStore = SqlStore<DatabaseClient>;
/// The key cache.
pub type KeyRecordCache = RecordCache<KeyLookup<ServiceStore>>;
/// A read whose records go into the key cache.
pub type PendingKeyRead = PendingRead;
/// The session cache.
pub type SessionRecordCache = RecordCache<SessionLookup<ServiceStore>>;
/// The caches of records.
pub type AllCaches = (KeyRecordCache, SessionRecordCache);
/// The limits in use, and their leases.
pub type ServiceLimits = LimitLeases<ServiceStore>;
/// What the change feed applies every change to.
pub type FeedTargets = (AllCaches, ServiceLimits);
/// The usage recorder, with batched writes.
pub type ServiceUsageRecorder = UsageRecorder<UsageBatcher, ServiceStore>;
/// A store that also writes to an untrusted database: an operator uses it to accept one.
pub type RecoveryStore = SqlStore<WriteQueue<RoutingEngine>>;
/// The change feed of this replica.
pub type ChangeFeed = FeedPoller<ServiceStore, FeedTargets>;
