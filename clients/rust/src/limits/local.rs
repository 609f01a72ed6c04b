//! A local limiter: it reserves chunks of a limit, and admits from them without a call.

mod lease;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use self::lease::{Chunk, Lease, Taken};
use super::{Cost, OnExpiry, ReserveRequest};
use crate::{
    Client, ClientAddress, Denied, Error, KeyQuery, NotAdmitted, PresentedKey, Principal, Verdict,
    call::invalid_reply,
    near::{AnswerCache, Tag, TagHasher},
    options::setup_error,
};

/// When a chunk expires: then all of it counts as used.
const CHUNK_EXPIRY: Duration = Duration::from_secs(30);
/// A chunk is settled this long before it expires.
const SETTLE_MARGIN: Duration = Duration::from_secs(3);
/// How often chunks that are spent or about to expire are settled.
const SETTLE_INTERVAL: Duration = Duration::from_secs(1);

/// Takes amounts of one metric from chunks that it reserves for each key, so that most requests need no call.
///
/// It never admits more than was reserved, and only while the near-cache has the key as valid. A chunk is about 2 s of what is
/// admitted, 1 to 1,000, and is settled after 27 s at the latest; until then, what is left of it is not available elsewhere.
/// Clones share the chunks. Without [`close`](Self::close), what is left of the chunks counts as used.
#[derive(Clone)]
pub struct LocalLimiter {
    client: Client,
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    cache: Arc<AnswerCache>,
    metric: String,
    leases: RwLock<HashMap<Tag, Arc<Lease>, TagHasher>>,
    /// Calls in the background.
    tasks: Mutex<JoinSet<()>>,
    is_closed: AtomicBool,
    closed: Arc<Notify>,
}

impl LocalLimiter {
    /// Starts a limiter of a metric. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::Setup`] for a client without a near-cache.
    pub fn start(client: Client, metric: impl Into<String>) -> Result<Self, Error> {
        let Some(cache) = client.cache().map(|handle| Arc::clone(handle.cache())) else {
            return Err(setup_error(
                "LocalLimiter: the client has no near-cache: create it with one".to_owned(),
            ));
        };
        let shared = Arc::new(Shared {
            client: client.clone(),
            cache,
            metric: metric.into(),
            leases: RwLock::default(),
            tasks: Mutex::default(),
            is_closed: AtomicBool::new(false),
            closed: Arc::new(Notify::new()),
        });
        shared.spawn(settle_retired(Arc::downgrade(&shared), Arc::clone(&shared.closed)));
        Ok(Self { client, shared })
    }

    /// Returns the same limiter for requests of a customer at an address; see [`Client::with_client_address`].
    #[must_use]
    pub fn with_client_address(&self, address: impl Into<Option<ClientAddress>>) -> Self {
        Self { client: self.client.with_client_address(address), shared: Arc::clone(&self.shared) }
    }

    /// Validates a key through the near-cache, and takes an amount of 1 to 1,000,000,000 of the metric.
    ///
    /// # Errors
    /// [`NotAdmitted::Denied`] if the key is not valid, or a limit denies it: with the limits. For a second at most, such a
    /// denial is repeated without a call. [`NotAdmitted::Undecided`] if nothing could be decided.
    pub async fn admit(
        &self,
        key: &PresentedKey,
        required_scopes: &[&str],
        amount: i64,
    ) -> Result<Principal, NotAdmitted> {
        if amount < 1 {
            return Err(Error::invalid_field("amount", "must be 1 to 1,000,000,000").into());
        }
        let shared = &self.shared;
        let tag = shared.cache.key_tag(key.expose());
        loop {
            shared.check_open()?;
            // Mostly from the near-cache; it also fills it.
            let principal = self.client.require(key, required_scopes).await?;
            let lease = shared.lease(tag);
            match lease.take(amount, shared.cache.latest_now()) {
                Taken::Amount => return Ok(principal),
                Taken::AmountAndLow => {
                    self.prefetch(&lease, key);
                    return Ok(principal);
                }
                Taken::Nothing => {}
            }
            let _fetching = lease.fetching.lock().await;
            // `close` waits for this lock: it settles what is fetched under it.
            shared.check_open()?;
            if !lease.has(amount, shared.cache.latest_now()) {
                self.fetch(&lease, key, amount).await?;
            }
        }
    }

