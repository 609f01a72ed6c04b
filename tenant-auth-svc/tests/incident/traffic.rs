//! Background traffic besides validations during every outage: recorded usage, and operators that read and
//! write.
//!
//! Steps do not wait for these calls.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tenant_auth_proto::v1::{
    CreateTenantRequest, ListAuditEventsRequest, RecordUsageRequest, UsageEvent,
    admin_service_client::AdminServiceClient, usage_service_client::UsageServiceClient,
};
use tonic::{Request, transport::Channel};

use super::cluster::{Cluster, TENANT};

/// Timeout of a background call.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// Counts of sent and of acknowledged usage.
#[derive(Clone, Debug, Default)]
pub(crate) struct BackgroundTraffic(Arc<UsageTally>);

#[derive(Debug, Default)]
struct UsageTally {
    sent: AtomicU64,
    acknowledged: AtomicU64,
}

impl BackgroundTraffic {
    /// On every replica: records an event, lists the audit log as an operator and creates a tenant.
    pub(crate) fn send(&self, cluster: &Cluster) {
        for replica in &cluster.replicas {
            let channel =
                Channel::from_shared(format!("http://{}", replica.address())).unwrap().connect_lazy();
            let number = self.0.sent.fetch_add(1, Ordering::Relaxed);
            let event = UsageEvent {
                tenant_id: TENANT.to_owned(),
                metric: "calls".to_owned(),
                quantity: 1,
                occurred_at: None,
            };
            let events = vec![event];
            let request = RecordUsageRequest { request_id: format!("traffic-{number}"), events };
            let (mut usage, counts) = (UsageServiceClient::new(channel.clone()), Arc::clone(&self.0));
            tokio::spawn(async move {
                if usage.record_usage(request_with_timeout(request)).await.is_ok() {
                    counts.acknowledged.fetch_add(1, Ordering::Relaxed);
                }
            });
            let mut admin = AdminServiceClient::new(channel);
            tokio::spawn(async move {
                // The results of these two calls are not checked.
                let _ =
                    admin.list_audit_events(request_with_timeout(ListAuditEventsRequest::default())).await;
                let tenant = CreateTenantRequest { name: "Traffic".to_owned(), ..Default::default() };
                let _ = admin.create_tenant(request_with_timeout(tenant)).await;
            });
        }
    }

    /// Asserts that all acknowledged usage is in the database, and none of it twice.
    pub(crate) async fn check(&self, cluster: &Cluster) {
        for replica in &cluster.replicas {
            let nothing_waits = async {
                while replica.usage_batcher_task().queued_events() > 0 {
                    tokio::task::yield_now().await
                }
            };
            tokio::time::timeout(Duration::from_secs(30), nothing_waits)
                .await
                .expect("all usage must be committed");
        }
        let rows = cluster.database.query("SELECT coalesce(sum(quantity), 0) FROM usage_totals").unwrap();
        let counted: u64 = rows[0][0]["value"].as_str().unwrap().parse().unwrap();
        let (sent, acknowledged) =
            (self.0.sent.load(Ordering::Relaxed), self.0.acknowledged.load(Ordering::Relaxed));
        assert!(
            (acknowledged..=sent).contains(&counted),
            "{acknowledged} acknowledged, {counted} counted, {sent} sent"
        );
    }
}

fn request_with_timeout<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(REQUEST_TIMEOUT);
    request
}
