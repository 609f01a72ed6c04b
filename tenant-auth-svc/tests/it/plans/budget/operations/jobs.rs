//! What a replica does by itself.

use crate::harness::{
    READ_FEED, WRITE_LAST_USED,
    scale::{FilledDatabase, HEARTBEAT},
    statements::{PRUNE, SWEEP_ENDED, SWEEP_EVENTS, SWEEP_REQUESTS, SWEEP_SESSIONS},
};

pub(super) async fn run(filled: &mut FilledDatabase) {
    // The changes of the other operations.
    for _ in 0..3 {
        filled.service.poll_feed().await;
    }
    let feed = &[READ_FEED];
    let name = "poll the change log, without news";
    filled.measure_job(name, feed, async |service, _| service.poll_feed().await).await;
    let change = "UPDATE api_keys SET scopes = '[\"a\"]' WHERE id = 'key_small_150'";
    filled.database.server().execute(change).unwrap();
    let name = "poll the change log, with one change";
    filled.measure_job(name, feed, async |service, _| service.poll_feed().await).await;
    // Written when it is due, by this or by the job of the service.
    filled.database.server().execute("UPDATE heartbeat SET at = 0").unwrap();
    filled
        .measure_job("write the heartbeat", &[HEARTBEAT], async |service, database| {
            let is_written = || {
                let found = database.server().query("SELECT at FROM heartbeat").unwrap();
                found[0][0]["value"] != "0"
            };
            while !is_written() {
                service.running.beat_if_due().await.unwrap();
                tokio::task::yield_now().await;
            }
        })
        .await;
    filled
        .measure_job("write the last-used times of 67 keys", &[WRITE_LAST_USED], async |service, _| {
            service.running.flush_pending_writes().await.unwrap();
        })
        .await;
    let parts = [SWEEP_SESSIONS, SWEEP_ENDED, "DELETE FROM session_bindings", "openers"];
    filled
        .measure_job("sweep sessions", &parts, async |service, _| {
            assert!(service.running.sweep_sessions().await.unwrap() > 0);
        })
        .await;
    filled
        .measure_job("sweep usage", &[SWEEP_EVENTS, SWEEP_REQUESTS, "tenants"], async |service, _| {
            service.running.sweep_usage().await.unwrap();
        })
        .await;
    filled
        .measure_job("sweep limits", &["limit_"], async |service, _| {
            service.running.sweep_limits().await.unwrap()
        })
        .await;
    filled
        .measure_job("prune the change log", &[PRUNE], async |service, _| {
            service.running.feed().prune().await.unwrap();
        })
        .await;
    filled
        .measure_job("compare usage totals", &["usage_"], async |service, _| {
            service.running.reconcile_usage().await.unwrap();
        })
        .await;
}
