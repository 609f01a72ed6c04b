//! What memory has to be told.

use std::{collections::HashMap, fmt::Debug};

use super::{
    clock::UnixMillis,
    id::{KeyId, TenantId},
    session::SessionId,
    verdict::Revision,
};

/// What is known to have become of a key, a tenant or a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It has changed; how, the database knows.
    Changed,
    /// The key was withdrawn then. It says so even while the database does not answer.
    Revoked(UnixMillis),
    /// The tenant was suspended. Its keys and sessions say so even while the database does not answer.
    Suspended,
    /// The session was ended. It says so even while the database does not answer.
    Unbound,
}

/// One piece of news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeEvent {
    /// What it says.
    pub kind: ChangeKind,
    /// The change's position in the log: what was read at or after it reflects the change. `None` for a change that
    /// this replica has tried to make and has had no answer to: every read that began before it was told may lack it.
    pub revision: Option<Revision>,
}

/// Something for each of some keys, tenants and sessions.
#[derive(Clone, Debug)]
pub struct PerSubject<T> {
    /// For keys, and so for the sessions that they have opened.
    pub keys: HashMap<KeyId, T>,
    /// For tenants, and so for all that is theirs.
    pub tenants: HashMap<TenantId, T>,
    /// For sessions.
    pub sessions: HashMap<SessionId, T>,
}

impl<T> Default for PerSubject<T> {
    fn default() -> Self {
        Self { keys: HashMap::new(), tenants: HashMap::new(), sessions: HashMap::new() }
    }
}

impl<T> PerSubject<T> {
    /// For one key.
    pub fn for_key(id: &KeyId, value: T) -> Self {
        Self { keys: HashMap::from([(id.clone(), value)]), ..Self::default() }
    }

    /// For one tenant.
    pub fn for_tenant(id: &TenantId, value: T) -> Self {
        Self { tenants: HashMap::from([(id.clone(), value)]), ..Self::default() }
    }

    /// For one session.
    pub fn for_session(id: &SessionId, value: T) -> Self {
        Self { sessions: HashMap::from([(id.clone(), value)]), ..Self::default() }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len() + self.tenants.len() + self.sessions.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a verdict depends on, as of one read.
pub trait CacheableRecord: Clone + Debug + Send + Sync + 'static {
    /// By what it is found.
    type Id;

    /// About how much memory it takes, in bytes, with everything that it holds.
    fn size_bytes(&self) -> usize;

    /// Those of the values that are for something this record depends on.
    fn dependency_values<'m, T>(&self, values: &'m PerSubject<T>) -> impl Iterator<Item = &'m T>;

    /// The value that is for this very record, if one is.
    fn own_value<'m, T>(&self, values: &'m PerSubject<T>) -> Option<&'m T>;

    /// Those of the values that are for records of this kind whose ids cannot be told from them.
    fn values_without_record_id<T>(values: &PerSubject<T>) -> impl Iterator<Item = &T>;

    /// Those of the values that are for records of this kind, by id.
    fn values_by_id<T>(values: &PerSubject<T>) -> impl Iterator<Item = (&Self::Id, &T)>;

    /// The value for the record with an id, if that is how the values name it.
    fn value_for_id<'m, T>(id: &Self::Id, values: &'m PerSubject<T>) -> Option<&'m T>;

    /// Whether the record shows an end by itself; a change is nothing to be shown.
    fn reflects(&self, fate: ChangeKind) -> bool;

    /// Writes an end into the record; nothing for [`ChangeKind::Changed`].
    fn apply_revocation(&mut self, fate: ChangeKind);
}

/// A memory that can be told to forget.
///
/// Two memories are one, as far as news are concerned.
pub trait Invalidate: Send + Sync + 'static {
    /// Makes sure that nothing which the news contradict is served after this call.
    fn apply(&self, news: &PerSubject<ChangeEvent>);

    /// Nobody knows what has changed: the change log has a gap, or is another one. What is in memory must be verified
    /// before it is relied on; while the database does not answer, it may still stand in.
    fn require_revalidation(&self);

    /// These ends are known, and the database that is read from now on may lack them: it was restored from before they came.
    /// They hold until it tells of a change of what they are about.
    fn hold_revocations(&self, ends: &PerSubject<ChangeEvent>);
}

/// A memory that also knows what is not there.
pub trait InvalidateNegative<I>: Send + Sync + 'static {
    /// These may have been absent before, and are there now; since a position of the log, if that is known: what was read
    /// before it is not believed about them.
    fn invalidate_negative(&self, ids: &[I], revision: Option<Revision>);
}

/// A memory that can be told what this replica has just written: it knows better then than a copy of the database that lags.
pub trait WriteThrough<I, R>: Send + Sync + 'static {
    /// A write that is under way.
    type Begun: Send;

    /// Before it begins: the moment from which its outcome counts.
    fn begin(&self) -> Self::Begun;

    /// What is there now, as of a position of the log.
    fn put(&self, begun: Self::Begun, id: &I, record: R, revision: Revision);
}

impl<A: Invalidate, B: Invalidate> Invalidate for (A, B) {
    fn apply(&self, news: &PerSubject<ChangeEvent>) {
        self.0.apply(news);
        self.1.apply(news);
    }

    fn require_revalidation(&self) {
        self.0.require_revalidation();
        self.1.require_revalidation();
    }

    fn hold_revocations(&self, ends: &PerSubject<ChangeEvent>) {
        self.0.hold_revocations(ends);
        self.1.hold_revocations(ends);
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
