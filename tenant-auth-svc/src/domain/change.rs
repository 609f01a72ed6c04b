//! Changes to keys, tenants and sessions, and the interfaces by which caches apply them.

use std::{collections::HashMap, fmt::Debug, sync::Arc};

use super::{
    clock::UnixMillis,
    id::{KeyId, PackedKeyId, TenantId},
    scope::ScopeSet,
    session::SessionId,
    store::StoredDigest,
    tenant::TenantSnapshot,
    verdict::Revision,
};

/// The kind of change of a key, a tenant or a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It changed in a way that only the database shows.
    Changed,
    /// The key was revoked at this time. It stays denied even while the database does not respond.
    Revoked(UnixMillis),
    /// The key was disabled. It stays denied even while the database does not respond.
    Disabled,
    /// The tenant was suspended. Its keys and sessions stay denied even while the database does not respond.
    Suspended,
    /// The session was unbound. It stays denied even while the database does not respond.
    Unbound,
}

/// A change of the limits of a tenant. The greater one includes the lesser one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LimitChange {
    /// A replica lacks what others hold in leases.
    LeaseWanted,
    /// A limit was set or deleted, or credits were added.
    Definition,
}

/// A change event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeEvent {
    /// The kind of change.
    pub kind: ChangeKind,
    /// The position of the change in the log: a result that was read at or after it reflects the change.
    /// `None` for a change by this replica whose outcome is unknown: any read that started before the event
    /// may lack it.
    pub revision: Option<Revision>,
}

/// One value for each of several keys, tenants and sessions.
#[derive(Clone, Debug)]
pub struct PerSubject<T> {
    /// For keys, and so for the sessions that they opened.
    pub keys: HashMap<KeyId, T>,
    /// For tenants, and so for all their keys and sessions.
    pub tenants: HashMap<TenantId, T>,
    /// For sessions.
    pub sessions: HashMap<SessionId, T>,
    /// The tenants whose limits have changed; `None` for all tenants. No record depends on them.
    pub limits: HashMap<Option<TenantId>, LimitChange>,
}

impl<T> Default for PerSubject<T> {
    fn default() -> Self {
        Self {
            keys: HashMap::new(),
            tenants: HashMap::new(),
            sessions: HashMap::new(),
            limits: HashMap::new(),
        }
    }
}

impl<T> PerSubject<T> {
    /// Creates a set with a value for one key.
    pub fn for_key(id: &KeyId, value: T) -> Self {
        Self { keys: HashMap::from([(id.clone(), value)]), ..Self::default() }
    }

    /// Creates a set with a value for one tenant.
    pub fn for_tenant(id: &TenantId, value: T) -> Self {
        Self { tenants: HashMap::from([(id.clone(), value)]), ..Self::default() }
    }

    /// Creates a set with a value for one session.
    pub fn for_session(id: &SessionId, value: T) -> Self {
        Self { sessions: HashMap::from([(id.clone(), value)]), ..Self::default() }
    }

    /// Returns the number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len() + self.tenants.len() + self.sessions.len() + self.limits.len()
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a record has in common with others, and the subjects that it depends on besides itself.
#[derive(Debug)]
pub struct SharedParts<'a> {
    /// Its tenant.
    pub tenant: &'a mut Arc<TenantSnapshot>,
    /// The scopes.
    pub scopes: &'a mut Arc<ScopeSet>,
    /// The key that opened it, if it is a session.
    pub opened_by: Option<&'a PackedKeyId>,
}

