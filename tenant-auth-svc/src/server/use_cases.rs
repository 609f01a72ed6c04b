//! The use cases over the caches and the database, and the RPC services over the use cases.

use std::sync::Arc;

use tonic_health::server::HealthReporter;
use uuid::Uuid;

use super::{
    foundation::{Caches, Foundation},
    front_doors::FrontDoors,
    middleware_stack::Services,
    upstream_health::replica_probe,
};
use crate::{
    build,
    change_feed::{hub::Hub, poller::FeedPoller},
    database::migrate::KNOWN_VERSION,
    domain::{
        admin::Admin,
        deny::ActiveDenyList,
        inspect::{KeyInspector, ReplicaProbe},
        key::KeyFormat,
        leak::{LeakPolicy, Leaks},
        limit::{
            admin::LimitAdmin,
            consume::{Consumer, KeyConsumer},
        },
        outage::OutageGrace,
        recovery::Recovery,
        session::SlidingExpiryTracker,
        sessions::Sessions,
        validate::Validator,
    },
    grpc::{AdminRpc, InfoRpc, LimitRpc, ServerInfo, SessionRpc, UsageRpc, ValidationRpc, WatchRpc},
    service_types::{
        AllCaches, ChangeFeed, KeyRecordCache, RecoveryStore, ServiceStore, ServiceUsageRecorder,
        SessionRecordCache,
    },
};

/// What the service can do.
pub(super) struct UseCases {
    pub(super) feed: Arc<ChangeFeed>,
    pub(super) deny_list: Arc<ActiveDenyList>,
    pub(super) admin: Arc<Admin<ServiceStore, AllCaches>>,
    pub(super) validator: Arc<Validator<KeyRecordCache>>,
    pub(super) sliding_expiries: Arc<SlidingExpiryTracker>,
    pub(super) outage_grace: Arc<OutageGrace<ServiceStore>>,
    sessions: Arc<Sessions<ServiceStore, KeyRecordCache, SessionRecordCache>>,
    recovery: Recovery<RecoveryStore, Arc<ChangeFeed>>,
    inspector: KeyInspector,
    probe: ReplicaProbe,
    pub(super) leaks: Arc<Leaks<ServiceStore, AllCaches>>,
    limits: Arc<LimitAdmin<ServiceStore>>,
}

impl UseCases {
    /// `feed_enabled`: whether the change feed is polled. `max_sessions_per_tenant`: see
    /// [`SessionsConfig`](crate::config::SessionsConfig).
    pub(super) fn new(
        base: &Foundation,
        caches: &Caches,
        format: KeyFormat,
        feed_enabled: bool,
        max_sessions_per_tenant: u32,
        leak_policy: LeakPolicy,
    ) -> Self {
        let Foundation { clock, client, store, peppers, lookup_timeout } = base;
        let feed = Arc::new(FeedPoller::new(
            store.clone(),
            caches.feed_targets(),
            Arc::clone(clock),
            Arc::clone(&caches.feed_liveness),
            Arc::clone(client.known_database()),
            Hub::new(Arc::clone(clock), feed_enabled),
            *lookup_timeout,
        ));
        // It writes past the check of the database's identity: its purpose is to accept a database that is not trusted.
        let recovery_store = RecoveryStore::new(client.write_queue().clone(), Arc::clone(peppers));
        let deny_list = Arc::new(ActiveDenyList::default());
        let leaks = Leaks::new(store.clone(), caches.all(), format.clone(), leak_policy, Arc::clone(clock));
        let admin = Admin::new(store.clone(), caches.all(), format.clone(), Arc::clone(clock))
            .with_deny_list(Arc::clone(&deny_list), Arc::clone(peppers));
        let validator = Validator::new(caches.keys.clone(), format, Arc::clone(clock));
        let validator = Arc::new(validator.with_deny_list(Arc::clone(&deny_list)));
        let probe = replica_probe(client, caches, feed_enabled, clock);
        let sliding_expiries = Arc::new(SlidingExpiryTracker::default());
        Self {
            sessions: Arc::new(Sessions::new(
                store.clone(),
                Arc::clone(&validator),
                caches.sessions.clone(),
                Arc::clone(&sliding_expiries),
                max_sessions_per_tenant,
                Arc::clone(clock),
            )),
            recovery: Recovery::new(recovery_store, Arc::clone(&feed), Arc::clone(clock)),
            inspector: KeyInspector::new(
                caches.keys.clone(),
                Arc::clone(&deny_list),
                Arc::clone(&probe),
                Arc::clone(clock),
            ),
            probe,
            outage_grace: Arc::new(OutageGrace::new(
                Arc::clone(&caches.grace),
                store.clone(),
                Arc::clone(clock),
            )),
            admin: Arc::new(admin),
            leaks: Arc::new(leaks),
            limits: Arc::new(LimitAdmin::new(store.clone(), Arc::clone(clock))),
            feed,
            deny_list,
            validator,
            sliding_expiries,
        }
    }

    /// The RPC services. `is_remote`: whether the database is a remote one.
    pub(super) fn into_services(
        self,
        base: &Foundation,
        caches: &Caches,
        usage: Arc<ServiceUsageRecorder>,
        health: HealthReporter,
        is_remote: bool,
        front_doors: &FrontDoors,
    ) -> Services {
        let key_consumer = Arc::new(KeyConsumer::new(Arc::clone(&self.validator), caches.limits.clone()));
        let consumer = Arc::new(Consumer::new(Arc::clone(&key_consumer), Arc::clone(&self.sessions)));
        Services {
            check: front_doors.check.clone(),
            key_consumer,
            limit: LimitRpc::new(consumer, Arc::clone(&self.limits)),
            fast_path_validator: Arc::clone(&self.validator),
            validation: ValidationRpc::new(self.validator, Arc::clone(&self.sessions), base.load_timeout()),
            admin: AdminRpc::new(
                self.admin,
                self.outage_grace,
                self.recovery,
                self.inspector,
                self.leaks,
                self.limits,
            ),
            info: InfoRpc(ServerInfo {
                build: build::THIS,
                is_remote,
                schema_version: KNOWN_VERSION,
                instance: Uuid::now_v7().simple().to_string(),
                started_at: base.clock.monotonic(),
                clock: Arc::clone(&base.clock),
                revision: {
                    let (keys, probe) = (caches.keys.clone(), Arc::clone(&self.probe));
                    Box::new(move || keys.revision().max(probe().revision))
                },
                replica: self.probe,
                oldest_answer: {
                    let (oldest, clock) = (Arc::clone(&caches.oldest_answer), Arc::clone(&base.clock));
                    Box::new(move || oldest.within_last_minute(clock.monotonic()))
                },
                applied: self.feed.applied(),
                principal_keys: {
                    let tokens = Arc::clone(&front_doors.tokens);
                    Box::new(move || tokens.published())
                },
            }),
            session: SessionRpc::new(self.sessions),
            usage: UsageRpc::new(usage),
            watch: WatchRpc::new(self.feed.hub().clone()),
            health,
        }
    }
}
