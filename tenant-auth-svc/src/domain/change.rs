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
pub enum Fate {
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
pub struct News {
    /// What it says.
    pub fate: Fate,
    /// The change's position in the log: what was read at or after it reflects the change. `None` for a change that
    /// this replica has tried to make and has had no answer to: every read that began before it was told may lack it.
    pub revision: Option<Revision>,
}

/// Something for each of some keys, tenants and sessions.
#[derive(Clone, Debug)]
pub struct BySubject<T> {
    /// For keys, and so for the sessions that they have opened.
    pub keys: HashMap<KeyId, T>,
    /// For tenants, and so for all that is theirs.
    pub tenants: HashMap<TenantId, T>,
    /// For sessions.
    pub sessions: HashMap<SessionId, T>,
}

impl<T> Default for BySubject<T> {
    fn default() -> Self {
        Self { keys: HashMap::new(), tenants: HashMap::new(), sessions: HashMap::new() }
    }
}

impl<T> BySubject<T> {
    /// For one key.
    pub fn key(id: &KeyId, value: T) -> Self {
        Self { keys: HashMap::from([(id.clone(), value)]), ..Self::default() }
    }

    /// For one tenant.
    pub fn tenant(id: &TenantId, value: T) -> Self {
        Self { tenants: HashMap::from([(id.clone(), value)]), ..Self::default() }
    }

    /// For one session.
    pub fn session(id: &SessionId, value: T) -> Self {
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
pub trait Record: Clone + Debug + Send + Sync + 'static {
    /// By what it is found.
    type Id;

    /// About how much memory it takes, in bytes, with everything that it holds.
    fn bytes(&self) -> usize;

    /// Those of the values that are for something this record depends on.
    fn among<'m, T>(&self, values: &'m BySubject<T>) -> impl Iterator<Item = &'m T>;

    /// The value that is for this very record, if one is.
    fn itself_among<'m, T>(&self, values: &'m BySubject<T>) -> Option<&'m T>;

    /// Those of the values that are for records of this kind whose ids cannot be told from them.
    fn without_id<T>(values: &BySubject<T>) -> impl Iterator<Item = &T>;

    /// Those of the values that are for records of this kind, by id.
    fn by_id<T>(values: &BySubject<T>) -> impl Iterator<Item = (&Self::Id, &T)>;

    /// The value for the record with an id, if that is how the values name it.
    fn of_id<'m, T>(id: &Self::Id, values: &'m BySubject<T>) -> Option<&'m T>;

    /// Whether the record shows an end by itself; a change is nothing to be shown.
    fn shows(&self, fate: Fate) -> bool;

    /// Writes an end into the record; nothing for [`Fate::Changed`].
    fn end(&mut self, fate: Fate);
}

/// A memory that can be told to forget.
///
/// Two memories are one, as far as news are concerned.
pub trait Forget: Send + Sync + 'static {
    /// Makes sure that nothing which the news contradict is served after this call.
    fn heard(&self, news: &BySubject<News>);

    /// Nobody knows what has changed: the change log has a gap, or is another one. What is in memory must be verified
    /// before it is relied on; while the database does not answer, it may still stand in.
    fn verify_all(&self);

    /// These ends are known, and the database that is read from now on may lack them: it was restored from before they came.
    /// They hold until it tells of a change of what they are about.
    fn hold(&self, ends: &BySubject<News>);
}

/// A memory that also knows what is not there.
pub trait ForgetAbsence<I>: Send + Sync + 'static {
    /// These may have been absent before, and are there now; since a position of the log, if that is known: what was read
    /// before it is not believed about them.
    fn added(&self, ids: &[I], revision: Option<Revision>);
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

impl<A: Forget, B: Forget> Forget for (A, B) {
    fn heard(&self, news: &BySubject<News>) {
        self.0.heard(news);
        self.1.heard(news);
    }

    fn verify_all(&self) {
        self.0.verify_all();
        self.1.verify_all();
    }

    fn hold(&self, ends: &BySubject<News>) {
        self.0.hold(ends);
        self.1.hold(ends);
    }
}

impl<I, A: ForgetAbsence<I>, B: Send + Sync + 'static> ForgetAbsence<I> for (A, B) {
    fn added(&self, ids: &[I], revision: Option<Revision>) {
        self.0.added(ids, revision);
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
