//! Resolves the names of the endpoints.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::Address;

/// How often a name is resolved again: replicas change.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);
/// Minimum delay between two lookups.
const MIN_LOOKUP_DELAY: Duration = Duration::from_secs(1);
const MAX_LOOKUP_DELAY: Duration = Duration::from_secs(5);
/// A lookup without a result for this long is repeated.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Number of failed lookups before the delay grows by a step.
const LOOKUPS_PER_DELAY_STEP: u32 = 10;

/// A function that resolves an address.
pub(super) type Resolver =
    Arc<dyn Fn(Address) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// Returns the system's resolver.
pub(super) fn system_resolver() -> Resolver {
    Arc::new(|address| {
        Box::pin(async move {
            Ok(tokio::net::lookup_host((address.host.as_str(), address.port)).await?.collect())
        })
    })
}

/// Resolves a name forever: every 30 s, when a replica was lost, and until it exists.
pub(super) async fn watch_name(
    resolver: Resolver,
    address: Address,
    replica_lost: Arc<Notify>,
    on_lookup: impl Fn(io::Result<Vec<SocketAddr>>),
) {
    let mut failures = 0_u32;
    loop {
        let outcome = timeout(LOOKUP_TIMEOUT, resolver(address.clone())).await;
        let outcome = outcome
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the resolver did not respond")));
        let outcome = outcome.and_then(|addresses| match addresses[..] {
            // Some resolvers return an empty list for a name that does not exist yet.
            [] => Err(io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address"))),
            _ => Ok(addresses),
        });
        failures = if outcome.is_ok() { 0 } else { failures.saturating_add(1) };
        on_lookup(outcome);
        if failures == 0 {
            sleep(MIN_LOOKUP_DELAY).await;
            // Ends when a replica was lost, or when the interval has passed.
            let _ = timeout(REFRESH_INTERVAL - MIN_LOOKUP_DELAY, replica_lost.notified()).await;
        } else {
            sleep(lookup_delay(failures)).await;
        }
    }
}

/// Returns the delay after failed lookups: about one second at first, at most 5 s.
fn lookup_delay(failures: u32) -> Duration {
    (MIN_LOOKUP_DELAY * (failures / LOOKUPS_PER_DELAY_STEP + 1)).min(MAX_LOOKUP_DELAY)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn name_is_resolved_until_found_and_on_replica_loss() {
        let started_at = Instant::now();
        let lookups: Arc<Mutex<Vec<u64>>> = Arc::default();
        let resolver: Resolver = {
            let lookups = Arc::clone(&lookups);
            Arc::new(move |_| {
                let second = started_at.elapsed().as_secs();
                lookups.lock().unwrap().push(second);
                Box::pin(async move {
                    match second {
                        0..5 => Err(io::Error::other("no such name")),
                        5..10 => Ok(Vec::new()),
                        _ => Ok(vec![SocketAddr::from(([127, 0, 0, 1], 1))]),
                    }
                })
            })
        };
        let (replica_lost, found) = (Arc::new(Notify::new()), Arc::new(Mutex::new(0)));
        let address = Address { host: "late".to_owned(), port: 1 };
        let counter = Arc::clone(&found);
        let watching = watch_name(resolver, address, Arc::clone(&replica_lost), move |outcome| {
            *counter.lock().unwrap() += usize::from(outcome.is_ok());
        });
        let watching = tokio::spawn(watching);
        sleep(Duration::from_millis(50_500)).await;
        assert_eq!(lookups.lock().unwrap().split_off(0), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 41]);
        replica_lost.notify_waiters();
        sleep(Duration::from_millis(100)).await;
        assert_eq!(lookups.lock().unwrap().split_off(0), [50]);
        assert_eq!(*found.lock().unwrap(), 3);
        watching.abort();
        assert_eq!(lookup_delay(1_000), MAX_LOOKUP_DELAY);
    }
}
