//! What a replica and the database tell each other about leases.

use std::{future::Future, time::Duration};

use super::{LimitName, LimitSubject};
use crate::domain::{
    clock::UnixMillis,
    id::{KeyId, TenantId},
    store::{Call, StoreError},
    usage::UsageMetric,
};

/// What is counted together: a limit of a tenant, or of one key, of one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CounterKey {
    /// The tenant.
    pub tenant_id: TenantId,
    /// The key, for a limit of a key.
    pub key_id: Option<KeyId>,
    /// The name of the limit.
    pub name: LimitName,
    /// The kind of the limit: see [`LimitRule::kind`](super::LimitRule::kind).
    pub kind: Box<str>,
}

/// One replica, from its start to its end: a name that no other one has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderId(Box<str>);

impl HolderId {
    /// Draws an id.
    #[must_use]
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().simple().to_string().into())
    }

    /// Returns the id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a replica says about one window of a counter, and what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRequest {
    /// The counter.
    pub counter: CounterKey,
    /// Whose limit it is, and its version: nothing is granted from another one.
    pub limit: (LimitSubject, i64),
    /// The start of the window of the lease; `None` for the current window.
    pub window_start: Option<UnixMillis>,
    /// What was taken from the lease since the last exchange.
    pub used: u64,
    /// What is given back.
    pub returned: u64,
    /// What stays in the lease.
    pub held: u64,
    /// Time since the last use.
    pub idle: Duration,
    /// What callers are waiting for.
    pub need: u64,
    /// What is wanted in advance: at most a quarter of what is left is granted.
    pub want: u64,
    /// The number of this exchange of the counter: a repeated one has no effect.
    pub seq: i64,
    /// The latest state of the counter that this replica knows: a database that was restored is brought up to it.
    pub seen: Option<SeenCounter>,
    /// How long the replica may use the lease without an exchange.
    pub ttl: Duration,
}

/// The state of a counter as a replica has seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenCounter {
    /// The start of the window.
    pub window_start: UnixMillis,
    /// Rises with each change of the counter.
    pub version: i64,
    /// What was counted then.
    pub counted: i64,
}

/// The response of the database to a [`LeaseRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseGrant {
    /// What was granted; it is counted.
    pub granted: u64,
    /// The end of the window in which the lease may be used.
    pub window_end: UnixMillis,
    /// The window, and the state of the counter now.
    pub seen: SeenCounter,
    /// What other replicas hold.
    pub others: u64,
    /// What nobody holds.
    pub left: i64,
    /// The start of the oldest bucket of a rolling window in which something is counted.
    pub oldest_bucket: Option<UnixMillis>,
    /// Whether the limit is the one that was named. If not, the replica knows an old one.
    pub is_current: bool,
    /// All credits that were ever added.
    pub credited: i64,
}

/// An id that counts once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLimitId {
    /// The id, with what it is for and its caller.
    pub id: String,
    /// A hash of what it is for: a repeated id must have the same.
    pub fingerprint: [u8; 32],
}

/// What is known about an id after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitIdOutcome {
    /// This exchange has recorded it.
    New,
    /// It was recorded before, with the same fingerprint.
    Repeated,
    /// It was recorded before for something else.
    Conflict,
}

/// One limit of a new reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservedLimit {
    /// The counter; its amount comes from the lease.
    pub counter: CounterKey,
    /// The metric.
    pub metric: UsageMetric,
    /// Whose limit it is.
    pub subject: LimitSubject,
    /// The window that it is counted in.
    pub window_start: UnixMillis,
    /// The amount.
    pub amount: u64,
}

/// A reservation to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewReservation {
    /// Its id, as in [`NewLimitId`]; the reservation is stored if that id is new.
    pub id: String,
    /// When it ends by itself.
    pub expires_in: Duration,
    /// Whether the amounts count as used then.
    pub charge_on_expiry: bool,
    /// Its limits.
    pub limits: Vec<ReservedLimit>,
}

/// How a reservation is ended by its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReservationEnd {
    /// With the actual amounts of some metrics; the others count as reserved.
    Settle(Vec<(UsageMetric, u64)>),
    /// All amounts are given back.
    Cancel,
}

/// The state of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservationState {
    /// The amounts are set aside.
    Held,
    /// The actual amounts are counted.
    Settled,
    /// The amounts were given back.
    Cancelled,
    /// It ended by itself.
    Expired,
}

impl ReservationState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Held, Self::Settled, Self::Cancelled, Self::Expired];

    /// Returns the name, as stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Settled => "settled",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

/// One limit of a reservation that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettledLimit {
    /// The name of the limit.
    pub name: LimitName,
    /// The metric.
    pub metric: UsageMetric,
    /// What was reserved.
    pub reserved: u64,
    /// What counts.
    pub charged: u64,
    /// The part of the actual amount for which nothing was left.
    pub exceeded_by: u64,
}

/// A reservation after an exchange that tried to end it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedReservation {
    /// Its state.
    pub state: ReservationState,
    /// Its limits.
    pub limits: Vec<SettledLimit>,
    /// Whether it had ended before this exchange.
    pub ended_before: bool,
}

/// Everything that a replica says to the database in one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// Identifies the exchange: a repeated one recognises what it did.
    pub id: i64,
    /// The latest exchange of any replica that this replica knows: a database that does not know it was rolled back.
    pub known_log: i64,
    /// Whether it was sent before and its outcome is unknown.
    pub is_repeated: bool,
    /// Leases.
    pub leases: Vec<LeaseRequest>,
    /// Ids that count once.
    pub ids: Vec<NewLimitId>,
    /// Reservations; the ids are also in `ids`.
    pub reservations: Vec<NewReservation>,
    /// Ends of reservations.
    pub ends: Vec<(String, ReservationEnd)>,
}

impl Exchange {
    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty() && self.ids.is_empty() && self.ends.is_empty()
    }
}

/// The response to an [`Exchange`]: one entry for each of its parts, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExchangeResponse {
    /// The number of this exchange among those of all replicas.
    pub log: i64,
    /// The database's clock.
    pub now: UnixMillis,
    /// Grants; `None` for a counter that does not exist, because its limit or its tenant does not.
    pub grants: Vec<Option<LeaseGrant>>,
    /// Ids.
    pub ids: Vec<LimitIdOutcome>,
    /// Ended reservations; `None` for one that does not exist.
    pub ends: Vec<Option<EndedReservation>>,
}

/// The database, as leases need it.
pub trait LeaseStore: Send + Sync + 'static {
    /// Runs an exchange as one transaction. A repeated exchange has no further effect.
    ///
    /// Fails with [`StoreError`] when the database returns no complete response; the exchange may have taken effect.
    fn exchange(
        &self,
        call: Call,
        holder: &HolderId,
        exchange: &Exchange,
    ) -> impl Future<Output = Result<ExchangeResponse, StoreError>> + Send;

    /// Looks an id up that may have been recorded; `None` if it was not.
    fn find_limit_id(
        &self,
        call: Call,
        id: &NewLimitId,
    ) -> impl Future<Output = Result<Option<LimitIdOutcome>, StoreError>> + Send;

    /// Ends reservations and leases that have expired, and deletes windows, reservations and ids that are too old to matter: at
    /// most `limit` of each. Returns whether there are more.
    fn sweep_limits(&self, call: Call, limit: usize)
    -> impl Future<Output = Result<bool, StoreError>> + Send;
}