/// A record that a verdict depends on, as of one read.
pub trait CacheableRecord: Clone + Debug + Send + Sync + 'static {
    /// The id that the record is looked up by.
    type Id;

    /// Returns the approximate memory that the record takes, in bytes, including everything it owns.
    fn size_bytes(&self) -> usize;

    /// Returns the memory that an id owns on the heap, in bytes.
    fn id_heap_bytes(id: &Self::Id) -> usize;

    /// Returns the values for subjects that this record depends on.
    fn dependency_values<'m, T>(&self, values: &'m PerSubject<T>) -> impl Iterator<Item = &'m T>;

    /// Whether records of this kind have a [`public_id`](Self::public_id).
    const HAS_PUBLIC_ID: bool;

    /// Returns the id by which changes name this record, if that is not the id that it is looked up by.
    fn public_id(&self) -> Option<&PackedKeyId>;

    /// Returns the id that stands for a digest in the database until the record's own is known; `None` if such records
    /// are not preloaded.
    fn id_of_digest(digest: StoredDigest) -> Option<Self::Id>;

    /// Returns what it has in common with other records.
    fn shared_parts(&mut self) -> SharedParts<'_>;

    /// Returns the values for records of this kind by public id: their lookup ids are unknown.
    fn values_by_public_id<T>(values: &PerSubject<T>) -> impl Iterator<Item = (&KeyId, &T)>;

    /// Returns the values for records of this kind, by lookup id.
    fn values_by_id<T>(values: &PerSubject<T>) -> impl Iterator<Item = (&Self::Id, &T)>;

    /// Returns the value for the record with an id, if the values are indexed by it.
    fn value_for_id<'m, T>(id: &Self::Id, values: &'m PerSubject<T>) -> Option<&'m T>;

    /// Whether the record itself shows a revocation. [`ChangeKind::Changed`] counts as shown.
    fn reflects(&self, kind: ChangeKind) -> bool;

    /// Writes a revocation into the record. [`ChangeKind::Changed`] has no effect.
    fn apply_revocation(&mut self, kind: ChangeKind);
}

/// A cache that can be invalidated.
///
/// A pair of such caches is one, too.
pub trait Invalidate: Send + Sync + 'static {
    /// Applies changes: no entry that they contradict is served after this call.
    fn apply(&self, changes: &PerSubject<ChangeEvent>);

    /// Requires revalidation of all entries before they are served, because the change log has a gap or is a
    /// different one. While the database does not respond, they may still be served as stale.
    fn require_revalidation(&self);

    /// Enforces known revocations that the database may lack from now on because it was restored from an
    /// older backup. They apply until the database reports a change of the same subject.
    fn retain_revocations(&self, revocations: &PerSubject<ChangeEvent>);
}

/// A cache that has negative entries.
pub trait InvalidateNegative<I>: Send + Sync + 'static {
    /// Invalidates the negative entries of ids that may have been created; at `revision` of the log, if that
    /// is known. Then older results for these ids are not used.
    fn invalidate_negative(&self, ids: &[I], revision: Option<Revision>);
}

/// A cache that accepts this replica's own writes. They are newer than the results of a lagging read replica.
pub trait WriteThrough<I, R>: Send + Sync + 'static {
    /// A write in flight.
    type Begun: Send;

    /// Call this before the write: its result counts as of this time.
    fn begin(&self) -> Self::Begun;

    /// Caches the record after the write, as of a position of the log.
    fn put(&self, begun: Self::Begun, id: &I, record: R, revision: Revision);
}

impl<A: Invalidate, B: Invalidate> Invalidate for (A, B) {
    fn apply(&self, changes: &PerSubject<ChangeEvent>) {
        self.0.apply(changes);
        self.1.apply(changes);
    }

    fn require_revalidation(&self) {
        self.0.require_revalidation();
        self.1.require_revalidation();
    }

    fn retain_revocations(&self, revocations: &PerSubject<ChangeEvent>) {
        self.0.retain_revocations(revocations);
        self.1.retain_revocations(revocations);
    }
}

impl<I, A: InvalidateNegative<I>, B: Send + Sync + 'static> InvalidateNegative<I> for (A, B) {
    fn invalidate_negative(&self, ids: &[I], revision: Option<Revision>) {
        self.0.invalidate_negative(ids, revision);
    }
}

impl<I, R, A: WriteThrough<I, R>, B: Send + Sync + 'static> WriteThrough<I, R> for (A, B) {
    type Begun = A::Begun;

    fn begin(&self) -> A::Begun {
        self.0.begin()
    }

    fn put(&self, begun: A::Begun, id: &I, record: R, revision: Revision) {
        self.0.put(begun, id, record, revision);
    }
}