    /// Settles all chunks with what was admitted, and gives the rest back. From then on, [`Self::admit`] fails with
    /// [`Error::Closed`].
    pub async fn close(self) {
        let shared = &self.shared;
        shared.is_closed.store(true, Ordering::Release);
        shared.closed.notify_one();
        let mut tasks = std::mem::take(&mut *shared.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let leases: Vec<_> = shared
            .leases
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .drain()
            .map(|(_, lease)| lease)
            .collect();
        let settling = leases.iter().map(|lease| async {
            // A chunk that is being fetched is settled, too.
            let _fetching = lease.fetching.lock().await;
            join_all(lease.close().into_iter().map(|chunk| shared.settle(chunk))).await;
        });
        join_all(settling).await;
        while tasks.join_next().await.is_some() {}
    }

    /// Fetches the next chunk in the background.
    fn prefetch(&self, lease: &Arc<Lease>, key: &PresentedKey) {
        let (limiter, lease, key) = (self.clone(), Arc::clone(lease), PresentedKey::new(key.expose()));
        self.shared.spawn(async move {
            let fetching = lease.fetching.lock().await;
            // A failure shows when the current chunk is spent: then the request itself fetches.
            if limiter.shared.check_open().is_ok()
                && let Err(error) = limiter.fetch(&lease, &key, 1).await
            {
                tracing::debug!(%error, "no chunk of a limit fetched ahead");
            }
            drop(fetching);
            lease.end_prefetch();
        });
    }

    /// Reserves a chunk. If the limit has less left, a smaller one, down to the amount.
    async fn fetch(&self, lease: &Lease, key: &PresentedKey, amount: i64) -> Result<(), NotAdmitted> {
        let shared = &self.shared;
        let now = shared.cache.latest_now();
        if let Some(denied) = lease.remembered(amount, now) {
            return Err(denied.into());
        }
        let mut size = lease.next_size(amount, now);
        loop {
            let request = ReserveRequest::new(KeyQuery::new(PresentedKey::new(key.expose())))
                .cost(shared.metric.as_str(), size)
                .expires_in(CHUNK_EXPIRY)
                .on_expiry(OnExpiry::Charge);
            let started_at = shared.cache.now();
            let outcome = self.client.reserve(&request).await?;
            let usable_for = outcome.expires_in.unwrap_or_default().saturating_sub(SETTLE_MARGIN);
            let denied = match outcome.into_reservation() {
                Ok(_) if usable_for.is_zero() => {
                    let message =
                        format!("the reservation of {size} expires too early: it must last {CHUNK_EXPIRY:?}");
                    return Err(invalid_reply(message).into());
                }
                Ok(reservation) => {
                    // From here on, dropping it must not give back what was admitted from it.
                    let reservation_id = reservation.into_id();
                    let retires_at = started_at.after(usable_for);
                    lease.add(Chunk { reservation_id, size, used: 0, retires_at });
                    return Ok(());
                }
                Err(denied) => denied,
            };
            if !is_by_limit(&denied) {
                return Err(denied.into());
            }
            if size <= amount {
                lease.halve(1, amount);
                lease.remember(&denied, amount, shared.cache.latest_now());
                return Err(denied.into());
            }
            size = lease.halve(size, amount);
        }
    }
}

fn is_by_limit(denied: &Denied) -> bool {
    matches!(denied.verdict(), Verdict::QuotaExceeded | Verdict::RateLimited)
}

impl Shared {
    fn check_open(&self) -> Result<(), Error> {
        if self.is_closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    /// Returns what is held for a key.
    fn lease(&self, tag: Tag) -> Arc<Lease> {
        if let Some(lease) = self.leases.read().unwrap_or_else(PoisonError::into_inner).get(&tag) {
            return Arc::clone(lease);
        }
        let mut leases = self.leases.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(leases.entry(tag).or_insert_with(|| Arc::new(Lease::new(self.cache.latest_now()))))
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    async fn settle(&self, chunk: Chunk) {
        let actual = [Cost::new(self.metric.as_str(), chunk.used)];
        if let Err(error) = self.client.settle_held(&chunk.reservation_id, &actual).await {
            tracing::warn!(%error, "chunk of a limit not settled; all of it counts as used");
        }
    }

    /// Settles the chunks that are spent or about to expire, and forgets keys for which nothing is held.
    async fn settle_retired(&self) {
        let now = self.cache.latest_now();
        let mut retired = Vec::new();
        self.leases.write().unwrap_or_else(PoisonError::into_inner).retain(|_, lease| {
            match lease.take_retired(now) {
                Some(chunks) => {
                    retired.extend(chunks);
                    true
                }
                // Whoever has it is about to fetch a chunk for it.
                None => Arc::strong_count(lease) > 1,
            }
        });
        join_all(retired.into_iter().map(|chunk| self.settle(chunk))).await;
    }
}

/// Settles chunks until the limiter is closed or dropped.
async fn settle_retired(shared: Weak<Shared>, closed: Arc<Notify>) {
    let mut turns = interval(SETTLE_INTERVAL);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = closed.notified() => return,
            _ = turns.tick() => {}
        }
        let Some(shared) = shared.upgrade() else { return };
        shared.settle_retired().await;
    }
}

impl fmt::Debug for LocalLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalLimiter").field("metric", &self.shared.metric).finish_non_exhaustive()
    }
}
